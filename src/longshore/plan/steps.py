"""What becomes of each service's containers, as Compose will do it.

Compose makes a container anew when its own configuration or image differs, and then everything that depends
on it, too (measured with Compose 2.26; its ``depends_on``, shared namespaces, ``volumes_from``). What the
agent makes anew because of a change by hand, it makes alone (``--no-deps``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from longshore.plan.fields import needs
from longshore.plan.model import Change, Deed, ServiceStep
from longshore.plan.release import Release

_BY_DRIFT: Mapping[str, Deed] = {
    "recreate": "recreate", "create": "start", "start": "restart", "remove": "scale", "wait": "nothing",
    "write": "nothing",
}  # fmt: skip


def steps(
    old: Release | None,
    new: Release,
    changes: Iterable[Change],
    mend: Mapping[str, str],
    seen: Mapping[str, Any],
) -> tuple[ServiceStep, ...]:
    """A step for every service of either release. ``mend``: service to what its drift wants."""
    changes = tuple(changes)
    by_service: dict[str, list[Change]] = {}
    for change in changes:
        if change.service:
            by_service.setdefault(change.service, []).append(change)
    unknown = any(change.what == "unknown" for change in changes)
    found: dict[str, ServiceStep] = {}
    for name in sorted({*new.manifest["services"], *(old.manifest["services"] if old else ())}):
        found[name] = _own(name, by_service.get(name, []), mend.get(name), new, seen)
        if unknown and found[name].deed == "nothing":
            found[name] = ServiceStep(name, "maybe")
    for name, deed in mend.items():
        if name not in found and deed == "remove":
            found[name] = ServiceStep(name, "remove", ("it is not part of the release",))
    by_compose = {
        name
        for name, step in found.items()
        if step.deed == "recreate" and any(not one.loose for one in by_service.get(name, []))
    }
    by_hand = {name for name, step in found.items() if step.deed == "recreate"} - by_compose
    _spread(found, by_compose, new, shared=False)
    _spread(found, by_hand, new, shared=True)
    return tuple(found[name] for name in sorted(found))


def _own(
    name: str, changes: list[Change], mend: str | None, new: Release, seen: Mapping[str, Any]
) -> ServiceStep:
    """What happens to a service because of itself."""
    whats = [change.what for change in changes]
    if "remove" in whats:
        return ServiceStep(name, "remove", ("it is not in this release",))
    if "start" in whats:
        return ServiceStep(name, "start", ("it is new",))
    because = tuple(change.what for change in changes if not change.loose)
    if because:
        return _with_gap(ServiceStep(name, "recreate", because, gap=_runs(name, seen)), new)
    if mend is not None and _BY_DRIFT[mend] != "nothing":
        step = ServiceStep(name, _BY_DRIFT[mend], ("a change by hand",), gap=mend == "recreate")
        return _with_gap(step, new)
    facts = new.manifest["services"][name]
    if facts["one_shot"] or facts.get("may_exit"):
        ended = [one for one in seen["containers"] if one["service"] == name and one["state"] == "exited"]
        if ended:
            return ServiceStep(name, "run again", ("it has ended, and Compose starts what has",))
    if "replicas" in whats:
        return ServiceStep(name, "scale", tuple(one.why for one in changes if one.what == "replicas"))
    return ServiceStep(name, "nothing")


def _runs(name: str, seen: Mapping[str, Any]) -> bool:
    return any(one["service"] == name and one["state"] == "running" for one in seen["containers"])


def _with_gap(step: ServiceStep, new: Release) -> ServiceStep:
    """The step with why it has a gap, or without one where old and new run side by side."""
    gap = step.gap and not _has_twin(step.service, new)
    return replace(step, gap=gap, gap_why=new.gaps.get(step.service, "") if gap else "")


def _has_twin(name: str, new: Release) -> bool:
    """Old and new can run side by side (blue and green)."""
    return bool(new.manifest["services"][name].get("twin"))


def _spread(found: dict[str, ServiceStep], sources: set[str], new: Release, *, shared: bool) -> None:
    """Make anew what depends on what is made anew."""
    reached = set(sources)
    while True:
        more = {
            name: sorted(needs(name, new, shared=shared) & reached)
            for name in new.manifest["services"]
            # One that can run twice is brought by itself, and stays when it is as it should be.
            if name not in reached and not _has_twin(name, new) and needs(name, new, shared=shared) & reached
        }
        if not more:
            return
        for name, reasons in more.items():
            reached.add(name)
            if found[name].deed in ("nothing", "restart", "scale", "run again"):
                because = tuple(f"{other}, which it depends on" for other in reasons)
                found[name] = _with_gap(ServiceStep(name, "recreate", because, gap=True), new)
