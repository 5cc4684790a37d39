"""`invoke doctor` on practice hosts that have been made unwell, and what it leaves there: nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.lab.conftest import clean
from tests.lab.project import PYTHON, Project

from longshore.lab import Lab

APP = """
services:
  web: {proxy: {port: 8000}}
  gone: {hosts: h2}
"""
COMPOSE = f"""
services:
  web: {{image: '{PYTHON}'}}
  gone: {{image: '127.0.0.1:1/nobody/there:1'}}
"""
FOUND = "find /var/lib/longshore /etc/docker /root -printf '%p %m %T@\\n' 2>/dev/null | sort; docker ps -aq"


@pytest.fixture
def project(lab: Lab, stand_ins: Callable[..., None], tmp_path: Path) -> Project:
    clean(lab)
    stand_ins(PYTHON)
    made = Project(tmp_path, lab)
    made.inventory("h1", "h2", "h3", app=APP)
    made.write("compose.yml", COMPOSE)
    return made


def test_each_host_is_told_what_is_wrong_with_it_and_nothing_is_touched(project: Project) -> None:
    lab = project.lab
    taken = "python3 -m http.server 80 >/dev/null 2>&1 & echo $! >/run/taken"
    lab.ssh("h2", ["sh", "-c", f"mkdir -m 0755 /var/lib/longshore; {taken}"])
    lab.ssh("h3", ["service", "docker", "stop"])
    before = {host: lab.ssh(host, ["sh", "-c", FOUND], check=False).stdout for host in ("h1", "h2")}
    try:
        done = project.run("doctor", "--env", "try", "--json")
        after = {host: lab.ssh(host, ["sh", "-c", FOUND], check=False).stdout for host in ("h1", "h2")}
    finally:
        lab.ssh("h2", ["sh", "-c", "kill $(cat /run/taken)"], check=False)
        lab.ssh(
            "h3", ["sh", "-c", "rm -f /run/longshore-lab/docker.stopped; service docker start"], check=False
        )
    assert before == after
    assert done.code == 1, done.all
    value = next(line["value"] for line in done.json() if line["event"] == "result")
    wrong = {
        host: {one["code"]: one for one in some if one["level"] == "error"}
        for host, some in value["hosts"].items()
    }
    assert wrong["h1"] == {}
    assert set(wrong["h2"]) == {"port", "registry"}, wrong["h2"]
    assert "is taken by python3" in wrong["h2"]["port"]["message"]
    assert "127.0.0.1:1 can't be reached" in wrong["h2"]["registry"]["message"]
    assert set(wrong["h3"]) == {"engine"} and "no Docker engine answers" in wrong["h3"]["engine"]["message"]
    warned = {one["code"]: one["message"] for one in value["hosts"]["h2"] if one["level"] == "warning"}
    assert "can be read by others (mode 0755)" in warned["state-dir"]
    assert "there is no /var/lib/longshore yet" in str(value["hosts"]["h1"])
    assert value["counts"]["error"] == 3 + len(wrong["this machine"])


def test_a_host_that_is_off_or_not_known_is_a_finding_and_the_others_are_looked_at(project: Project) -> None:
    lab = project.lab
    lab.stop("h3")
    try:
        done = project.run("doctor", "--env", "try", "--limit", "h1:h3")
    finally:
        lab.start("h3")
    assert done.code == 1 and "Traceback" not in done.all
    shown = done.out.partition("\nh1\n")[2]
    assert "python 3" in shown.partition("\nh3\n")[0]
    assert "error" in shown.partition("\nh3\n")[2] and "h2" not in shown
