"""Hosts whose connection broke in the middle of a rollout: found again, and brought to where the fleet is.

Their agents don't wait for us: each has finished what it was asked for, or goes back when its lease is over.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from longshore.agent import wire
from longshore.errors import AgentError, ConnectionLostError, HostError
from longshore.remote.session import Session

Reopen = Callable[[str], Session]
"""Opens a new session with a host, on a connection of its own. Raises ``HostError``."""

_PAUSE = 1.0


def find_again(
    host: str, reopen: Reopen, lock: Mapping[str, Any], *, patience: float, recovery: float
) -> tuple[Session, str | None]:
    """Reach a host again and take its lock; return the session, and the release that is current there.

    Whoever has the lock knows how the lost session ended: the agent that had it is over, and what it left
    unfinished is undone. ``lock``: the arguments of the lock. ``patience``: seconds in which it is tried to
    connect; as long, and a minute more, the lost agent may still be going back. ``recovery``: seconds that
    undoing what it left may take. Raises ``HostError`` when the host can't be reached in that time, or
    refuses.
    """
    until = time.monotonic() + patience
    while True:
        try:
            session = reopen(host)
            wait = patience + 60
            answer = session.call(wire.LOCK, {**lock, "wait": wait}, timeout=wait + recovery)
            return session, answer["current"]
        except AgentError as error:
            if error.code != wire.INTERNAL or time.monotonic() >= until:
                raise
        except HostError:
            if time.monotonic() >= until:
                raise
        time.sleep(_PAUSE)


def is_lost(error: BaseException | None) -> bool:
    """Whether it is not known what the host did."""
    return isinstance(error, ConnectionLostError)
