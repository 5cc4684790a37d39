"""The text of one env file: bytes, lines, names, duplicates, and how others read it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from longshore import dotenv
from longshore.dotenv import Entry, Parsed
from longshore.envcheck.finding import Finding
from longshore.envcheck.readings import differences
from longshore.envcheck.said import Said
from longshore.errors import Where
from longshore.records import dataclass

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_MAX_BYTES = 16 * 1024 * 1024
_LONGEST = 128 * 1024
"""Bytes of ``NAME=value`` and its end that Linux passes to a process (``MAX_ARG_STRLEN``, execve(2))."""
_TYPOGRAPHIC = "\u201c\u201d\u201e\u2018\u2019\u00ab\u00bb"
_INVISIBLE = {"\u00a0": "no-break space", "\u200b": "zero-width space", "\ufeff": "byte order mark"}


@dataclass(frozen=True)
class EnvText:
    """A file that was read: Compose's entries, and what there is to say about its text."""

    name: str
    entries: tuple[Entry, ...]
    findings: tuple[Finding, ...]
    readable: bool = True
    """Whether Compose reads anything of it."""

    def said(self) -> list[Said]:
        """Its variables, each once: the last one of a name counts."""
        last = {entry.key: entry for entry in self.entries}
        return [Said(one.key, one.value, Where(self.name, one.line, one.column)) for one in last.values()]


def read_env_text(path: Path, name: str) -> EnvText:
    """Read and look at one file; ``name`` is what people see of it. Never raises for what is in it."""
    here = Where(name)

    def unreadable(message: str, hint: str, where: Where = here) -> EnvText:
        return EnvText(name, (), (Finding("error", "file", message, where, hint),), readable=False)

    if path.is_dir():
        return unreadable(
            "This is a folder, not a file.", "Move it away; variables go in a file of that name."
        )
    if path.suffix == ".j2":
        return unreadable(
            "This is a template: what Compose reads is what it renders to.", "Check that, after `render`."
        )
    try:
        if path.stat().st_size > _MAX_BYTES:
            return unreadable("The file is larger than 16 MB, which no env file is.", "Is it another file?")
        data = path.read_bytes()
    except FileNotFoundError:
        what = (
            "This is a link to a file that doesn't exist." if path.is_symlink() else "There is no such file."
        )
        return unreadable(what, "")
    except OSError as error:
        return unreadable(f"The file can't be read: {error.strerror}.", "")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return unreadable(
            "The file is UTF-16, as Windows PowerShell's > writes it; nobody reads it.", "Save it as UTF-8."
        )
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        return unreadable(
            f"The byte 0x{data[error.start]:02x} is not UTF-8 (Windows-1252 or Latin-1?). Compose puts a "
            "replacement character in its place, docker run and Swarm refuse the file, python-dotenv fails.",
            "Save it as UTF-8.",
            Where(name, line, column),
        )
    parsed = dotenv.parse(text, name)
    findings = [
        *_syntax(parsed, name),
        *_form(text, name),
        *_names(parsed, name),
        *_entries(parsed, name),
        *differences(text, parsed, name),
    ]
    return EnvText(name, parsed.entries, tuple(findings), readable=not parsed.problems)


def _syntax(parsed: Parsed, name: str) -> Iterator[Finding]:
    for problem in parsed.problems:
        where = problem.where if isinstance(problem.where, Where) else Where(name)
        yield Finding("error", "syntax", problem.message, where, problem.hint)


def _form(text: str, name: str) -> Iterator[Finding]:
    if text.startswith("\ufeff"):
        yield Finding(
            "warning",
            "text",
            "The file begins with a byte order mark. Compose and docker skip it; a shell and older "
            "python-dotenv make it a part of the first name.",
            Where(name, 1, 1),
            "Save it as UTF-8 without BOM.",
        )
    lines = text.split("\n")
    ends = [number for number, line in enumerate(lines, 1) if line.endswith("\r")]
    if ends:
        yield Finding(
            "warning",
            "text",
            f"{len(ends)} of {len(lines)} lines end in CRLF. Compose, docker and python-dotenv take the CR "
            "off, but not inside a value of several lines; a shell that sources the file keeps it.",
            Where(name, ends[0]),
            "Save it with LF line ends.",
        )


def _names(parsed: Parsed, name: str) -> Iterator[Finding]:
    for key, line in parsed.inherited:
        yield Finding(
            "warning",
            "bare",
            f"{key} has no =. Compose and docker take its value from the shell they run in; a deploy has "
            "none, so it is left out.",
            Where(name, line),
            f"Write {key}= for an empty value.",
            key,
        )
    for entry in parsed.entries:
        if not _NAME.fullmatch(entry.key):
            yield Finding(
                "warning",
                "name",
                f"{entry.key!r} is a name that a shell can't hold, and that many programs don't find.",
                Where(name, entry.line, entry.column),
                "Use letters of A to Z, digits and _, and no digit first.",
                entry.key,
            )


def _entries(parsed: Parsed, name: str) -> Iterator[Finding]:
    first: dict[str, Entry] = {}
    for entry in parsed.entries:
        where = Where(name, entry.line, entry.column)
        earlier = first.setdefault(entry.key, entry)
        if earlier is not entry:
            same = "with the same value" if earlier.value == entry.value else "with another value"
            yield Finding(
                "error",
                "twice",
                f"{entry.key} is given twice, first in line {earlier.line} {same}. The last one counts, and "
                "a deploy refuses it.",
                where,
                "Keep one of them.",
                entry.key,
            )
        if len(f"{entry.key}={entry.value}".encode("utf-8", "surrogatepass")) >= _LONGEST:
            yield Finding(
                "error",
                "too-long",
                f"{entry.key} is longer than 128 KiB, and Linux starts no process with such a variable.",
                where,
                "Mount it as a file.",
                entry.key,
            )
        yield from _characters(entry, where)


def _characters(entry: Entry, where: Where) -> Iterator[Finding]:
    if entry.raw[:1] in _TYPOGRAPHIC and entry.raw[:1]:
        yield Finding(
            "warning",
            "text",
            f"{entry.key} begins with a typographic quote, which is a part of the value to everybody.",
            where,
            "Write ' or \".",
            entry.key,
        )
    for char, what in _INVISIBLE.items():
        if char in entry.raw or char in entry.key:
            yield Finding(
                "warning",
                "text",
                f"{entry.key.replace(char, '')} holds an invisible character, a {what} (U+{ord(char):04X}).",
                where,
                "Was it copied from a document? Type the line anew.",
                entry.key,
            )
