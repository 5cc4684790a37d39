"""A release goes over the fleet in batches, and few hosts may fail without taking all back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.unit.rollout_factory import deployed, problems, release, run, running, states, story

from longshore.agent import wire
from longshore.errors import AgentError
from longshore.inventory.model import RolloutPolicy, SmokeCheck
from longshore.remote.fake import FakeFleet, FakeHost, FakeSession
from longshore.remote.session import Session
from longshore.rollout.batches import batches

TEN = tuple(f"h{number}" for number in range(1, 11))
OLD, NEW = release("1"), release("2")


def _sizes(fleet: FakeFleet, *serial: str, canary: tuple[str, ...] = ()) -> list[int]:
    wanted = story(fleet, "1", policy=RolloutPolicy(serial=serial), canary=frozenset(canary))
    return [len(batch) for batch in batches(wanted)]


def _sick(host: str) -> AgentError:
    return AgentError("api has stopped", code=wire.UNHEALTHY, where=host)


class _Noting(FakeSession):
    """Notes the hosts in the order in which they switch."""

    def __init__(self, fake: FakeHost, order: list[str]) -> None:
        super().__init__(fake)
        self.order = order

    def call(self, op: str, *args: Any, **more: Any) -> Any:
        if op == wire.SWITCH:
            self.order.append(self.host)
        return super().call(op, *args, **more)


@pytest.mark.parametrize(
    ("serial", "sizes"),
    [
        ((), [10]),
        (("1", "25%", "100%"), [1, 2, 7]),
        (("3",), [3, 3, 3, 1]),
        (("5%",), [1] * 10),
        (("1", "4"), [1, 4, 4, 1]),
        (("100",), [10]),
    ],
)
def test_batches_have_the_sizes_of_serial_and_the_last_one_repeats(
    serial: tuple[str, ...], sizes: list[int]
) -> None:
    assert _sizes(FakeFleet(*TEN), *serial) == sizes


def test_the_canary_is_the_first_batch_and_serial_is_for_the_rest() -> None:
    assert _sizes(FakeFleet(*TEN), "50%", canary=("h7", "h9")) == [2, 5, 3]
    fleet = deployed("1")
    order: list[str] = []
    sessions: dict[str, Session] = {name: _Noting(host, order) for name, host in fleet.hosts.items()}
    wanted = story(fleet, "2", policy=RolloutPolicy(serial=("1",)), canary=frozenset({"h3"}))
    assert run(fleet, wanted, sessions=sessions)[0].ok
    assert order == ["h3", "h1", "h2"]


def test_a_batch_that_fails_takes_the_batches_before_it_back_and_the_ones_after_it_never_begin() -> None:
    fleet = deployed("1")
    fleet["h2"].fail(wire.VERIFY, _sick("h2"))
    report, _ = run(fleet, story(fleet, "2", policy=RolloutPolicy(serial=("1",))))
    assert set(running(fleet).values()) == {OLD}
    assert states(report) == {"h1": "taken back", "h2": "failed", "h3": "unchanged"}
    assert wire.SWITCH not in fleet["h3"].ops()
    assert wire.COMMIT not in fleet["h1"].ops()


def test_a_host_that_max_fail_allows_goes_back_alone_and_the_rest_is_committed() -> None:
    fleet = deployed("1")
    fleet["h2"].fail(wire.VERIFY, _sick("h2"))
    report, _ = run(fleet, story(fleet, "2", policy=RolloutPolicy(serial=("1",), max_fail=1)))
    assert running(fleet) == {"h1": NEW, "h2": OLD, "h3": NEW}
    assert states(report) == {"h1": "deployed", "h2": "failed", "h3": "deployed"}
    assert not report.ok
    assert "the fleet is mixed: h1, h3 run the new release, h2 could not" in problems(report)
    assert all(host.app("shop").lock is None for host in fleet.hosts.values())


def test_a_host_that_can_not_be_staged_counts_for_max_fail_and_is_left_as_it_was() -> None:
    fleet = deployed("1")
    fleet["h1"].refuse(wire.STAGE, wire.NO_SPACE, "no space")
    report, _ = run(fleet, story(fleet, "2", policy=RolloutPolicy(max_fail=1)))
    assert running(fleet) == {"h1": OLD, "h2": NEW, "h3": NEW}
    assert not {wire.SWITCH, wire.REVERT} & set(fleet["h1"].ops())
    assert not report.ok


def test_one_more_failure_than_max_fail_takes_all_back() -> None:
    fleet = deployed("1")
    for name in ("h1", "h3"):
        fleet[name].fail(wire.VERIFY, _sick(name))
    report, _ = run(fleet, story(fleet, "2", policy=RolloutPolicy(serial=("1",), max_fail=1)))
    assert set(running(fleet).values()) == {OLD}
    assert states(report) == {"h1": "failed", "h2": "taken back", "h3": "failed"}


def test_max_fail_does_not_commit_a_release_that_is_good_nowhere() -> None:
    fleet = deployed("1", "h1")
    fleet["h1"].fail(wire.VERIFY, _sick("h1"))
    report, _ = run(fleet, story(fleet, "2", policy=RolloutPolicy(max_fail=5)))
    assert running(fleet) == {"h1": OLD}
    assert not report.ok


def test_a_migration_that_fails_is_nothing_that_max_fail_allows() -> None:
    from longshore.inventory.model import Migrate

    fleet = deployed("1")
    fleet["h1"].refuse(wire.MIGRATE, wire.MIGRATION_FAILED)
    wanted = story(fleet, "2", migrate=Migrate("api", ("up",)), policy=RolloutPolicy(max_fail=2))
    report, _ = run(fleet, wanted)
    assert set(running(fleet).values()) == {OLD}
    assert not report.ok


def test_smoke_tests_run_after_the_first_batch_so_that_a_bad_release_is_on_one_host_only() -> None:
    fleet = deployed("1")
    wanted = story(fleet, "2", policy=RolloutPolicy(serial=("1", "100%")))
    check = SmokeCheck("front page", tcp="127.0.0.1:1", retries=0, timeout=1)
    wanted = replace(wanted, moves=tuple(replace(move, smoke=(check,)) for move in wanted.moves))
    report, _ = run(fleet, wanted)
    assert states(report) == {"h1": "taken back", "h2": "unchanged", "h3": "unchanged"}
    assert "front page" in problems(report)


def test_the_next_batch_comes_only_after_a_yes() -> None:
    asked: list[str] = []

    def yes(question: str) -> bool:
        asked.append(question)
        return True

    fleet = deployed("1")
    policy = RolloutPolicy(serial=("1",), confirm=True)
    assert run(fleet, story(fleet, "2", policy=policy), ask=yes)[0].ok
    assert asked == ["Batch 1 of 3 is good. Go on with h2?", "Batch 2 of 3 is good. Go on with h3?"]

    fleet = deployed("1")
    report, _ = run(fleet, story(fleet, "2", policy=policy), ask=lambda question: False)
    assert set(running(fleet).values()) == {OLD}
    assert "stopped before batch 2" in problems(report)


def test_a_canary_that_falls_ill_in_the_pause_takes_all_back() -> None:
    fleet = deployed("1")

    def ill(question: str) -> bool:
        fleet["h1"].fail(wire.VERIFY, _sick("h1"))
        return True

    policy = RolloutPolicy(serial=("1",), confirm=True, pause=0.01)
    report, _ = run(fleet, story(fleet, "2", policy=policy), ask=ill)
    assert set(running(fleet).values()) == {OLD}
    assert states(report)["h1"] == "failed"
    assert wire.SWITCH not in fleet["h2"].ops()
