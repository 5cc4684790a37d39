"""The daily commands on real hosts: one application, deployed once, and talked to as its people would."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest
from tests.lab.conftest import clean
from tests.lab.project import PYTHON, Project

from longshore.lab import Lab

pytestmark = pytest.mark.lab

SECRET = "s3cret$word"

COMPOSE = f"""
services:
  web:
    image: {PYTHON}
    init: true
    command: ["python3", "-u", "-c", "import os, time\\nfor n in range(10**6):
      print('line', n, os.environ['SECRET']) or time.sleep(0.2)"]
    environment: {{SECRET: "${{SECRET}}"}}
    volumes: [data:/data]
  db:
    image: postgres:15
    environment: {{POSTGRES_USER: shop, POSTGRES_PASSWORD: "${{SECRET}}", POSTGRES_DB: shopdb}}
    volumes: [db:/var/lib/postgresql/data]
    healthcheck: {{test: ["CMD-SHELL", "pg_isready -h 127.0.0.1 -U shop"], interval: 1s, retries: 30}}
  cache:
    image: redis:7
    environment: {{REDISCLI_AUTH: "${{SECRET}}"}}
    command: ["sh", "-c", "echo requirepass $$REDISCLI_AUTH | exec redis-server -"]
    healthcheck: {{test: ["CMD-SHELL", "redis-cli ping | grep -q PONG"], interval: 1s, retries: 30}}
volumes: {{data: {{}}, db: {{}}}}
"""

APP = """
services:
  web: {cpus: 0.5, memory: 64M, pids: 50}
  db: {hosts: h1}
  cache: {hosts: h1}
databases:
  main: {kind: postgres, service: db}
  cache: {kind: redis, service: cache}
migrate:
  service: web
  command: [sh, -c, "echo migrating for $SECRET; touch /data/migrated"]
  history: [echo, "0001 -> 0002"]
smoke:
  - {name: ssh of h1, tcp: "H1:22", retries: 0}
"""


@pytest.fixture(scope="module")
def shop(
    tmp_path_factory: pytest.TempPathFactory, lab: Lab, stand_ins: Callable[..., None]
) -> Iterator[Project]:
    """web on h1 and h2; db and cache on h1."""
    stand_ins(PYTHON, "postgres:15", "redis:7")
    clean(lab)
    project = Project(tmp_path_factory.mktemp("daily"), lab)
    project.write("compose.yml", COMPOSE)
    project.inventory("h1", "h2", app=APP.replace("H1", lab.addresses["h1"]))
    done = project.deploy(SECRET=f"'{SECRET}'")
    assert done.code == 0, done.all
    yield project
    clean(lab)


def _value(project: Project, *words: str) -> dict[str, object]:
    lines = project.run(*words, "--env", "try", "--json").json()
    value: dict[str, object] = next(line["value"] for line in lines if line["event"] == "result")
    return value


def test_ps_lists_the_containers_of_every_host(shop: Project) -> None:
    hosts = _value(shop, "ps")["hosts"]
    assert isinstance(hosts, dict)
    assert {host: sorted(one["service"] for one in value["containers"]) for host, value in hosts.items()} == {
        "h1": ["cache", "db", "web"],
        "h2": ["web"],
    }
    assert "h2" not in shop.run("ps", "--env", "try", "--service", "db").out


def test_limits_are_the_engines_own_word(shop: Project) -> None:
    hosts = _value(shop, "limits", "--service", "web")["hosts"]
    assert isinstance(hosts, dict)
    (web,) = hosts["h2"]
    assert (web["cpus"], web["memory"], web["pids"]) == (0.5, 64 << 20, 50)
    assert web["logging"]["max-size"] == "10m"
    assert web["mounts"] == ["shop_data:/data"]


def test_stats_and_images_have_a_figure_for_each(shop: Project) -> None:
    hosts = _value(shop, "stats")["hosts"]
    assert isinstance(hosts, dict)
    assert all(one["memory"] > 0 and one["pids"] > 0 for value in hosts.values() for one in value)
    hosts = _value(shop, "images")["hosts"]
    assert isinstance(hosts, dict)
    assert all(one["size"] > 0 and "@sha256:" in one["image"] for value in hosts.values() for one in value)


def test_logs_of_all_hosts_come_in_order_with_secrets_masked(shop: Project) -> None:
    done = shop.run("logs", "--env", "try", "--service", "web", "--tail", "5")
    assert done.code == 0, done.all
    lines = done.out.splitlines()
    assert len(lines) == 10
    assert {line.split(" | ")[0] for line in lines} == {"h1 web", "h2 web"}
    assert all(line.endswith("***") for line in lines)
    lines = [line["at"] for line in shop.run("logs", "--env", "try", "--json", "--tail", "5").json()]
    assert lines == sorted(lines)


def test_following_goes_through_a_restart_and_ends_with_ctrl_c(shop: Project) -> None:
    words = [sys.executable, "-c", "from longshore.tasks import main; main()", "logs", "-f"]
    follow = subprocess.Popen(
        [*words, "--env", "try", "--service", "web", "--limit", "h2", "--tail", "1"],
        cwd=shop.root,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert follow.stdout is not None
    first = follow.stdout.readline()
    assert "line 0 " not in first
    assert shop.run("restart", "--env", "try", "--service", "web", "--limit", "h2").code == 0
    until = time.monotonic() + 30
    line = ""
    while "line 0 " not in line and time.monotonic() < until:
        line = follow.stdout.readline()
    assert "line 0 " in line
    follow.send_signal(signal.SIGINT)
    _, err = follow.communicate(timeout=15)
    assert (follow.returncode, err) == (0, "")


def test_exec_hands_on_words_output_and_exit_code(shop: Project) -> None:
    script = "echo 'a  b'; echo $SECRET; echo oops >&2; exit 7"
    done = shop.run("exec", "web", "--env", "try", "--", "sh", "-c", script)
    assert (done.code, done.out, done.err) == (7, "a  b\n***\n", "oops\n")
    done = shop.run("exec", "web", "--env", "try", "--all", "--", "echo", "hi")
    assert sorted(done.out.splitlines()) == ["h1 web | hi", "h2 web | hi"]
    assert shop.run("exec", "web", "--env", "try", "--", "no-such-program").code in (126, 127)


def test_run_is_a_container_of_its_own_with_the_same_env_and_is_gone_after(shop: Project) -> None:
    done = shop.run("run", "web", "--env", "try", "--", "sh", "-c", "hostname; echo $SECRET; exit 5")
    assert done.code == 5, done.all
    name, secret = done.out.splitlines()
    assert secret == "***"
    assert name not in {one["Config"]["Hostname"] for one in shop.containers("h1")}
    assert len(shop.containers("h1")) == 3


def test_a_shell_is_on_the_persons_terminal_and_its_exit_code_is_ours(shop: Project) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(shop.root)
        program = "from longshore.tasks import main; main()"
        os.execv(sys.executable, [sys.executable, "-c", program, "shell", "web", "--env", "try"])
    said = _until(terminal, b"# ")
    os.write(terminal, b"tty; echo sum-$((40+2)); exit 4\r")
    said += _until(terminal, b"sum-42")
    _until(terminal, b"\0")
    _, status = os.waitpid(pid, 0)
    assert b"/dev/pts/" in said
    assert os.waitstatus_to_exitcode(status) == 4


def _until(terminal: int, word: bytes) -> bytes:
    """What comes until ``word`` is there, or the other side hangs up."""
    said = b""
    until = time.monotonic() + 60
    while word not in said and time.monotonic() < until:
        if select.select([terminal], [], [], 0.5)[0]:
            try:
                said += os.read(terminal, 4096)
            except OSError:  # it has hung up
                break
    return said


def test_a_shell_without_a_terminal_is_a_sentence(shop: Project) -> None:
    done = shop.run("shell", "web", "--env", "try")
    assert done.code == 1
    assert "this needs a terminal" in done.err


def test_databases_are_reached_with_their_own_user_and_password(shop: Project) -> None:
    done = shop.run("psql", "--env", "try", "--", "-Atc", "select current_user, current_database()")
    assert (done.code, done.out) == (0, "shop|shopdb\n"), done.all
    done = shop.run("db-shell", "--env", "try", "--database", "cache", "--", "INCR", "n")
    assert (done.code, done.out) == (0, "1\n"), done.all
    done = shop.run("db-check", "--env", "try")
    assert done.code == 0, done.all


def test_pip_list_is_of_the_containers_packages_on_all_hosts(shop: Project) -> None:
    hosts = _value(shop, "pip-list", "web")["hosts"]
    assert isinstance(hosts, dict)
    assert "pip" in hosts["h1"]
    assert hosts["h1"] == hosts["h2"]


def test_migrate_runs_once_and_history_changes_nothing(shop: Project) -> None:
    shop.run("exec", "web", "--env", "try", "--all", "--", "rm", "-f", "/data/migrated")
    done = shop.run("migrate", "--env", "try", "--history")
    assert (done.code, done.out) == (0, "h1 web | 0001 -> 0002\n"), done.all
    done = shop.run("migrate", "--env", "try")
    assert done.code == 0, done.all
    assert "migrating for ***" in done.out
    done = shop.run("exec", "web", "--env", "try", "--all", "--", "sh", "-c", "ls /data/migrated || true")
    assert [line for line in done.out.splitlines() if line.endswith("| /data/migrated")] == [
        "h1 web | /data/migrated"
    ]


def test_smoke_writes_what_a_ci_reads(shop: Project) -> None:
    done = shop.run("smoke", "--env", "try", "--junit", "smoke.xml")
    assert done.code == 0, done.all
    (suite,) = ElementTree.parse(shop.root / "smoke.xml").getroot()
    assert (suite.get("tests"), suite.get("failures")) == ("1", "0")


def test_an_unknown_service_is_a_sentence_with_the_known_ones(shop: Project) -> None:
    for words in (("ps", "--service", "wbe"), ("logs", "--service", "wbe"), ("exec", "wbe")):
        done = shop.run(*words, "--env", "try", "--", "ls")
        assert done.code == 1
        assert "no service 'wbe'" in done.err
        assert "There are: cache, db, web." in done.err


def test_what_is_stopped_is_not_well_and_start_brings_it_back(shop: Project) -> None:
    assert shop.run("health", "--env", "try").code == 0
    done = shop.run("stop", "--env", "try", "--limit", "h1", "--service", "db")
    assert done.code == 0, done.all
    done = shop.run("health", "--env", "try")
    assert done.code == 1
    assert "exited with code 0" in done.out
    done = shop.run("db-check", "--env", "try")
    assert done.code == 1
    assert "db of shop doesn't run" in done.out
    done = shop.run("start", "--env", "try")
    assert done.code == 0, done.all
    assert shop.run("status", "--env", "try").code == 0


def test_cleanup_takes_what_nobody_needs_and_no_volume(shop: Project, lab: Lab) -> None:
    images = ["docker", "images", "--quiet", "--no-trunc"]
    # What the tests before have left: a tag that was amd64's alone has another digest when arm64's has come.
    assert shop.run("cleanup", "--env", "try").code == 0
    before = set(lab.ssh("h1", images).stdout.split())
    used = shop.containers("h1")[0]["Config"]["Image"]
    build = f"echo 'FROM {used}\nRUN touch /new' | docker build --quiet --tag {PYTHON} -"
    lab.ssh("h1", ["sh", "-c", build])
    lab.ssh("h1", ["docker", "volume", "create", "someone-elses"])
    preview = shop.run("cleanup", "--env", "try", "--preview")
    assert "would remove up to 1 image" in preview.out, preview.all
    assert set(lab.ssh("h1", images).stdout.split()) > before
    done = shop.run("cleanup", "--env", "try", "--quiet")
    assert (done.code, done.out) == (0, ""), done.all
    assert set(lab.ssh("h1", images).stdout.split()) == before
    assert "someone-elses" in lab.ssh("h1", ["docker", "volume", "ls", "--quiet"]).stdout
    assert shop.run("status", "--env", "try").code == 0


def test_the_last_down_asks_and_takes_only_the_volume_that_was_named(shop: Project, lab: Lab) -> None:
    done = shop.run("down", "--env", "try")
    assert done.code == 1
    assert "nobody is here to ask" in done.err
    done = shop.run("down", "--env", "try", "--yes", "--volume", "data")
    assert done.code == 1
    assert "no volume 'data'; nothing was removed. There are: shop_data, shop_db." in done.err
    assert len(shop.containers("h1")) == 3
    done = shop.run("down", "--env", "try", "--yes", "--volume", "shop_data")
    assert done.code == 0, done.all
    assert shop.containers("h1") == shop.containers("h2") == []
    volumes = lab.ssh("h1", ["docker", "volume", "ls", "--quiet"]).stdout.split()
    assert "shop_db" in volumes
    assert "shop_data" not in volumes
    done = shop.run("ps", "--env", "try")
    assert done.code == 1
    assert "shop has no release on this host" in done.err


JOBS = f"""
services:
  web:
    image: {PYTHON}
    init: true
    command: ["sleep", "infinity"]
    depends_on: {{prepare: {{condition: service_completed_successfully}}}}
  prepare:
    image: {PYTHON}
    command: ["sh", "-c", "date +%s%N >>/data/ran"]
    volumes: [jobs:/data]
  side: {{image: "{PYTHON}", init: true, command: ["sleep", "infinity"]}}
volumes: {{jobs: {{name: jobs}}}}
"""


def test_start_runs_no_finished_one_shot_again_for_what_runs_already(
    tmp_path: Path, lab: Lab, stand_ins: Callable[..., None]
) -> None:
    stand_ins(PYTHON)
    project = Project(tmp_path, lab, app="jobs")
    project.write("compose.yml", JOBS)
    project.inventory("h3")
    assert project.deploy().code == 0
    ran = ["sh", "-c", "cat $(docker volume inspect --format '{{.Mountpoint}}' jobs)/ran"]
    once = lab.ssh("h3", ran).stdout
    assert len(once.splitlines()) == 1
    assert project.run("stop", "--env", "try", "--service", "side").code == 0
    done = project.run("start", "--env", "try")
    assert done.code == 0, done.all
    assert "jobs-side-1" in done.out
    assert lab.ssh("h3", ran).stdout == once
    assert project.run("status", "--env", "try").code == 0
    clean(lab, "h3")
