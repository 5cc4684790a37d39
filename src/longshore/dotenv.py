"""The ``.env`` format and the ``${VAR}`` language, as Docker Compose reads them.

Compose, python-dotenv and ``docker run --env-file`` read the same text differently; here is Compose's
reading (compose-go's ``dotenv`` and ``template`` packages, which this follows rule by rule), and one
encoding that it reads back exactly. Nothing here touches a file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from longshore.errors import InventoryError, Where

Lookup = Callable[[str], "str | None"]

# Whitespace inside a line, as compose-go has it: not what str.isspace() says.
_BLANKS = "\t\v\f\r \x85\xa0"
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
_EXPORT = re.compile(r"export[\s\x85\xa0]+")
_ENCODE = str.maketrans(
    {"\\": "\\\\", '"': '\\"', "$": "\\$", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v", "\f": "\\f"}
)
_VARIABLE = re.compile(
    r"\$(?:(?P<escaped>\$)|(?P<named>[_a-z][_a-z0-9]*)"
    r"|\{(?:(?P<braced>[_a-z][_a-z0-9]*(?::?[-+?](.*))?)\}|(?P<invalid>)))",
    re.IGNORECASE,
)
_SURROGATE = re.compile("[\ud800-\udfff]")
_OPERATORS = (":?", "?", ":-", "-", ":+", "+")


class SubstitutionError(ValueError):
    """A ``${…}`` that can't be substituted; the text is a sentence without a place."""


@dataclass(frozen=True)
class Entry:
    """One variable of an env file: the value as Compose reads it, and the place of the key."""

    key: str
    value: str = field(repr=False)
    line: int
    column: int
    unset: bool = False
    """A ``$NAME`` in it is neither set nor has a default, so nothing stands there."""


def encode(value: str) -> str:
    """Return ``value`` in double quotes, so that Compose reads back exactly ``value``.

    Raises ``InventoryError`` for a NUL character, which no environment variable can hold.
    """
    if "\0" in value:
        raise InventoryError("The value holds a NUL character, which no environment variable can.")
    return f'"{value.translate(_ENCODE)}"'


def render(mapping: Mapping[str, str]) -> str:
    """Return the text of an env file with these variables, in the mapping's order.

    Raises ``InventoryError`` with the variable's name (never its value) for a name that Compose can't
    read and for a NUL character in a value.
    """
    lines = []
    for key, value in mapping.items():
        if not _is_name(key):
            raise InventoryError(
                f"{key!r} can't be the name of a variable in .env.",
                hint="Use letters, digits, '_', '.' and '-'.",
            )
        if "\0" in value:
            raise InventoryError(
                f"The value of {key} holds a NUL character, which no environment variable can.",
                hint="Encode it (base64, for example) and decode it in the application.",
            )
        if _SURROGATE.search(value):
            raise InventoryError(f"The value of {key} is not valid Unicode, so it can't be written as UTF-8.")
        lines.append(f"{key}={encode(value)}\n")
    return "".join(lines)


def _is_name(key: str) -> bool:
    return bool(key) and all(char in "_.-[]" or char.isalpha() or char.isnumeric() for char in key)


def read(text: str, file: str, *, lookup: Lookup | None = None) -> tuple[Entry, ...]:
    """Read an env file as Compose does; a variable that is given twice is there twice, the last one counts.

    ``${VAR}`` is looked up with ``lookup`` first and then among the variables above it; what neither
    has is empty. A bare ``KEY`` (no ``=``) takes its value from ``lookup``, and is left out without.
    Raises ``InventoryError`` with file and line.
    """
    return _Reader(text.removeprefix("\ufeff"), file, lookup or (lambda _: None)).read()


