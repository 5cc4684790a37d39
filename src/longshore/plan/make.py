"""Making a plan: what the hosts report, compared with what they are to get."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from longshore.inventory.hidden import rules
from longshore.plan.diffs import file_changes, file_diffs
from longshore.plan.fields import Fields, fields_of, sentence
from longshore.plan.model import Change, FileDiff, HostPlan, Plan, ServiceStep
from longshore.plan.release import Models, Release, of_bundle, of_host
from longshore.plan.steps import steps
from longshore.plan.veil import Veil, new_salt
from longshore.render.bundle import Bundle


def question(bundle: Bundle, salt: str, *, content: bool) -> dict[str, Any]:
    """What to ask the agent for (``explain`` of ``inspect``), so that the plan can say what changes.

    ``content``: also the text of mounted files that differ, for the diffs.
    """
    have = {file.path: file.sha256 for file in bundle.files if content or file.kind == "release"}
    return {"salt": salt, "have": have, "content": content, **rules()}


def make_plan(
    app: str, bundles: Mapping[str, Bundle], seen: Mapping[str, Mapping[str, Any]], *, salt: str = ""
) -> Plan:
    """Compare each host's bundle with what its agent reported.

    ``salt`` is that of the :func:`question` that was asked; without one the plan knows of the old release
    what its manifest says.
    """
    maker = _Maker(salt or new_salt())
    return Plan(app, {host: maker.host(host, bundle, seen[host]) for host, bundle in bundles.items()})


def unfinished(seen: Mapping[str, Any]) -> str:
    """What there is to say of a release that was begun: while somebody has the lock, it may be under way."""
    holder = seen.get("lock")
    if holder is not None:
        return f"release {seen['unfinished']} is being brought by {holder.get('by', 'someone')}"
    return f"release {seen['unfinished']} was begun and never finished"


class _Maker:
    """Plans the hosts of one app. What two hosts have in common is read once."""

    def __init__(self, salt: str) -> None:
        self.salt = salt
        self.new: dict[str, tuple[Release, Veil]] = {}
        self.differences: dict[Any, _Difference] = {}
        self.models = Models()

    def host(self, host: str, bundle: Bundle, seen: Mapping[str, Any]) -> HostPlan:
        same = seen["current"] == bundle.id and not seen["unfinished"]
        mend: Mapping[str, str] = seen.get("mend") or {}
        if same and not seen["drift"]:
            return HostPlan(host, bundle, seen, "nothing", (), self.untouched(bundle))
        new, veil = self.release(bundle)
        difference = self.difference(bundle, new, veil, seen)
        deeds = steps(difference.old, new, difference.changes, mend, seen)
        if same:
            changes = tuple(Change(None, "repair", text) for text in seen["drift"])
            return HostPlan(host, bundle, seen, "repair", changes, deeds, difference.diffs)
        changes = (*difference.changes, *difference.files)
        if seen["unfinished"]:
            first = Change(None, "recover", unfinished(seen))
            return HostPlan(host, bundle, seen, "recover", (first, *changes), deeds, difference.diffs)
        return HostPlan(host, bundle, seen, "release", changes, deeds, difference.diffs)

    def untouched(self, bundle: Bundle) -> tuple[ServiceStep, ...]:
        return tuple(ServiceStep(name, "nothing") for name in sorted(bundle.services))

    def release(self, bundle: Bundle) -> tuple[Release, Veil]:
        if bundle.id not in self.new:
            release = of_bundle(bundle, self.models)
            self.new[bundle.id] = release, Veil(self.salt, release.env)
        return self.new[bundle.id]

    def difference(self, bundle: Bundle, new: Release, veil: Veil, seen: Mapping[str, Any]) -> _Difference:
        manifest = seen.get("manifest")
        if manifest is None and seen["current"] == bundle.id:
            manifest = bundle.manifest()
        stored = seen.get("stored") or {"files": {}, "edited": [], "pins": {}}
        key = (bundle.id, seen["current"], tuple(stored["edited"]), tuple(sorted(stored["pins"].items())))
        if stored["edited"] or key not in self.differences:
            digests = {file.path: file.sha256 for file in bundle.files}
            old = of_host(manifest, stored, new, digests, veil) if manifest else None
            self.differences[key] = _Difference(old, new, tuple(stored["edited"]), veil)
        return self.differences[key]


class _Difference:
    """How two releases differ: the same for all hosts that go from the one to the other."""

    def __init__(self, old: Release | None, new: Release, edited: tuple[str, ...], veil: Veil) -> None:
        self.old = old
        self.changes = tuple(changes_between(old, new, veil))
        self.files = tuple(file_changes(old.manifest, new.manifest)) if old else ()
        self.diffs: tuple[FileDiff, ...] = file_diffs(old, new, edited, veil) if old else ()


UNREADABLE = (
    "the compose files of the release on the host can't be read here, so only images, ports and files are"
    " compared"
)


def changes_between(old: Release | None, new: Release, veil: Veil) -> list[Change]:
    """What differs, service by service and field by field; then what concerns the app."""
    after = new.manifest["services"]
    if old is None:
        return [Change(name, "start", "it is new on this host") for name in sorted(after)]
    before = old.manifest["services"]
    changes: list[Change] = []
    whole = old.model is not None and new.model is not None
    if not whole:
        changes.append(Change(None, "unknown", UNREADABLE))
    for name in sorted({*before, *after}):
        if name not in after:
            changes.append(Change(name, "remove", "it is not in this release"))
        elif name not in before:
            changes.append(Change(name, "start", "it is new in this release"))
        else:
            named = old.images[name] != new.images[name]
            fields = (fields_of(one, name, veil, whole=whole, named=named) for one in (old, new))
            changes += _field_changes(name, *fields)
    return changes + _settings(old.manifest, new.manifest)


def _field_changes(service: str, old: Fields, new: Fields) -> list[Change]:
    changes = []
    for name in sorted({*old, *new}):
        before, after = old.get(name), new.get(name)
        if (before and before.value) != (after and after.value) or (before is None) != (after is None):
            loose = all(field is None or field.loose for field in (before, after))
            changes.append(Change(service, name, sentence(name, before, after), loose))
    return changes


def _settings(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Change]:
    changes = []
    if old["project"] != new["project"]:
        changes.append(Change(None, "project", f"project {old['project']} → {new['project']}"))
    before, after = old.get("settings", {}), new.get("settings", {})
    for name in sorted({*before, *after}):
        if before.get(name) != after.get(name):
            was = before.get(name, "none")
            changes.append(Change(None, "setting", f"{name} {was} → {after.get(name, 'none')}"))
    return changes
