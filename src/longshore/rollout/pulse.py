"""The controller's sign of life, to every host of a rollout."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable
from types import TracebackType

from longshore.remote.session import Session

LEASE = 30.0
"""Seconds that a host waits for a sign of life before it takes the controller for dead."""


class Pulse:
    """Tells every session ``every`` so many seconds that we live, until it is stopped."""

    def __init__(self, sessions: Iterable[Session], *, every: float = LEASE / 4) -> None:
        self._sessions = list(sessions)
        self._every = every
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True, name="pulse")
        self._thread.start()

    def _beat(self) -> None:
        while not self._over.wait(self._every):
            for session in list(self._sessions):
                # Whatever is wrong with one host, the others must hear that we live.
                with contextlib.suppress(Exception):
                    session.beat()

    def add(self, session: Session) -> None:
        """Tell this one, too."""
        self._sessions.append(session)

    def stop(self) -> None:
        """No more signs of life."""
        self._over.set()
        self._thread.join()

    def __enter__(self) -> Pulse:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
