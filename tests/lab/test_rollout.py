"""A release over real hosts: batches, locks and holds, refused commits, dead controllers and agents."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.lab.project import PYTHON, Project

from longshore.lab import Lab

pytestmark = pytest.mark.lab

HOSTS = ("h1", "h2", "h3")
PATIENT = "services: {web: {health: {start_period: 30s}}}\n"
"""A server that takes its time to start is not unhealthy for that."""


@pytest.fixture
def project(tmp_path: Path, lab: Lab, stand_ins: Callable[..., None], clean_hosts: None) -> Project:
    """The test server on three hosts."""
    stand_ins(PYTHON)
    made = Project(tmp_path, lab)
    made.server()
    made.inventory(*HOSTS, app=PATIENT)
    return made


@contextmanager
def _deploying(project: Project, *words: str, **variables: str) -> Iterator[subprocess.Popen[str]]:
    """A deploy that goes on beside the test; ``stdout`` gives its lines."""
    values = "".join(f"{name}={value}\n" for name, value in variables.items())
    project.write("env/try.env", values).chmod(0o600)
    command = [sys.executable, "-c", "from longshore.tasks import main; main()", "deploy", "--env", "try"]
    process = subprocess.Popen(
        [*command, *words], cwd=project.root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def _read_until(process: subprocess.Popen[str], text: str) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if text in line:
            return
    raise AssertionError(f"the deploy ended before it said {text!r}")


def _pages(project: Project) -> list[str]:
    return [project.page(host) for host in HOSTS]


def _lock_status(project: Project) -> dict[str, Any]:
    done = project.run("lock.status", "--env", "try", "--json")
    assert done.code == 0, done.all
    found: dict[str, Any] = done.json()[0]["value"]["hosts"]
    return found


def _until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.3)


def test_a_canary_comes_first_and_a_host_that_max_fail_allows_stays_behind_alone(project: Project) -> None:
    project.inventory(*HOSTS, app="rollout: {canary: h3, serial: 1, max_fail: 1}")
    assert project.deploy(VERSION="1").code == 0
    project.write("inventory/host_vars/h1.yml", "longshore: {apps: {shop: {env: {EXIT_AT_ONCE: 'yes'}}}}\n")
    done = project.deploy(VERSION="2")
    assert done.code == 1
    said = [line for line in done.out.splitlines() if line.startswith("batch")]
    assert said == ["batch 1 of 3: h3", "batch 2 of 3: h1", "batch 3 of 3: h2"]
    assert _pages(project) == ["1 hello", "2 hello", "2 hello"]
    assert "the fleet is mixed: h2, h3 run the new release, h1 could not" in done.err
    assert "h1: web" in done.err
    assert "KeyError: 'DATABASE_URL'" in done.err  # the failing container's own words
    (project.root / "inventory/host_vars/h1.yml").unlink()
    whole = project.deploy(VERSION="2")
    assert whole.code == 0, whole.all
    assert "1 deployed, 2 nothing to do" in whole.out


def test_a_confirmation_is_asked_for_before_anything_is_changed_where_nobody_can_answer(
    project: Project,
) -> None:
    project.inventory(*HOSTS, app="rollout: {serial: [1, 100%], confirm: true}")
    done = project.deploy()
    assert done.code == 1
    assert "nobody is here to say yes between the batches (rollout.confirm). Say --yes." in done.err
    assert project.containers("h1") == []


def test_a_held_app_refuses_deploy_rollback_and_restart_until_it_is_released(project: Project) -> None:
    assert project.deploy(VERSION="1").code == 0
    assert project.deploy(VERSION="2").code == 0
    hold = ["lock.acquire", "--env", "try", "--reason", "moving the database", "--for", "1h"]
    assert project.run(*hold).code == 0
    for refused in (
        project.deploy("--limit", "h2", VERSION="3"),
        project.run("rollback", "--env", "try"),
        project.run("restart", "--env", "try", "--limit", "h3"),
        project.run(*hold),
    ):
        assert refused.code == 1, refused.all
        assert "holds shop since" in refused.err
        assert "moving the database. `invoke lock.release` ends that." in refused.err
    assert all(value["hold"]["why"] == "moving the database" for value in _lock_status(project).values())
    released = project.run("lock.release", "--env", "try")
    assert released.code == 0
    assert "held it: moving the database" in released.out
    assert project.run("rollback", "--env", "try").code == 0
    assert set(_pages(project)) == {"1 hello"}


GATE = """
import time
from pathlib import Path
from longshore.roles import Role


def wait(facts):
    while not Path("go").exists():
        time.sleep(0.1)


