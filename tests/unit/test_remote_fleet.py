"""Many hosts at once."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest

from longshore.agent import wire
from longshore.errors import AgentError, ConnectionLostError, HostError
from longshore.remote.fake import FakeFleet
from longshore.remote.fleet import DefectError, Links, each

NAMES = ("web1", "web2", "db1")


def environment(*names: str) -> Any:
    hosts = {name: SimpleNamespace(name=name) for name in names}
    return SimpleNamespace(hosts=hosts, parallel=2)


def test_outcomes_are_in_the_hosts_order_whoever_is_first() -> None:
    outcomes = each(NAMES, lambda name: time.sleep(0.05 * (name == "web1")) or name.upper())
    assert [(name, outcome.get()) for name, outcome in outcomes.items()] == [(n, n.upper()) for n in NAMES]


def test_one_hosts_error_is_its_own() -> None:
    def work(name: str) -> str:
        if name == "web2":
            raise HostError("down", where=name)
        return name

    outcomes = each(NAMES, work)
    assert [outcome.ok for outcome in outcomes.values()] == [True, False, True]
    with pytest.raises(HostError, match="down"):
        outcomes["web2"].get()


def test_no_more_than_parallel_hosts_are_worked_on_at_once() -> None:
    lock, now, most = threading.Lock(), 0, 0

    def work(name: str) -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.01)
        with lock:
            now -= 1

    each([f"h{number}" for number in range(20)], work, parallel=3)
    assert most == 3


def test_a_defect_names_the_host_and_starts_no_other() -> None:
    begun: list[str] = []

    def work(name: str) -> None:
        begun.append(name)
        if name == "web1":
            raise ZeroDivisionError("oops")
        time.sleep(0.05)

    with pytest.raises(DefectError, match="web1: ZeroDivisionError: oops") as caught:
        each([*NAMES, *(f"h{number}" for number in range(50))], work, parallel=2)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert len(begun) < 10


def test_ctrl_c_waits_for_nobody() -> None:
    release = threading.Event()

    def work(name: str) -> None:
        release.wait(30)

    def interrupt(name: str, _: object) -> None:
        raise KeyboardInterrupt

    def stuck_or_done(name: str) -> None:
        if name != "web1":
            release.wait(30)

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        each([*NAMES, "h4", "h5"], stuck_or_done, parallel=2, on_done=interrupt)
    assert time.monotonic() - started < 5
    release.set()


def test_a_name_given_twice_is_worked_on_once() -> None:
    begun: list[str] = []
    each(["web1", "web1"], begun.append)
    assert begun == ["web1"]


def test_links_are_opened_once_and_all_closed() -> None:
    fleet = FakeFleet(*NAMES)
    with Links(environment(*NAMES), fleet) as links:
        first = links.each(NAMES, lambda link: link.session())
        second = links.each(NAMES, lambda link: link.session())
        assert [one.get() for one in first.values()] == [one.get() for one in second.values()]
    for outcome in first.values():
        with pytest.raises(ConnectionLostError):
            outcome.get().call(wire.FACTS)


def test_a_host_that_cannot_be_reached_is_an_outcome() -> None:
    fleet = FakeFleet(*NAMES)
    fleet["web2"].unreachable = HostError("refuses the connection.", where="web2")
    with Links(environment(*NAMES), fleet) as links:
        outcomes = links.each(NAMES, lambda link: link.session().call(wire.FACTS)["engine"])
    assert [outcome.ok for outcome in outcomes.values()] == [True, False, True]


def test_a_fake_host_goes_back_when_its_session_ends_in_the_middle() -> None:
    fleet = FakeFleet("web1")
    host = fleet["web1"]
    manifest = {"id": "r2", "project": "p", "services": {"web": {"image": "w:2"}}}
    host.app("a").releases["r1"] = {**manifest, "id": "r1"}
    host.app("a").current = host.app("a").running = "r1"
    session = fleet(SimpleNamespace(name="web1")).session()
    args = {"app": "a", "release": "r2"}
    session.call(wire.LOCK, {**args, "run": "1", "by": "me", "expect": "r1"})
    session.call(wire.STAGE, {**args, "manifest": manifest}, payload=b"tar")
    session.call(wire.SWITCH, args)
    assert host.app("a").running == "r2"
    session.close()
    assert (host.app("a").running, host.app("a").lock) == ("r1", None)
    assert host.app("a").history[-1]["outcome"] == "reverted"


def test_a_fake_host_refuses_what_the_agent_refuses() -> None:
    fleet = FakeFleet("web1")
    mine, other = (fleet(SimpleNamespace(name="web1")).session() for _ in range(2))
    args = {"app": "a", "release": "r1"}
    for op, code in ((wire.SWITCH, wire.LOCK_LOST), ("nonsense", wire.BAD_REQUEST)):
        with pytest.raises(AgentError) as caught:
            mine.call(op, args)
        assert caught.value.code == code
    mine.call(wire.LOCK, {**args, "by": "me"})
    with pytest.raises(AgentError) as caught:
        mine.call(wire.SWITCH, args)
    assert caught.value.code == wire.NOT_STAGED
    with pytest.raises(AgentError) as caught:
        other.call(wire.LOCK, args)
    assert caught.value.code == wire.LOCKED
