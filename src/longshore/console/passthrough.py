"""A command's own output, handed on as it came: bytes, but with secrets masked."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable
from typing import BinaryIO

from longshore.errors import LongshoreError

_LONGEST = 1 << 16
"""Bytes of a line that are held back at most, so that a progress bar without an end shows."""


class DesertedError(LongshoreError):
    """Nobody reads any more (``… | head``). As an ``OSError`` it would be taken for the host's connection."""


class Passthrough:
    """Takes pieces of output and writes whole lines of it; a secret may be cut by a piece's end.

    Bytes that are not UTF-8 come out as they went in. Safe to call from several threads. A context manager:
    leaving it hands on the rest, and raises ``BrokenPipeError`` when nobody reads any more, whatever else
    came of that.
    """

    def __init__(
        self, mask: Callable[[str], str], out: BinaryIO | None = None, err: BinaryIO | None = None
    ) -> None:
        self._mask = mask
        self._streams = {False: out or sys.stdout.buffer, True: err or sys.stderr.buffer}
        self._rest = {False: b"", True: b""}
        self._lock = threading.Lock()
        self._deserted = False

    def __enter__(self) -> Passthrough:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()
        if self._deserted:
            raise BrokenPipeError

    def write(self, data: bytes, is_error: bool = False) -> None:
        """Hand on a piece. Raises ``DesertedError``, which ends the command that it comes from."""
        with self._lock:
            whole, newline, rest = (self._rest[is_error] + data).rpartition(b"\n")
            if len(rest) > _LONGEST:
                whole, newline, rest = whole + newline + rest, b"", b""
            self._rest[is_error] = rest
            self._put(whole + newline, is_error)

    def _close(self) -> None:
        """Hand on what has no newline at its end."""
        with self._lock, contextlib.suppress(DesertedError):
            for is_error, rest in self._rest.items():
                self._put(rest, is_error)
                self._rest[is_error] = b""

    def _put(self, data: bytes, is_error: bool) -> None:
        if self._deserted:
            raise DesertedError("nobody reads any more")
        if data:
            text = self._mask(data.decode("utf-8", "surrogateescape"))
            try:
                self._streams[is_error].write(text.encode("utf-8", "surrogateescape"))
                self._streams[is_error].flush()
            except BrokenPipeError:
                self._deserted = True
                raise DesertedError("nobody reads any more") from None
