"""A program of the project, run on the controller: bounded in time, its lines handed on as they come."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from longshore.agent.shorten import CUT
from longshore.records import dataclass

_TAIL = 100
_LONGEST_LINE = 4000
_LEFT_OPEN = 1.0
"""Seconds that output is waited for once the program has ended: what it left running may hold it open."""


@dataclass(frozen=True)
class Ended:
    """How a program ended. ``code`` is ``None`` when it was out of time, negative for a signal; ``tail`` are
    the last lines of both its streams."""

    code: int | None
    tail: tuple[str, ...]


def run_program(
    argv: Sequence[str],
    *,
    cwd: Path,
    timeout: float,
    env: Mapping[str, str] | None = None,
    on_line: Callable[[str], None] | None = None,
    on_text: Callable[[str], None] | None = None,
) -> Ended:
    """Run it without a shell and without input, in a process group of its own.

    ``on_line`` gets each line, cut where it is long; ``on_text`` all that is printed, as it is, in pieces.
    Out of time (``timeout``, seconds), the whole group is killed. Raises ``OSError`` when it can't be
    started.
    """
    process = subprocess.Popen(
        list(argv),
        cwd=cwd,
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,  # Ctrl-C is for the run, which lets the step end
    )
    tail: deque[str] = deque(maxlen=_TAIL)
    assert process.stdout is not None
    stream = process.stdout

    def read() -> None:
        cut = ""
        while line := stream.readline(_LONGEST_LINE):
            if on_text is not None:
                on_text(line)
            text = cut + line.rstrip("\n")
            cut = "" if line.endswith("\n") or len(line) < _LONGEST_LINE else CUT
            text += cut
            tail.append(text)
            if on_line is not None:
                on_line(text)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    code: int | None
    try:
        code = process.wait(timeout)
    except subprocess.TimeoutExpired:
        code = None
    finally:
        if process.returncode is None:
            _kill(process)
    reader.join(_LEFT_OPEN)
    return Ended(code, tuple(tail))


def _kill(process: subprocess.Popen[str]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        process.kill()
    process.wait()


def how_it_ended(ended: Ended, timeout: float) -> str:
    """What was wrong, in words; empty when it exited with 0."""
    if ended.code is None:
        return f"took longer than {timeout:g} s and was killed"
    if ended.code < 0:
        return f"was ended by {_signal_name(-ended.code)}"
    return f"exited with code {ended.code}" if ended.code else ""


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
