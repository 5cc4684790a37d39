"""What Compose refuses of merged files because their parts don't fit together: said before a host is asked.

The rules are compose-go's (``checkConsistency``), for the services that run here; durations, sizes and the
like are looked at, too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from longshore.errors import LongshoreError, RenderError, Where
from longshore.inventory.model import App
from longshore.render.document import Items, Map, Text
from longshore.render.merge import as_items, as_names
from longshore.render.parts import Mount
from longshore.render.policy import policy_of
from longshore.render.reader import Model
from longshore.render.selection import Selection, dependencies, references
from longshore.values import parse_size

_CONDITIONS = ("service_started", "service_healthy", "service_completed_successfully")
# Go's durations, which know no days.
_DURATION = re.compile(r"[+-]?(?:0|(?:(?:\d+\.?\d*|\.\d+)(?:ns|us|µs|ms|s|m|h))+)")
_SIZE = re.compile(r"-?\d+(?:\.\d+)?\s?(?:[kmgtp]?i?b?)", re.IGNORECASE)
_NUMBER = re.compile(r"\d*\.?\d+(?:[eE][-+]?\d+)?")
_WRITTEN = {
    "pull_policy": (
        re.compile(r"always|never|build|if_not_present|missing|refresh|daily|weekly|every_(?:\d+[wdhms])+"),
        "Compose doesn't know",
        "There are always, missing, never, build, daily, weekly and every_12h.",
    ),
    # The engine says so only when it creates the container.
    "restart": (
        re.compile(r"(?:no|always|unless-stopped|on-failure(?::\d+)?)?"),
        "the engine refuses",
        "There are no, always, unless-stopped, on-failure and on-failure:3.",
    ),
    "container_name": (
        re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9_.-]+)?"),
        "the engine refuses",
        "Use two or more letters, digits, dots, hyphens and underscores.",
    ),
}
_TWICE = {
    "limits": {"cpus": "cpus", "mem_limit": "memory", "pids_limit": "pids"},
    "reservations": {"mem_reservation": "memory"},
}


def inconsistencies(model: Model, selection: Selection, app: App) -> Iterator[LongshoreError]:
    """What doesn't fit, each with its place."""
    for name in selection.here:
        service = model.services[name]
        yield from _names_of(name, service, model)
        yield from _values(name, service)
        yield from _twice_said(name, service, app)
    yield from _same_name(model.services, selection)
    yield from _sources(model)
    yield from _cycle(model.services, selection)


def _names_of(name: str, service: Map, model: Model) -> Iterator[LongshoreError]:
    """Networks, volumes, configs and secrets that nobody declares."""
    networks = service.get("networks")
    if networks and service.get("network_mode"):
        yield RenderError(
            f"{name} has network_mode: {service['network_mode']} and networks, and can't have both.",
            where=service.where_of("network_mode"),
        )
    for network in as_names(networks) if networks else ():
        if network not in model.networks and network != "default":
            yield _undeclared(name, "network", network, getattr(networks, "where", service.where))
    for mount in as_items(service.get("volumes")):
        if isinstance(mount, Mount) and mount.type == "volume" and mount.source and not mount.unset:
            if mount.source in model.volumes:
                continue
            hint = (
                f"A folder beside the compose file is written ./{mount.source}."
                if "/" in mount.source
                else ""
            )
            yield _undeclared(name, "volume", mount.source, mount.where, hint)
    for kind, declared in (("configs", model.configs), ("secrets", model.secrets)):
        for item in as_items(service.get(kind)):
            source = item.get("source") if isinstance(item, Map) else item
            if str(source) not in declared:
                where = getattr(item, "where", service.where_of(kind))
                yield _undeclared(name, kind[:-1], str(source), where)


def _undeclared(name: str, kind: str, what: str, where: Where, hint: str = "") -> RenderError:
    return RenderError(
        f"{name} uses the {kind} {what}, and the compose file has no such {kind}.",
        where=where,
        hint=hint or f"Add it below {kind}s: at the top of the file.",
    )


def _values(name: str, service: Map) -> Iterator[LongshoreError]:
    health = service.get("healthcheck")
    health = health if isinstance(health, Map) else Map(service.where)
    test = health.get("test")
    if isinstance(test, Items) and test and test[0] not in ("CMD", "CMD-SHELL", "NONE"):
        yield RenderError(
            f"The health check of {name} is a list, and has to begin with CMD, CMD-SHELL or NONE.",
            where=health.where_of("test"),
            hint="Put CMD before it, or write it as one text.",
        )
    elif isinstance(test, Items) and not all(isinstance(word, str) for word in test):
        yield RenderError(
            f"The health check of {name} has a word that is no text.",
            where=health.where_of("test"),
            hint="Put numbers, true and false in quotes.",
        )
    times = ("interval", "timeout", "start_period", "start_interval")
    yield from _durations(health, f"services.{name}.healthcheck", times)
    yield from _durations(service, f"services.{name}", ("stop_grace_period",))
    yield from _sizes(
        service, f"services.{name}", ("mem_limit", "mem_reservation", "memswap_limit", "shm_size")
    )
    for kind in ("limits", "reservations"):
        yield from _sizes(_resources(service, kind), f"services.{name}.deploy.resources.{kind}", ("memory",))
    for key, (pattern, whose, hint) in _WRITTEN.items():
        said = service.get(key)
        if said is not None and not getattr(said, "unset", ()) and not pattern.fullmatch(str(said)):
            yield RenderError(
                f"{name} has the {key} {str(said)!r}, which {whose}.", where=service.where_of(key), hint=hint
            )
    cpus = service.get("cpus")
    if cpus is not None and not getattr(cpus, "unset", ()) and not _NUMBER.fullmatch(str(cpus)):
        yield RenderError(
            f"{name} has {str(cpus)!r} cpus, which is no number.", where=service.where_of("cpus")
        )
    for other, entry in dependencies(service).items():
        if entry["condition"] and entry["condition"] not in _CONDITIONS:
            yield RenderError(
                f"{name} waits for {entry['condition']!r} of {other}, which is no condition.",
                where=service.where_of("depends_on"),
                hint=f"There are {', '.join(_CONDITIONS)}.",
            )


