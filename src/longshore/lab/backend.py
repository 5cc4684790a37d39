"""What a lab needs of whatever holds its hosts, and the choice between the two."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from longshore.lab.commands import LabError
from longshore.lab.machine import Say
from longshore.lab.place import Network, Place
from longshore.lab.state import HostState

BACKENDS = ("namespaces", "containers")


class Backend(Protocol):
    """Makes and breaks hosts. ``boot`` and ``kill`` may be called for several hosts at once."""

    def prepare(self, hosts: Sequence[HostState]) -> None:
        """Make what these hosts stand on: programs, roots, the network. What is there stays."""

    def create(self, host: HostState, content: Mapping[str, tuple[str, int]]) -> HostState:
        """Give a new host its disk, with these files on it (path to text and mode)."""

    def boot(self, host: HostState) -> HostState:
        """Switch a host on, and return it with its process and address."""

    def kill(self, host: HostState) -> None:
        """Take the power away; the disk stays. A host that is off is left alone."""

    def is_on(self, host: HostState) -> bool: ...

    def cut(self, host: HostState) -> None: ...

    def heal(self, host: HostState) -> None: ...

    def is_cut(self, host: HostState) -> bool: ...

    def pin(self, host: HostState, processor: int) -> None: ...

    def emulate(self) -> None:
        """Have arm64 programs run in hosts. Raises ``LabError`` where that can't be had."""

    def is_here(self) -> bool:
        """Whether this machine has an address in the hosts' network, for a registry to listen at."""

    def join_files(self, name: str) -> list[Path]:
        """The ``cgroup.procs`` files that a program of the lab on this machine joins; none where not root."""

    def teardown(self, hosts: Sequence[str]) -> None:
        """Take the lab and these hosts' disks away, also what was left half made."""


def choose(environ: Mapping[str, str] = os.environ) -> str:
    """The backend for this machine: ``LONGSHORE_LAB_BACKEND``, else namespaces, else containers.

    Raises ``LabError`` with a sentence when neither is possible.
    """
    from longshore.lab import containers, namespaces

    asked = environ.get("LONGSHORE_LAB_BACKEND")
    if asked:
        if asked not in BACKENDS:
            raise LabError(f"LONGSHORE_LAB_BACKEND is '{asked}'; it can be {' or '.join(BACKENDS)}.")
        why = namespaces.refusal() if asked == "namespaces" else containers.refusal()
        if why:
            raise LabError(
                f"LONGSHORE_LAB_BACKEND is '{asked}', and {why}.",
                hint="Leave it out, and what works here is taken.",
            )
        return asked
    no_namespaces = namespaces.refusal()
    if not no_namespaces:
        return "namespaces"
    no_containers = containers.refusal()
    if not no_containers:
        return "containers"
    raise LabError(
        f"Practice hosts can't be made here: not in namespaces, since {no_namespaces}; "
        f"not as containers, since {no_containers}.",
        hint="Run it as root on Linux, or where a Docker engine answers.",
    )


def open_backend(name: str, place: Place, net: Network, say: Say) -> Backend:
    """The backend that a lab was made with."""
    from longshore.lab.containers import Containers
    from longshore.lab.namespaces import Namespaces

    return Containers(place, net, say) if name == "containers" else Namespaces(place, net, say)
