"""The commit is everywhere or nowhere, and hosts that are lost are found again; the lock is all hosts'."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.unit.rollout_factory import deployed, problems, release, run, running, states, story

import longshore.rollout.lost as lost
import longshore.rollout.rollout as rollout
from longshore.agent import wire
from longshore.errors import AgentError, ConnectionLostError, HostError
from longshore.remote.fake import FakeFleet, FakeHost, FakeSession
from longshore.remote.session import Session

OLD, NEW = release("1"), release("2")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits a second between two tries."""
    monkeypatch.setattr(lost, "_PAUSE", 0.0)


class _DiesAfter(FakeSession):
    """The host carries the request out, and its answer never comes."""

    def __init__(self, fake: FakeHost, op: str) -> None:
        super().__init__(fake)
        self.op = op

    def call(self, op: str, *args: Any, **more: Any) -> Any:
        answer = super().call(op, *args, **more)
        if op == self.op:
            self.close()
            raise ConnectionLostError("the connection broke", where=self.host)
        return answer


def _broken(host: str) -> ConnectionLostError:
    return ConnectionLostError("the connection broke", where=host)


def _reopen(fleet: FakeFleet, *, refuses: int = 0) -> Callable[[str], Session]:
    left = [refuses]

    def reopen(host: str) -> Session:
        if left[0]:
            left[0] -= 1
            raise HostError("no route", where=host)
        return FakeSession(fleet[host])

    return reopen


def _never(host: str) -> Session:
    raise HostError("no route", where=host)


def test_a_host_that_refuses_the_commit_takes_back_those_that_have_committed() -> None:
    fleet = deployed("1")
    fleet["h2"].refuse(wire.COMMIT, wire.NO_SPACE, "no space left on the disk")
    report, _ = run(fleet, story(fleet, "2"))
    assert set(running(fleet).values()) == {OLD}
    assert states(report) == {"h1": "taken back", "h2": "failed", "h3": "taken back"}
    assert "no space left" in problems(report)
    assert fleet["h1"].app("shop").history[-1]["release"] == OLD
    assert all(host.app("shop").lock is None for host in fleet.hosts.values())


def test_a_first_release_that_is_refused_at_the_commit_runs_nowhere() -> None:
    fleet = FakeFleet("h1", "h2")
    fleet["h2"].refuse(wire.COMMIT, wire.NO_SPACE)
    report, _ = run(fleet, story(fleet, "1"))
    assert set(running(fleet).values()) == {None}
    assert not report.ok


def test_a_host_whose_answer_to_the_commit_was_lost_is_asked_and_is_deployed() -> None:
    fleet = deployed("1")
    session = _DiesAfter(fleet["h2"], wire.COMMIT)
    report, _ = run(fleet, story(fleet, "2"), sessions={"h2": session}, reopen=_reopen(fleet, refuses=2))
    assert report.ok
    assert set(running(fleet).values()) == {NEW}
    assert all(host.app("shop").lock is None for host in fleet.hosts.values())


def test_a_host_that_went_back_instead_of_committing_is_brought_forward_again() -> None:
    fleet = deployed("1")
    fleet["h2"].fail(wire.COMMIT, _broken("h2"))
    report, _ = run(fleet, story(fleet, "2"), reopen=_reopen(fleet))
    assert report.ok
    assert set(running(fleet).values()) == {NEW}
    assert fleet["h2"].ops().count(wire.SWITCH) == 2
    assert fleet["h2"].ops().count(wire.STAGE) == 1


def test_a_host_that_comes_back_and_can_not_go_forward_takes_the_others_back() -> None:
    fleet = deployed("1")
    fleet["h2"].fail(wire.COMMIT, _broken("h2"))

    def reopen(host: str) -> Session:
        fleet[host].refuse(wire.VERIFY, wire.UNHEALTHY, "api has stopped")
        return FakeSession(fleet[host])

    report, _ = run(fleet, story(fleet, "2"), reopen=reopen)
    assert set(running(fleet).values()) == {OLD}
    assert "api has stopped" in problems(report)
    assert states(report) == {"h1": "taken back", "h2": "failed", "h3": "taken back"}


