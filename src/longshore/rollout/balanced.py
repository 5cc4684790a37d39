"""Which hosts may be out of the load balancer at the same time. Decides; touches nothing.

A host leaves it only while another one that serves the same stays in; and of the hosts that serve something
at most half leave at once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import field
from typing import Any

from longshore.records import dataclass


@dataclass(frozen=True)
class Balancing:
    """A load balancer in front of an app, as a run needs it."""

    asked: Mapping[str, Mapping[str, str]]
    """All of the app's hosts: service to the path that the balancer asks for."""
    wait: float
    """How long it may take to notice that a host says no (s)."""
    always: bool = False
    """Hosts leave also where nothing that serves is replaced in place."""
    gaps: frozenset[str] = frozenset()
    """The hosts that may have a gap in this run, or all with ``always``."""
    replaced: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By the plan: host to the services that are replaced in place. A host that isn't in it finds out
    itself."""
    ill: frozenset[str] = frozenset()
    """Hosts that serve nothing of it just now, as they were seen."""

    def serve(self, service: str) -> frozenset[str]:
        """The hosts that serve a service."""
        return frozenset(host for host, services in self.asked.items() if service in services)

    def parts(self, hosts: Sequence[str]) -> tuple[tuple[str, ...], ...]:
        """These hosts in parts, each of which may leave at once: those that don't serve just now come first,
        for then others can leave; the rest is in its order."""
        ill = [host for host in hosts if host in self.ill]
        well = [host for host in hosts if host not in self.ill]
        if not self.gaps & set(well):
            ill, well = [], list(hosts)
        parts: list[list[str]] = [ill, []]
        for host in well:
            if parts[-1] and not self._fits(host, parts[-1]):
                parts.append([])
            parts[-1].append(host)
        return tuple(tuple(part) for part in parts if part)

    def _fits(self, host: str, part: Collection[str]) -> bool:
        if host not in self.gaps:
            return True
        leaving = self.gaps & {host, *part}
        return all(
            len(self.serve(service) & leaving) <= max(1, len(self.serve(service)) // 2)
            for service in self.asked.get(host, {})
        )

    def may_leave(self, host: str, together: Iterable[str], serving: Collection[str]) -> dict[str, str]:
        """What ``host`` may stop serving while those of ``together`` may have left, too: service to path. Of
        the rest somebody else is ``serving``."""
        if host not in self.gaps:
            return {}
        stay = frozenset(serving) - {host, *(self.gaps & set(together))}
        return {
            service: path for service, path in self.asked.get(host, {}).items() if self.serve(service) & stay
        }

    def args(self, asked: Mapping[str, str], *, by: str, replaced: Sequence[str] | None) -> dict[str, Any]:
        """What the agent is told (``out`` of its requests)."""
        return {
            "asked": dict(asked),
            "wait": self.wait,
            "always": self.always,
            "by": by,
            "replaced": None if replaced is None else list(replaced),
        }
