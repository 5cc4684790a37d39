"""What a build says, read from ``docker buildx build --progress=plain``: steps, times, and what failed.

Source of the format: BuildKit, ``util/progress/progressui/printer.go``; the same since 0.8.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

_LINE = re.compile(r"#(\d+) (.*)")
_DONE = re.compile(r"DONE (\d+(?:\.\d+)?)s")
_OUTPUT = re.compile(r"\d+(?:\.\d+)? ?(.*)")
_STAGE = re.compile(r"\[([^\]]*?)(\d+)/(\d+)\] (.*)")
_KEPT = 200


@dataclass
class Step:
    """A step of a build. ``seconds`` is BuildKit's own figure, ``None`` until it is done."""

    name: str
    cached: bool = False
    seconds: float | None = None
    failed: str = ""
    output: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Record:
    """What a build's record adds up to."""

    steps: tuple[Step, ...]

    @property
    def cached(self) -> int:
        """How many instructions of the Dockerfile came from the cache."""
        return sum(step.cached for step in self.steps if _STAGE.match(step.name))

    @property
    def instructions(self) -> int:
        """How many instructions there were."""
        return sum(bool(_STAGE.match(step.name)) for step in self.steps)

    @property
    def seconds(self) -> float:
        """The time of all steps, in seconds; those that run at the same time count each."""
        return sum(step.seconds or 0.0 for step in self.steps)


class Progress:
    """Takes a build's lines one by one."""

    def __init__(self) -> None:
        self.steps: dict[int, Step] = {}
        self.last: Step | None = None
        self.errors: list[str] = []
        self._rest: list[str] = []

    def line(self, text: str) -> bool:
        """Take a line. Returns whether what is going on has changed."""
        text = text.rstrip("\r\n")
        found = _LINE.fullmatch(text)
        if not found:
            if text.startswith("ERROR: "):
                self.errors.append(text.removeprefix("ERROR: "))
            elif text.strip():
                self._rest = [*self._rest[1 - _KEPT :], text]
            return False
        number, rest = int(found[1]), found[2]
        step = self.steps.get(number)
        if step is None:
            self.steps[number] = self.last = Step(rest)
            return True
        if rest == "CACHED":
            step.cached = True
        elif done := _DONE.fullmatch(rest):
            step.seconds = float(done[1])
        elif rest.startswith("ERROR: "):
            step.failed = rest.removeprefix("ERROR: ")
        elif rest.startswith("CANCELED") or rest == "...":
            pass
        elif rest != step.name:
            output = _OUTPUT.fullmatch(rest)
            step.output = [*step.output[1 - _KEPT :], output[1] if output else rest]
        changed, self.last = self.last is not step, step
        return changed

    @property
    def record(self) -> Record:
        """What is known so far."""
        return Record(tuple(self.steps.values()))

    def now(self) -> str:
        """The step that is going on, in a few words."""
        return short(self.last.name) if self.last else "starting"

    def failure(self) -> tuple[str, list[str]]:
        """What failed: the step's name (empty when it was none) and its last lines of output."""
        for step in self.steps.values():
            # One step's failure cancels the others, which then "fail", too.
            if step.failed and "canceled" not in step.failed:
                return step.name, [*step.output[-20:], step.failed]
        return "", self.errors[-3:] or self._rest[-20:]


def short(name: str) -> str:
    """A step's name for one line: ``builder 3/5 RUN pip install …``."""
    found = _STAGE.match(name)
    words = f"{found[1]}{found[2]}/{found[3]} {found[4]}" if found else name.replace("[internal] ", "")
    words = " ".join(words.split())
    return words if len(words) <= 72 else words[:71] + "…"


def total(records: Mapping[str, Record]) -> float:
    """Seconds of all steps of several builds."""
    return sum(record.seconds for record in records.values())
