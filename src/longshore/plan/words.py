"""A plan in words: the lines that ``plan`` and ``deploy`` both say."""

from __future__ import annotations

from collections.abc import Sequence

from longshore.plan.model import HostPlan, Plan, ServiceStep

_MOST = 6


def grouped(plan: Plan) -> dict[str, list[str]]:
    """What would happen, in a line, to the hosts where just that would happen."""
    groups: dict[str, list[str]] = {}
    for host in plan.todo:
        groups.setdefault(summary(host), []).append(host.host)
    return groups


def summary(plan: HostPlan) -> str:
    """``1a2b → 3c4d (web: memory 512M → 256M)``."""
    if plan.action == "repair":
        return f"repair {plan.bundle.id} ({'; '.join(plan.drift)})"
    reasons = [str(change) for change in plan.changes if change.what != "file"]
    files = [str(change) for change in plan.changes if change.what == "file"]
    told = [*(reasons or files), *plan.drift]
    if plan.current is None and len(reasons) == len(plan.bundle.services):
        told = sorted(plan.bundle.services)  # a first deploy: that all is new goes without saying
    more = [f"and {len(told) - _MOST} more"] if len(told) > _MOST else []
    return f"{plan.current or 'nothing'} → {plan.bundle.id} ({', '.join([*told[:_MOST], *more])})"


def headline(plan: HostPlan) -> str:
    """What happens on a host as a whole."""
    release = plan.bundle.id
    if plan.action == "nothing":
        return f"{release}, nothing to do"
    if plan.action == "repair":
        return f"{release} again, as it was committed"
    return f"{plan.current or 'nothing'} → {release}"


def lines(plan: HostPlan) -> list[str]:
    """Everything there is to say of one host, but for the diffs."""
    told = [f"changed by hand: {text}" for text in plan.drift]
    told += [f"note: {text}" for text in plan.notes]
    told += [
        str(change) for change in plan.changes if change.what not in ("repair", "file", "start", "remove")
    ]
    files = [change.why for change in plan.changes if change.what == "file"]
    told += [f"files: {', '.join(files)}"] if files else []
    told += [step_line(step) for step in plan.steps if step.deed != "nothing"]
    untouched = [step.service for step in plan.steps if step.deed == "nothing"]
    if untouched and plan.action != "nothing":
        told.append(f"{_and(untouched)}: untouched")
    return told


_DEEDS = {
    "start": "started",
    "recreate": "recreated",
    "restart": "started again",
    "scale": "scaled",
    "run again": "runs again",
    "remove": "removed",
    "maybe": "may be recreated",
}


def step_line(step: ServiceStep) -> str:
    """``web: recreated, because of memory; for a moment it is not there``."""
    because = f", because of {_and(step.because)}" if step.because and step.deed == "recreate" else ""
    if step.because and step.deed != "recreate":
        because = f" ({', '.join(step.because)})"
    why = f", for {step.gap_why}" if step.gap_why else ""
    then = "meanwhile this host is out of the load balancer" if step.out else "for a moment it is not there"
    gap = f"; replaced in place: {then}{why}" if step.gap else ""
    return f"{step.service}: {_DEEDS[step.deed]}{because}{gap}"


def _and(names: Sequence[str]) -> str:
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"
