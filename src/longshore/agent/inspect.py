"""What an app is on this host, looked at without changing anything."""

import os
from collections import Counter
from typing import Any, Dict, List, Optional, Tuple

from longshore.agent.engine import Engine
from longshore.agent.health import containers
from longshore.agent.journal import Journal, Lines
from longshore.agent.lock import Lock
from longshore.agent.store import AppStore


def inspect(engine: Engine, store: AppStore, project: str, wanted: Optional[str]) -> Dict[str, Any]:
    """A ``wire.InspectValue``, for a run that wants the release ``wanted`` here, if any."""
    found = containers(engine, project)
    current = store.current()
    if not store.exists():
        return {
            "current": None, "stack": [], "releases": [], "staged": False, "manifest": None,
            "good": False, "drift": [], "containers": found, "unfinished": None, "lock": None,
        }  # fmt: skip
    kept = store.kept()
    history = Lines(os.path.join(store.root, "history.jsonl")).read()
    open_switch = Journal(store.root).unfinished()
    sentences = drift(store.committed(current), found) if current else []
    return {
        "current": current,
        "stack": stack(history, kept),
        "releases": kept,
        "staged": bool(wanted) and store.has(str(wanted)),
        # What is already so need not be sent: the plan asks only when there is a difference to explain.
        "manifest": store.manifest(current) if current and current != wanted else None,
        "good": current is not None and not sentences and open_switch is None,
        "drift": sentences,
        "containers": found,
        "unfinished": open_switch["to"] if open_switch else None,
        "lock": Lock(store.root).holder(),
    }


def stack(history: List[Dict[str, Any]], kept: List[str]) -> List[Dict[str, Any]]:
    """The releases that led to the current one, oldest first, as ``wire.Step``; only those still kept.

    Going back takes off what was left: after A, B, C and a way back to B the stack is A, B. An entry has the
    run that brought it first, so that the hosts of one run can be taken back together.
    """
    steps: List[Dict[str, Any]] = []
    for line in history:
        release = line.get("release")
        if line.get("outcome") not in ("committed", "kept") or not isinstance(release, str):
            continue
        known = [at for at, step in enumerate(steps) if step["release"] == release]
        if known:
            del steps[known[0] + 1 :]
        else:
            steps.append({"release": release, "run": line.get("run", ""), "at": line.get("at", 0)})
    return [step for step in steps if step["release"] in kept]


def drift(committed: Optional[Dict[str, Any]], found: List[Dict[str, Any]]) -> List[str]:
    """How what runs differs from what was committed, in sentences; empty when it doesn't."""
    if committed is None:
        return ["what was committed is not known"]
    sentences = []
    expected = Counter(_key(one) for one in committed["containers"])
    have = Counter(_key(one) for one in found)
    for service in sorted({key[0] for key in expected} | {key[0] for key in have}):
        want = {key: count for key, count in expected.items() if key[0] == service}
        got = {key: count for key, count in have.items() if key[0] == service}
        if want == got:
            continue
        wanted, running = sum(want.values()), sum(got.values())
        if not running:
            sentences.append(f"{service} has no container")
        elif not wanted:
            sentences.append(f"{service} runs but is not part of the release")
        elif wanted != running:
            sentences.append(f"{service} has {running} of {wanted} containers")
        else:
            sentences.append(f"{service} was changed since the release was committed")
    for one in found:
        if (
            one["state"] == "exited"
            and one["status"].startswith("Exited (0)")
            and one["service"] in _shots(committed)
        ):
            continue
        if one["state"] != "running":
            sentences.append(f"{one['service']} is {one['state']}")
        elif one["health"] == "unhealthy":
            sentences.append(f"{one['service']} is unhealthy")
    return sentences


def _key(one: Dict[str, Any]) -> Tuple[str, str, str]:
    return one["service"], one["config_hash"], one["image_id"]


def _shots(committed: Dict[str, Any]) -> List[str]:
    return list(committed.get("one_shots", []))
