"""Which services of the files run on this host, and what that means for those that depend on others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from longshore.errors import LongshoreError, RenderError, Where
from longshore.records import dataclass
from longshore.render.document import Map
from longshore.render.emit import override
from longshore.render.merge import as_items, as_names
from longshore.render.parts import plain

ELSEWHERE = "longshore-elsewhere"
"""The profile of services that other hosts run. Nobody activates it."""


@dataclass(frozen=True)
class Selection:
    """The services that run here, and those that run on other hosts only. The rest is behind profiles."""

    here: tuple[str, ...]
    elsewhere: tuple[str, ...]


def select(
    services: Mapping[str, Map],
    *,
    profiles: tuple[str, ...],
    placed: Mapping[str, tuple[str, ...]],
    host: str,
) -> Selection:
    """Split the services by the active profiles and by where the inventory places them."""
    here, elsewhere = [], []
    for name, service in services.items():
        own = [str(profile) for profile in as_items(service.get("profiles"))]
        if own and "*" not in profiles and not set(own) & set(profiles):
            continue
        if name in placed and host not in placed[name]:
            elsewhere.append(name)
        else:
            here.append(name)
    return Selection(tuple(here), tuple(elsewhere))


def references(service: Map) -> Iterator[tuple[str, str, Where]]:
    """Other services that a service can't be without, besides ``depends_on``: name, key, place."""
    for key in ("network_mode", "ipc", "pid"):
        kind, _, name = str(service.get(key) or "").partition(":")
        if kind == "service" and name:
            yield name, key, service.where_of(key)
    for key in ("links", "volumes_from"):
        for item in as_items(service.get(key)):
            name = str(item).partition(":")[0]
            if name != "container":
                yield name, key, getattr(item, "where", service.where_of(key))


def dependencies(service: Map) -> dict[str, dict[str, Any]]:
    """``depends_on`` in its long form."""
    value = service.get("depends_on")
    if value is None:
        return {}
    result = {}
    for name, entry in as_names(value).items():
        said = plain(entry) if isinstance(entry, Map) else {}
        result[name] = {"condition": "service_started", **said}
    return result


def waited_for(services: Mapping[str, Map], selection: Selection) -> set[str]:
    """The services whose successful end another one waits for."""
    return {
        name
        for service in selection.here
        for name, entry in dependencies(services[service]).items()
        if entry["condition"] == "service_completed_successfully"
    }


def depends_on(
    name: str, services: Mapping[str, Map], selection: Selection, problems: list[LongshoreError]
) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Return what ``name`` depends on here, and what overrides its ``depends_on``.

    A dependency on another host is no longer required (Compose 2.20). Always the whole mapping:
    compose-go 2.0 shares one entry among all names of the short form, so that a change of one changes all.
    """
    service = services[name]
    found: list[str] = []
    said = dependencies(service)
    changed = False
    for other, entry in said.items():
        where = service.where_of("depends_on")
        if other in selection.here:
            found.append(other)
        elif other in selection.elsewhere:
            entry["required"] = False
            changed = True
        elif other not in services:
            problems.append(RenderError(f"{name} depends on {other}, which is no service.", where=where))
        elif str(entry.get("required", True)).lower() != "false":
            problems.append(
                RenderError(
                    f"{name} depends on {other}, which is behind a profile that isn't active.",
                    where=where,
                    hint="Add the profile to the app's profiles, or write here: "
                    f"{other}: {{condition: service_started, required: false}}.",
                )
            )
    for other, key, where in references(service):
        if other in selection.here:
            found.append(other)
        elif other not in services:
            problems.append(RenderError(f"{name} needs {other} ({key}), which is no service.", where=where))
        else:
            problems.append(
                RenderError(
                    f"{name} needs {other} on the same host ({key}), and {other} doesn't run here.",
                    where=where,
                    hint="Place both on the same hosts.",
                )
            )
    overrides = {"depends_on": override(said)} if changed else {}
    return tuple(dict.fromkeys(found)), overrides