def test_a_host_that_is_never_reached_again_leaves_the_others_on_the_new_release(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fleet = deployed("1")
    fleet["h2"].fail(wire.COMMIT, _broken("h2"))
    monkeypatch.setattr(rollout, "_LATER", 0.0)
    report, _ = run(fleet, story(fleet, "2", lease=0.1), reopen=_never)
    assert running(fleet) == {"h1": NEW, "h2": OLD, "h3": NEW}
    assert states(report) == {"h1": "deployed", "h2": "failed", "h3": "deployed"}
    said = problems(report)
    assert f"was lost while it committed {NEW}" in said
    assert "`invoke deploy --app shop` makes the fleet whole" in said
    assert [one.release for one in report.hosts] == [NEW, None, NEW]


def test_one_that_refuses_and_one_that_is_lost_are_both_taken_back() -> None:
    fleet = deployed("1")
    fleet["h1"].refuse(wire.COMMIT, wire.NO_SPACE)
    session = _DiesAfter(fleet["h2"], wire.COMMIT)  # it has committed, but nobody knows
    report, _ = run(fleet, story(fleet, "2"), sessions={"h2": session}, reopen=_reopen(fleet))
    assert set(running(fleet).values()) == {OLD}
    assert not report.ok


def test_a_host_that_is_lost_in_the_switch_is_seen_to_have_gone_back() -> None:
    fleet = deployed("1")
    fleet["h2"].fail(wire.VERIFY, _broken("h2"))
    report, _ = run(fleet, story(fleet, "2"), reopen=_reopen(fleet))
    assert set(running(fleet).values()) == {OLD}
    assert "could not be taken back" not in problems(report)
    assert all(host.app("shop").lock is None for host in fleet.hosts.values())


def test_a_host_that_can_not_be_taken_back_is_told_with_what_runs_and_what_to_type() -> None:
    fleet = deployed("1")
    fleet["h1"].fail(wire.VERIFY, AgentError("api has stopped", code=wire.UNHEALTHY, where="h1"))
    state = {
        "current": OLD,
        "back": OLD,
        "failed": NEW,
        "containers": [{"service": "api", "status": "Exited (1)", "release": None}],
    }
    detail = {"state": state, "log": ["x"]}
    stuck = AgentError("could not be taken back", code=wire.NOT_TAKEN_BACK, where="h2", detail=detail)
    fleet["h2"].fail(wire.REVERT, stuck)
    report, _ = run(fleet, story(fleet, "2", environment="prod"))
    said = problems(report)
    assert f"What runs: api (Exited (1), not of {OLD}); recorded as current: {OLD}." in said
    assert "`invoke start --env prod --app shop --limit h2` tries to go back again" in said
    assert isinstance(report.problems[0], AgentError)
    assert report.problems[0].detail["log"] == ["x"]


# The lock


def test_the_first_host_is_locked_alone_so_that_two_runs_can_not_each_get_a_half() -> None:
    fleet = deployed("1")
    other = FakeSession(fleet["h1"])
    other.call(wire.LOCK, {"app": "shop", "by": "bob@desk", "run": "x"})
    report, _ = run(fleet, story(fleet, "2"))
    assert "bob@desk" in problems(report)
    assert fleet["h2"].ops() == fleet["h3"].ops() == []


def test_all_of_the_apps_hosts_are_locked_whatever_is_to_be_done_on_them() -> None:
    fleet = deployed("1")
    report, _ = run(fleet, story(fleet, "2", only=("h2",), hosts=("h1", "h2", "h3")))
    assert report.ok
    assert fleet["h1"].ops() == fleet["h3"].ops() == [wire.LOCK, wire.UNLOCK]
    assert running(fleet) == {"h1": OLD, "h2": NEW, "h3": OLD}


def test_a_run_elsewhere_stops_one_that_was_limited_to_other_hosts() -> None:
    fleet = deployed("1")
    other = FakeSession(fleet["h3"])
    other.call(wire.LOCK, {"app": "shop", "by": "bob@desk", "run": "x"})
    report, _ = run(fleet, story(fleet, "2", only=("h2",), hosts=("h1", "h2", "h3")))
    assert not report.ok
    assert "bob@desk" in problems(report)
    assert running(fleet)["h2"] == OLD
    assert fleet["h1"].app("shop").lock is None


def test_a_host_outside_of_the_run_that_can_not_be_locked_is_told_and_stops_nothing() -> None:
    fleet = deployed("1")
    fleet["h1"].fail(wire.LOCK, _broken("h1"))
    report, said = run(fleet, story(fleet, "2", only=("h2",), hosts=("h1", "h2", "h3")))
    assert "h1 is not part of this run, and was not locked" in said
    assert states(report) == {"h2": "deployed"}


def test_a_hold_refuses_a_rollout_with_who_and_why() -> None:
    fleet = deployed("1")
    fleet["h3"].app("shop").hold = {"by": "bob@desk", "why": "moving the database", "since": 0, "until": 0}
    report, _ = run(fleet, story(fleet, "2"))
    assert "bob@desk holds it: moving the database" in problems(report)
    assert all(wire.STAGE not in host.ops() for host in fleet.hosts.values())
