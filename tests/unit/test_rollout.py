"""The story of a rollout, on hosts in memory: what happens to the fleet when a step fails somewhere."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pytest
from tests.unit.rollout_factory import HOSTS
from tests.unit.rollout_factory import bundle as _bundle
from tests.unit.rollout_factory import deployed as _deployed
from tests.unit.rollout_factory import story as _story

from longshore.agent import wire
from longshore.console import make_output
from longshore.errors import AgentError, ConnectionLostError
from longshore.inventory.model import Migrate, SmokeCheck
from longshore.remote.fake import FakeFleet, FakeSession
from longshore.roles import Hook, HookName, Role
from longshore.rollout import Facts, Move, Report
from longshore.rollout.crew import Crew
from longshore.rollout.moves import Story
from longshore.rollout.rollout import Rollout
from longshore.rollout.steps import Steps

MIGRATE = Migrate("api", ("alembic", "upgrade", "head"))


def _run(fleet: FakeFleet, story: Story) -> tuple[Report, Rollout]:
    sessions = {name: FakeSession(host) for name, host in fleet.hosts.items()}
    rollout = Rollout(story, sessions, make_output(stream=io.StringIO()))
    report = rollout.run()
    for session in sessions.values():
        session.close()
    return report, rollout


def _running(fleet: FakeFleet) -> set[str | None]:
    return {host.app("shop").running for host in fleet.hosts.values()}


def _refusal(message: str = "refused") -> AgentError:
    return AgentError(message, code=wire.UNHEALTHY, where="h2")


def test_a_good_release_is_committed_everywhere_and_no_lock_is_left() -> None:
    fleet = _deployed("1")
    report, _ = _run(fleet, _story(fleet, "2"))
    release = _bundle("h1", "2").id
    assert report.ok
    assert _running(fleet) == {release}
    assert all(host.app("shop").current == release for host in fleet.hosts.values())
    assert all(host.app("shop").lock is None for host in fleet.hosts.values())


def test_the_lock_comes_before_anything_is_uploaded_and_the_switch_after_all_are_staged() -> None:
    fleet = _deployed()
    _run(fleet, _story(fleet, "2"))
    assert fleet["h1"].ops() == [
        wire.LOCK, wire.STAGE, wire.SWITCH, wire.COMMIT, wire.UNLOCK,
    ]  # fmt: skip


@pytest.mark.parametrize("op", [wire.SWITCH, wire.VERIFY])
def test_a_host_that_fails_takes_the_others_back(op: str) -> None:
    fleet = _deployed("1")
    fleet["h2"].fail(op, _refusal())
    report, _ = _run(fleet, _story(fleet, "2"))
    assert not report.ok
    assert _running(fleet) == {_bundle("h1", "1").id}
    states = {one.host: one.state for one in report.hosts}
    assert states == {"h1": "taken back", "h2": "failed", "h3": "taken back"}
    assert {one.release for one in report.hosts} == {_bundle("h1", "1").id}


def test_a_failure_while_staging_touches_nothing_that_runs() -> None:
    fleet = _deployed("1")
    fleet["h3"].fail(wire.STAGE, _refusal("no space"))
    report, _ = _run(fleet, _story(fleet, "2"))
    assert [one.state for one in report.hosts] == ["unchanged", "unchanged", "failed"]
    for host in fleet.hosts.values():
        assert wire.SWITCH not in host.ops()
        assert wire.REVERT not in host.ops()
        assert host.app("shop").lock is None


def test_a_first_deploy_that_fails_leaves_nothing_running() -> None:
    fleet = FakeFleet(*HOSTS)
    fleet["h1"].fail(wire.VERIFY, _refusal())
    report, _ = _run(fleet, _story(fleet, "1"))
    assert not report.ok
    assert _running(fleet) == {None}


def test_the_migration_runs_once_before_any_host_switches() -> None:
    fleet = _deployed()
    report, _ = _run(fleet, _story(fleet, "2", migrate=MIGRATE))
    assert report.migrated
    assert fleet["h1"].ops()[2:4] == [wire.MIGRATE, wire.SWITCH]
    assert all(wire.MIGRATE not in fleet[name].ops() for name in ("h2", "h3"))


def test_a_migration_that_fails_switches_no_host_and_takes_its_own_back() -> None:
    fleet = _deployed("1")
    fleet["h1"].fail(wire.MIGRATE, _refusal("the migration failed"))
    report, _ = _run(fleet, _story(fleet, "2", migrate=MIGRATE))
    assert not report.ok
    assert _running(fleet) == {_bundle("h1", "1").id}
    assert wire.REVERT in fleet["h1"].ops()
    assert all(wire.SWITCH not in host.ops() for host in fleet.hosts.values())


def test_hosts_that_the_migration_needs_switch_before_it() -> None:
    fleet = FakeFleet(*HOSTS)
    story = _story(fleet, "1", migrate=MIGRATE, first=frozenset({"h3"}))
    order: list[tuple[str, str]] = []
    sessions = {name: _Noting(host, order) for name, host in fleet.hosts.items()}
    assert Rollout(story, sessions, make_output(stream=io.StringIO())).run().ok
    steps = [step for step in order if step[1] in (wire.SWITCH, wire.MIGRATE)]
    assert steps[:2] == [("h3", wire.SWITCH), ("h1", wire.MIGRATE)]


def test_a_host_may_be_silent_as_long_as_undoing_what_a_run_has_left_may_take() -> None:
    given: list[float | None] = []

    class Timed(FakeSession):
        def call(self, op: str, *args: Any, timeout: float | None = None, **more: Any) -> Any:
            if op == wire.LOCK:
                given.append(timeout)
            return super().call(op, *args, timeout=timeout, **more)

    fleet = _deployed("1")
    story = _story(fleet, "2", wait=5.0, recovery=1800.0)
    sessions = {name: Timed(host) for name, host in fleet.hosts.items()}
    assert Rollout(story, sessions, make_output(stream=io.StringIO())).run().ok
    assert given == [1805.0] * 3


class _Noting(FakeSession):
    def __init__(self, fake: object, order: list[tuple[str, str]]) -> None:
        super().__init__(fake)  # type: ignore[arg-type]
        self.order = order

    def call(self, op: str, *args: object, **more: object) -> object:  # type: ignore[override]
        self.order.append((self.host, op))
        return super().call(op, *args, **more)  # type: ignore[arg-type]


def test_a_smoke_test_that_fails_takes_every_host_back() -> None:
    fleet = _deployed("1")
    story = _story(fleet, "2")
    check = SmokeCheck("front page", tcp="127.0.0.1:1", retries=0, timeout=1)
    story = replace(story, moves=tuple(replace(move, smoke=(check,)) for move in story.moves))
    report, _ = _run(fleet, story)
    assert not report.ok
    assert _running(fleet) == {_bundle("h1", "1").id}
    assert [one.state for one in report.hosts] == ["taken back"] * 3
    assert "front page" in str(report.problems[0])


def test_a_host_whose_connection_breaks_is_reported_and_the_others_go_back() -> None:
    fleet = _deployed("1")
    fleet["h2"].fail(wire.VERIFY, ConnectionLostError("the connection was lost", where="h2"))
    report, _ = _run(fleet, _story(fleet, "2"))
    assert not report.ok
    assert _running(fleet) == {_bundle("h1", "1").id}
    assert any("could not be taken back" in str(problem) for problem in report.problems)


def test_a_host_that_was_locked_by_another_run_stops_all_before_anything_changes() -> None:
    fleet = _deployed("1")
    other = FakeSession(fleet["h2"])
    other.call(wire.LOCK, {"app": "shop", "by": "bob@desk", "run": "x"})
    report, _ = _run(fleet, _story(fleet, "2"))
    assert "bob@desk" in str(report.hosts[1].error)
    assert all(wire.STAGE not in host.ops() for host in fleet.hosts.values())


def test_a_plan_for_another_release_than_the_one_that_runs_is_void() -> None:
    fleet = _deployed("1")
    story = _story(fleet, "3")
    assert _run(fleet, _story(fleet, "2"))[0].ok
    report, _ = _run(fleet, story)
    assert not report.ok
    assert _running(fleet) == {_bundle("h1", "2").id}


def test_a_rollback_stages_nothing() -> None:
    fleet = _deployed("1")
    assert _run(fleet, _story(fleet, "2"))[0].ok
    first = _bundle("h1", "1").id
    for host in fleet.hosts.values():
        host.calls.clear()
    moves = tuple(Move(name, first, _bundle("h1", "2").id, frozenset({"api"})) for name in HOSTS)
    report, _ = _run(fleet, Story("shop", moves, Facts("run2", "ann")))
    assert report.ok
    assert {(one.state, one.release) for one in report.hosts} == {("rolled back", first)}
    assert _running(fleet) == {first}
    assert all(wire.STAGE not in host.ops() for host in fleet.hosts.values())


def test_the_report_is_json_with_every_host() -> None:
    fleet = _deployed("1")
    fleet["h2"].fail(wire.VERIFY, _refusal("api has stopped"))
    value = _run(fleet, _story(fleet, "2"))[0].as_json()
    assert value["ok"] is False
    assert value["hosts"]["h2"]["state"] == "failed"
    assert "api has stopped" in value["hosts"]["h2"]["error"]


def _with_role(story: Story, **role: object) -> Story:
    known = Role("shop", "A role of the test's.", **role)  # type: ignore[arg-type]
    return replace(story, moves=tuple(replace(move, roles=(known,)) for move in story.moves))


def test_hooks_run_at_their_steps_and_are_told_what_happens() -> None:
    told: list[tuple[str, str, str]] = []

    def hook(name: str) -> Hook:
        return lambda facts: told.append((name, facts["host"], facts["release"]))

    fleet = FakeFleet("h1")
    names: tuple[HookName, ...] = (
        "before_stage",
        "before_switch",
        "after_switch",
        "after_commit",
        "on_failure",
    )
    report, _ = _run(fleet, _with_role(_story(fleet, "1"), hooks={name: hook(name) for name in names}))
    assert report.ok
    assert [name for name, _, _ in told] == list(names[:4])
    assert {(host, release) for _, host, release in told} == {("h1", _bundle("h1", "1").id)}


@pytest.mark.parametrize("name", ["before_stage", "before_switch", "after_switch"])
def test_a_hook_that_fails_stops_the_rollout_and_nothing_new_runs(name: str) -> None:
    fleet = _deployed("1")

    def fail(facts: object) -> None:
        raise RuntimeError("the load balancer said no")

    report, _ = _run(fleet, _with_role(_story(fleet, "2"), hooks={name: fail}))
    assert not report.ok
    assert _running(fleet) == {_bundle("h1", "1").id}
    assert "the load balancer said no" in str(report.hosts[0].error)


def test_a_hook_after_the_commit_that_fails_takes_nothing_back() -> None:
    fleet = _deployed("1")

    def fail(facts: object) -> None:
        raise RuntimeError("chat is down")

    report, _ = _run(fleet, _with_role(_story(fleet, "2"), hooks={"after_commit": fail}))
    assert report.ok
    assert _running(fleet) == {_bundle("h1", "2").id}


def test_a_roles_check_that_finds_something_takes_every_host_back() -> None:
    fleet = _deployed("1")
    story = _with_role(_story(fleet, "2"), checks={"pays": lambda facts: f"{facts['host']} takes no money"})
    report, _ = _run(fleet, story)
    assert not report.ok
    assert "h1 takes no money" in str(report.problems[0])
    assert _running(fleet) == {_bundle("h1", "1").id}


def test_a_second_ctrl_c_asks_nothing_more_of_the_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = _deployed("1")
    really_next = Crew._next

    def next_done(crew: Crew, done: Any) -> Any:
        if any(wire.SWITCH in host.ops() for host in fleet.hosts.values()):
            raise KeyboardInterrupt
        return really_next(crew, done)

    monkeypatch.setattr(Crew, "_next", next_done)
    with pytest.raises(KeyboardInterrupt):
        _run(fleet, _story(fleet, "2"))
    asked = {op for host in fleet.hosts.values() for op in host.ops()}
    assert wire.SWITCH in asked
    assert not asked & {wire.REVERT, wire.UNLOCK}


def test_the_more_hosts_there_are_the_less_often_each_tells_of_its_progress() -> None:
    def lines(count: int) -> float:
        fleet = FakeFleet(*(f"h{number}" for number in range(count)))
        pause: float = Steps(_story(fleet, "2"), {}, make_output(stream=io.StringIO())).lock_args()["pause"]
        return 1 / pause

    assert lines(1) == lines(2) == 5  # a second, each
    assert 50 * lines(50) == 100 * lines(100) == 10  # a second, of all
