"""Bootstrap on a host that serves: what runs there goes on, and no request fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.lab.project import PYTHON, Done
from tests.load.changes import observed
from tests.load.ground import Ground, prepare, under_load

from longshore.lab import Lab

pytestmark = pytest.mark.lab

RUNNING = "docker ps -q | xargs docker inspect -f '{{.Name}} {{.State.Pid}} {{.State.StartedAt}}' | sort"
KEEP = "cp /etc/docker/daemon.json /root/daemon.json"
PUT_BACK = "mv /root/daemon.json /etc/docker/daemon.json; service docker restart"


@pytest.fixture
def ground(tmp_path: Path, lab: Lab, stand_ins: Callable[..., None], clean_hosts: None) -> Iterator[Ground]:
    """Two replicas behind the proxy of a host whose engine doesn't know of live-restore yet."""
    stand_ins(PYTHON, "traefik:v3")
    made = prepare(tmp_path, lab, ("h1",), rate=40, slow=2.0)
    made.load.late = 25.0  # a machine that is busy is no failure
    first = made.deploy("r0")
    assert first.code == 0, first.all
    lab.ssh("h1", ["sh", "-c", KEEP])
    yield made
    lab.ssh("h1", ["sh", "-c", PUT_BACK])


def test_no_request_fails_when_bootstrap_is_run_again_and_restarts_the_engine(ground: Ground) -> None:
    project = ground.project
    inventory = project.root / "inventory/try.yml"
    plain = inventory.read_text()
    answers: list[dict[str, Any]] = []

    def on(script: str) -> str:
        return project.lab.ssh("h1", ["sh", "-c", script]).stdout

    def bootstrap() -> Done:
        done = project.run("bootstrap", "--env", "try", "--json")
        answers.extend(line["value"] for line in done.json() if line["event"] == "result")
        return done

    running = on(RUNNING)
    assert len(running.splitlines()) == 3
    with under_load(ground) as load:
        for engine, last_change in (
            ("", "restart the engine; 3 running containers stay up (live-restore)"),
            ("", ""),
            (
                "engine: {logging: {options: {labels: tier}}}",
                "restart the engine; 3 running containers stay up (live-restore)",
            ),
        ):
            inventory.write_text(plain.replace("longshore:", f"longshore:\n      {engine}", 1))
            before = on("cat /run/docker.pid")
            if engine:
                _waits_for_a_run_that_is_at_work(on, bootstrap)
            row = observed(ground, engine, 0, "r0", bootstrap)
            assert not row.wrong, (row.wrong, load.failures())
            assert "".join(answers[-1]["hosts"]["h1"]["changes"][-1:]) == last_change
            assert (on("cat /run/docker.pid") != before) is bool(last_change)
    assert not load.failures(), load.failures()
    assert on(RUNNING) == running
    assert '"labels": "tier"' in on("cat /etc/docker/daemon.json")


def _waits_for_a_run_that_is_at_work(on: Callable[[str], str], bootstrap: Callable[[], Done]) -> None:
    """A deploy would find no engine: while one has the app's lock, bootstrap refuses to restart it."""
    before = on("cat /run/docker.pid")
    on("setsid flock /var/lib/longshore/shop/lock sleep 300 >/dev/null 2>&1 & echo $! >/run/held; sleep 0.5")
    done = bootstrap()
    on("kill -- -$(cat /run/held)")
    (error,) = [line for line in done.json() if line["event"] == "error"]
    assert (done.code, error["code"]) == (1, "locked")
    assert "is at work on shop here, so the engine isn't restarted now" in error["message"]
    assert on("cat /run/docker.pid") == before
