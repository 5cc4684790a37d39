"""Reads a Dockerfile as BuildKit does: continuations, comments, directives, heredocs, JSON forms.

Only structure: what a line means to safety or cache is in :mod:`longshore.dockerfile.rules`. The rules are
those of BuildKit's own parser (moby/buildkit, frontend/dockerfile/parser), so that a place is a place there,
too.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from dataclasses import field, replace

from longshore.dockerfile.words import expand, pairs
from longshore.records import dataclass

_MAKE = ("FROM", "RUN", "COPY", "ADD", "ARG", "ENV", "WORKDIR", "USER", "SHELL", "ONBUILD")
_DESCRIBE = ("CMD", "ENTRYPOINT", "EXPOSE", "HEALTHCHECK", "LABEL", "MAINTAINER", "STOPSIGNAL", "VOLUME")
INSTRUCTIONS = frozenset((*_MAKE, *_DESCRIBE))
_DIRECTIVE = re.compile(r"#\s*([a-zA-Z][a-zA-Z0-9]*)\s*=\s*(.+?)\s*$")
_DIRECTIVES = ("syntax", "escape", "check")
_WITH_HEREDOC = ("ADD", "COPY", "RUN")
_HEREDOC = re.compile(r"\d*<<(-?)([^<]+)")
_WORD = re.compile(r"(?:\\.|\"(?:\\.|[^\"\\])*\"|'[^']*'|[^\s\"'\\]|[\"'\\])+")
_FLAG = re.compile(r"\s*--([a-zA-Z][a-zA-Z0-9-]*)(?:=((?:\"[^\"]*\"|'[^']*'|\S)*))?(?=\s|$)")


@dataclass(frozen=True)
class Heredoc:
    """A here-document of an instruction. ``line`` is that of its first line of content."""

    name: str
    content: str
    line: int
    expand: bool
    """Whether variables in it are replaced: the name had no quotes."""


@dataclass(frozen=True)
class Comment:
    """A comment, without its ``#``."""

    line: int
    text: str


@dataclass(frozen=True)
class Instruction:
    """One instruction. ``text`` is what follows its name and flags, with continuation lines joined."""

    name: str
    text: str
    flags: tuple[tuple[str, str], ...]
    line: int
    end: int
    words: tuple[str, ...] | None = None
    """The JSON form's words; ``None`` for the shell form."""
    heredocs: tuple[Heredoc, ...] = ()
    comments: tuple[Comment, ...] = ()
    """Those right before it, and those between its lines."""
    starts: tuple[tuple[int, int], ...] = field(default=(), repr=False)
    """Where in ``text`` which line begins: offsets and line numbers, ascending."""
    trigger: Instruction | None = None
    """For ONBUILD: what is done in the image that is built on this one."""

    def flag(self, name: str) -> str | None:
        """The value of the flag (the last, when it is given several times); ``None`` without it."""
        found = [value for key, value in self.flags if key == name]
        return found[-1] if found else None

    def line_at(self, offset: int) -> int:
        """The line of the file on which the character of ``text`` at this offset is."""
        at = bisect_right(self.starts, (offset, 1 << 60)) - 1
        return self.starts[at][1] if at >= 0 else self.line


@dataclass(frozen=True)
class Stage:
    """What one FROM begins. ``base`` has the variables of the ARGs before the first FROM replaced, as far
    as these have a value; ``parent`` is the earlier stage that it names, if it is one."""

    name: str
    base: str
    parent: int | None
    start: Instruction
    instructions: tuple[Instruction, ...]


@dataclass(frozen=True)
class Mistake:
    """What BuildKit would refuse, or read otherwise than it looks."""

    line: int
    message: str
    hint: str = ""


@dataclass(frozen=True)
class Dockerfile:
    """A Dockerfile as read. ``instructions`` are all of it, in order; ``before`` those before any FROM."""

    instructions: tuple[Instruction, ...]
    before: tuple[Instruction, ...]
    stages: tuple[Stage, ...]
    directives: tuple[tuple[str, str], ...]
    comments: tuple[Comment, ...]
    mistakes: tuple[Mistake, ...]
    escape: str = "\\"

    def stage(self, target: str = "") -> Stage | None:
        """The stage ``target``, by name or number; without one the last. ``None`` when there is no such."""
        if not target:
            return self.stages[-1] if self.stages else None
        for stage in self.stages:
            if stage.name == target.lower():
                return stage
        number = int(target) if target.isascii() and target.isdigit() and len(target) < 6 else -1
        return self.stages[number] if 0 <= number < len(self.stages) else None

    def chain(self, stage: Stage) -> tuple[Stage, ...]:
        """The stage and the stages of this file that it stands on, the lowest first."""
        found = [stage]
        while found[0].parent is not None:
            found.insert(0, self.stages[found[0].parent])
        return tuple(found)


