"""An env file as Docker Compose reads it: compose-go's ``dotenv`` package, rule by rule, with places.

Where Compose goes on with something that nobody can have meant (a variable without a name, a NUL), this says
so instead; everything that is read, is read as Compose reads it.
"""

from __future__ import annotations

import re
from dataclasses import field

from longshore.dotenv.substitution import Lookup, SubstitutionError, substitute
from longshore.errors import InventoryError, Where
from longshore.records import dataclass

# Whitespace inside a line, as compose-go has it: not what str.isspace() says.
_BLANKS = "\t\v\f\r \x85\xa0"
WHITESPACE = (
    _BLANKS + "\n\u1680" + "".join(map(chr, range(0x2000, 0x200B))) + "\u2028\u2029\u202f\u205f\u3000"
)
"""What Go's ``unicode.IsSpace`` knows; Python's ``strip()`` knows four control characters more."""
_ESCAPES = {
    "a": "\a",
    "b": "\b",
    "f": "\f",
    "n": "\n",
    "r": "\r",
    "t": "\t",
    "v": "\v",
    '"': '"',
    "\\": "\\",
}
_ESCAPE = re.compile(r'\\(?:[abcfnrtv$"\\]|0[0-9]{0,3})')
_EXPORT = re.compile(r"export[\t\n\f\r ]+[\t\v\f\r \x85\xa0]*")
# Where reading may go on after a quote that is never closed: not in a line of a key file.
_ASSIGNMENT = re.compile(r"^(?:export[ \t]+)?[A-Za-z_][A-Za-z0-9_]*[ \t]*=", re.MULTILINE)


@dataclass(frozen=True)
class Entry:
    """One variable of an env file: the value as Compose reads it, and the place of the key."""

    key: str
    value: str = field(repr=False)
    line: int
    column: int
    unset: bool = False
    """A ``$NAME`` in it is neither set nor has a default, so nothing stands there."""
    raw: str = field(default="", repr=False, compare=False)
    """What stands after the ``=``, as it is written, quotes and all; empty for a bare key."""
    bare: bool = False
    """There is no ``=``: the value came from outside."""
    last_line: int = 0
    """Where it ends; another one than ``line`` for a quoted value of several lines."""


@dataclass(frozen=True)
class Parsed:
    """A whole file: what Compose would read if it went on after what it refuses, and what it refuses."""

    entries: tuple[Entry, ...]
    problems: tuple[InventoryError, ...]
    """In the file's order, each with its place. Compose stops at the first and uses nothing of the file."""
    inherited: tuple[tuple[str, int], ...] = ()
    """Bare keys (no ``=``) that nothing outside has a value for, with their lines: they are left out."""


def read(text: str, file: str, *, lookup: Lookup | None = None) -> tuple[Entry, ...]:
    """Read an env file as Compose does; a variable that is given twice is there twice, the last one counts.

    ``${VAR}`` is looked up with ``lookup`` first and then among the variables above it; what neither
    has is empty. A bare ``KEY`` (no ``=``) takes its value from ``lookup``, and is left out without.
    Raises ``InventoryError`` with file and line.
    """
    parsed = parse(text, file, lookup=lookup)
    if parsed.problems:
        raise parsed.problems[0]
    return parsed.entries


def parse(text: str, file: str, *, lookup: Lookup | None = None) -> Parsed:
    """Like :func:`read`, and go on in the next line after what can't be read."""
    return _Reader(text.removeprefix("\ufeff"), file, lookup or (lambda _: None)).parse()


