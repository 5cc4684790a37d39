"""What is wrong with what was seen: the promises, each as a sentence that says how it is broken."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from tests.faults.observe import Seen


def after_the_fault(seen: Mapping[str, Seen], good: Collection[int]) -> list[str]:
    """What must be so on every reachable host once the run, or its lease, is over.

    ``good``: the versions that may be served, the new one among them when nothing is wrong with it.
    """
    wrong: list[str] = []
    for host, one in seen.items():
        wrong += [f"{host} {text}" for text in _serves_one(one, good)]
        wrong += [f"{host} {text}" for text in _holds(one)]
    return wrong


def after_the_next(seen: Mapping[str, Seen], version: int) -> list[str]:
    """What must be so after the next deploy, of ``version``: all of it, on every host."""
    wrong: list[str] = []
    for host, one in seen.items():
        wrong += [f"{host} {text}" for text in (*_serves_one(one, {version}), *_holds(one))]
        if one.current != version:
            wrong.append(f"{host} has {one.current} recorded as current")
        if not one.as_committed:
            wrong.append(f"{host} runs something else than was committed")
        if one.unfinished:
            wrong.append(f"{host} has a switch without an end in its journal")
        if one.half:
            wrong.append(f"{host} has left over: {', '.join(one.half)}")
        if one.staged:
            wrong.append(f"{host} keeps releases that were never good: {', '.join(one.staged)}")
    return wrong


def of_the_migration(seen: Mapping[str, Seen], *, broken_off: bool) -> list[str]:
    """It was begun once in the fleet, and ended, unless the fault was the end of its container."""
    words = [word for one in seen.values() for word in one.migrations]
    begun, ended = words.count("begun"), words.count("ended")
    wrong = [] if begun == 1 else [f"the migration was begun {begun} times"]
    return wrong if ended == begun or broken_off else [*wrong, "the migration was broken off"]


def mixed(seen: Mapping[str, Seen]) -> bool:
    """Whether the hosts serve different versions."""
    return len({one.version for one in seen.values()}) > 1


def settled(seen: Mapping[str, Seen]) -> list[str]:
    """What must be so where nothing is left for the next command: records agree with what runs."""
    wrong: list[str] = []
    for host, one in seen.items():
        if one.unfinished:
            wrong.append(f"{host} has a switch without an end in its journal")
        elif one.current != one.version:
            wrong.append(f"{host} serves {one.version} and has {one.current} recorded as current")
        elif not one.as_committed:
            wrong.append(f"{host} runs something else than was committed")
    return wrong


def _serves_one(one: Seen, good: Collection[int]) -> list[str]:
    wrong = []
    if one.version is None:
        wrong.append(f"answers {' '.join(one.answers)}")
    elif one.version not in good:
        wrong.append(f"serves {one.version}, which is not good")
    if len(one.containers) != 1:
        wrong.append(f"has {len(one.containers)} containers: {', '.join(one.containers) or 'none'}")
    elif one.version is not None and one.containers[0] != f"running {one.version}":
        wrong.append(f"answers {one.version}, but its engine says: {one.containers[0]}")
    return wrong


def _holds(one: Seen) -> list[str]:
    wrong = []
    if one.locked:
        wrong.append("is still locked")
    if one.agents:
        wrong.append(f"still has {one.agents} agents at work")
    if not one.precious:
        wrong.append("lost what was in its volume")
    if one.volumes != ("shop_data",):
        wrong.append(f"has the volumes {', '.join(one.volumes) or 'none'}")
    return wrong
