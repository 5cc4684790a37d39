"""What this program tells the controller: one JSON object a line on standard output.

``step`` is what happens now, ``change`` what was made different (or would be), ``note`` what the person
should know, and the last line is a ``result`` or an ``error``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence


class Refusal(Exception):
    """What is wrong on this host: a stable ``code``, a sentence, what to do, and a program's last lines."""

    def __init__(self, code: str, message: str, hint: str = "", log: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.code, self.message, self.hint, self.log = code, message, hint, tuple(log)


def emit(kind: str, **facts: object) -> None:
    """Send one line. A controller that is gone is no reason to leave the work half done."""
    try:
        sys.stdout.write(json.dumps({"type": kind, **facts}) + "\n")
        sys.stdout.flush()
    except OSError:
        pass


def step(text: str, detail: str = "") -> None:
    """What is being done now."""
    emit("step", text=text, detail=detail)


def note(text: str) -> None:
    """Something that was left as it is, and why."""
    emit("note", text=text)


class Changes:
    """What has to be different on this host. With ``check`` it is only told, never done."""

    def __init__(self, *, check: bool) -> None:
        self.check = check
        self.made: list[str] = []

    def make(self, text: str, act: Callable[[], None]) -> None:
        """Make one change. ``text`` is in the imperative: it is read before and after."""
        if not self.check:
            step(text)
            act()
        self.made.append(text)
        emit("change", text=text)
