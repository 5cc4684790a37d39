"""``.dockerignore``, read and matched as Docker does.

Source of the rules: moby/patternmatcher (``patternmatcher.go``, ``ignorefile``), which BuildKit uses, and
Go's ``filepath.Clean``.
"""

from __future__ import annotations

import posixpath
import re

from longshore.errors import LongshoreError, Where
from longshore.records import dataclass


@dataclass(frozen=True)
class _Pattern:
    negated: bool
    regex: re.Pattern[str]
    text: str


@dataclass(frozen=True)
class Ignore:
    """The patterns of one file, in their order: the last one that matches decides."""

    patterns: tuple[_Pattern, ...] = ()

    @property
    def has_exceptions(self) -> bool:
        """Whether something inside an ignored folder can come back (``!folder/file``)."""
        return any(pattern.negated for pattern in self.patterns)

    def matches(self, path: str) -> bool:
        """Whether ``path`` (relative, with ``/``) is ignored, by itself or with a folder above it."""
        ignored = False
        for pattern in self.patterns:
            if pattern.negated == ignored and _matches(pattern.regex, path):
                ignored = not pattern.negated
        return ignored


def parse(text: str, name: str = ".dockerignore") -> Ignore:
    """Read the file's text. Raises ``LongshoreError`` with the line of a pattern that can't be."""
    found = []
    for number, raw in enumerate(text.removeprefix("\ufeff").split("\n"), start=1):
        # A comment only counts at the very start of its line, before spaces are cut (ignorefile.ReadAll).
        if raw.startswith("#"):
            continue
        line = raw.strip()
        if not line:
            continue
        negated = line.startswith("!")
        if negated:
            line = line[1:].strip()
        if not line:
            raise LongshoreError("An exclamation mark alone is no pattern.", where=Where(name, number))
        cleaned = posixpath.normpath(line)
        if cleaned.startswith("//"):
            cleaned = cleaned[1:]
        if len(cleaned) > 1 and cleaned.startswith("/"):
            cleaned = cleaned[1:]
        try:
            found.append(_Pattern(negated, re.compile(_regex(cleaned)), cleaned))
        except (re.error, ValueError) as error:
            raise LongshoreError(f"{line!r} is not a pattern: {error}", where=Where(name, number)) from None
    return Ignore(tuple(found))


def _matches(regex: re.Pattern[str], path: str) -> bool:
    """The path itself, or a folder above it."""
    if regex.fullmatch(path):
        return True
    at = path.rfind("/")
    while at > 0:
        if regex.fullmatch(path[:at]):
            return True
        at = path.rfind("/", 0, at)
    return False


def _regex(pattern: str) -> str:
    """The pattern as a regular expression (patternmatcher.go, ``Pattern.compile``)."""
    rest = pattern[2:]
    if pattern.startswith("**") and not re.search(r"[*?\[\\]", rest):
        # Docker compares the end of the text then, so that **foo is also barfoo.
        return f"(?:(?s:.*)/)?{re.escape(rest[1:])}" if rest.startswith("/") else f"(?s:.*){re.escape(rest)}"
    out: list[str] = []
    at = 0
    while at < len(pattern):
        char = pattern[at]
        at += 1
        if char == "*":
            if pattern[at : at + 1] == "*":
                at += 1
                if pattern[at : at + 1] == "/":
                    at += 1
                out.append(".*" if at >= len(pattern) else "(?:.*/)?")
            else:
                out.append("[^/]*")
        elif char == "?":
            out.append("[^/]")
        elif char == "[":
            end = _class_end(pattern, at)
            out.append("[" + _class(pattern[at:end]) + "]")
            at = end + 1
        elif char == "\\":
            if at >= len(pattern):
                raise ValueError("it ends with a backslash")
            out.append(re.escape(pattern[at]))
            at += 1
        else:
            out.append(re.escape(char))
    # (?s): a name can hold a newline.
    return "(?s:" + "".join(out) + ")"


def _class_end(pattern: str, at: int) -> int:
    start = at
    if pattern[at : at + 1] == "^":
        at += 1
    while at < len(pattern):
        if pattern[at] == "\\":
            at += 1
        elif pattern[at] == "]" and at > start:
            return at
        at += 1
    raise ValueError("a [ is not closed")


def _class(inner: str) -> str:
    negated = inner.startswith("^")
    body = inner[1:] if negated else inner
    out = []
    at = 0
    while at < len(body):
        if body[at] == "\\" and at + 1 < len(body):
            at += 1
            out.append("\\" + body[at])
        elif body[at] in "[&~|":
            out.append("\\" + body[at])
        else:
            out.append(body[at])
        at += 1
    return ("^" if negated else "") + "".join(out)
