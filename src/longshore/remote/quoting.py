"""A command's words as one text for a host's login shell, whichever that is."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable

_PLAIN = re.compile(r"[\w@+:,./-][\w@+=:,./-]*", re.ASCII)
_SPECIAL = re.compile(r"([\\'!])")


def join(argv: Iterable[str]) -> str:
    """The words, each quoted, with spaces between."""
    return " ".join(map(quote, argv))


@functools.lru_cache(maxsize=64)  # every host's agent is started with the same long one
def quote(word: str) -> str:
    """``word`` as sh, bash, zsh, fish and csh all read it back.

    ``shlex.quote`` is for sh alone: between single quotes fish makes one backslash of two, and csh looks for
    a ``!``. Outside of them a backslash before one of these, or before a single quote, stands for it in all.
    A newline no csh takes.
    """
    if _PLAIN.fullmatch(word):
        return word
    parts = [part for part in _SPECIAL.split(word) if part]
    return "".join(f"\\{part}" if _SPECIAL.fullmatch(part) else f"'{part}'" for part in parts) or "''"
