"""What a deploy would do, host by host and service by service, and why. Decides; touches nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from longshore.render.bundle import Bundle

POLICY = "longshore.yml"
Action = Literal["nothing", "release", "repair", "recover"]
"""``release``: another release; ``repair``: the same one, but it doesn't run as it was committed;
``recover``: a run before this one ended in the middle."""


@dataclass(frozen=True)
class Change:
    """One thing that would change. ``service`` is ``None`` for what concerns the whole app."""

    service: str | None
    what: str
    why: str


@dataclass(frozen=True)
class HostPlan:
    """What would happen on one host, from ``seen`` (the agent's ``InspectValue``) to ``bundle``."""

    host: str
    bundle: Bundle
    seen: Mapping[str, Any]
    action: Action
    changes: tuple[Change, ...]

    @property
    def current(self) -> str | None:
        """The release that was committed last on the host."""
        current: str | None = self.seen["current"]
        return current


@dataclass(frozen=True)
class Plan:
    """What a deploy of one app would do on its hosts."""

    app: str
    hosts: Mapping[str, HostPlan]

    @property
    def todo(self) -> tuple[HostPlan, ...]:
        """The hosts that have something to do."""
        return tuple(host for host in self.hosts.values() if host.action != "nothing")


def make_plan(app: str, bundles: Mapping[str, Bundle], seen: Mapping[str, Mapping[str, Any]]) -> Plan:
    """Compare each host's bundle with what its agent reported."""
    return Plan(app, {host: _host_plan(host, bundle, seen[host]) for host, bundle in bundles.items()})


def _host_plan(host: str, bundle: Bundle, seen: Mapping[str, Any]) -> HostPlan:
    if seen["current"] == bundle.id and not seen["unfinished"]:
        changes = tuple(Change(None, "repair", sentence) for sentence in seen["drift"])
        return HostPlan(host, bundle, seen, "repair" if changes else "nothing", changes)
    changes = tuple(_service_changes(bundle, seen.get("manifest") or {}))
    if seen["unfinished"]:
        first = Change(None, "recover", unfinished(seen))
        return HostPlan(host, bundle, seen, "recover", (first, *changes))
    return HostPlan(host, bundle, seen, "release", changes)


def unfinished(seen: Mapping[str, Any]) -> str:
    """What there is to say of a release that was begun: while somebody has the lock, it may be under way."""
    holder = seen.get("lock")
    if holder is not None:
        return f"release {seen['unfinished']} is being brought by {holder.get('by', 'someone')}"
    return f"release {seen['unfinished']} was begun and never finished"


def _service_changes(bundle: Bundle, old: Mapping[str, Any]) -> list[Change]:
    before: Mapping[str, Any] = old.get("services", {})
    if not before:
        return [Change(name, "start", "it is new on this host") for name in sorted(bundle.services)]
    changes = []
    after = bundle.manifest_body()["services"]
    for name in sorted({*before, *after}):
        if name not in after:
            changes.append(Change(name, "remove", "it is not in this release"))
        elif name not in before:
            changes.append(Change(name, "start", "it is new in this release"))
        else:
            changes += [
                Change(name, "change", f"{key}: {before[name].get(key)} → {value}")
                for key, value in after[name].items()
                if before[name].get(key) != value
            ]
    return changes + _file_changes(bundle, old)


def _file_changes(bundle: Bundle, old: Mapping[str, Any]) -> list[Change]:
    before = _by_name(old.get("files", {}))
    after = _by_name(bundle.manifest_body()["files"])
    changes = []
    for name in sorted({*before, *after}):
        if name not in before:
            changes.append(Change(None, "file", f"{name} is new"))
        elif name not in after:
            changes.append(Change(None, "file", f"{name} goes"))
        elif before[name] != after[name]:
            changes.append(Change(None, "file", f"{name} differs"))
    ours = Change(None, "file", f"{POLICY} differs")
    # Our own file says the same as the others, unless the inventory's policy is all that changed.
    return [change for change in changes if change != ours] or changes


def _by_name(files: Mapping[str, Any]) -> dict[str, str]:
    """A manifest's files by the name a person knows: mounted content without its hash."""
    return {
        path.split("/", 1)[-1] if file["kind"] == "content" else path: file["sha256"]
        for path, file in files.items()
    }
