"""The values that asking and judging hand each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any, Literal

from longshore.records import dataclass

Level = Literal["good", "warning", "error"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. ``code`` is stable, for ``--json``; ``hint`` says what to type."""

    level: Level
    code: str
    text: str
    hint: str = ""

    def as_json(self) -> dict[str, str]:
        """For ``--json``."""
        return {"level": self.level, "code": self.code, "message": self.text, "hint": self.hint}


@dataclass(frozen=True)
class Wanted:
    """What a host is for: what is looked at there, and by which measure."""

    host: str
    state_dir: str
    apps: tuple[str, ...] = ()
    daemon: Mapping[str, Any] = field(default_factory=dict)
    """The keys of ``daemon.json`` that bootstrap would see to."""
    ports: tuple[int, ...] = ()
    """Those of its proxy; empty without one."""
    registries: tuple[Mapping[str, Any], ...] = field(default=(), repr=False)
    """Of each that it pulls from or pushes to: ``name``, ``image`` (one of it), ``auth`` (a login for its
    engine), ``pushed`` (the host brings that image there, so it needn't be there yet)."""
    mirrors: tuple[str, ...] = ()
    """URLs of Docker Hub's mirrors."""
    builds: tuple[str, ...] = ()
    """The services whose images it may build."""
    platforms: tuple[str, ...] = ()
    """What they are built for, as far as no builder has it for its own."""
    several: bool = False
    """One of them is built for several platforms at once."""
    stacked: bool = False
    """One of them is built from another service's image."""
    moved: bool = False
    """Images come to it, or stay on it, without a registry."""
    buildx: str = ""
    buildkit: str = ""

    def wish(self) -> dict[str, Any]:
        """What the program on the host is asked. It holds logins: for standard input only."""
        return {
            "state_dir": self.state_dir,
            "apps": list(self.apps),
            "daemon": dict(self.daemon),
            "ports": list(self.ports),
            "registries": [dict(one) for one in self.registries],
            "mirrors": list(self.mirrors),
            "builds": bool(self.builds),
            "buildx": self.buildx,
            "buildkit": self.buildkit,
        }


@dataclass(frozen=True)
class Seen:
    """What a host has said (:mod:`longshore.doctor.host.main`), by what was looked at; one that could not be
    looked at is ``{"error": sentence, "hint": …}``."""

    facts: Mapping[str, Any]
    ahead: float = 0.0
    """Its clock against ours, in seconds."""
    slack: float = 0.0
    """How far off ``ahead`` may be: the question took that long."""

    def of(self, name: str) -> Mapping[str, Any]:
        """The facts of this name; empty where they could not be had."""
        value = self.facts.get(name)
        return value if isinstance(value, Mapping) and "error" not in value else {}

    def rows(self, name: str) -> list[Mapping[str, Any]]:
        """Facts that are a list."""
        value = self.facts.get(name)
        return list(value) if isinstance(value, list) else []
