"""What stands behind the agent: a process that only waits for it, and does its duty when it is killed.

A lost controller is the agent's to deal with. An agent that is killed (by the kernel for want of memory, by a
person), or that breaks while it deals with that, can't take back what it had begun; its parent can.
"""

import os
import signal
from typing import Callable, Dict, List, Tuple

_MOST = 1 << 16
"""Bytes that are read of what the agent has noted: as many as a pipe holds."""


class Notes:
    """A pipe on which the agent notes each lock that it takes, for the one who reads it when it is dead."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        os.set_blocking(self._read, False)

    def took(self, app: str, run: str) -> None:
        """The agent has the app's lock, for this run."""
        try:
            os.write(self._write, f"{app} {run}\n".encode())
        except OSError:
            pass  # nobody reads any more, or it is full of other apps' locks

    def read(self) -> Dict[str, str]:
        """App to run, of all locks that were noted."""
        try:
            lines = os.read(self._read, _MOST).decode("utf-8", "replace").splitlines()
        except OSError:
            return {}
        pairs: List[Tuple[str, str]] = [tuple(line.split(" ", 1)) for line in lines if " " in line]  # type: ignore[misc]
        return dict(pairs)


def guarded(notes: Notes, recover: Callable[[str, str], None]) -> bool:
    """Fork. True in the child, which is the agent. In the parent it returns False when the agent has been
    killed, or has died of a defect of its own, and ``recover(app, run)`` was called for what it held; if it
    ended well, so does the parent.
    """
    child = os.fork()
    if child == 0:
        return True
    # The controller must see the end of the conversation when the agent ends, and not when we do.
    nothing = os.open(os.devnull, os.O_RDWR)
    for handle in (0, 1, 2):
        os.dup2(nothing, handle)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        try:
            _, status = os.waitpid(child, 0)
            break
        except InterruptedError:
            continue
    if status == 0:
        os._exit(0)
    for app, run in notes.read().items():
        recover(app, run)
    return False
