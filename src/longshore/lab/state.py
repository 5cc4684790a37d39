"""What a lab remembers between two commands: one JSON file, replaced atomically under a lock."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, field, replace
from pathlib import Path
from typing import Any

from longshore.lab.commands import LabError, Process
from longshore.records import dataclass


@dataclass(frozen=True)
class HostState:
    """One practice host. ``process`` is its pid 1 (or what holds it) while the power is on."""

    name: str
    arch: str = "amd64"
    bare: bool = False
    process: Process | None = None
    address: str = ""
    port: int = 22


@dataclass(frozen=True)
class LabState:
    """A whole lab. ``number`` is its network's; ``None`` while it has none."""

    backend: str = ""
    number: int | None = None
    hosts: Mapping[str, HostState] = field(default_factory=dict)
    registry: Process | None = None

    def with_host(self, host: HostState) -> LabState:
        """The same lab with this host added or replaced."""
        return replace(self, hosts={**self.hosts, host.name: host})


def load(path: Path) -> LabState:
    """Read a lab's state; one that was never up, or is down, is empty.

    Raises ``LabError`` when the file is not what was written.
    """
    try:
        raw = json.loads(path.read_text())
        hosts = {
            name: HostState(**{**host, "process": _process(host["process"])})
            for name, host in raw["hosts"].items()
        }
        return LabState(raw["backend"], raw["number"], hosts, _process(raw["registry"]))
    except FileNotFoundError:
        return LabState()
    except (ValueError, KeyError, TypeError, AttributeError) as broken:
        hint = f"Restart this machine, which ends all labs, and remove {path.parent}."
        raise LabError(f"{path} is damaged.", hint=hint) from broken


def save(path: Path, state: LabState) -> None:
    """Replace the file in one step, so that a crash leaves the old or the new state."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    beside = path.with_suffix(".new")
    beside.write_text(json.dumps(asdict(state), indent=1))
    beside.replace(path)


def _process(raw: Mapping[str, Any] | None) -> Process | None:
    return Process(**raw) if raw else None


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file: one command changes a lab (or the machine) at a time, the next one waits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
