"""What an inventory says about a load balancer in front of an app's hosts: how one of them gets no requests.

A host that is out answers the balancer's question (its health path) with 503, and everything else as before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any, Literal

from longshore.errors import Where
from longshore.inventory.kinds import Choice, Text, duration
from longshore.inventory.proxying import ProxyPolicy
from longshore.inventory.sections import Section, Setting, own
from longshore.records import dataclass

When = Literal["gap", "always", "never"]
WAIT = 10.0
"""Seconds that a balancer has to notice, where nothing else is said."""


@dataclass(frozen=True)
class Balanced:
    """How a load balancer asks whether a host may get requests, and when a deploy takes a host out of it."""

    path: str | None = None
    """The path that it asks for at the app's host names; ``None``: each service's ``proxy.health``."""
    wait: float | None = None
    """How long it may take to notice (s); ``None``: nothing was said, which is ``WAIT``."""
    when: When = "gap"
    """``gap``: only where something that serves requests is replaced in place."""
    where: Where = field(default=Where(""), compare=False)

    @property
    def seconds(self) -> float:
        """How long it may take to notice."""
        return WAIT if self.wait is None else self.wait

    def asked(self, policy: ProxyPolicy) -> str | None:
        """The path that a balancer asks for at the host names of such a service; ``None`` when there is none.

        With ``strip`` the service's own health path is behind its prefix.
        """
        if self.path is not None or policy.health is None:
            return self.path
        if not policy.strip:
            return policy.health
        return policy.paths[0].rstrip("/") + policy.health


BALANCED = Section(
    settings=(
        Setting(
            "path",
            Text("a path", "/health", pattern=r"/[^\s`?#\x00]*", rule="a path that begins with /, without ?"),
            "What the balancer asks each host for, at the app's host names: anything but a 2xx is a no.",
            "the services' proxy.health",
        ),
        Setting(
            "wait",
            duration("10s"),
            "How long the balancer may take to notice, either way: its interval times its threshold.",
            "10s",
        ),
        Setting(
            "when",
            Choice("gap, always or never", "always", ("gap", "always", "never")),
            "When a deploy takes a host out: only where something that serves requests is replaced in place"
            " there (gap), always, or never.",
            "gap",
        ),
    )
)


def balanced_policy(found: Mapping[str, Any] | None) -> Balanced | None:
    """The value of checked settings; ``None`` when nothing is said of a balancer."""
    if found is None:
        return None
    return Balanced(where=found.get("", Where("")), **own(found))
