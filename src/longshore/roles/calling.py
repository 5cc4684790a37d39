"""Calling a project's own Python: bounded in time, what it prints handed on, its failures as sentences."""

from __future__ import annotations

import io
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

Tell = Callable[[str], None]


class CallFailed(Exception):
    """The function raised, or took too long; the message says which."""


def call(
    function: Callable[[Mapping[str, Any]], Any],
    facts: Mapping[str, Any],
    *,
    timeout: float,
    tell: Tell | None = None,
) -> Any:
    """Call it with the facts, in a thread of its own, and return what it returns.

    ``tell`` gets each line that it prints. Raises ``CallFailed`` when it raises, or isn't done after
    ``timeout`` seconds: Python can't end it, so it is left behind, and ends with this process.
    """
    done: dict[str, Any] = {}

    def run() -> None:
        with _printing(tell):
            try:
                done["value"] = function(facts)
            except BaseException as error:  # the project's own code: whatever it raises is its failure
                done["error"] = error

    thread = threading.Thread(target=run, daemon=True, name="project code")
    thread.start()
    thread.join(timeout)
    if thread.is_alive():
        raise CallFailed(f"was not done after {timeout:g} s")
    error = done.get("error")
    if error is not None:
        raise CallFailed(f"failed: {type(error).__name__}: {error}") from error
    return done.get("value")


class _Streams(io.TextIOBase):
    """Standard output while project code runs: what its threads print is handed on line by line, so that
    it is masked, and neither JSON lines nor live rows are torn by it."""

    def __init__(self) -> None:
        self.local = threading.local()
        self.users = 0
        self.real: Any = None
        self.lock = threading.Lock()

    def write(self, text: str) -> int:
        tell = getattr(self.local, "tell", None)
        if tell is None:
            return int(self.real.write(text)) if self.real is not None else len(text)
        *whole, self.local.rest = (self.local.rest + text).split("\n")
        for line in whole:
            tell(line)
        return len(text)

    def flush(self) -> None:
        if getattr(self.local, "tell", None) is None and self.real is not None:
            self.real.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)  # isatty, encoding, fileno: as of the real one


_STREAMS = _Streams()


@contextmanager
def _printing(tell: Tell | None) -> Iterator[None]:
    """Hand what this thread prints to ``tell``."""
    if tell is None:
        yield
        return
    with _STREAMS.lock:
        if sys.stdout is not _STREAMS:
            _STREAMS.real, sys.stdout = sys.stdout, _STREAMS
        _STREAMS.users += 1
    _STREAMS.local.tell, _STREAMS.local.rest = tell, ""
    try:
        yield
    finally:
        if _STREAMS.local.rest:
            tell(_STREAMS.local.rest)
        _STREAMS.local.tell = None
        with _STREAMS.lock:
            _STREAMS.users -= 1
            if _STREAMS.users == 0 and sys.stdout is _STREAMS:
                sys.stdout = _STREAMS.real
