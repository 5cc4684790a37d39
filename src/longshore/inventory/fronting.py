"""Apps behind the balancer: which of their services it answers for, by which hosts, and what is left to the
hosts' own proxies then.

TLS ends at the balancer, so the services' ``tls``, ``redirect`` and ``hsts`` are its own; the hosts answer
plain HTTP, and believe what it says of who asked. Everything else of a route stays with the hosts.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field, replace

from longshore.errors import InventoryError, LongshoreError, Where
from longshore.inventory.balanced import Balanced
from longshore.inventory.balancer import ADDRESS, Backend, Balancer, BalancerSettings, Front
from longshore.inventory.model import App, Host, Target
from longshore.inventory.nearest import did_you_mean
from longshore.inventory.proxying import Behind, ProxyPolicy, ProxySettings
from longshore.inventory.routing import check_acme_of, claims, routes_of
from longshore.records import dataclass

_Report = Callable[[InventoryError], None]
_Targets = dict[tuple[str, str], Target]


def stand_before(
    targets: _Targets,
    settings: BalancerSettings,
    *,
    on: Sequence[str],
    hosts: Mapping[str, Host],
    proxy_of: Callable[[str], ProxySettings],
    report: _Report,
) -> tuple[Balancer | None, _Targets]:
    """The balancer on these hosts (``on``), and the targets as they are behind it; all as it was without any.

    ``proxy_of``: the settings of a host's own Traefik. What can't be is reported.
    """
    if not on:
        return None, targets
    return _Standing(targets, settings, tuple(on), hosts, report).settled(proxy_of)


@dataclass(eq=False)
class _Standing:
    targets: _Targets
    settings: BalancerSettings
    on: tuple[str, ...]
    hosts: Mapping[str, Host]
    report: _Report
    fronts: dict[tuple[str, str], Front] = field(default_factory=dict)
    _told: set[str] = field(default_factory=set)

    def settled(self, proxy_of: Callable[[str], ProxySettings]) -> tuple[Balancer, _Targets]:
        chosen = self._apps()
        addresses = tuple(one for host in self.on if (one := self._own_address(host)))
        behind: _Targets = {}
        for key, target in self.targets.items():
            self._check_apart(target)
            behind[key] = self._behind(target, addresses) if target.app.name in chosen else target
        fronts = tuple(self.fronts.values())
        if not fronts and not self._told:
            message = "The balancer has nothing to stand before: no service of its apps has `proxy`."
            self._problem(message, self.settings.where, "Write services: web: proxy: {port: 8000, …}")
        self._check_answers(fronts)
        proxies = {}
        for host in self.on:
            own = proxy_of(host)
            proxies[host] = replace(own, secure=any(front.policy.tls for front in fronts))
        for front in fronts:
            name = f"{front.service} of {front.app}"
            check_acme_of(name, front.policy, proxies, self.report)
        balancer = Balancer(proxies, fronts, self.settings.interval, self.settings.timeout)
        return balancer, self._trusting(behind, fronts, addresses)

    def _problem(self, message: str, where: Where | None, hint: str = "") -> None:
        if message not in self._told:  # once, not for each of fifty hosts
            self._told.add(message)
            self.report(InventoryError(message, where=where, hint=hint))

    def _apps(self) -> frozenset[str]:
        every = tuple(dict.fromkeys(app for app, _ in self.targets))
        if self.settings.apps is None:
            return frozenset(every)
        for name in self.settings.apps:
            if name not in every:
                message = f"balancer: there is no app named {name!r}."
                self._problem(message, self.settings.where, did_you_mean(name, every, list_all="There are"))
        served = {app for (app, _), target in self.targets.items() if any(routes_of(target))}
        for name in self.settings.apps:
            if name in every and name not in served:
                message = f"balancer: no service of {name} has `proxy`, so there is nothing to stand before."
                self._problem(message, self.settings.where, "Take it out of apps, or give one `proxy:`.")
        return frozenset(self.settings.apps)

    # What the balancer answers

    def _behind(self, target: Target, addresses: tuple[str, ...]) -> Target:
        """The target with its services behind the balancer; what they answer is noted as fronts."""
        app = target.app
        if app.defaults.proxy is not None:
            message = f"{app.name} has `proxy` in its defaults, and the balancer must know services by name."
            self._problem(message, app.defaults.proxy.where, "Write it at each service that is served.")
        services = dict(app.services)
        served = False
        for name, policy in routes_of(target):
            served = True
            path = self._health(app, name, policy)
            self._front(target, name, policy)
            secure = policy.tls is not None and policy.redirect
            behind = Behind(addresses, path, secure)
            services[name] = replace(
                services[name], proxy=replace(policy, tls=None, hsts=None, behind=behind)
            )
        if not served:
            return target
        said = app.balanced or Balanced(where=app.where)
        wait = self.settings.notices if said.wait is None else said.wait
        return replace(target, app=replace(app, services=services, balanced=replace(said, wait=wait)))

    def _health(self, app: App, service: str, policy: ProxyPolicy) -> str:
        """The path by which a container says that it is well."""
        path = policy.health or (_inside(app.balanced.path, policy) if app.balanced else None)
        name = f"{service} of {app.name}"
        if path is None:
            message = f"{name} is behind the balancer, and no path is said that it answers when it is well."
            self._problem(message, policy.where, "Write proxy: {health: /health} there.")
        elif "`" in path:
            message = f"{name}: the balancer can't ask for a path with a backtick in it: {path}."
            self._problem(message, policy.where, "Give it another health path.")
        return path or "/"

    def _front(self, target: Target, service: str, policy: ProxyPolicy) -> None:
        key = (target.app.name, service)
        backend = self._backend(target)
        known = self.fronts.get(key)
        if known is None:
            self.fronts[key] = Front(*key, policy, (backend,))
            return
        if _answers(known.policy) != _answers(policy):
            message = (
                f"{service} of {target.app.name} is behind one balancer, and {known.backends[0].host} and"
                f" {target.host.name} answer different things."
            )
            hint = "hosts, paths, tls, redirect, hsts and sticky of proxy are the same for all hosts then."
            self._problem(message, policy.where, hint)
        self.fronts[key] = replace(known, backends=(*known.backends, backend))

    def _check_apart(self, target: Target) -> None:
        """Two of our proxies on one host would want the same ports, and routes of the same name."""
        if target.host.name not in self.on:
            return
        for service, policy in routes_of(target):
            host, app = target.host.name, target.app.name
            message = f"{host} is a balancer, and runs {service} of {app} behind a proxy of its own."
            pattern = f"hosts: '{target.app.hosts}:!{host}'"
            hint = f"A balancer has a host of its own. Leave it out of the app: {pattern}"
            self._problem(message, self.settings.where if self.settings.hosts else policy.where, hint)

    def _check_answers(self, fronts: Sequence[Front]) -> None:
        """Two services that answer the same on hosts of their own meet at the balancer."""
        for number, front in enumerate(fronts):
            mine = set(claims(front.policy))
            for other in fronts[:number]:
                if {one.host for one in front.backends} & {one.host for one in other.backends}:
                    continue  # that is said of the host
                both = [claim for claim in claims(other.policy) if claim in mine]
                if both:
                    message = (
                        f"{other.service} of {other.app} and {front.service} of {front.app} both answer"
                        f" {both[0]} (at the balancer)."
                    )
                    self._problem(message, front.policy.where, "Give them different hosts or paths.")

    # Addresses

    def _address(self, host: Host) -> tuple[str, Where]:
        """How others reach the host, and where that is said."""
        try:
            said = host.vars.get(ADDRESS)
        except LongshoreError as error:
            where = error.where if isinstance(error.where, Where) else host.where
            self._problem(error.message, where, error.hint)
            said = None
        if said is None:
            return host.ssh.address, host.where
        if not isinstance(said.value, str) or not said.value.strip() or set(said.value) & set(" /`\n"):
            message = f"{ADDRESS} of {host.name} is no address: {str(said.value)[:60]!r}."
            self._problem(message, said.source.where, f"Write {ADDRESS}: 10.0.0.5")
            return host.ssh.address, host.where
        return said.value, said.source.where

    def _own_address(self, host: str) -> str | None:
        """A balancer's address as a network: the hosts believe requests that come from just there."""
        address, where = self._address(self.hosts[host])
        try:
            return str(ipaddress.ip_network(address))
        except ValueError:
            message = f"The hosts must know from which address the balancer {host} asks: {address} is a name."
            self._problem(message, where, f"Write {ADDRESS}: 10.0.0.5 at {host}.")
            return None

    def _backend(self, target: Target) -> Backend:
        address, _ = self._address(target.host)
        shown = f"[{address}]" if ":" in address else address
        return Backend(target.host.name, f"http://{shown}:{target.proxy.http}")

    def _trusting(self, targets: _Targets, fronts: Sequence[Front], addresses: tuple[str, ...]) -> _Targets:
        """The proxy is the host's: all of its targets say the same of it."""
        trusting = {backend.host for front in fronts for backend in front.backends}

        def with_trust(settings: ProxySettings) -> ProxySettings:
            return replace(settings, trusted=tuple(dict.fromkeys((*settings.trusted, *addresses))))

        return {
            key: replace(target, proxy=with_trust(target.proxy)) if key[1] in trusting else target
            for key, target in targets.items()
        }


def _inside(path: str | None, policy: ProxyPolicy) -> str | None:
    """A path of the app's host names, as the service's containers see it."""
    for prefix in sorted((one.rstrip("/") for one in policy.paths if policy.strip), key=len, reverse=True):
        if path is not None and f"{path}/".startswith(f"{prefix}/"):
            return path[len(prefix) :] or "/"
    return path


def _answers(policy: ProxyPolicy) -> tuple[object, ...]:
    """What of a policy is the balancer's, and so the same for all hosts of a service."""
    return (policy.hosts, policy.paths, policy.tls, policy.redirect, policy.hsts, policy.sticky)
