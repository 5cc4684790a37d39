"""What a plan is, as frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from longshore.records import dataclass
from longshore.render.bundle import Bundle

Action = Literal["nothing", "release", "repair", "recover"]
"""``release``: another release; ``repair``: the same one, but it doesn't run as it was committed;
``recover``: a run before this one ended in the middle."""

Deed = Literal["start", "recreate", "restart", "scale", "run again", "remove", "nothing", "maybe"]
"""What becomes of a service's containers. ``restart``: the same container is started again;
``maybe``: it can't be told."""


@dataclass(frozen=True)
class Change:
    """One thing that would change. ``service`` is ``None`` for what concerns the whole app.

    ``what`` is the field (``memory``), or ``start``, ``remove``, ``file``, ``setting``, ``repair``,
    ``recover``; ``why`` the words for a person (``memory 512M → 256M``).
    """

    service: str | None
    what: str
    why: str
    loose: bool = False
    """No container is made anew for it."""

    def __str__(self) -> str:
        return f"{self.service}: {self.why}" if self.service else self.why


@dataclass(frozen=True)
class ServiceStep:
    """What becomes of one service, because of what. ``gap``: for a moment it isn't there; ``gap_why``: what
    keeps old and new from running side by side, for one that the proxy serves; ``out``: nobody is sent there
    meanwhile, for its host is out of the load balancer."""

    service: str
    deed: Deed
    because: tuple[str, ...] = ()
    gap: bool = False
    gap_why: str = ""
    out: bool = False


@dataclass(frozen=True)
class FileDiff:
    """How one file differs: ``name`` as a person knows it, ``lines`` of a unified diff without secrets."""

    name: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class HostPlan:
    """What would happen on one host, from ``seen`` (the agent's ``InspectValue``) to ``bundle``."""

    host: str
    bundle: Bundle
    seen: Mapping[str, Any]
    action: Action
    changes: tuple[Change, ...]
    steps: tuple[ServiceStep, ...] = ()
    """Every service of either release, in the order of their names."""
    diffs: tuple[FileDiff, ...] = ()

    @property
    def current(self) -> str | None:
        """The release that was committed last on the host."""
        current: str | None = self.seen["current"]
        return current

    @property
    def drift(self) -> tuple[str, ...]:
        """What somebody changed by hand, in sentences; a deploy puts it right."""
        return tuple(self.seen["drift"])

    @property
    def notes(self) -> tuple[str, ...]:
        """What differs and is left alone, in sentences."""
        return tuple(self.seen.get("notes") or ())


@dataclass(frozen=True)
class Plan:
    """What a deploy of one app would do on its hosts."""

    app: str
    hosts: Mapping[str, HostPlan]

    @property
    def todo(self) -> tuple[HostPlan, ...]:
        """The hosts that have something to do."""
        return tuple(host for host in self.hosts.values() if host.action != "nothing")
