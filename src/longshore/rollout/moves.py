"""What a rollout is given, and what it reports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any, Literal

from longshore.errors import LongshoreError
from longshore.images.pulling import Pulls
from longshore.inventory.model import Migrate, RolloutPolicy, SmokeCheck
from longshore.records import dataclass
from longshore.render.bundle import Bundle
from longshore.roles import Role
from longshore.rollout.balanced import Balancing
from longshore.rollout.hookfiles import HookFiles

State = Literal["deployed", "rolled back", "nothing to do", "failed", "taken back", "closed", "unchanged"]


@dataclass(frozen=True)
class Move:
    """One host going to ``release``. With a ``bundle`` it is brought there first; without one the host
    has it already (a rollback)."""

    host: str
    release: str
    expect: str | None
    """The release that the plan saw as current; another one there makes the plan void."""
    services: frozenset[str]
    bundle: Bundle | None = None
    staged: bool = False
    """The host has the bundle already: only images may be missing."""
    smoke: tuple[SmokeCheck, ...] = ()
    roles: tuple[Role, ...] = ()
    """Whose hooks and checks are run."""
    url: str | None = None
    as_it_is: bool = False
    """A rollback goes to the release also when files of it were edited on the host."""
    recover_at_boot: bool = True
    """Whether the host is to undo, when it comes up again, what it had begun when it lost its power."""


@dataclass(frozen=True)
class Facts:
    """Whose run it is, for the lock and the history."""

    run: str
    by: str
    git: str = ""
    why: str = ""

    def args(self) -> dict[str, Any]:
        return {"run": self.run, "by": self.by, "git": self.git, "why": self.why}


@dataclass(frozen=True)
class HostReport:
    """How a host came out of it. ``release`` is what it runs now, as far as is known."""

    host: str
    state: State
    release: str | None
    error: LongshoreError | None = None


@dataclass(frozen=True)
class Report:
    """How the fleet came out of it."""

    app: str
    hosts: tuple[HostReport, ...]
    seconds: float
    migrated: bool = False
    problems: tuple[LongshoreError, ...] = ()
    """What concerns no single host: a smoke test that failed."""
    taken_back: tuple[str, ...] = ()
    """The hosts that had begun and went back, those that failed among them."""

    @property
    def ok(self) -> bool:
        """Every host has what it should."""
        good = ("deployed", "rolled back", "nothing to do")
        return not self.problems and all(one.state in good for one in self.hosts)

    def as_json(self) -> dict[str, Any]:
        return {
            "app": self.app,
            "ok": self.ok,
            "seconds": round(self.seconds, 3),
            "migrated": self.migrated,
            "problems": [str(problem) for problem in self.problems],
            "hosts": {
                one.host: {
                    "state": one.state,
                    "release": one.release,
                    "error": str(one.error) if one.error else None,
                }
                for one in self.hosts
            },
        }


@dataclass(frozen=True)
class Closing:
    """How hosts are closed for a breaking migration: maintenance is on, and little goes on running."""

    hosts: frozenset[str]
    keep: frozenset[str] | None
    """The services that go on running. ``None``: those that went on when the host was closed before."""
    token: str = field(repr=False)
    """What the deploy's own checks say, so that they are let through."""
    page: str = ""
    retry_after: float = 300.0
    allow: tuple[str, ...] = ()


@dataclass(frozen=True)
class Story:
    """Everything a rollout of one app needs."""

    app: str
    moves: tuple[Move, ...]
    facts: Facts
    environment: str = ""
    migrate: Migrate | None = None
    closing: Closing | None = None
    """The migration is a breaking one, or hosts are closed since one that failed."""
    first: frozenset[str] = frozenset()
    """Hosts that switch before the migration, because it needs what runs there."""
    hosts: tuple[str, ...] = ()
    """All of the app's hosts, in the inventory's order: they take the lock, also those without a move. Those
    that have no session are left out. Empty: the hosts of the moves."""
    policy: RolloutPolicy = field(default_factory=RolloutPolicy)
    canary: frozenset[str] = frozenset()
    """The hosts that ``policy.canary`` stands for."""
    balancing: Balancing | None = None
    """The load balancer in front, which hosts leave before they have a gap."""
    auth: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    pulls: Pulls = field(default_factory=Pulls)
    """In which turns the hosts pull."""
    hooks: HookFiles = field(default_factory=HookFiles)
    """The project's executables; those in Python are the moves' roles'."""
    hook_timeout: float = 60.0
    """When a hook or a role's check is given up (s)."""
    parallel: int = 20
    wait: float = 0.0
    """How long to wait for the lock (s)."""
    recovery: float = 300.0
    """How long a host may be silent once it has given the lock: it undoes what a run before has left (s)."""
    lease: float = 30.0
    """How long a host waits for a sign of life before it takes the controller for dead (s)."""