def _durations(owner: Map, path: str, keys: tuple[str, ...]) -> Iterator[LongshoreError]:
    hint = "Write it with its unit, as 30s, 1m30s or 2h."
    yield from _written_as(_DURATION, "duration", hint, owner, path, keys)


def _sizes(owner: Map, path: str, keys: tuple[str, ...]) -> Iterator[LongshoreError]:
    yield from _written_as(_SIZE, "size", "Write it as 512m or 2g.", owner, path, keys)


def _written_as(
    pattern: re.Pattern[str], what: str, hint: str, owner: Map, path: str, keys: tuple[str, ...]
) -> Iterator[LongshoreError]:
    for key in keys:
        value = owner.get(key)
        if value is not None and not getattr(value, "unset", ()) and not pattern.fullmatch(str(value)):
            yield RenderError(
                f"{path}.{key} is {str(value)[:40]!r}, which is no {what} to Compose.",
                where=owner.where_of(key),
                hint=hint,
            )


def _resources(service: Map, kind: str) -> Map:
    deploy = service.get("deploy")
    resources = deploy.get("resources") if isinstance(deploy, Map) else None
    found = resources.get(kind) if isinstance(resources, Map) else None
    return found if isinstance(found, Map) else Map(service.where)


def _twice_said(name: str, service: Map, app: App) -> Iterator[LongshoreError]:
    """What has two places in a file, and must be the same in both; the inventory's word is in both."""
    policy = policy_of(app, name)
    settled = {
        "limits": (policy.cpus, policy.memory, policy.pids),
        "reservations": (policy.reserve_cpus, policy.reserve_memory),
    }
    for kind, keys in _TWICE.items():
        said = _resources(service, kind)
        if not said or any(value is not None for value in settled[kind]):
            continue
        for short, long in keys.items():
            if service.get(short) and _amount(service[short]) != _amount(said.get(long)):
                yield _distinct(name, short, f"deploy.resources.{kind}.{long}", service.where_of(short))
    deploy = service.get("deploy")
    replicas = deploy.get("replicas") if isinstance(deploy, Map) else None
    scale = service.get("scale")
    if policy.replicas is None and scale is not None and replicas is not None and str(scale) != str(replicas):
        yield _distinct(name, "scale", "deploy.replicas", service.where_of("scale"))


def _distinct(name: str, one: str, other: str, where: Where) -> RenderError:
    return RenderError(
        f"{name} says {one} and {other}, and not the same, which Compose refuses.",
        where=where,
        hint="Keep one of them, or say the same in both.",
    )


def _amount(value: Any) -> float | None:
    """Cores, bytes or a number, to be compared."""
    try:
        return float(str(value))
    except ValueError:
        pass
    try:
        return parse_size(str(value))
    except ValueError:
        return None


def _same_name(services: Mapping[str, Map], selection: Selection) -> Iterator[LongshoreError]:
    """Containers that would have one name: Compose lets that pass, and the engine refuses the second."""
    seen: dict[str, str] = {}
    for name in selection.here:
        said = services[name].get("container_name")
        if not isinstance(said, Text) or said.unset:
            continue
        first = seen.setdefault(str(said), name)
        if first != name:
            yield RenderError(
                f"{name} and {first} both have the container_name {said}.",
                where=services[name].where_of("container_name"),
            )


def _sources(model: Model) -> Iterator[LongshoreError]:
    """Configs and secrets that have no content, or two."""
    for kind, entries in (("configs", model.configs), ("secrets", model.secrets)):
        for name, entry in entries.items():
            if not isinstance(entry, Map) or entry.get("external") or entry.get("driver"):
                continue
            said = [key for key in ("file", "environment", "content") if entry.get(key) is not None]
            if len(said) != 1:
                what = (
                    f"has {' and '.join(said)}, and can't have both"
                    if said
                    else "has no file: or environment:"
                )
                yield RenderError(f"{kind}.{name} {what}.", where=entry.where)


def _cycle(services: Mapping[str, Map], selection: Selection) -> Iterator[LongshoreError]:
    """One circle of services that wait for each other, where there is one."""
    needed = {
        name: [
            other
            for other in (*dependencies(services[name]), *(found[0] for found in references(services[name])))
            if other in selection.here
        ]
        for name in selection.here
    }
    done: set[str] = set()
    for start in selection.here:
        path: list[str] = []
        left = [iter([start])]
        while left:
            name = next(left[-1], None)
            if name is None:
                left.pop()
                if path:
                    done.add(path.pop())
            elif name in path:
                circle = [*path[path.index(name) :], name]
                service = services[name]
                yield RenderError(
                    f"These services wait for each other: {' → '.join(circle)}.",
                    where=service.where_of("depends_on"),
                )
                return
            elif name not in done:
                path.append(name)
                left.append(iter(needed[name]))
