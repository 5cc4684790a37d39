"""The words of an instruction: quotes and escapes taken off, variables replaced, names and values apart."""

from __future__ import annotations

import re

_LONGEST = 10_000
_VARIABLE = re.compile(r"\$(?:\{([A-Za-z_]\w*)(?:(:?[-+])([^{}]*))?\}|([A-Za-z_]\w*))")


def expand(text: str, values: dict[str, str]) -> str:
    """Replace ``$X``, ``${X}``, ``${X:-y}`` and ``${X:+y}``; what has no value stays as it is written."""

    def value(match: re.Match[str]) -> str:
        name, operator, other = match.group(1) or match.group(4), match.group(2) or "", match.group(3)
        known = values.get(name)
        there = known is not None and (known != "" or ":" not in operator)
        if operator.endswith("-"):
            return known if there and known is not None else other
        if operator.endswith("+"):
            return other if there else ""
        return match.group(0) if known is None else known

    # Values that hold each other twice grow without end; nobody's image has a name like that.
    made = _VARIABLE.sub(value, text)
    return made if len(made) <= _LONGEST else text


def pairs(text: str, escape: str = "\\") -> list[tuple[str, str, int]]:
    """The names and values of ENV, ARG and LABEL, with their offsets; a name alone has the value ""."""
    found: list[tuple[str, str, int]] = []
    for word, offset in split(text, escape):
        name, equals, value = word.partition("=")
        if not equals and not found:
            return (
                [(name, text[offset + len(word) :].strip(), offset)] if _two(text) else [(name, "", offset)]
            )
        found.append((name, value, offset))
    return found


def split(text: str, escape: str = "\\") -> list[tuple[str, int]]:
    """Words with their offsets: quotes group and are taken off, the escape character keeps the next one."""
    words: list[tuple[str, int]] = []
    word: list[str] = []
    start, quote, at = -1, "", 0
    while at < len(text):
        char = text[at]
        if char == escape and quote != "'" and at + 1 < len(text):
            start = at if start < 0 else start
            word.append(text[at + 1])
            at += 2
            continue
        if quote:
            if char == quote:
                quote = ""
            else:
                word.append(char)
        elif char in "\"'":
            quote, start = char, at if start < 0 else start
        elif char.isspace():
            if start >= 0:
                words.append(("".join(word), start))
            word, start = [], -1
        else:
            start = at if start < 0 else start
            word.append(char)
        at += 1
    if start >= 0:
        words.append(("".join(word), start))
    return words


def _two(text: str) -> bool:
    return len(text.split(None, 1)) == 2
