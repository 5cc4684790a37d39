"""What an inventory says about a load balancer of ours in front of the hosts: the values, and the settings
that they are read from. What becomes of an app's services behind it: :mod:`longshore.inventory.fronting`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from longshore.errors import Where
from longshore.inventory.kinds import Text, duration
from longshore.inventory.proxying import ProxyPolicy, ProxySettings
from longshore.inventory.sections import ListOf, Section, Setting, own
from longshore.records import dataclass

ADDRESS = "balancer_address"
"""The variable of a host with its address as balancers and hosts see each other's."""


@dataclass(frozen=True)
class BalancerSettings:
    """How the balancer is set up. Times in seconds."""

    hosts: str | None = None
    """A host pattern; those that have the role are balancers, too."""
    apps: tuple[str, ...] | None = None
    """The apps that it stands before; ``None``: all that have a service with ``proxy``."""
    interval: float = 1.0
    timeout: float = 3.0
    """As a host's own proxy has it: one that is too strict takes all hosts out when all are busy."""
    where: Where = Where("")

    @property
    def notices(self) -> float:
        """When it has noticed for certain that a host is not to get requests."""
        return 2 * self.interval + self.timeout


@dataclass(frozen=True)
class Backend:
    """A host's proxy, as the balancer reaches it."""

    host: str
    url: str


@dataclass(frozen=True)
class Front:
    """A service behind the balancer: ``policy`` as the inventory has it, with its ``tls``."""

    app: str
    service: str
    policy: ProxyPolicy
    backends: tuple[Backend, ...]


@dataclass(frozen=True)
class Balancer:
    """The balancer of an environment. ``proxies``: by its hosts, the Traefik that runs there."""

    proxies: Mapping[str, ProxySettings]
    fronts: tuple[Front, ...]
    interval: float
    timeout: float

    @property
    def hosts(self) -> tuple[str, ...]:
        """Where it runs, in the inventory's order."""
        return tuple(self.proxies)

    @property
    def apps(self) -> tuple[str, ...]:
        """The apps that it stands before."""
        return tuple(dict.fromkeys(front.app for front in self.fronts))


BALANCER = Section(
    settings=(
        Setting(
            "hosts",
            Text("a host pattern", "lb", pattern=r".*\S.*", rule="a host pattern"),
            "Where it runs: hosts that run none of the services behind a proxy themselves.",
            "the hosts with the role `balancer`",
            scope="environment",
        ),
        Setting(
            "apps",
            ListOf(item=Text("an app", "shop"), single=True, example="[shop]"),
            "The apps that it stands before.",
            "all that have a service with `proxy`",
            scope="environment",
        ),
        Setting(
            "interval",
            duration("2s", minimum=0.1, shortest="100ms"),
            "How often it asks each host for each service's health path.",
            "1s",
            scope="environment",
        ),
        Setting(
            "timeout",
            duration("5s", minimum=0.1, shortest="100ms"),
            "When that is taken for no answer.",
            "3s",
            scope="environment",
        ),
    )
)


def balancer_settings(found: Mapping[str, Any] | None) -> BalancerSettings:
    """The value of checked settings."""
    return BalancerSettings(where=(found or {}).get("", Where("")), **own(found))
