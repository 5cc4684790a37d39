"""The changes that are made under load, in turn, and what is looked at after each."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from tests.lab.project import Done
from tests.load.generator import Load
from tests.load.ground import Ground

_MOVED = re.compile(r"all requests go to the new containers, ([\d.]+) s after they were good")


@dataclass(frozen=True)
class Row:
    """One change: what it was, how it ended, how long it took (s), the slowest hundredth of the requests
    meanwhile (s), how many there were, what went wrong (sentences), how long after a host's new containers
    were good all of its requests went to them, on the slowest host (s; ``None``: not told), and what quick
    requests took around that moment (s; none when all were answered by one release)."""

    what: str
    ended: str
    seconds: float
    p99: float
    requests: int
    wrong: tuple[str, ...]
    moved: float | None = None
    around: tuple[float, ...] = ()


def changes(ground: Ground, count: int) -> Iterator[Row]:
    """Make so many changes, in turn: a good release, one that exits at once, one that fails after the switch,
    a good one, a rollback."""
    good = ["r0"]
    for number in range(1, count + 1):
        name = f"r{number}"
        turn = number % 5
        if turn == 2:
            bad = partial(ground.deploy, name, EXIT_AT_ONCE="1")
            yield observed(ground, f"{name} exits at once", 1, good[-1], bad)
        elif turn == 3:
            bad = partial(ground.deploy, name, BROKEN_LATER="1")
            yield observed(ground, f"{name} fails its smoke test", 1, good[-1], bad)
        elif turn == 0 and len(good) > 1:
            gone = good.pop()
            back = partial(ground.project.run, "rollback", "--env", "try")
            yield observed(ground, f"rollback from {gone}", 0, good[-1], back)
        else:
            good.append(name)
            yield observed(ground, f"{name} is good", 0, name, partial(ground.deploy, name))


def observed(ground: Ground, what: str, code: int, release: str, change: Callable[[], Done]) -> Row:
    """Make one change under load. ``code`` is how it must end, ``release`` what must answer afterwards."""
    load = ground.load
    first = len(load.outcomes)
    began = time.monotonic()
    done = change()
    ended = time.monotonic()
    time.sleep(1.0)
    wrong = []
    if done.code != code:
        wrong.append(f"it ended with {done.code}, not {code}: {done.err[-300:]}")
    stale = {name: n for name, n in load.answered_by(ended, first=first).items() if name != release}
    if stale:
        wrong.append(f"answered by another release than {release} afterwards: {stale}")
    failed = load.failures(first).total()
    if failed:
        wrong.append(f"{failed} failed")
    return Row(
        what,
        "WRONG" if wrong else "as expected",
        seconds=ended - began,
        p99=load.percentile(0.99, began, ended, first=first),
        requests=sum(began <= one.began < ended for one in load.outcomes[first:]),
        wrong=tuple(wrong),
        moved=max(map(float, _MOVED.findall(done.out)), default=None),
        around=_around_the_switch(load, began, ended, first),
    )


def _around_the_switch(load: Load, began: float, ended: float, first: int) -> tuple[float, ...]:
    """What quick requests took from half a second before the first answer of another release than the one
    that answered first, to a second after the last of that one."""
    told = [one for one in load.outcomes[first:] if one.release and began <= one.began < ended]
    other = [one.began for one in told if one.release != told[0].release]
    if not other:
        return ()
    last = max(one.began for one in told if one.release == told[0].release)
    return tuple(load.took(min(other) - 0.5, max(last, min(other)) + 1.0, first=first))
