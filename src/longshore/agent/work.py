"""A session's own folder on the host: what the controller sends in pieces, and what only a build may see.

It goes with the session; what a killed agent left is removed by the next one.
"""

import fcntl
import os
import re
import shutil
import tempfile
from typing import IO, Dict, Optional

from longshore.agent import wire
from longshore.agent.fail import Refusal
from longshore.agent.lock import alone

_MEMORY = "/dev/shm"  # noqa: S108 - a folder of our own in it, 0700
_PREFIX = "longshore-"


class Work:
    """``folder`` is on the disk, ``private`` in memory where the host has such a place; both are 0700."""

    def __init__(self, state_dir: str) -> None:
        parent = os.path.join(state_dir, "work")
        os.makedirs(parent, mode=0o700, exist_ok=True)
        with alone(parent):  # one that is just being made looks like one that was left
            _sweep(parent)
            self.folder = tempfile.mkdtemp(prefix="run-", dir=parent)
            self._lock: Optional[IO[str]] = open(os.path.join(self.folder, "lock"), "w")  # noqa: SIM115 - held
            fcntl.flock(self._lock, fcntl.LOCK_EX)
        self.private = _private(self.folder)
        self.unpacked: Dict[str, str] = {}
        """Tars that were put and have been unpacked, and where."""
        self.builds = 0
        """How many there have been."""
        self.images: Dict[str, str] = {}
        """Images that were built for others to be built from, and what buildx calls them."""

    def path(self, name: str) -> str:
        """Where the file ``name`` of the controller is. Raises ``Refusal`` for a name that is none."""
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,150}", name):
            raise Refusal(wire.BAD_REQUEST, f"{name!r} is no name for a file")
        return os.path.join(self.folder, name)

    def put(self, name: str, data: bytes, append: bool) -> int:
        """Write or append to a file and return its size in bytes."""
        with open(self.path(name), "ab" if append else "wb") as file:
            file.write(data)
            return file.tell()

    def remove(self) -> None:
        """Remove both folders. Safe to call twice."""
        shutil.rmtree(self.private, ignore_errors=True)
        shutil.rmtree(self.folder, ignore_errors=True)
        if self._lock is not None:
            self._lock.close()
            self._lock = None


def _private_name(folder: str) -> str:
    return os.path.join(_MEMORY, _PREFIX + os.path.basename(folder))


def _private(folder: str) -> str:
    """Secrets needn't touch the disk where there is a folder in memory."""
    name = _private_name(folder)
    try:
        os.mkdir(name, 0o700)
    except OSError:
        name = os.path.join(folder, "private")
        os.mkdir(name, 0o700)
    return name


def _sweep(parent: str) -> None:
    """Remove the folders of agents that were killed: nobody holds their lock."""
    for entry in os.listdir(parent):
        folder = os.path.join(parent, entry)
        try:
            with open(os.path.join(folder, "lock")) as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                private = _private_name(folder)
                if os.path.isdir(private) and os.stat(private).st_uid == os.geteuid():
                    shutil.rmtree(private, ignore_errors=True)
                shutil.rmtree(folder, ignore_errors=True)
        except OSError:
            continue  # in use