def parse(text: str) -> Dockerfile:
    """Read a Dockerfile. Never raises: what is wrong is in ``mistakes``; the rest is read all the same."""
    reader = _Reader(text)
    reader.read()
    before, stages = _stages(reader.instructions, reader.mistakes)
    return Dockerfile(
        instructions=tuple(reader.instructions),
        before=before,
        stages=stages,
        directives=tuple(reader.directives.items()),
        comments=tuple(reader.comments),
        mistakes=tuple(sorted(reader.mistakes, key=lambda mistake: mistake.line)),
        escape=reader.escape,
    )


def _stages(
    instructions: list[Instruction], mistakes: list[Mistake]
) -> tuple[tuple[Instruction, ...], tuple[Stage, ...]]:
    before: list[Instruction] = []
    found: list[tuple[Instruction, list[Instruction]]] = []
    for one in instructions:
        if one.name == "FROM":
            found.append((one, []))
        elif found:
            found[-1][1].append(one)
        else:
            before.append(one)
            if one.name != "ARG":
                mistakes.append(Mistake(one.line, f"{one.name} comes before the first FROM"))
    if not found:
        mistakes.append(Mistake(1, "There is no FROM", "A Dockerfile begins with FROM image:tag."))
    values: dict[str, str] = {}
    for one in before:
        if one.name == "ARG":
            for name, value, offset in pairs(one.text):
                if "=" in one.text[offset:]:
                    values[name] = expand(value, values)
    stages: list[Stage] = []
    for start, inside in found:
        words = start.text.split()
        base = expand(words[0], values) if words else ""
        named = len(words) == 3 and words[1].lower() == "as"
        if not named and len(words) != 1:
            hint = "Write FROM image:tag, or FROM image:tag AS name."
            mistakes.append(Mistake(start.line, "This FROM can't be read", hint))
        parent = next((at for at in reversed(range(len(stages))) if stages[at].name == base.lower()), None)
        name = words[2].lower() if named else ""
        stages.append(Stage(name, base, parent if base else None, start, tuple(inside)))
    return tuple(before), tuple(stages)


