"""How something is timed, and how a measurement is told: medians, and the ratio of two taken in one run."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Took:
    """Wall-clock and CPU seconds (user and system, its children's too) of one run."""

    seconds: float
    cpu: float


class BrokenRunError(Exception):
    """What was to be measured ended with an error: its time would mean nothing."""


def command(argv: Sequence[str], *, cwd: Path | None = None) -> Took:
    """Run a command to its end. Raises ``BrokenRunError`` with what it said for any exit code but 0."""
    started = time.monotonic()
    process = subprocess.Popen(
        argv, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert process.stdout is not None
    said = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    took = Took(time.monotonic() - started, usage.ru_utime + usage.ru_stime)
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stdout.close()
    if process.returncode:
        raise BrokenRunError(f"{' '.join(argv)} ended with {process.returncode}:\n{said.decode()}")
    return took


def ten_million() -> float:
    """Seconds of CPU that ten million additions take: how quick the machine is, for figures that no floor of
    the same run goes with. The best of three, as others may be at work."""
    best = float("inf")
    for _ in range(3):
        began, total = time.process_time(), 0
        for number in range(10_000_000):
            total += number
        best = min(best, time.process_time() - began)
    return best


def at_once(argvs: Sequence[Sequence[str]], *, stdin: bytes = b"") -> Took:
    """Run commands in parallel, each with this input, until the last has ended."""
    started = time.monotonic()
    before = _children()
    processes = [
        subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for argv in argvs
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(stdin)
        process.stdin.close()
    said = [process.stdout.read() if process.stdout else b"" for process in processes]
    codes = [process.wait() for process in processes]
    took = Took(time.monotonic() - started, _children() - before)
    for argv, code, text in zip(argvs, codes, said, strict=True):
        if code:
            raise BrokenRunError(f"{' '.join(argv)} ended with {code}:\n{text.decode()}")
    return took


def _children() -> float:
    usage = os.times()
    return usage.children_user + usage.children_system


def alternately(ways: dict[str, Callable[[int], Took]], rounds: int) -> dict[str, list[Took]]:
    """Each way once a round, the order turned around every time, so that a busy moment hits them alike."""
    taken: dict[str, list[Took]] = {name: [] for name in ways}
    for number in range(rounds):
        names = list(ways) if number % 2 == 0 else list(ways)[::-1]
        for name in names:
            taken[name].append(ways[name](number))
    return taken


@dataclass(frozen=True)
class Figure:
    """One measured value. ``goal`` is the most it may be, ``None`` when it is only told."""

    what: str
    value: float
    unit: str
    goal: float | None = None
    beside: dict[str, Any] = field(default_factory=dict)
    """What the value is made of: medians and every sample, in seconds."""

    @property
    def reached(self) -> bool | None:
        return None if self.goal is None else self.value <= self.goal

    def as_json(self) -> dict[str, Any]:
        return {
            "what": self.what,
            "value": round(self.value, 4),
            "unit": self.unit,
            "goal": self.goal,
            "reached": self.reached,
            **self.beside,
        }

    def line(self) -> str:
        goal = "" if self.goal is None else f"  (goal ≤ {self.goal:g}: {'yes' if self.reached else 'NO'})"
        medians = self.beside.get("medians", {})
        parts = ", ".join(f"{name} {seconds * 1000:.0f} ms" for name, seconds in medians.items())
        return f"{self.what:46} {self.value:8.2f} {self.unit:12}{goal}{'  ' + parts if parts else ''}"


def ratio(
    what: str, taken: dict[str, list[Took]], ours: str, floor: str, goal: float | None = None
) -> Figure:
    """The median of ``ours`` over the median of ``floor``."""
    taken = {name: taken[name] for name in (ours, floor)}
    medians = {name: median(one.seconds for one in tooks) for name, tooks in taken.items()}
    return Figure(
        what,
        medians[ours] / medians[floor],
        f"x {floor}",
        goal,
        {
            "medians": medians,
            "cpu": {name: median(one.cpu for one in tooks) for name, tooks in taken.items()},
            "samples": {name: [round(one.seconds, 4) for one in tooks] for name, tooks in taken.items()},
        },
    )


def median(values: Any) -> float:
    return statistics.median(values)
