"""A role's hooks and checks are called in a process of their own, which is killed when its time is over."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from longshore.roles import Role, find_role
from longshore.roles.calling import CallFailed
from longshore.verify.apart import call_role
from longshore.verify.role_checks import run_role_check

ROLE = """
import os
import sys
import threading
import time
from pathlib import Path

from beside import WORD
from longshore.roles import Role

calls = []


def says(facts):
    calls.append(1)
    print(f"{WORD} {facts['host']} {facts['services']} {len(calls)}")
    print("and this", file=sys.stderr)
    return os.environ.get("PYTHONPATH", "no path")


def lasts(facts):
    if os.fork() == 0:
        time.sleep(1.5)
        Path(facts["left"]).write_text("still there")
        os._exit(0)
    time.sleep(60)


def leaves_a_thread(facts):
    threading.Thread(target=time.sleep, args=(60,)).start()


def raises(facts):
    raise ValueError("no")


def ends(facts):
    os._exit(7)


def exits(facts):
    sys.exit("enough")


role = Role(
    name="shop",
    summary="A role of the test's.",
    hooks={"before_switch": lasts, "after_switch": leaves_a_thread},
    checks={"says": says, "raises": raises, "ends": ends, "exits": exits},
)
"""
FACTS: Mapping[str, Any] = {"host": "h1", "services": ["api"], "release": None}


@pytest.fixture
def role(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Role:
    """A role of a project, which imports what lies beside its tasks."""
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "beside.py").write_text("WORD = 'hello'\n")
    (tmp_path / "roles").mkdir()
    (tmp_path / "roles/shop.py").write_text(ROLE)
    found = find_role("shop", tmp_path)
    assert found is not None
    return found


def test_it_gets_the_facts_and_what_it_prints_is_handed_on(role: Role) -> None:
    for _ in range(2):  # nothing is left of the call before
        said: list[str] = []
        value = call_role(role, "checks", "says", FACTS, timeout=20, tell=said.append)
        assert said == ["hello h1 ['api'] 1", "and this"]
        assert value == "no path", "what a hook starts must not look for modules where we do"


def test_one_that_lasts_too_long_is_killed_with_what_it_started(role: Role, tmp_path: Path) -> None:
    left = tmp_path / "left"
    started = time.monotonic()
    with pytest.raises(CallFailed, match=r"was not done after 0\.5 s, and was killed"):
        call_role(role, "hooks", "before_switch", {**FACTS, "left": str(left)}, timeout=0.5)
    time.sleep(max(0.0, started + 2 - time.monotonic()))
    assert not left.exists()


def test_a_thread_that_it_leaves_keeps_nobody_waiting(role: Role) -> None:
    started = time.monotonic()
    call_role(role, "hooks", "after_switch", FACTS, timeout=20)
    assert time.monotonic() - started < 10


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("raises", "failed: ValueError: no"),
        ("exits", "failed: SystemExit: enough"),
        ("ends", "exited with code 7"),
    ],
)
def test_how_it_failed_is_said(role: Role, name: str, why: str) -> None:
    result = run_role_check(role, name, FACTS, timeout=20)
    assert (result.ok, result.why) == (False, why)


def test_a_role_that_is_in_no_file_is_called_where_it_is() -> None:
    seen: list[int] = []
    role = Role(
        name="app", summary="Made here.", hooks={"after_commit": lambda facts: seen.append(os.getpid())}
    )
    call_role(role, "hooks", "after_commit", FACTS, timeout=5)
    assert seen == [os.getpid()]
