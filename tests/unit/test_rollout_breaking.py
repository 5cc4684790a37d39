"""Rollouts with a breaking migration, on hosts in memory: the old release never meets the new schema."""

from __future__ import annotations

from dataclasses import replace

import pytest
from rollout_factory import HOSTS, deployed, problems, release, run, running, states, story

from longshore.agent import wire
from longshore.errors import ConnectionLostError
from longshore.inventory.model import Migrate
from longshore.remote.fake import FakeFleet
from longshore.rollout.moves import Closing, Story

TOKEN = "let-me-through"
MIGRATE = Migrate(service="api", command=("alembic", "upgrade", "head"), breaking=True)


def breaking(fleet: FakeFleet, version: str, *, back: tuple[str, ...] = ()) -> Story:
    """Every host goes to ``version``, closed meanwhile but for its database."""
    closing = Closing(frozenset(fleet.hosts), frozenset({"db"}), TOKEN, page="<p>soon</p>")
    return story(fleet, version, migrate=replace(MIGRATE, back=back), closing=closing)


def ops(fleet: FakeFleet, host: str) -> list[str]:
    """What was asked of a host, in order, but for what every rollout asks."""
    known = (
        wire.SHUT,
        wire.SEAL,
        wire.MIGRATE,
        wire.SWITCH,
        wire.COMMIT,
        wire.REVERT,
        wire.RETURN,
        wire.REOPEN,
    )
    return [call.op for call in fleet[host].calls if call.op in known]


def closed(fleet: FakeFleet) -> dict[str, str]:
    """Host to how it is closed."""
    return {name: host.app("shop").closed for name, host in fleet.hosts.items()}


def test_all_hosts_are_closed_before_the_migration_and_open_after_the_last_commit() -> None:
    fleet = deployed()
    report, _ = run(fleet, breaking(fleet, "2"))
    assert report.ok, problems(report)
    rest = [wire.SWITCH, wire.COMMIT, wire.REOPEN]
    assert ops(fleet, "h1") == [wire.SHUT, wire.SEAL, wire.MIGRATE, *rest]
    assert ops(fleet, "h2") == [wire.SHUT, wire.SEAL, *rest]
    assert set(closed(fleet).values()) == {""}
    (asked,) = [call.args for call in fleet["h2"].calls if call.op == wire.SHUT]
    assert (asked["keep"], asked["pass"], asked["page"]) == (["db"], TOKEN, "<p>soon</p>")


def test_a_host_that_cannot_be_closed_takes_the_others_back_and_they_are_open_again() -> None:
    fleet = deployed()
    fleet["h2"].refuse(wire.SHUT, wire.UNHEALTHY, "the proxy doesn't run")
    report, _ = run(fleet, breaking(fleet, "2"))
    assert not report.ok
    assert wire.MIGRATE not in ops(fleet, "h1")
    assert running(fleet) == dict.fromkeys(HOSTS, release("1"))
    assert set(closed(fleet).values()) == {""}
    assert states(report) == {"h1": "taken back", "h2": "failed", "h3": "taken back"}


@pytest.mark.parametrize("op", [wire.MIGRATE, wire.SWITCH, wire.COMMIT])
def test_once_the_migration_has_begun_a_failure_leaves_the_hosts_closed_and_says_what_to_type(
    op: str,
) -> None:
    fleet = deployed()
    fleet["h1"].refuse(op, wire.MIGRATION_FAILED, "no such column")
    report, said = run(fleet, breaking(fleet, "2"))
    assert states(report) == dict.fromkeys(HOSTS, "closed")
    assert report.taken_back == ()
    for host in fleet.hosts.values():
        app = host.app("shop")
        assert (app.current, app.running, app.closed) == (release("1"), None, "sealed")
    told = problems(report)
    assert f"{release('1')} is not started on what may be the new schema: h1, h2, h3 answer 503" in told
    assert "`invoke deploy --app shop`" in told
    assert f"`invoke rollback --app shop --breaking --to {release('1')}`" in told
    assert TOKEN not in said + told


def test_with_a_way_back_the_schema_is_the_old_one_again_and_the_old_release_runs_on_it() -> None:
    fleet = deployed()
    fleet["h2"].refuse(wire.SWITCH, wire.UNHEALTHY, "it crashes")
    report, _ = run(fleet, breaking(fleet, "2", back=("alembic", "downgrade", "4f2a")))
    assert not report.ok
    assert running(fleet) == dict.fromkeys(HOSTS, release("1"))
    assert set(closed(fleet).values()) == {""}
    commands = [call.args["command"] for call in fleet["h1"].calls if call.op == wire.MIGRATE]
    assert commands == [["alembic", "upgrade", "head"], ["alembic", "downgrade", "4f2a"]]
    seals = [call.args["sealed"] for call in fleet["h3"].calls if call.op == wire.SEAL]
    assert seals == [True, False]
    assert states(report) == {"h1": "taken back", "h2": "failed", "h3": "taken back"}


def test_a_way_back_that_fails_leaves_the_hosts_closed() -> None:
    fleet = deployed()
    fleet["h1"].refuse(wire.MIGRATE, wire.MIGRATION_FAILED, "the upgrade failed")
    fleet["h1"].refuse(wire.MIGRATE, wire.MIGRATION_FAILED, "the downgrade failed")
    report, _ = run(fleet, breaking(fleet, "2", back=("alembic", "downgrade", "4f2a")))
    assert states(report) == dict.fromkeys(HOSTS, "closed")
    assert "the downgrade failed" in problems(report)


def test_the_deploy_after_one_that_failed_brings_its_release_and_opens() -> None:
    fleet = deployed()
    fleet["h1"].refuse(wire.MIGRATE, wire.MIGRATION_FAILED, "no such column")
    assert not run(fleet, breaking(fleet, "2"))[0].ok
    report, _ = run(fleet, breaking(fleet, "3"))
    assert report.ok, problems(report)
    assert running(fleet) == dict.fromkeys(HOSTS, release("3"))
    assert set(closed(fleet).values()) == {""}


def test_hosts_whose_controller_is_gone_start_nothing_of_the_old_release() -> None:
    fleet = deployed()
    fleet["h2"].fail(wire.SWITCH, ConnectionLostError("cut", where="h2"))
    report, _ = run(fleet, breaking(fleet, "2"))
    assert not report.ok
    assert {host.app("shop").running for host in fleet.hosts.values()} == {None}
    assert set(closed(fleet).values()) == {"sealed"}
