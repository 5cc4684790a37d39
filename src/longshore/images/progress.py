"""What a build says, read from ``docker buildx build --progress=plain``: steps, times, and what failed.

Source of the format: BuildKit, ``util/progress/progressui/printer.go``; the same since 0.8.
"""

from __future__ import annotations

import re
from dataclasses import field

from longshore.agent import wire
from longshore.records import dataclass

_LINE = re.compile(r"#(\d+) (.*)")
_DONE = re.compile(r"DONE (\d+(?:\.\d+)?)s")
_OUTPUT = re.compile(r"\d+(?:\.\d+)? ?(.*)")
_STAGE = re.compile(r"\[([^\]]*?)(\d+)/(\d+)\] (.*)")
_INSTRUCTION = re.compile(r"\[[^\]]*?\d+/\d+\] (?!FROM )")
_SHOWN = re.compile(r"\[[^\]]*?\d+/\d+\] (?!FROM )|exporting |pushing ")
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
        """How many instructions of the Dockerfile, ``FROM`` aside, came from the cache."""
        return sum(step.cached for step in self.steps if _INSTRUCTION.match(step.name))

    @property
    def instructions(self) -> int:
        """How many instructions there were."""
        return sum(bool(_INSTRUCTION.match(step.name)) for step in self.steps)

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
        self.earlier = Record(())
        """What a run before this one, of the same build, came to."""
        self._rest: list[str] = []

    def line(self, text: str) -> bool:
        """Take a line. Returns whether a step has begun that is worth a word."""
        text = text.rstrip("\r\n")
        if text == wire.BUILD_AGAIN:
            self.earlier = self.whole
            self.steps, self.last, self.errors, self._rest = {}, None, [], []
            return False
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
            again = self.earlier.steps and _STAGE.match(rest)
            return bool(_SHOWN.match(rest)) and not again
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
        return False

    @property
    def record(self) -> Record:
        """What is known so far."""
        return Record(tuple(self.steps.values()))

    @property
    def whole(self) -> Record:
        """The record that counts: the first run's, as in a second one everything is cached."""
        return self.earlier if self.earlier.steps else self.record

    def now(self) -> str:
        """The step that is going on, in a few words."""
        return short(self.last.name) if self.last else "starting"

    def failure(self) -> tuple[str, list[str]]:
        """What failed: the step's name (empty when it was none) and its last lines of output."""
        for step in self.steps.values():
            # One step's failure cancels the others, which then "fail", too; a cache that isn't there is none.
            if step.failed and "canceled" not in step.failed and not step.name.startswith("importing cache"):
                return step.name, [*step.output[-20:], step.failed]
        return "", self.errors[-3:] or self._rest[-20:]


def short(name: str) -> str:
    """A step's name for one line: ``builder 3/5 RUN pip install …``."""
    found = _STAGE.match(name)
    words = f"{found[1]}{found[2]}/{found[3]} {found[4]}" if found else name.replace("[internal] ", "")
    words = " ".join(words.split())
    return words if len(words) <= 72 else words[:71] + "…"
