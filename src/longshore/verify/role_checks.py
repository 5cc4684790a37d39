"""The checks that a project's roles bring, in Python: run as smoke tests are."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from longshore.roles import Role
from longshore.roles.calling import CallFailed
from longshore.verify.apart import call_role
from longshore.verify.smoke import SmokeResult


def run_role_check(
    role: Role,
    name: str,
    facts: Mapping[str, Any],
    *,
    timeout: float,
    tell: Callable[[str], None] | None = None,
) -> SmokeResult:
    """Run a role's check once with these facts. It has failed when it returns a sentence, raises, or is not
    done after ``timeout`` seconds. ``tell`` gets what it prints."""
    started = time.monotonic()
    try:
        answer = call_role(role, "checks", name, facts, timeout=timeout, tell=tell)
        why = "" if answer is None else str(answer)
    except CallFailed as failure:
        why = str(failure)
    label = f"{role.name}: {name} on {facts['host']}"
    return SmokeResult(label, not why, why, time.monotonic() - started, 1)
