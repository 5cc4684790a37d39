"""Which hosts and containers a daily command is about."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

from longshore.agent import wire
from longshore.errors import AgentError, HostError, LongshoreError
from longshore.inventory import public_names
from longshore.inventory.model import SmokeCheck
from longshore.records import dataclass
from longshore.remote import Link
from longshore.tasks.fleet import Fleet

Choice = Mapping[str, tuple[str, ...]]
"""App to the names of the hosts to ask."""
_MASKING = threading.Lock()
"""Hosts are asked at the same time, and what one adds to the masks must not be lost to another."""


@dataclass(frozen=True)
class Place:
    """A running container, and the link to its host."""

    app: str
    host: str
    link: Link
    container: str


def choose(fleet: Fleet, service: str = "", *, app: str = "") -> Choice:
    """The chosen apps (or only ``app``) and hosts; with a ``service`` only those that should run it.

    Raises ``LongshoreError`` for a service that no compose file has, before any host is asked. Where the
    files can't be read just now, nobody is left out: a command for an emergency must not need them.
    """
    chosen = {app: fleet.chosen[app]} if app else fleet.chosen
    if not service:
        return chosen
    wanted: dict[str, tuple[str, ...]] = {}
    known: set[str] = set()
    for name, hosts in chosen.items():
        placed = services_of(fleet, name)
        for names in placed.values():
            known |= names or set()
        here = tuple(host for host in hosts if _may_run(placed[host], service))
        if here:
            wanted[name] = here
    if not wanted:
        apps = " or ".join(chosen)
        raise LongshoreError(
            f"there is no service {service!r} in {apps} on the chosen hosts",
            hint=f"There are: {', '.join(sorted(known))}.",
        )
    return wanted


def services_of(fleet: Fleet, app: str) -> dict[str, frozenset[str] | None]:
    """The services of an app by host, as its files have them; ``None`` where that can't be told."""
    from longshore.render import Renderer

    renderer = Renderer()
    placed: dict[str, frozenset[str] | None] = {}
    for host in fleet.chosen[app]:
        try:
            placed[host] = frozenset(renderer.render(fleet.target(app, host)).services)
        except LongshoreError:
            placed[host] = None
    return placed


def _may_run(services: frozenset[str] | None, service: str) -> bool:
    return services is None or service in services


def choose_one(fleet: Fleet, service: str, *, host: str = "", app: str = "") -> tuple[str, tuple[str, ...]]:
    """The one app (or ``app``) that has the service, and its hosts (``host``: only that one).

    Raises ``LongshoreError`` when several apps have it, or the host doesn't.
    """
    found = choose(fleet, service, app=app)
    if len(found) > 1:
        raise LongshoreError(
            f"several apps have a service {service!r}: {', '.join(found)}", hint="Say which, with --app."
        )
    name, hosts = next(iter(found.items()))
    if host and host not in hosts:
        raise LongshoreError(
            f"{service} of {name} does not run on {host!r}", hint=f"It runs on: {', '.join(hosts)}."
        )
    return name, (host,) if host else hosts


def ask(
    fleet: Fleet,
    app: str,
    op: str,
    args: Mapping[str, Any] | None = None,
    *,
    hosts: Sequence[str],
    service: str = "",
) -> tuple[dict[str, Any], dict[str, LongshoreError]]:
    """Send one request about an app, or one service of it, to its hosts.

    A host that doesn't have the service is left out, unless none has it.
    """
    told = {**(args or {}), **({"service": service} if service else {})}
    values, errors = fleet.ask(app, op, told, hosts=hosts)
    return values, drop_strangers(errors, service, last=not values)


def mask_also(fleet: Fleet, answers: Mapping[str, Any]) -> None:
    """Mask the secrets of the releases that the hosts have, too: containers print theirs, not today's."""
    found = {value for answer in answers.values() for value in answer.pop("secrets", ())}
    with _MASKING:
        fleet.output.masks = fleet.output.masks.plus(found - public_names(fleet.environment))


def drop_strangers(
    errors: Mapping[str, LongshoreError], service: str, *, last: bool
) -> dict[str, LongshoreError]:
    """Leave out the hosts that don't have the service, unless no host is left that might (``last``)."""
    if not service or last:
        return dict(errors)
    return {host: error for host, error in errors.items() if code_of(error) != wire.NO_SERVICE}


def smoke_checks(fleet: Fleet, app: str) -> list[SmokeCheck]:
    """The smoke checks of an app on its chosen hosts."""
    from longshore.verify import distinct

    targets = (fleet.target(app, host).app for host in fleet.chosen[app])
    return distinct(check for one in targets for check in one.smoke)


def code_of(error: LongshoreError) -> str:
    """An agent's error code, or an empty text for an error of another kind."""
    return error.code if isinstance(error, AgentError) else ""


def place(fleet: Fleet, app: str, host: str, service: str) -> Place:
    """The first running container of a service on a host. Raises ``LongshoreError`` when none runs."""
    link = fleet.links.link(host)
    answer = link.session().call(wire.PS, {"app": app, "service": service, "secrets": True})
    mask_also(fleet, {host: answer})
    found = answer["containers"]
    running = [one for one in found if one["state"] == "running"]
    if not running:
        state = found[0]["status"] if found else "it has no container"
        raise HostError(
            f"{service} of {app} doesn't run: {state}", where=host, hint="Start it with `invoke start`."
        )
    return Place(app, host, link, running[0]["name"])
