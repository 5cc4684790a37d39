"""Hosts leave a load balancer before they have a gap, and never so many that nobody is left in it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tests.unit.rollout_factory import HOSTS, deployed, run, running, states, story

from longshore.agent import wire
from longshore.errors import AgentError
from longshore.inventory.model import RolloutPolicy
from longshore.remote.fake import FakeFleet, FakeHost, FakeSession
from longshore.remote.session import Session
from longshore.rollout.balanced import Balancing
from longshore.rollout.batches import batches
from longshore.rollout.moves import Story

TEN = tuple(f"h{number}" for number in range(1, 11))
FOUR = TEN[:4]


def _front(*hosts: str, **more: Any) -> Balancing:
    asked = {host: {"api": "/health"} for host in hosts}
    return replace(Balancing(asked, 5.0, gaps=frozenset(hosts)), **more)


def _wanted(fleet: FakeFleet, *serial: str, front: Balancing | None = None) -> Story:
    policy = RolloutPolicy(serial=serial)
    return story(fleet, "2", policy=policy, balancing=front or _front(*fleet.hosts))


def _sick(host: str) -> AgentError:
    return AgentError("api has stopped", code=wire.UNHEALTHY, where=host)


class _Watching(FakeSession):
    """Keeps which hosts were out at once: from the step that takes one out to the one that ends it."""

    def __init__(self, fake: FakeHost, away: dict[str, set[str]]) -> None:
        super().__init__(fake)
        self.away = away

    def call(self, op: str, args: Mapping[str, Any] | None = None, **more: Any) -> Any:
        if op in (wire.SWITCH, wire.REVERT, wire.RETURN) and (args or {}).get("out"):
            self.away["now"].add(self.host)
            if len(self.away["now"]) > len(self.away["most"]):
                self.away["most"] = set(self.away["now"])
            time.sleep(0.005)
        value = super().call(op, args, **more)
        if op in (wire.SWITCH, wire.REVERT, wire.RETURN):
            self.away["now"].discard(self.host)
        return value


def _watched(fleet: FakeFleet) -> tuple[dict[str, Session], dict[str, set[str]]]:
    away: dict[str, set[str]] = {"now": set(), "most": set()}
    return {name: _Watching(host, away) for name, host in fleet.hosts.items()}, away


def _out(fleet: FakeFleet, host: str, op: str = wire.SWITCH) -> Any:
    return next(call.args.get("out") for call in fleet[host].calls if call.op == op)


def test_without_serial_at_most_half_of_the_hosts_leave_at_once() -> None:
    assert [len(batch) for batch in batches(_wanted(FakeFleet(*TEN)))] == [5, 5]
    assert [len(batch) for batch in batches(_wanted(FakeFleet(*TEN[:3])))] == [1, 1, 1]
    assert [len(batch) for batch in batches(_wanted(FakeFleet(*TEN[:2])))] == [1, 1]
    assert [len(batch) for batch in batches(_wanted(FakeFleet("h1")))] == [1]


def test_a_serial_that_would_take_more_is_cut_and_a_smaller_one_holds() -> None:
    assert [len(batch) for batch in batches(_wanted(FakeFleet(*FOUR), "1", "100%"))] == [1, 2, 1]
    assert [len(batch) for batch in batches(_wanted(FakeFleet(*FOUR), "1"))] == [1] * 4


def test_hosts_without_a_gap_are_switched_all_at_once() -> None:
    front = _front(*TEN, gaps=frozenset())
    assert [len(batch) for batch in batches(_wanted(FakeFleet(*TEN), front=front))] == [10]


def test_each_service_keeps_half_of_its_own_hosts() -> None:
    asked = {"h1": {"api": "/a"}, "h2": {"api": "/a"}, "h3": {"web": "/w"}, "h4": {"web": "/w"}}
    front = Balancing(asked, 1.0, gaps=frozenset(asked))
    assert front.parts(("h1", "h3", "h2", "h4")) == (("h1", "h3"), ("h2", "h4"))
    alone = Balancing({**asked, "h4": {"web": "/w", "admin": "/x"}}, 1.0, gaps=frozenset(asked))
    assert alone.may_leave("h4", (), tuple(asked)) == {"web": "/w"}


def test_a_host_is_told_what_the_balancer_asks_and_what_is_replaced() -> None:
    fleet = deployed("1")
    front = _front(*HOSTS, replaced={"h1": ("api",)})
    assert run(fleet, _wanted(fleet, front=front))[0].ok
    told = _out(fleet, "h1")
    assert told["asked"] == {"api": "/health"}
    assert (told["wait"], told["replaced"], told["by"]) == (5.0, ["api"], "ann@laptop")
    assert _out(fleet, "h2")["replaced"] is None


def test_the_only_host_stays_in_and_that_is_said() -> None:
    fleet = deployed("1", "h1")
    report, said = run(fleet, _wanted(fleet))
    assert report.ok
    assert _out(fleet, "h1") is None
    assert "h1 stays in the load balancer, for nobody else serves api just now" in said


def test_a_host_stays_in_when_a_person_has_taken_the_other_one_out() -> None:
    fleet = deployed("1", "h1", "h2")
    fleet["h1"].app("shop").out = True
    assert run(fleet, _wanted(fleet))[0].ok
    assert _out(fleet, "h1") is not None  # it is out already: its agent has nothing to do
    assert _out(fleet, "h2") is None


def test_a_host_that_serves_nothing_comes_first_so_that_the_others_can_leave() -> None:
    fleet = deployed("1", "h1", "h2")
    front = _front("h1", "h2", ill=frozenset({"h2"}))
    assert batches(_wanted(fleet, front=front)) == (("h2",), ("h1",))
    assert run(fleet, _wanted(fleet, front=front))[0].ok
    assert _out(fleet, "h1") is not None


def test_a_host_stays_in_when_nobody_mends_the_other_one() -> None:
    fleet = deployed("1", "h1", "h2")
    front = _front("h1", "h2", ill=frozenset({"h2"}))
    only = story(fleet, "2", only=("h1",), balancing=front, hosts=("h1", "h2"))
    assert run(fleet, only)[0].ok
    assert _out(fleet, "h1") is None


def test_the_next_host_leaves_when_the_balancer_has_noticed_that_the_last_one_is_back() -> None:
    fleet = deployed("1", "h1", "h2")
    times: dict[str, float] = {}

    class Leaving(FakeSession):
        def call(self, op: str, args: Any = None, *, on_event: Any = None, **more: Any) -> Any:
            value = super().call(op, args, on_event=on_event, **more)
            if op == wire.SWITCH:
                times[self.host] = time.monotonic()
                on_event({"kind": "out", "seconds": 0.0})
                on_event({"kind": "in"})
            return value | {"in_for": 0.1} if op == wire.LOCK and self.host == "h2" else value

    began = time.monotonic()
    sessions: dict[str, Session] = {name: Leaving(host) for name, host in fleet.hosts.items()}
    report, said = run(fleet, _wanted(fleet, front=_front("h1", "h2", wait=0.3)), sessions=sessions)
    assert report.ok
    assert "h1  waiting  for the load balancer to notice who is back" in said
    assert times["h1"] - began > 0.15  # h2 was out a moment before this run
    assert times["h2"] - times["h1"] > 0.29


def test_going_back_takes_hosts_out_one_after_the_other_and_the_failed_one_first() -> None:
    fleet = deployed("1", *FOUR)
    fleet["h4"].fail(wire.VERIFY, _sick("h4"))
    sessions, away = _watched(fleet)
    report, _ = run(fleet, _wanted(fleet), sessions=sessions)
    assert set(states(report).values()) == {"taken back", "failed"}
    assert len(set(running(fleet).values())) == 1
    assert all(_out(fleet, host, wire.REVERT) for host in ("h1", "h2", "h3"))
    assert 1 <= len(away["most"]) <= 2


def test_two_hosts_are_never_out_at_once_whatever_fails() -> None:
    for op in (wire.SWITCH, wire.VERIFY, wire.COMMIT):
        for host in ("h1", "h2"):
            fleet = deployed("1", "h1", "h2")
            fleet[host].fail(op, _sick(host))
            sessions, away = _watched(fleet)
            report, _ = run(fleet, _wanted(fleet), sessions=sessions)
            assert not report.ok
            assert len(away["most"]) == 1, (op, host)
            assert len(set(running(fleet).values())) == 1
