"""Maintenance, pauses and breaking migrations on practice hosts: what clients see meanwhile, and then."""

from __future__ import annotations

import http.client
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.lab.project import PYTHON, Project
from tests.load.generator import HOST, Load
from tests.load.ground import prepare, under_load

from longshore.lab import Lab

pytestmark = pytest.mark.lab

RATE = 60.0
"""Requests a second; the figures in docs/proxy.md are of 200."""


@pytest.fixture
def images(stand_ins: Callable[..., None], clean_hosts: None) -> None:
    """What the tests deploy, in the registry; and clean hosts."""
    stand_ins(PYTHON, "traefik:v3")


def _ask(lab: Lab, *, accept: str = "*/*", method: str = "GET") -> tuple[int, dict[str, str], str]:
    """A request to the proxy of ``h1``: status, headers (small letters), body."""
    connection = http.client.HTTPConnection(lab.addresses["h1"], 80, timeout=30)
    try:
        connection.request(method, "/", headers={"Host": HOST, "Accept": accept})
        answer = connection.getresponse()
        found = {name.lower(): value for name, value in answer.getheaders()}
        return answer.status, found, answer.read().decode()
    finally:
        connection.close()


def _holders(lab: Lab, module: str = "holding") -> list[str]:
    """The processes that hold requests back, or serve a page, on ``h1``; the oldest first."""
    found = lab.ssh("h1", ["pgrep", "-f", f" {module} /var/lib/longshore shop "], check=False)
    return found.stdout.split()


def _routes(lab: Lab) -> str:
    return lab.ssh("h1", ["cat", "/var/lib/longshore/_proxy/dynamic/shop.yml"]).stdout


def _held(load: Load, since: float, until: float) -> list[float]:
    """How long the quick requests took that were begun in that window, in their order."""
    quick = ("new connection", "kept-alive", "post")
    return [one.took for one in load.outcomes if one.kind in quick and since <= one.began < until]


def _answered_between(load: Load, since: float, until: float) -> int:
    quick = ("new connection", "kept-alive", "post")
    return len([one for one in load.outcomes if one.kind in quick and since < one.began + one.took < until])


def test_a_pause_holds_requests_and_loses_none_whoever_is_killed_meanwhile(
    tmp_path: Path, lab: Lab, images: None
) -> None:
    ground = prepare(tmp_path, lab, ("h1",), rate=RATE, slow=2.0)
    ground.load.late = 25.0
    project = ground.project
    assert ground.deploy("r0").code == 0
    with under_load(ground) as load:
        # Ended by hand: what came meanwhile has waited for that, and nothing was answered before.
        done = project.run("pause", "--env", "try", "--why", "the database restarts")
        assert done.code == 0, done.all
        began = time.monotonic()
        assert re.search(
            r"requests are held for another \d+ s, by .+: the database restarts", _status(project)
        )
        time.sleep(max(0.0, began + 3 - time.monotonic()))
        ended = time.monotonic()
        done = project.run("resume", "--env", "try")
        assert done.code == 0, done.all
        assert int(re.search(r"(\d+) requests had been held", done.out).group(1)) > RATE  # type: ignore[union-attr]
        time.sleep(1)
        assert _answered_between(load, began + 0.1, ended) == 0
        waited = _held(load, began, began + 0.5)
        assert min(waited) > 2.5, sorted(waited)[:5]
        # By itself, with one of its two processes killed: as if nothing was.
        assert project.run("pause", "--env", "try", "--for", "4s").code == 0
        began = time.monotonic()
        lab.ssh("h1", ["kill", "-9", _holders(lab)[-1]])
        time.sleep(5)
        waited = _held(load, began, began + 0.5)
        assert 2 < min(waited) < 5, sorted(waited)[:5]
        # With both of them killed requests go on at once, and none fails.
        assert project.run("pause", "--env", "try").code == 0
        began = time.monotonic()
        lab.ssh("h1", ["kill", "-9", *_holders(lab)])
        time.sleep(2)
        assert max(_held(load, began + 0.5, began + 1.5)) < 1
        assert project.run("resume", "--env", "try").code == 0
        # A deploy in the middle of one: what is held knows the old containers, so they wait for it.
        assert project.run("pause", "--env", "try", "--for", "8s").code == 0
        done = ground.deploy("r1")
        assert done.code == 0, done.all
        time.sleep(1)
        # So does a proxy that goes.
        assert project.run("pause", "--env", "try", "--for", "3s").code == 0
        load.cuts = False
        assert project.run("proxy.restart", "--env", "try").code == 0
        time.sleep(1)
    assert not load.failures(), load.failures()
    assert load.answered_by(time.monotonic() - 2).keys() <= {"r1"}
    _until(lambda: "::" not in _routes(lab))
    assert project.run("resume", "--env", "try").out.count("is not paused") == 1


def _until(what: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.2)


def _status(project: Project) -> str:
    return project.run("proxy.status", "--env", "try").out
