"""A canary on practice hosts, under load: the share is what was asked for, what is worse goes back by itself,
and nobody but those who got a share of it ever notices."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.lab.project import PYTHON, Project
from tests.load.generator import Load
from tests.load.ground import Ground, prepare, under_load

from longshore.lab import Lab

pytestmark = pytest.mark.lab

_QUICK = ("new connection", "kept-alive", "post")


@pytest.fixture
def ground(tmp_path: Path, lab: Lab, stand_ins: Callable[..., None], clean_hosts: None) -> Ground:
    """Two replicas on one host, deployed. A machine that is busy is no failure: requests may be late."""
    stand_ins(PYTHON, "traefik:v3")
    made = prepare(tmp_path, lab, ("h1",), rate=60, slow=1.0, grace=1.0)
    made.load.late = 25.0
    first = made.deploy("r0")
    assert first.code == 0, first.all
    return made


def _answers(load: Load, since: float, until: float | None = None) -> Counter[str]:
    """Release to the requests that it answered, of those that began in that time."""
    end = time.monotonic() if until is None else until
    return Counter(
        one.release
        for one in load.outcomes
        if one.kind in _QUICK and since <= one.began < end and one.release
    )


def _until(what: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.1)


def _gets_some(load: Load, release: str) -> Callable[[], bool]:
    return lambda: any(one.release == release for one in load.outcomes)


def _proxy(project: Project) -> dict[str, Any]:
    found: dict[str, Any] = project.run("proxy.status", "--env", "try", "--json").json()[-1]["value"]
    return dict(found["hosts"]["h1"])


def test_a_good_release_gets_its_share_and_then_all(ground: Ground) -> None:
    with under_load(ground) as load:
        done = ground.deploy("r1", "--canary", "20%", "--canary-for", "8s")
        ended = time.monotonic()
        time.sleep(1)
    assert done.code == 0, done.all
    assert "canary of web: 20 % of the requests for 8.0 s, then all" in done.out
    assert "web: canary 20 %: good; " in done.out
    first = min(one.began for one in load.outcomes if one.release == "r1")
    during = _answers(load, first, first + 7)
    assert 0.17 < during["r1"] / during.total() < 0.23, during
    assert set(_answers(load, ended)) == {"r1"}
    assert not load.failures(), load.failures()


def test_what_fails_or_is_slow_goes_back_by_itself_and_only_its_share_ever_saw_it(ground: Ground) -> None:
    with under_load(ground) as load:
        began = time.monotonic()
        failing = ground.deploy("bad", "--canary", "20%", "--canary-for", "1m", FAIL_EVERY="3")
        assert failing.code == 1
        assert "error: h1: the canary 20 % of web was stopped: " in failing.err
        assert "requests failed (of the old release 0 % of " in failing.err
        assert time.monotonic() - began < 40, "it did not wait for the time to be over"
        failed = [one for one in load.outcomes if one.wrong]
        # Nobody else's request failed, and none otherwise than as the release itself failed.
        assert failed
        assert {(one.release, one.wrong.split(" (")[0]) for one in failed} == {("bad", "status 500")}
        assert len(failed) < 40
        slow = ground.deploy("slow", "--canary", "20%", "--canary-for", "6s", SLOWER="0.4")
        assert slow.code == 1
        assert "the canary 20 % of web was stopped: 95 % of " in slow.err
        ended = time.monotonic()
        time.sleep(1)
    assert set(_answers(load, ended)) == {"r0"}
    assert len([one for one in load.outcomes if one.wrong]) == len(failed)
    history = ground.project.run("history", "--env", "try").out
    assert history.count("was stopped: ") == 2
    assert _containers(ground) == 2


def test_a_canary_can_be_watched_and_stopped_and_a_new_proxy_takes_its_share_over(ground: Ground) -> None:
    project = ground.project
    with under_load(ground) as load:
        run = _in_the_background(ground, "r1", "--canary", "20%", "--canary-for", "9m")
        try:
            _until(_gets_some(load, "r1"))
            status = project.run("status", "--env", "try")
            assert "web: a release that is not committed gets 20 % of its requests" in status.out
            load.cuts = False  # a proxy that goes can't say goodbye to a WebSocket
            assert project.run("proxy.restart", "--env", "try").code == 0
            load.cuts = True
            (route,) = _proxy(project)["routes"]
            shares = [server.get("canary") for server in route["servers"]]
            assert shares == [None, None, *[{"share": 20, "mirror": 0}] * 2]
            assert "(20 %)" in project.run("proxy.status", "--env", "try").out
            since = time.monotonic()
            time.sleep(4)
            during = _answers(load, since)
            assert 0.15 < during["r1"] / during.total() < 0.25, during
            run.send_signal(signal.SIGINT)
            assert run.wait(60) == 1
        finally:
            run.kill()
        ended = time.monotonic()
        time.sleep(1)
    assert set(_answers(load, ended)) == {"r0"}
    assert not load.failures(), load.failures()
    assert "stopped by Ctrl-C" in project.run("history", "--env", "try").out


def test_copies_reach_the_new_release_and_its_answers_reach_nobody(ground: Ground) -> None:
    with under_load(ground) as load:
        run = _in_the_background(ground, "r1", "--mirror", "100%", "--canary-for", "9m")
        try:
            _until(lambda: _seen(ground, release="r1").get("GET", 0) > 20)
            copies = _seen(ground, release="r1")
            run.send_signal(signal.SIGINT)
            assert run.wait(60) == 1
        finally:
            run.kill()
    assert set(copies) == {"GET"}, "a POST was sent twice"
    assert set(_answers(load, 0)) == {"r0"}
    assert not load.failures(), load.failures()


_SEEN = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8000/seen').read().decode())"


def _seen(ground: Ground, *, release: str) -> dict[str, int]:
    """How many requests of each method the release's containers got."""
    lab, total = ground.project.lab, Counter[str]()
    ask = ["sh", "-c", 'test "$RELEASE" = "$1" && exec python3 -c "$0"', _SEEN, release]
    for ident in lab.ssh("h1", ["docker", "ps", "-q", "--filter", _OURS]).stdout.split():
        told = lab.ssh("h1", ["docker", "exec", ident, *ask], check=False).stdout
        for pair in told.split():
            name, _, count = pair.partition("=")
            total[name] += int(count)
    return dict(total)


