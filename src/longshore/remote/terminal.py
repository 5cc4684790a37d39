"""The person's terminal, attached to a command on a host: for ``shell``, ``psql`` and ``exec``.

Invoke's runner leaves the terminal half cooked (Ctrl-S, carriage returns), which full-screen programs don't
stand. Here it is raw, as with ``ssh -t``.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import termios
import threading
import tty
from collections.abc import Iterator
from typing import Any

CHUNK = 1 << 15


def size() -> tuple[int, int]:
    """Columns and rows, as the terminal has them now (``COLUMNS`` would not follow a resize)."""
    try:
        found = os.get_terminal_size(sys.stdin.fileno())
    except OSError:
        return 80, 24
    return found.columns or 80, found.lines or 24


def name() -> str:
    """The terminal's type, for the host's ``TERM``."""
    return os.environ.get("TERM") or "xterm"


def attach(channel: Any, first: bytes = b"") -> None:
    """Pass bytes between the terminal and ``channel`` until the command ends.

    ``first`` has been read from the channel already. Without a terminal, standard input is passed as it is.
    """
    source, sink = sys.stdin.fileno(), sys.stdout.fileno()
    with _raw(source), _resizing(channel):
        _write(sink, first)
        watched: list[Any] = [channel, source]
        while True:
            ready, _, _ = select.select(watched, [], [])
            if channel in ready:
                data = channel.recv(CHUNK)
                if not data:
                    break
                _write(sink, data)
            elif source in ready:
                typed = os.read(source, CHUNK)
                if typed:
                    channel.sendall(typed)
                else:
                    watched.remove(source)
                    channel.sendall(b"\x04")  # the end of input, as a terminal says it


@contextlib.contextmanager
def _raw(descriptor: int) -> Iterator[None]:
    if not os.isatty(descriptor):
        yield
        return
    before = termios.tcgetattr(descriptor)
    try:
        tty.setraw(descriptor)
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


@contextlib.contextmanager
def _resizing(channel: Any) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # The handler only wakes select(): a channel may be in the middle of a message.
    before = signal.signal(
        signal.SIGWINCH, lambda *_: threading.Thread(target=_resize, args=(channel,)).start()
    )
    try:
        yield
    finally:
        signal.signal(signal.SIGWINCH, before)


def _resize(channel: Any) -> None:
    with contextlib.suppress(Exception):  # the command may have ended meanwhile
        columns, rows = size()
        channel.resize_pty(columns, rows)


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