class _Reader:
    def __init__(self, text: str) -> None:
        # A scanner of lines, as BuildKit's: only \n ends one, and a \r before it goes.
        self.lines = [line.removesuffix("\r") for line in text.removeprefix("\ufeff").split("\n")]
        self.at = 0
        self.escape = "\\"
        self.directives: dict[str, str] = {}
        self.instructions: list[Instruction] = []
        self.comments: list[Comment] = []
        self.mistakes: list[Mistake] = []

    def read(self) -> None:
        self.read_directives()
        above: list[Comment] = []
        while self.at < len(self.lines):
            line = self.lines[self.at].lstrip()
            if line.startswith("#"):
                above.append(self.comment())
            elif not line:
                self.at += 1
            else:
                self.instruction(above)
                above = []

    def read_directives(self) -> None:
        # They end at the first line that is none: an empty one, another comment, an instruction.
        for at, line in enumerate(self.lines):
            match = _DIRECTIVE.match(line.lstrip())
            name = match.group(1).lower() if match else ""
            if not match or name not in _DIRECTIVES:
                return
            if name in self.directives:
                self.mistakes.append(Mistake(at + 1, f"The directive {name} is there twice"))
                continue
            self.directives[name] = match.group(2)
            if name == "escape":
                if match.group(2) in ("\\", "`"):
                    self.escape = match.group(2)
                else:
                    said = "The escape character is \\ or `, nothing else"
                    self.mistakes.append(Mistake(at + 1, said))

    def comment(self) -> Comment:
        found = Comment(self.at + 1, self.lines[self.at].lstrip()[1:].strip())
        self.comments.append(found)
        self.at += 1
        return found

    def continued(self, line: str) -> tuple[str, bool]:
        """The line without its continuation character, and whether it had one."""
        bare = line.rstrip(" \t")
        escaped = bare.endswith(self.escape * 2)
        return (bare[:-1], True) if bare.endswith(self.escape) and not escaped else (line, False)

    def instruction(self, above: list[Comment]) -> None:
        first = self.at + 1
        comments = list(above)
        text, more = self.continued(self.lines[self.at].lstrip())
        starts = [(0, first)]
        self.at += 1
        while more and self.at < len(self.lines):
            line = self.lines[self.at]
            if line.lstrip().startswith("#"):
                comments.append(self.comment())
                continue
            if not line.strip():
                self.at += 1  # BuildKit skips it, too, with a warning
                continue
            starts.append((len(text), self.at + 1))
            piece, more = self.continued(line)
            text += piece
            self.at += 1
        found = self.make(text, 0, starts, first)
        if found is None:
            return
        heredocs = self.heredocs(found)
        inner = found.trigger
        if heredocs and inner is not None:
            inner = replace(inner, heredocs=heredocs, end=self.at)
        self.instructions.append(
            replace(found, end=self.at, heredocs=heredocs, comments=tuple(comments), trigger=inner)
        )

    def make(self, text: str, offset: int, starts: list[tuple[int, int]], line: int) -> Instruction | None:
        """The instruction that begins in ``text`` at ``offset``; ``None`` after a mistake."""
        words = text[offset:].split(None, 1)
        if not words:
            return None
        name = words[0].upper()
        if name not in INSTRUCTIONS:
            shown = words[0][:40]
            hint = "A line that goes on needs a \\ at its end." if self.instructions else ""
            self.mistakes.append(Mistake(line, f"{shown!r} is no instruction", hint))
            return None
        begin = text.index(words[0], offset) + len(words[0])
        flags: list[tuple[str, str]] = []
        while name not in ("ENV", "ARG", "LABEL", "CMD", "ENTRYPOINT") and (
            match := _FLAG.match(text, begin)
        ):
            flags.append((match.group(1), (match.group(2) or "").strip("\"'")))
            begin = match.end()
        begin += len(text[begin:]) - len(text[begin:].lstrip())
        rest = text[begin:].rstrip()
        if not rest:
            self.mistakes.append(Mistake(line, f"{name} needs an argument"))
            return None
        moved = tuple((max(at - begin, 0), number) for at, number in starts)
        moved = tuple(dict(moved).items())  # of several that begin before the text, the last counts
        # One in another is refused below, and isn't followed further down.
        trigger = self.make(text, begin, starts, line) if name == "ONBUILD" and not offset else None
        if trigger is not None and trigger.name in ("ONBUILD", "FROM", "MAINTAINER"):
            self.mistakes.append(Mistake(line, f"ONBUILD can't have {trigger.name}"))
        return Instruction(
            name=name,
            text=rest,
            flags=tuple(flags),
            line=line,
            end=line,
            words=_json_words(rest),
            starts=moved,
            trigger=trigger,
        )

    def heredocs(self, found: Instruction) -> tuple[Heredoc, ...]:
        """Take the here-documents that the instruction announces off the following lines."""
        inner = found.trigger or found
        if inner.name not in _WITH_HEREDOC or inner.words is not None or "<<" not in inner.text:
            return ()
        made = []
        for word in _WORD.findall(inner.text):
            match = _HEREDOC.fullmatch(word)
            name = re.sub("[\"']", "", match.group(2)) if match else ""
            if not match or not name:
                continue
            chomp = match.group(1) == "-"
            begin, lines = self.at, []
            while self.at < len(self.lines):
                line = self.lines[self.at]
                self.at += 1
                if (line.lstrip("\t") if chomp else line) == name:
                    break
                lines.append(line.lstrip("\t") if chomp else line)
            else:
                said = f"The here-document {name} has no end"
                hint = f"A line {name} alone, without blanks, ends it."
                self.mistakes.append(Mistake(found.line, said, hint))
            made.append(Heredoc(name, "\n".join(lines), begin + 1, name == match.group(2)))
        return tuple(made)


def _json_words(text: str) -> tuple[str, ...] | None:
    if not text.startswith("["):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        return None
    return tuple(value)