_OURS = "label=com.docker.compose.project=shop"


def _containers(ground: Ground) -> int:
    """How many containers of the app there are."""
    return len(ground.project.lab.ssh("h1", ["docker", "ps", "-aq", "--filter", _OURS]).stdout.split())


def test_whoever_dies_in_a_canary_the_old_release_has_all_requests_again(ground: Ground) -> None:
    lab = ground.project.lab
    with under_load(ground) as load:
        for number, dies in enumerate((_controller, _agent), 1):
            controller = _in_the_background(ground, f"r{number}", "--canary", "50%", "--canary-for", "5m")
            try:
                _until(_gets_some(load, f"r{number}"))
                dies(lab, controller)
                _until(lambda: _all_from(load, "r0"))
                controller.wait(60)
            finally:
                controller.kill()
            _until(lambda: _containers(ground) == 2)
        assert not load.failures(), load.failures()
    assert ground.project.run("status", "--env", "try").code == 0


def _controller(lab: Lab, controller: subprocess.Popen[bytes]) -> None:
    controller.send_signal(signal.SIGKILL)


def _agent(lab: Lab, controller: subprocess.Popen[bytes]) -> None:
    """The youngest process of the host's agent; its parent stands behind it."""
    found = "pgrep -f 'longshore-agen[t]' | sort -n | tail -1"
    lab.ssh("h1", ["sh", "-c", f"kill -9 $({found})"])


def _in_the_background(ground: Ground, release: str, *words: str) -> subprocess.Popen[bytes]:
    ground.project.write("env/try.env", f"RELEASE={release}\n").chmod(0o600)
    command = [
        sys.executable,
        "-c",
        "from longshore.tasks import main; main()",
        "deploy",
        "--env",
        "try",
        *words,
    ]
    return subprocess.Popen(
        command, cwd=ground.project.root, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, env={**os.environ},
    )  # fmt: skip


def _all_from(load: Load, release: str) -> bool:
    """For a second now every answer was that release's."""
    now = time.monotonic()
    found = _answers(load, now - 2, now - 0.5)
    return set(found) == {release} and found.total() > 10
