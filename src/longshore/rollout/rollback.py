"""Which release each host goes back to, so that the fleet is again what it was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from longshore.errors import HostError, LongshoreError, Problems

Seen = Mapping[str, Mapping[str, Any]]
"""Host to what its agent reported (``wire.InspectValue``)."""


def releases_to_go_back_to(app: str, seen: Seen, to: str | None) -> dict[str, str]:
    """Host to release. Hosts get what they had before one run, since one version of an app has another id
    on each host where it is another bundle.

    Without ``to``, what the last run brought is taken back: a host that had nothing to do in it stays as it
    is. ``to`` is a release of any of the hosts: the others go to what they had at that time. Raises
    ``Problems`` with a sentence for every host that has nothing to go to.
    """
    if to is None:
        return _before_the_last_run(app, seen)
    return _at_the_time_of(app, seen, to)


def _before_the_last_run(app: str, seen: Seen) -> dict[str, str]:
    tops = {host: state["stack"][-1] for host, state in seen.items() if state["stack"]}
    if not tops:
        raise HostError(f"{app} has no release to go back from", hint="`invoke history` shows what happened.")
    last = max(tops.values(), key=lambda step: float(step["at"]))["run"]
    wanted: dict[str, str] = {}
    problems: list[LongshoreError] = []
    for host, top in tops.items():
        steps: Sequence[Mapping[str, Any]] = seen[host]["stack"]
        if top["run"] != last:
            wanted[host] = top["release"]
        elif len(steps) > 1:
            wanted[host] = steps[-2]["release"]
        else:
            problems.append(HostError(f"{app} has no release before {top['release']}", where=host))
    if problems:
        raise Problems(problems)
    return wanted


def _at_the_time_of(app: str, seen: Seen, to: str) -> dict[str, str]:
    found = [step for state in seen.values() for step in state["stack"] if step["release"] == to]
    wanted: dict[str, str] = {}
    problems: list[LongshoreError] = []
    for host, state in seen.items():
        step = _step(state, to, found)
        if step is None:
            kept = ", ".join(state["releases"]) or "none"
            message = f"release {to} of {app} is not kept here"
            problems.append(HostError(message, where=host, hint=f"There are: {kept}."))
        else:
            wanted[host] = step
    if problems:
        raise Problems(problems)
    return wanted


def _step(state: Mapping[str, Any], to: str, found: Sequence[Mapping[str, Any]]) -> str | None:
    """The host's own release of that id, else the one of the same run, else the one it had then."""
    if to in state["releases"]:
        return to
    for known in found:
        for step in state["stack"]:
            if step["run"] == known["run"]:
                return str(step["release"])
    before = [step for known in found for step in state["stack"] if step["at"] <= known["at"]]
    return str(before[-1]["release"]) if before else None