role = Role(name="gate", summary="Waits for the test.", hooks={"after_switch": wait})
"""


def test_a_second_deploy_says_who_runs_the_first_or_waits_and_plans_again(project: Project) -> None:
    project.write("roles/gate.py", GATE)
    words = ["--why", "price list", "--limit", "h1", "--set", "longshore.roles=gate"]
    words += ["--set", "longshore.apps.shop.hooks.timeout=150s"]
    with _deploying(project, *words, VERSION="2") as first:
        _read_until(first, "web: running, healthy")
        lock = _lock_status(project)["h3"]["lock"]  # nothing is done on h3
        assert lock["why"] == "price list"
        assert 0 < lock["left"] <= 30
        told = project.deploy("--limit", "h2", VERSION="3")
        assert told.code == 1
        assert "h1: " in told.err
        assert "has the lock since" in told.err
        assert "(price list)" in told.err
        with _deploying(project, "--wait", "90s", VERSION="3") as second:
            _read_until(second, "nothing → ")
            time.sleep(1)
            project.write("go", "")
            out, _ = second.communicate(timeout=170)
    assert second.returncode == 0, out
    assert "planned again" in out
    assert set(_pages(project)) == {"3 hello"}
    assert all(value["lock"] is None for value in _lock_status(project).values())


def test_a_disk_that_is_full_at_the_commit_takes_every_host_back(project: Project) -> None:
    small = "mkdir -p /var/lib/longshore && mount -t tmpfs -o size=256m,mode=700 t /var/lib/longshore"
    project.lab.ssh("h2", ["sh", "-c", small])
    try:
        assert project.deploy(VERSION="1").code == 0
        with _deploying(project, VERSION="2", START_AFTER="4") as run:
            _read_until(run, "h2  verifying")
            # Every byte, also what was set aside for going back: this is no polite neighbour.
            fill = "cd /var/lib/longshore/shop; rm -f reserve; cat /dev/zero >../full 2>/dev/null; df ."
            project.lab.ssh("h2", ["sh", "-c", fill])
            out, _ = run.communicate(timeout=120)
        assert run.returncode == 1
        assert "no space left on the disk" in out
        assert set(_pages(project)) == {"1 hello"}
        project.lab.ssh("h2", ["rm", "/var/lib/longshore/full"])
        again = project.deploy(VERSION="3")
        assert again.code == 0, again.all
        assert set(_pages(project)) == {"3 hello"}
    finally:
        project.lab.ssh("h2", ["umount", "-l", "/var/lib/longshore"])


def test_hosts_that_lose_their_controller_keep_a_good_release_where_that_was_asked_for(
    project: Project,
) -> None:
    assert project.deploy(VERSION="1").code == 0
    with _deploying(project, "--on-lost-controller", "keep", VERSION="2", START_AFTER="3") as run:
        assert run.stdout is not None
        switched: set[str] = set()
        for line in run.stdout:
            switched |= {line.split()[0]} if " verifying " in line else set()
            if switched == set(HOSTS):
                break
        os.kill(run.pid, signal.SIGKILL)
    _until(lambda: all(value["lock"] is None for value in _lock_status(project).values()))
    assert set(_pages(project)) == {"2 hello"}
    lines = project.run("history", "--env", "try", "--json").json()[0]["value"]["hosts"]
    assert {host: history[0]["outcome"] for host, history in lines.items()} == dict.fromkeys(HOSTS, "kept")
    assert project.deploy(VERSION="2", START_AFTER="3").out.count("nothing to do")
    assert project.run("rollback", "--env", "try").code == 0
    assert set(_pages(project)) == {"1 hello"}


def test_an_agent_that_is_killed_in_the_switch_is_taken_back_by_its_guardian(project: Project) -> None:
    assert project.deploy(VERSION="1").code == 0
    kill = (
        "for pid in $(pgrep -f 'python3 -I -S'); do"
        " parent=$(cut -d' ' -f4 /proc/$pid/stat);"
        " if tr '\\0' ' ' </proc/$parent/cmdline | grep -q 'I -S'; then kill -9 $pid; echo killed; fi; done"
    )
    with _deploying(project, VERSION="2", START_AFTER="2") as run:
        _read_until(run, "h2  switching  shop-web-1")
        assert "killed" in project.lab.ssh("h2", ["sh", "-c", kill]).stdout
        out, _ = run.communicate(timeout=120)
    assert run.returncode == 1
    assert "h2: the agent ended" in out
    assert "could not be taken back" not in out
    assert set(_pages(project)) == {"1 hello"}
    assert all(value["lock"] is None for value in _lock_status(project).values())
