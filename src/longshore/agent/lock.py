"""One owner per app and host, and the holds that people put on an app.

The kernel holds the lock (``flock``) for as long as the agent's process lives, so there is no lock that a
person must release after a kill or a power cut, and no clock in it. What is written in the file is for
people: who, from where, since when, why, and when the controller was heard from last.

A hold is a file. It lasts until somebody takes it away or its time is over; no run gets the lock meanwhile.
"""

import fcntl
import json
import os
import threading
import time
from contextlib import contextmanager
from typing import Any, Callable, Dict, Iterator, Optional, Set

from longshore.agent import wire
from longshore.agent.fail import Refusal
from longshore.agent.store import read_json, write

_HINT = "Try again when that is done; `invoke deploy --wait 5m` waits for it."
HANDLES: Set[int] = set()
"""The files that hold this process's locks. Compose inherits them: a lock lasts as long as it works."""
_RECORD = 1024
"""Bytes that the file has at least, for ever: on a full disk what has a place already can be written."""


@contextmanager
def alone(path: str) -> Iterator[None]:
    """Nobody else who asks for this lock has it meanwhile; whoever has it is waited for. ``path``: a file,
    which is made where it is missing, or a folder, in which nothing is left."""
    flags = os.O_RDONLY if os.path.isdir(path) else os.O_WRONLY | os.O_CREAT
    handle = os.open(path, flags | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


class Lock:
    """The lock of one app on this host."""

    def __init__(self, root: str) -> None:
        self.path = os.path.join(root, "lock")
        self._handle: Optional[int] = None
        self._owner: Dict[str, Any] = {}
        self._writing = threading.Lock()

    @property
    def held(self) -> bool:
        return self._handle is not None

    def take(
        self, owner: Dict[str, Any], wait: float = 0.0, gone: Optional[Callable[[], bool]] = None
    ) -> None:
        """Take it for ``owner`` (``by``, ``run``, ``why``, ``lease``), waiting up to ``wait`` seconds, but
        not after ``gone`` says that nobody wants it any more.

        Raises ``Refusal`` with who holds it.
        """
        if self._handle is not None:
            return
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        # Someone who only looks (`holder`) has it for an instant: never give up at the first try.
        until = time.monotonic() + max(wait, 0.3)
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= until or (gone and gone()):
                    holder = self.holder()
                    os.close(handle)
                    raise Refusal(wire.LOCKED, lock_words(holder), _HINT, {"holder": holder}) from None
                time.sleep(0.05)
        with self._writing:
            self._handle = handle
            HANDLES.add(handle)
            self._owner = {**owner, "since": time.time(), "taken": time.monotonic()}
        self.beat()

    def beat(self) -> None:
        """Write down that the controller lives. May be called from any thread."""
        with self._writing:
            if self._handle is not None:
                self._record({**self._owner, "heard": time.monotonic()})

    def release(self) -> None:
        """Give it back. The file stays: removing it would let two owners hold two files."""
        with self._writing:
            if self._handle is not None:
                self._record({})
                HANDLES.discard(self._handle)
                os.close(self._handle)
                self._handle = None

    def _record(self, value: Dict[str, Any]) -> None:
        assert self._handle is not None
        data = json.dumps(value).encode().ljust(_RECORD)
        try:
            os.pwrite(self._handle, data, 0)
            os.ftruncate(self._handle, len(data))
        except OSError:
            pass  # a full disk: the lock is the kernel's, this is only for people

    def holder(self) -> Optional[Dict[str, Any]]:
        """Who holds it now, or ``None``. Takes nothing.

        ``age``: for how many seconds; ``left``: after so many seconds without a word the owner is taken for
        dead. Both by this host's own count, that no clock can set back.
        """
        try:
            handle = os.open(self.path, os.O_RDWR)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return None
        except BlockingIOError:
            try:
                found: Dict[str, Any] = json.loads(os.pread(handle, 1 << 16, 0))
            except ValueError:
                return {}
            now = time.monotonic()
            taken, heard, lease = (found.pop(key, None) for key in ("taken", "heard", "lease"))
            if taken is not None:
                found["age"] = max(0.0, now - taken)
            if lease and heard is not None:
                found["left"] = max(0.0, lease - (now - heard))
            return found
        finally:
            os.close(handle)


def lock_words(holder: Optional[Dict[str, Any]]) -> str:
    """Who has the lock since when and why, as a sentence's beginning."""
    if not holder:
        return "another run has the lock"
    age = holder.get("age", time.time() - float(holder.get("since", time.time())))
    why = f" ({holder['why']})" if holder.get("why") else ""
    return f"{holder.get('by', 'someone')} has the lock since {_span(age)}{why}"


class Hold:
    """The hold on one app on this host, in a file that only its end takes away."""

    def __init__(self, root: str) -> None:
        self.path = os.path.join(root, "hold.json")

    def read(self) -> Optional[Dict[str, Any]]:
        """``by``, ``why``, ``since`` and ``until`` (seconds since the epoch; 0: no end), or ``None``."""
        found = read_json(self.path)
        if not isinstance(found, dict) or 0 < float(found.get("until") or 0) <= time.time():
            return None
        return found

    def put(self, by: str, why: str, seconds: float) -> Dict[str, Any]:
        """Hold the app for so many seconds; 0: until somebody takes the hold away."""
        now = time.time()
        value = {"by": by, "why": why, "since": now, "until": now + seconds if seconds else 0}
        write(self.path, json.dumps(value).encode())
        return value

    def take_away(self) -> Optional[Dict[str, Any]]:
        """End it. Returns what it was, or ``None`` when there was none."""
        found = self.read()
        try:
            os.unlink(self.path)
        except FileNotFoundError:
            pass
        return found

    def check(self, app: str) -> None:
        """Raises ``Refusal`` when somebody holds the app."""
        found = self.read()
        if found is None:
            return
        until = f" for another {_span(found['until'] - time.time())}" if found["until"] else ""
        since = _span(time.time() - float(found["since"]))
        raise Refusal(
            wire.HELD,
            f"{found['by']} holds {app} since {since}{until}: {found['why']}",
            "`invoke lock.release` ends that.",
            {"hold": found},
        )


def _span(seconds: float) -> str:
    """``12 s``, ``7 min``, ``3 h``, ``2 days``."""
    seconds = max(0.0, seconds)
    for size, name in ((86400 * 2, "days"), (3600 * 2, "h"), (120, "min")):
        if seconds >= size:
            unit = {"days": 86400, "h": 3600, "min": 60}[name]
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds:.0f} s"