class _Reader:
    def __init__(self, text: str, file: str, lookup: Lookup) -> None:
        self.text = text
        self.file = file
        self.outer = lookup
        self.position = 0
        self.seen: dict[str, str] = {}
        self.unset: list[str] = []
        self.entries: list[Entry] = []
        self.problems: list[InventoryError] = []
        self.inherited: list[tuple[str, int]] = []
        self.line = 1
        self.line_start = 0

    def parse(self) -> Parsed:
        while self.skip_to_statement():
            start = self.position
            try:
                self.statement(start)
            except _UnclosedError as error:
                self.problems.append(error.problem)
                found = _ASSIGNMENT.search(self.text, self.next_line(start))
                self.position = found.start() if found else len(self.text)
            except InventoryError as error:
                self.problems.append(error)
                self.position = self.next_line(start)
        return Parsed(tuple(self.entries), tuple(self.problems), tuple(self.inherited))

    def next_line(self, position: int) -> int:
        end = self.text.find("\n", position)
        return len(self.text) if end < 0 else end + 1

    def statement(self, start: int) -> None:
        if export := _EXPORT.match(self.text, start):
            self.position = start = export.end()
        self.unset.clear()
        key, bare = self.key()
        line, column = self.place(start)
        if bare:
            value = self.outer(key)
            if value is None:
                self.inherited.append((key, line))
                return
            raw = ""
        else:
            self.skip_blanks()
            begin = self.position
            value = self.value(start)
            raw = self.text[begin : self.position].rstrip("\n")
        if "\0" in value:
            raise self.fail(
                f"The value of {key} holds a NUL character, which no environment variable can.", start
            )
        self.seen[key] = value
        last = line + self.text.count("\n", start, self.position)
        if self.text[self.position - 1 : self.position] == "\n":
            last -= 1
        self.entries.append(Entry(key, value, line, column, bool(self.unset), raw, bare, last))

    def place(self, position: int) -> tuple[int, int]:
        # Statements come in order, so that a large file isn't counted anew for each.
        if position < self.line_start:
            return self.text.count("\n", 0, position) + 1, position - self.text.rfind("\n", 0, position)
        self.line += self.text.count("\n", self.line_start, position)
        self.line_start = self.text.rfind("\n", 0, position) + 1
        return self.line, position - self.line_start + 1

    def fail(self, message: str, position: int, hint: str = "") -> InventoryError:
        line, column = self.place(position)
        return InventoryError(message, where=Where(self.file, line, column), hint=hint)

    def skip_to_statement(self) -> bool:
        text = self.text
        while self.position < len(text):
            char = text[self.position]
            if char == "#":
                end = text.find("\n", self.position)
                self.position = len(text) if end < 0 else end
            elif char in WHITESPACE:
                self.position += 1
            else:
                return True
        return False

    def skip_blanks(self) -> None:
        while self.position < len(self.text) and self.text[self.position] in _BLANKS:
            self.position += 1

    def key(self) -> tuple[str, bool]:
        start = self.position
        for index in range(start, len(self.text)):
            char = self.text[index]
            if char in _BLANKS or char in "_.-[]":
                continue
            if char in "=:\n":
                self.position = index + 1
                return self.checked(start, index), char == "\n"
            if not (char.isalpha() or char.isnumeric()):
                raise self.fail(
                    f"Unexpected character {char!r} in the name of a variable.",
                    index,
                    "Lines are KEY=value; a value of several lines goes in quotes.",
                )
        # compose-go takes the name for a value here, of a variable without a name.
        raise self.fail(
            "The last line is only a name, without = and without a line's end, which Compose can't read.",
            start,
            "Lines are KEY=value.",
        )

    def checked(self, start: int, end: int) -> str:
        key = self.text[start:end].rstrip(WHITESPACE)
        if " " in key:
            raise self.fail(
                "The name of a variable can't hold a space.", start, "Lines are KEY=value, without 'set'."
            )
        if not key:
            raise self.fail("A value without a name.", start, "Lines are KEY=value.")
        return key

    def value(self, start: int) -> str:
        quote = self.text[self.position : self.position + 1]
        if quote not in ("'", '"'):
            end = self.text.find("\n", self.position)
            end = len(self.text) if end < 0 else end
            raw = self.text[self.position : end].partition(" #")[0].rstrip(WHITESPACE)
            self.position = min(end + 1, len(self.text))
            return self.expand(raw, start)
        raw = self.quoted(quote, start)
        return raw if quote == "'" else self.expand(_ESCAPE.sub(_unescape, raw), start)

    def quoted(self, quote: str, start: int) -> str:
        chars: list[str] = []
        escaped = False
        for index in range(self.position + 1, len(self.text)):
            char = self.text[index]
            if char == quote and not escaped:
                self.position = index + 1
                return "".join(chars)
            if char == "\\" and not escaped:
                escaped = True
                continue
            if escaped and char != quote:
                chars.append("\\")
            chars.append(char)
            escaped = False
        kind = "double" if quote == '"' else "single"
        raise _UnclosedError(self.fail(f"The {kind} quote of this value is never closed.", start))

    def expand(self, raw: str, start: int) -> str:
        def lookup(name: str) -> str | None:
            value = self.outer(name)
            return self.seen.get(name) if value is None else value

        try:
            return substitute(raw, lookup, on_unset=self.unset.append)
        except SubstitutionError as error:
            raise self.fail(
                str(error), start, "A literal $ is written $$, or the value goes in single quotes."
            ) from None


class _UnclosedError(Exception):
    def __init__(self, problem: InventoryError) -> None:
        super().__init__()
        self.problem = problem


def _unescape(match: re.Match[str]) -> str:
    text = match.group()
    if text == "\\$":
        return "$$"  # the literal dollar of the substitution that follows
    if text.startswith("\\0"):
        digits = text[2:]
        # compose-go hands \DDD to Go's UnquoteChar, which takes exactly three octal digits up to 255; what it
        # refuses has lost its 0.
        if len(digits) == 3 and all(digit in "01234567" for digit in digits) and int(digits, 8) < 256:
            return chr(int(digits, 8))
        return "\\" + digits
    return _ESCAPES.get(text[1], text)
