"""How many hosts pull at once, so that a registry isn't stormed; and one alone first, to fill a mirror."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Iterator


class Pulls:
    """Lets hosts pull in turns. ``needing`` are those that lack an image: the others never wait.

    ``at_once`` bounds how many pull together. With ``one_first``, the first to come pulls alone: a mirror
    that fetches what it hasn't would otherwise fetch it once for each.
    """

    def __init__(self, needing: Iterable[str] = (), *, at_once: int = 10, one_first: bool = False) -> None:
        self._needing = frozenset(needing)
        self._slots = threading.BoundedSemaphore(at_once)
        self._alone = threading.Lock()
        self._first_is_done = threading.Event()
        if not one_first or len(self._needing) < 2:
            self._first_is_done.set()

    @contextlib.contextmanager
    def turn(self, host: str) -> Iterator[None]:
        """Wait for the host's turn, and hold it. The first one's failure lets the rest go on."""
        if host not in self._needing:
            yield
            return
        if not self._first_is_done.is_set():
            with self._alone:
                if not self._first_is_done.is_set():
                    try:
                        yield
                    finally:
                        self._first_is_done.set()
                    return
        with self._slots:
            yield
