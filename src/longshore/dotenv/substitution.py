"""The ``${VAR}`` language, as Docker Compose has it (compose-go's ``template`` package)."""

from __future__ import annotations

import re
from collections.abc import Callable

Lookup = Callable[[str], "str | None"]
"""A variable's value by its name; ``None`` for one that isn't set."""

_VARIABLE = re.compile(
    r"\$(?:(?P<escaped>\$)|(?P<named>[_a-z][_a-z0-9]*)"
    r"|\{(?:(?P<braced>[_a-z][_a-z0-9]*(?::?[-+?](.*))?)\}|(?P<invalid>)))",
    re.IGNORECASE,
)
_OPERATORS = (":?", "?", ":-", "-", ":+", "+")


class SubstitutionError(ValueError):
    """A ``${…}`` that can't be substituted; the text is a sentence without a place."""


def substitute(text: str, lookup: Lookup, *, on_unset: Callable[[str], None] | None = None) -> str:
    """Replace ``$VAR``, ``${VAR}``, ``:-``, ``-``, ``:?``, ``?``, ``:+``, ``+`` and ``$$`` in ``text``.

    ``lookup`` returns ``None`` for what isn't set, which then is empty, as in Compose; ``on_unset`` hears
    of those that have no default (where Compose prints its warning). Values are not substituted again.
    Raises ``SubstitutionError`` for a broken ``${`` and for a required variable.
    """
    if "$" not in text:
        return text
    try:
        return _Substitution(lookup, on_unset).run(text)
    except RecursionError:
        raise SubstitutionError("The ${…} in this value are nested too deeply.") from None


class _Substitution:
    def __init__(self, lookup: Lookup, on_unset: Callable[[str], None] | None) -> None:
        self.lookup = lookup
        self.on_unset = on_unset

    def run(self, text: str) -> str:
        done: list[str] = []
        while match := _VARIABLE.search(text):
            value, rest = self.replace(match.group())
            done += (text[: match.start()], value)
            text = rest + text[match.end() :]
        return "".join((*done, text))

    def replace(self, found: str) -> tuple[str, str]:
        """The value, and what the pattern, which is greedy, took after the closing brace."""
        end = _closing_brace(found)
        rest = "" if end < 0 else found[end + 1 :]
        match = _VARIABLE.match(found if end < 0 else found[: end + 1])
        if match is None or match["invalid"] is not None:
            raise SubstitutionError("A ${ in this value starts nothing that Compose knows, or isn't closed.")
        if match["escaped"]:
            return "$", ""
        if match["named"]:
            return self.bare(match["named"]), ""
        return self.braced(match["braced"]), rest

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
        used = given if operator.endswith("+") else not given
        # Compose reads the rest also where it isn't used, and refuses what is wrong in it.
        instead = (self if used else _Substitution(self.lookup, None)).run(argument)
        if operator.endswith(("-", "+")):
            return instead if used else (value or "")
        if not given:
            raise SubstitutionError(
                f"The variable {name} is required and not set{': ' + instead if instead else ''}."
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
