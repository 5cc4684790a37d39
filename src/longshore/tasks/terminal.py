"""Attaching the person's own terminal to a container."""

from __future__ import annotations

import sys

from longshore.errors import LongshoreError
from longshore.tasks.services import Place


def interactive(
    place: Place, command: list[str], *, user: str = "", instead: str = "invoke exec SERVICE -- CMD"
) -> int:
    """Run a command in a container on the person's terminal, and return its exit code.

    What is shown goes past the masks: it is the person's own session. Raises ``LongshoreError`` when
    there is no terminal; ``instead`` is what to type then.
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise LongshoreError("this needs a terminal", hint=f"Without one, run a single command: `{instead}`.")
    as_user = ["--user", user] if user else []
    argv = ["docker", "exec", "--interactive", "--tty", *as_user, place.container, *command]
    return place.link.run(argv, pty=True)
