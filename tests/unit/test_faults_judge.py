"""The judge of the fault matrix notices every promise that is broken: one that can't fail proves nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.faults import judge
from tests.faults.observe import Seen

WHOLE = Seen(
    host="h1",
    answers=("7",) * 6,
    containers=("running 7",),
    current=7,
    as_committed=True,
    unfinished=False,
    locked=False,
    agents=0,
    half=(),
    volumes=("shop_data",),
    precious=True,
)


def test_a_host_that_is_whole_breaks_no_promise() -> None:
    seen = {"h1": WHOLE, "h2": replace(WHOLE, host="h2")}
    assert judge.after_the_fault(seen, {6, 7}) == judge.after_the_next(seen, 7) == judge.settled(seen) == []
    assert not judge.mixed(seen)


@pytest.mark.parametrize(
    "change",
    [
        {"answers": ("-",) * 6},
        {"answers": ("6", "7") * 3},
        {"answers": ("-", "7") * 3},
        {"answers": ("8",) * 6, "containers": ("running 8",)},
        {"containers": ()},
        {"containers": ("exited 6", "running 7")},
        {"containers": ("running 6",)},
        {"containers": ("created 7",)},
        {"containers": ("one-off running 7", "running 7")},
        {"locked": True},
        {"agents": 1},
        {"precious": False},
        {"volumes": ()},
        {"volumes": ("shop_data", "stray")},
    ],
)
def test_after_a_fault_it_notices(change: dict[str, Any]) -> None:
    assert judge.after_the_fault({"h1": replace(WHOLE, **change)}, {6, 7})


@pytest.mark.parametrize(
    "change",
    [
        {"answers": ("6",) * 6, "containers": ("running 6",)},
        {"current": 6},
        {"current": None},
        {"as_committed": False},
        {"unfinished": True},
        {"half": ("releases/.stage-x",)},
        {"staged": ("0123456789ab",)},
    ],
)
def test_after_the_next_deploy_it_notices(change: dict[str, Any]) -> None:
    assert judge.after_the_next({"h1": replace(WHOLE, **change)}, 7)


def test_it_notices_a_fleet_that_is_mixed_and_records_that_lie() -> None:
    other = replace(WHOLE, host="h2", answers=("6",) * 6, containers=("running 6",))
    assert judge.mixed({"h1": WHOLE, "h2": other})
    assert judge.settled({"h2": other})
    assert judge.settled({"h1": replace(WHOLE, unfinished=True)})


@pytest.mark.parametrize(
    ("here", "there", "said"),
    [
        (("begun", "ended"), (), []),
        (("begun",), (), ["the migration was broken off"]),
        (("begun", "ended"), ("begun", "ended"), ["the migration was begun 2 times"]),
        (
            ("begun", "ended"),
            ("begun",),
            ["the migration was begun 2 times", "the migration was broken off"],
        ),
        ((), (), ["the migration was begun 0 times"]),
    ],
)
def test_of_a_migration_it_notices(here: tuple[str, ...], there: tuple[str, ...], said: list[str]) -> None:
    seen = {"h1": replace(WHOLE, migrations=here), "h2": replace(WHOLE, host="h2", migrations=there)}
    assert judge.of_the_migration(seen, broken_off=False) == said
    may_be = [one for one in said if "broken off" not in one]
    assert judge.of_the_migration(seen, broken_off=True) == may_be
