"""What can only be said of the routes of a whole host: who answers what, and what the proxy needs for it."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from longshore.errors import InventoryError
from longshore.inventory.acme import Acme
from longshore.inventory.model import Target
from longshore.inventory.proxying import ProxyPolicy, ProxySettings
from longshore.records import dataclass

_Report = Callable[[InventoryError], None]
_Targets = dict[tuple[str, str], Target]


@dataclass(frozen=True)
class Claim:
    """What a service answers: ``host`` (empty: any name), ``path`` (a prefix without a slash at its end)."""

    secure: bool
    host: str
    path: str

    def __str__(self) -> str:
        scheme = "https" if self.secure else "http"
        return f"{scheme}://{self.host or 'any host name'}{self.path or '/'}"


def claims(policy: ProxyPolicy) -> Iterator[Claim]:
    """Everything that a service answers. With ``tls`` also plain HTTP: it is sent on, or answered, too."""
    for secure in (True, False) if policy.tls is not None else (False,):
        for host in policy.hosts or ("",):
            for path in policy.paths or ("/",):
                yield Claim(secure, host, path.rstrip("/"))


def routes_of(target: Target) -> Iterator[tuple[str, ProxyPolicy]]:
    """The services that the inventory has the proxy serve on the target's host."""
    for name, service in target.app.services.items():
        here = target.host.name in target.placed.get(name, (target.host.name,))
        if service.proxy is not None and here:
            yield name, service.proxy


def settle_routes(targets: _Targets, report: _Report) -> _Targets:
    """The targets with what their host's proxy must do for all of them: whether it takes the HTTPS port.

    Two services that answer the same are reported, and certificates that nobody can order.
    """
    told: set[tuple[str, ...]] = set()
    taken: dict[tuple[str, Claim], str] = {}
    secure: set[str] = set()
    ordering: dict[str, str] = {}
    for target in targets.values():
        host = target.host.name
        for service, policy in routes_of(target):
            name = f"{service} of {target.app.name}"
            _check_acme(name, policy, target.proxy.acme, report)
            _check_one_host(name, policy, host, target.proxy.acme, ordering, report)
            if policy.tls is not None:
                secure.add(host)
            for claim in claims(policy):
                other = taken.setdefault((host, claim), name)
                if other != name and (other, name) not in told:
                    told.add((other, name))
                    message = f"{other} and {name} both answer {claim} (on {host})."
                    hint = "Give them different hosts or paths."
                    report(InventoryError(message, where=policy.where, hint=hint))
    return {
        key: replace(target, proxy=replace(target.proxy, secure=True))
        if target.host.name in secure
        else target
        for key, target in targets.items()
    }


def check_acme_of(
    name: str, policy: ProxyPolicy, proxies: Mapping[str, ProxySettings], report: _Report
) -> None:
    """Report when these proxies (by host) can't order the certificates that a service asks for."""
    ordering: dict[str, str] = {}
    for host, settings in proxies.items():
        _check_acme(name, policy, settings.acme, report)
        _check_one_host(name, policy, host, settings.acme, ordering, report)


def _check_acme(name: str, policy: ProxyPolicy, acme: Acme | None, report: _Report) -> None:
    if policy.tls is None or not policy.tls.acme:
        return
    if acme is None:
        message = f"{name} orders a certificate (tls.acme), and nothing says how: longshore.proxy.acme."
        hint = "Write longshore: proxy: acme: {email: ops@example.org}"
        report(InventoryError(message, where=policy.where, hint=hint))
    elif acme.challenge != "dns" and any(host.startswith("*.") for host in policy.hosts):
        message = f"{name} orders a certificate for *. names, and those are only given by challenge: dns."
        report(InventoryError(message, where=policy.where, hint="Set it in longshore.proxy.acme."))
    for address in filter(_is_address, policy.hosts):
        message = f"{name} orders a certificate for {address}, and they are given for names, not addresses."
        hint = "Give it a name, or a certificate of its own: tls: {certificate: …, key: …}"
        report(InventoryError(message, where=policy.where, hint=hint))


def _check_one_host(
    name: str,
    policy: ProxyPolicy,
    on: str,
    acme: Acme | None,
    ordering: dict[str, str],
    report: _Report,
) -> None:
    """Who proves a name by HTTP has to be asked. ``ordering``: names to the host that orders for them."""
    if policy.tls is None or not policy.tls.acme or acme is None or acme.challenge != "http":
        return
    for host in policy.hosts:
        other = ordering.setdefault(host, on)
        if other not in ("", on):
            ordering[host] = ""  # told once, not for each of fifty hosts
            message = (
                f"{name} orders a certificate for {host} on {other} and {on}, and with "
                "challenge: http only the host that is asked for the name can prove it."
            )
            hint = "Set challenge: dns in longshore.proxy.acme, or name a certificate and its key."
            report(InventoryError(message, where=policy.where, hint=hint))


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def check_balanced(targets: _Targets, report: _Report) -> None:
    """Report what a load balancer of the user's own (``balanced``) could ask for and never get an answer
    to."""
    told: set[tuple[str, str]] = set()
    for app in dict.fromkeys(name for name, _ in targets):
        mine = [target for target in targets.values() if target.app.name == app]
        said = mine[0].app.balanced
        routes = [(name, policy) for target in mine for name, policy in routes_of(target)]
        if said is None or any(policy.behind for _, policy in routes):
            continue  # behind a balancer of ours, that asks at a path of its own
        if not any(said.asked(policy) for _, policy in routes):
            message = f"{app} is behind a load balancer (balanced), and nothing says what that asks for."
            hint = "Write balanced: {path: /health}, or proxy: {health: /health} at a service."
            if not routes:
                message = f"{app} is behind a load balancer (balanced), and none of its services has `proxy`."
                hint = "What the balancer asks is answered by the host's proxy (docs/proxy.md)."
            report(InventoryError(message, where=said.where, hint=hint))
        for name, policy in routes if said.path else ():
            others = [other for _, other in routes]
            if (app, name) not in told and not any(_answers(one, said.path or "", policy) for one in others):
                told.add((app, name))
                names = ", ".join(policy.hosts) or "any host name"
                message = f"balanced.path: nothing of {app} answers {said.path} at {names} (of {name})."
                report(InventoryError(message, where=said.where, hint="A balancer would hear a 404 there."))


def _answers(policy: ProxyPolicy, path: str, asked: ProxyPolicy) -> bool:
    """Whether a service answers a path at a host name of another's."""
    named = not policy.hosts or not asked.hosts or bool(set(policy.hosts) & set(asked.hosts))
    prefixes = [prefix.rstrip("/") for prefix in policy.paths or ("/",)]
    return named and any(path == prefix or path.startswith(f"{prefix}/") for prefix in prefixes)


def one_answer(policies: Mapping[str, ProxyPolicy]) -> tuple[str, str, Claim] | None:
    """The first two of these services that answer the same, and what; ``None`` when all differ."""
    taken: dict[Claim, str] = {}
    for name, policy in sorted(policies.items()):
        for claim in claims(policy):
            if taken.setdefault(claim, name) != name:
                return taken[claim], name, claim
    return None
