"""One owner per app and host.

The kernel holds the lock (``flock``) for as long as the agent's process lives, so there is no lock that a
person must release after a kill or a power cut, and no clock in it. What is written in the file is for
people: who, from where, since when, why.
"""

import fcntl
import json
import os
import time
from typing import Any, Dict, Optional

from longshore.agent import wire
from longshore.agent.fail import Refusal

_HINT = "Try again when that is done; `invoke deploy --wait 5m` waits for it."


class Lock:
    """The lock of one app on this host."""

    def __init__(self, root: str) -> None:
        self.path = os.path.join(root, "lock")
        self._handle: Optional[int] = None

    @property
    def held(self) -> bool:
        return self._handle is not None

    def take(self, owner: Dict[str, Any], wait: float = 0.0) -> None:
        """Take it for ``owner`` (``by``, ``run``, ``why``), waiting up to ``wait`` seconds.

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
                if time.monotonic() >= until:
                    holder = self.holder()
                    os.close(handle)
                    raise Refusal(wire.LOCKED, _sentence(holder), _HINT, {"holder": holder}) from None
                time.sleep(0.05)
        os.ftruncate(handle, 0)
        os.pwrite(handle, json.dumps({**owner, "since": time.time()}).encode(), 0)
        self._handle = handle

    def release(self) -> None:
        """Give it back. The file stays: removing it would let two owners hold two files."""
        if self._handle is not None:
            os.ftruncate(self._handle, 0)
            os.close(self._handle)
            self._handle = None

    def holder(self) -> Optional[Dict[str, Any]]:
        """Who holds it now, or ``None``. Takes nothing."""
        try:
            handle = os.open(self.path, os.O_RDWR)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return None
        except BlockingIOError:
            try:
                found: Dict[str, Any] = json.loads(os.pread(handle, 4096, 0))
                return found
            except ValueError:
                return {}
        finally:
            os.close(handle)


def _sentence(holder: Optional[Dict[str, Any]]) -> str:
    if not holder:
        return "another run has the lock"
    since = max(0, int(time.time() - float(holder.get("since", time.time()))))
    why = f" ({holder['why']})" if holder.get("why") else ""
    return f"{holder.get('by', 'someone')} has the lock since {since} s{why}"
