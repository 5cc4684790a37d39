"""Looks a Dockerfile over: reads it, asks every rule, and leaves out what a comment says to ignore."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from longshore.dockerfile.finding import RULES, Finding, Subject
from longshore.dockerfile.parse import Dockerfile, Instruction, parse
from longshore.dockerfile.rules import ALL
from longshore.errors import LongshoreError, Where
from longshore.images import ignore as ignorefile
from longshore.records import dataclass

_IGNORE = re.compile(r"longshore:\s*ignore\s*=\s*([a-z0-9-]+(?:\s*,\s*[a-z0-9-]+)*)(.*)$")
_ASKED = re.compile(r"longshore:\s*ignore\b")
_LARGEST = 1 << 20


@dataclass(frozen=True)
class Source:
    """A Dockerfile to look at, the folder that is its build's context, and the stage that is built."""

    path: Path
    context: Path
    name: str
    """The path as people know it."""
    target: str = ""
    contexts: frozenset[str] = frozenset()
    """The names of the build's further contexts (``additional_contexts``)."""


def lint_file(source: Source) -> tuple[Finding, ...]:
    """Look at one Dockerfile. Raises ``LongshoreError`` when it can't be read."""
    try:
        data = source.path.read_bytes()
    except OSError as error:
        raise LongshoreError(f"This file can't be read: {error.strerror}", where=source.name) from None
    if b"\x00" in data or len(data) > _LARGEST:
        raise LongshoreError("This is no Dockerfile: it isn't text", where=source.name)
    text = data.decode(errors="replace")
    # The Dockerfile's own wins, as BuildKit has it.
    own = source.path.with_name(source.path.name + ".dockerignore")
    path = own if own.is_file() else source.context / ".dockerignore"
    ignore: ignorefile.Ignore | None = None
    broken = []
    try:
        ignore = ignorefile.parse(path.read_text(errors="replace"), path.name)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise LongshoreError(f"{path.name} can't be read: {error.strerror}", where=source.name) from None
    except LongshoreError as error:
        ignore = ignorefile.Ignore()
        line = error.where.line if isinstance(error.where, Where) else 1
        broken = [Finding(beside(source.name, path.name), line, "syntax", error.message)]
    subject = (source.context, ignore, path.name, source.target, source.contexts)
    return (*broken, *lint(text, source.name, *subject))


def beside(name: str, file: str) -> str:
    """The name of a file in the folder of the file ``name``."""
    folder, slash, _ = name.rpartition("/")
    return f"{folder}{slash}{file}"


def lint(
    text: str,
    file: str,
    context: Path,
    ignore: ignorefile.Ignore | None = None,
    ignore_name: str = ".dockerignore",
    target: str = "",
    contexts: frozenset[str] = frozenset(),
) -> tuple[Finding, ...]:
    """What in a Dockerfile costs cache or safety, by line. ``target``: the stage that is built;
    ``contexts``: the names of further contexts.

    Findings that a comment ignores are left out; a comment that is wrong is itself found.
    """
    dockerfile = parse(text)
    found = [Finding(file, one.line, "syntax", one.message, one.hint) for one in dockerfile.mistakes]
    final = dockerfile.stage(target)
    if final is None and dockerfile.stages:
        said = f"There is no stage {target!r}, which is the one that is built"
        found.append(Finding(file, dockerfile.stages[-1].start.line, "syntax", said))
        final = dockerfile.stages[-1]
    if final is not None:
        subject = Subject(file, dockerfile, final, context, ignore, ignore_name, contexts)
        for rule in ALL:
            found += rule(subject)
    return tuple(_without_ignored(dockerfile, file, sorted(set(found))))


@dataclass(frozen=True)
class _Ignore:
    line: int
    rules: tuple[str, ...]
    begin: int
    end: int


def _without_ignored(dockerfile: Dockerfile, file: str, found: Iterable[Finding]) -> Iterator[Finding]:
    findings = list(found)
    ignores: list[_Ignore] = []
    for one in dockerfile.instructions:
        for comment in one.comments:
            if _ASKED.match(comment.text):
                findings += _wrong(comment.text, file, comment.line)
                ignores.append(_read(comment.text, comment.line, one))
    used: set[tuple[int, str]] = set()
    kept = []
    for finding in findings:
        by = [one for one in ignores if finding.rule in one.rules and one.begin <= finding.line <= one.end]
        used |= {(one.line, finding.rule) for one in by}
        if not by:
            kept.append(finding)
    for ignore in ignores:
        for rule in ignore.rules:
            if rule in RULES and (ignore.line, rule) not in used:
                said = f"There is nothing to ignore: {rule} isn't broken here"
                kept.append(Finding(file, ignore.line, "ignore", said, "Remove the comment."))
    yield from sorted(kept)


def _read(text: str, line: int, one: Instruction) -> _Ignore:
    return _Ignore(line, _names(_IGNORE.match(text)), one.line, one.end)


def _names(match: re.Match[str] | None) -> tuple[str, ...]:
    return tuple(re.split(r"\s*,\s*", match.group(1))) if match else ()


def _wrong(text: str, file: str, line: int) -> list[Finding]:
    """What is wrong with a comment that ignores."""
    match = _IGNORE.match(text)
    hint = "Write it as # longshore: ignore=RULE why."
    unknown = [name for name in _names(match) if name not in RULES]
    if match is None or unknown:
        said = f"There is no rule {unknown[0]!r}" if unknown else "This comment doesn't say what to ignore"
        return [Finding(file, line, "ignore", said, hint)]
    if match.group(2).strip(" :-"):
        return []
    return [Finding(file, line, "ignore", "This comment doesn't say why", hint)]