class _Reader:
    def __init__(self, text: str, file: str, lookup: Lookup) -> None:
        self.text = text
        self.file = file
        self.outer = lookup
        self.position = 0
        self.seen: dict[str, str] = {}
        self.unset: list[str] = []

    def read(self) -> tuple[Entry, ...]:
        entries: list[Entry] = []
        while self._skip_to_statement():
            start = self.position
            if export := _EXPORT.match(self.text, start):
                self.position = start = export.end()
            self.unset.clear()
            key, bare = self._key()
            value: str | None
            if bare:
                value = self.outer(key)
            else:
                self._skip_blanks()
                value = self._value(start)
            if value is None:
                continue
            self.seen[key] = value
            line, column = self._place(start)
            entries.append(Entry(key, value, line, column, unset=bool(self.unset)))
        return tuple(entries)

    def _place(self, position: int) -> tuple[int, int]:
        line = self.text.count("\n", 0, position) + 1
        return line, position - (self.text.rfind("\n", 0, position) + 1) + 1

    def _fail(self, message: str, position: int, hint: str = "") -> InventoryError:
        line, column = self._place(position)
        return InventoryError(message, where=Where(self.file, line, column), hint=hint)

    def _skip_to_statement(self) -> bool:
        text = self.text
        while self.position < len(text):
            char = text[self.position]
            if char == "#":
                end = text.find("\n", self.position)
                self.position = len(text) if end < 0 else end
            elif char.isspace():
                self.position += 1
            else:
                return True
        return False

    def _skip_blanks(self) -> None:
        while self.position < len(self.text) and self.text[self.position] in _BLANKS:
            self.position += 1

    def _key(self) -> tuple[str, bool]:
        start = self.position
        for index in range(start, len(self.text)):
            char = self.text[index]
            if char in _BLANKS or char in "_.-[]":
                continue
            if char in "=:\n":
                self.position = index + 1
                return self._checked(start, index), char == "\n"
            if not (char.isalpha() or char.isnumeric()):
                raise self._fail(
                    f"Unexpected character {char!r} in the name of a variable.",
                    index,
                    "Lines are KEY=value; a value of several lines goes in quotes.",
                )
        self.position = len(self.text)
        return self._checked(start, len(self.text)), True

    def _checked(self, start: int, end: int) -> str:
        key = self.text[start:end].rstrip()
        if " " in key:
            raise self._fail(
                "The name of a variable can't hold a space.", start, "Lines are KEY=value, without 'set'."
            )
        if not key:
            raise self._fail("A value without a name.", start, "Lines are KEY=value.")
        return key

    def _value(self, start: int) -> str:
        quote = self.text[self.position : self.position + 1]
        if quote not in ("'", '"'):
            end = self.text.find("\n", self.position)
            end = len(self.text) if end < 0 else end
            raw = self.text[self.position : end].partition(" #")[0].rstrip()
            self.position = min(end + 1, len(self.text))
            return self._expand(raw, start)
        raw = self._quoted(quote, start)
        return raw if quote == "'" else self._expand(_ESCAPE.sub(_unescape, raw), start)

    def _quoted(self, quote: str, start: int) -> str:
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
        raise self._fail(f"The {kind} quote of this value is never closed.", start)

    def _expand(self, raw: str, start: int) -> str:
        def lookup(name: str) -> str | None:
            value = self.outer(name)
            return self.seen.get(name) if value is None else value

        try:
            return substitute(raw, lookup, on_unset=self.unset.append)
        except SubstitutionError as error:
            raise self._fail(
                str(error), start, "A literal $ is written $$, or the value goes in single quotes."
            ) from None


def _unescape(match: re.Match[str]) -> str:
    text = match.group()
    if text == "\\$":
        return "$$"  # the literal dollar of the substitution that follows
    if text.startswith("\\0"):
        digits = text[2:]
        # compose-go hands \DDD to Go's UnquoteChar, which takes exactly three octal digits up to 255.
        if len(digits) == 3 and all(digit in "01234567" for digit in digits) and int(digits, 8) < 256:
            return chr(int(digits, 8))
        return text
    return _ESCAPES.get(text[1], text)


def substitute(text: str, lookup: Lookup, *, on_unset: Callable[[str], None] | None = None) -> str:
    """Replace ``$VAR``, ``${VAR}``, ``:-``, ``-``, ``:?``, ``?``, ``:+``, ``+`` and ``$$`` in ``text``.

    ``lookup`` returns ``None`` for what isn't set, which then is empty, as in Compose; ``on_unset`` hears
    of those that have no default (where Compose prints its warning). Values are not substituted again.
    Raises ``SubstitutionError`` for a broken ``${`` and for a required variable.
    """
    return _Substitution(lookup, on_unset).run(text) if "$" in text else text


class _Substitution:
    def __init__(self, lookup: Lookup, on_unset: Callable[[str], None] | None) -> None:
        self.lookup = lookup
        self.on_unset = on_unset

    def run(self, text: str) -> str:
        return _VARIABLE.sub(lambda match: self.replace(match.group()), text)

    def replace(self, found: str) -> str:
        # The pattern is greedy: what follows the closing brace belongs to the rest of the text.
        end = _closing_brace(found)
        rest = "" if end < 0 else found[end + 1 :]
        match = _VARIABLE.match(found if end < 0 else found[: end + 1])
        if match is None or match["invalid"] is not None:
            raise SubstitutionError("A ${ in this value starts nothing that Compose knows, or isn't closed.")
        if match["escaped"]:
            return "$"
        if match["named"]:
            return self.bare(match["named"])
        return self.braced(match["braced"]) + self.run(rest)

    def bare(self, name: str) -> str:
        value = self.lookup(name)
        if value is None and self.on_unset is not None:
            self.on_unset(name)
        return value or ""

    def braced(self, expression: str) -> str:
        positions = [(expression.find(operator), operator) for operator in _OPERATORS]
        found = [(position, -len(operator), operator) for position, operator in positions if position >= 0]
        if not found:
            return self.bare(expression)
        operator = min(found)[2]
        name, _, argument = expression.partition(operator)
        value = self.lookup(name)
        given = value is not None and (value != "" or not operator.startswith(":"))
        if operator.endswith("-"):
            return (value or "") if given else self.run(argument)
        if operator.endswith("+"):
            return self.run(argument) if given else (value or "")
        if not given:
            reason = self.run(argument)
            raise SubstitutionError(
                f"The variable {name} is required and not set{': ' + reason if reason else ''}."
            )
        return value or ""


def _closing_brace(text: str) -> int:
    depth = 0
    index = 0
    while index < len(text):
        if text[index] == "}":
            depth -= 1
            if depth == 0:
                return index
        if text[index] == "{":
            depth += 1
            index += 1
        index += 1
    return -1
