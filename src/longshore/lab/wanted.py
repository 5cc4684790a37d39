"""What was asked of a lab, checked before anything is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from longshore.lab.commands import LabError
from longshore.lab.machine import native_arch
from longshore.lab.place import MOST_HOSTS
from longshore.lab.state import HostState


def asked_for(count: int, arch: Mapping[str, str], bare: Sequence[str]) -> list[HostState]:
    """The hosts that were asked for; raises ``LabError`` for a name or architecture that can't be."""
    if not 1 <= count <= MOST_HOSTS:
        raise LabError(f"A lab has 1 to {MOST_HOSTS} hosts, not {count}.")
    hosts = [f"h{index}" for index in range(1, count + 1)]
    for name in (*arch, *bare):
        if name not in hosts:
            raise LabError(f"'{name}' isn't one of the hosts h1 to h{count}.")
    for name, one in arch.items():
        if one not in ("amd64", "arm64"):
            raise LabError(
                f"'{one}' isn't an architecture of practice hosts.", where=name, hint="Use amd64 or arm64."
            )
        if one not in (native_arch(), "arm64"):
            raise LabError(f"This machine can't stand in for {one}.", where=name)
    return [HostState(name, arch.get(name, native_arch()), name in bare) for name in hosts]


def refuse_others(
    wanted: Sequence[HostState], there: Mapping[str, HostState], arch: Mapping[str, str], bare: Sequence[str]
) -> None:
    """Refuse to turn a host that is there into another kind of host."""
    for host in wanted:
        old = there.get(host.name)
        if old and ((host.name in arch and old.arch != host.arch) or (host.name in bare and not old.bare)):
            raise LabError(
                f"It is there already, as {old.arch}{', bare' if old.bare else ''}.",
                where=host.name,
                hint="'invoke lab.down' removes it.",
            )
