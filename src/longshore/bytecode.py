"""Python keeps what it has compiled of Longshore, as of every package, though Invoke forbids it.

Invoke does so for the sake of projects, whose ``tasks.py`` is to leave no ``__pycache__``. From a checkout
(``pip install -e``) all that a command imports would be compiled anew in every run, which takes longer than
the import itself. Who forbids it in Python's own ways (``-B``, ``PYTHONDONTWRITEBYTECODE``) is heard.

That begins when this is imported, with Longshore's tasks, and ends with ``as_before``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

_before = sys.dont_write_bytecode


def as_before() -> None:
    """As it was before this was imported."""
    sys.dont_write_bytecode = _before


@contextmanager
def kept() -> Iterator[None]:
    """While a task of ours runs."""
    yield from _with(bool(sys.flags.dont_write_bytecode))


@contextmanager
def not_kept() -> Iterator[None]:
    """While a file of the project is imported."""
    yield from _with(True)


def _with(forbidden: bool) -> Iterator[None]:
    before = sys.dont_write_bytecode
    sys.dont_write_bytecode = forbidden
    try:
        yield
    finally:
        sys.dont_write_bytecode = before


sys.dont_write_bytecode = bool(sys.flags.dont_write_bytecode)
