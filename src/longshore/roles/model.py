"""A role: what a host is for, as a frozen value."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field
from typing import Any, Literal

from longshore.records import dataclass

HookName = Literal[
    "before_stage", "before_switch", "after_switch", "after_commit", "on_failure", "on_rollback"
]
HOOKS: tuple[HookName, ...] = (
    "before_stage",
    "before_switch",
    "after_switch",
    "after_commit",
    "on_failure",
    "on_rollback",
)

Hook = Callable[[Mapping[str, Any]], None]
"""Called on the controller with the run's facts (environment, app, host, release); raising stops the run."""

Check = Callable[[Mapping[str, Any]], "str | None"]
"""Called on the controller with the run's facts; returns ``None`` when all is well, or what is wrong."""

DatabaseKind = Literal["postgres", "mysql", "redis"]


@dataclass(frozen=True)
class Role:
    """What a host with this role gets, at the weakest of the five levels.

    ``defaults`` are variables as in ``group_vars``: our settings below ``longshore``, anything else beside
    it. Below ``longshore.apps`` the name ``*`` stands for every app of the host. ``database`` and ``service``
    go together: ``service`` is the policy for the services that run a database of that kind, as the apps'
    ``databases`` say. Hooks and checks are run by the rollout.
    """

    name: str
    summary: str
    defaults: Mapping[str, Any] = field(default_factory=dict)
    database: DatabaseKind | None = None
    service: Mapping[str, Any] = field(default_factory=dict)
    hooks: Mapping[HookName, Hook] = field(default_factory=dict)
    checks: Mapping[str, Check] = field(default_factory=dict)
