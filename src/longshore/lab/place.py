"""Where a lab keeps its things, and what its network is called. Values only; nothing is touched."""

from __future__ import annotations

import hashlib
import ipaddress
import os
import re
from collections.abc import Mapping
from pathlib import Path

from longshore.lab.commands import LabError
from longshore.records import dataclass

DEFAULT_ROOT = "/var/lib/longshore-lab"
MOST_HOSTS = 240


@dataclass(frozen=True)
class Place:
    """A lab's folders: ``root`` is shared by all labs and holds the cache, ``home`` is its own."""

    name: str
    root: Path

    @classmethod
    def of(cls, name: str, environ: Mapping[str, str] = os.environ) -> Place:
        """The place of a lab by its name; ``LONGSHORE_LAB`` moves all of them to another folder.
        They are in ``/var/lib/longshore-lab`` for root, below ``~/.local/state`` for others.

        Raises ``LabError`` for a name that isn't 1 to 20 small letters, digits and dashes.
        """
        if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,19}", name):
            raise LabError(
                f"'{name}' can't be the name of a lab.",
                hint="Use small letters, digits and dashes, at most 20.",
            )
        own = environ.get("XDG_STATE_HOME") or str(Path.home() / ".local/state")
        default = DEFAULT_ROOT if os.geteuid() == 0 else f"{own}/longshore-lab"
        return cls(name, Path(environ.get("LONGSHORE_LAB") or default).absolute())

    @property
    def cache(self) -> Path:
        """What is kept when the lab goes down: root file systems and stand-in images."""
        return self.root / "cache"

    @property
    def home(self) -> Path:
        """What goes when the lab goes down: keys, disks, logs, the registry's content."""
        return self.root / "labs" / self.name

    @property
    def owner(self) -> str:
        """What this lab is called in the machine's own record."""
        return f"{self.root}:{self.name}"

    @property
    def group(self) -> str:
        """What the machine's control groups and containers of this lab are named by.

        A lab of the same name in another folder is another lab, and must not go down with this one.
        """
        if str(self.root) == DEFAULT_ROOT:
            return self.name
        return f"{self.name}-{hashlib.sha256(str(self.root).encode()).hexdigest()[:8]}"

    @property
    def key(self) -> Path:
        return self.home / "key"

    @property
    def known_hosts(self) -> Path:
        return self.home / "known_hosts"

    def host(self, name: str) -> Path:
        """The folder of one host: its disk and its log."""
        return self.home / "hosts" / name


@dataclass(frozen=True)
class Network:
    """A lab's network by its number: 0 is ``longshore0`` with 10.78.0.0/24, and so on."""

    number: int

    @property
    def bridge(self) -> str:
        return f"longshore{self.number}"

    @property
    def subnet(self) -> ipaddress.IPv4Network:
        return ipaddress.IPv4Network(f"10.78.{self.number}.0/24")

    @property
    def gateway(self) -> str:
        """This machine's address on the bridge, where the registry listens, too."""
        return str(self.subnet[1])

    @property
    def registry(self) -> str:
        return f"{self.gateway}:5000"

    def address(self, index: int) -> str:
        """The address of host number ``index`` (from 1)."""
        return str(self.subnet[10 + index])

    def mac(self, index: int) -> str:
        """The hardware address of that host: fixed, so that a cut host stays where it was."""
        return f"02:4c:53:{self.number:02x}:00:{index:02x}"

    def port(self, index: int) -> str:
        """The bridge's port of that host (an interface's name has at most 15 characters)."""
        return f"lsh{self.number}-h{index}"


def host_index(name: str) -> int:
    """The number of a host by its name, ``h1`` to ``h240``; raises ``LabError`` for another name."""
    match = re.fullmatch(r"h([1-9][0-9]{0,2})", name)
    if match is None or int(match[1]) > MOST_HOSTS:
        raise LabError(f"'{name}' can't be a practice host.", hint=f"They are called h1 to h{MOST_HOSTS}.")
    return int(match[1])
