"""What a person typed, read word by word: the command after ``--``, numbers, durations."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Literal

from longshore.errors import LongshoreError


def after_dashes(argv: Sequence[str] | None = None) -> tuple[str, ...]:
    """The words after the first ``--``; empty without one.

    Invoke keeps them only joined by blanks (``ParseResult.remainder``), which loses where one ends.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    return tuple(words[words.index("--") + 1 :]) if "--" in words else ()


def command_words(example: str) -> tuple[str, ...]:
    """The command after ``--``. Raises ``LongshoreError`` when there is none."""
    found = after_dashes()
    if not found:
        raise LongshoreError("there is no command", hint=f"Give it after two dashes: `{example}`.")
    return found


def whole(text: str, option: str, *, least: int = 0) -> int:
    """An option's value as a whole number. Raises ``LongshoreError`` that names the option.

    Options take texts and not ``int``: with that, Invoke answers a word that is no number with a traceback.
    """
    if text.isascii() and text.isdigit() and int(text) >= least:
        return int(text)
    raise LongshoreError(f"{text!r} is not a whole number from {least} on", where=option)


def duration(text: str, option: str) -> float:
    """The seconds of an option's value (``30s``, ``2h``). Raises ``LongshoreError`` that names the option."""
    from longshore.values import parse_duration

    try:
        return parse_duration(text)
    except ValueError as error:
        raise LongshoreError(str(error), where=option) from None


def back_or_keep(text: str) -> Literal["", "back", "keep"]:
    """The value of ``--on-lost-controller``. Raises ``LongshoreError`` for another word."""
    if text == "back" or text == "keep" or not text:
        return "back" if text == "back" else "keep" if text == "keep" else ""
    raise LongshoreError(f"{text!r} is neither back nor keep", where="--on-lost-controller")


def says_yes(question: str = "") -> bool:
    """Ask the person at the terminal; whether the answer is ``yes``. On standard error: the output may be
    a program's to read."""
    print(f"{question} Type yes to go on: ".lstrip(), end="", flush=True, file=sys.stderr)
    return sys.stdin.readline().strip().lower() == "yes"
