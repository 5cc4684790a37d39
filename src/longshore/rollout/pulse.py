"""The controller's sign of life, to every host of a rollout."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from longshore.remote.session import Session


class Pulse:
    """Tells every session ``every`` so many seconds that we live, until it is stopped."""

    def __init__(self, sessions: Iterable[Session], *, every: float) -> None:
        self._sessions = tuple(sessions)
        self._every = every
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True, name="pulse")
        self._thread.start()

    def _beat(self) -> None:
        while not self._over.wait(self._every):
            for session in self._sessions:
                session.beat()

    def stop(self) -> None:
        """No more signs of life."""
        self._over.set()
        self._thread.join()
