"""The folder of all releases: closed to others, since releases hold secrets, and owned by who deploys."""

from __future__ import annotations

import fcntl
import json
import os
import pwd
import stat
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from longshore.bootstrap.host.say import Changes, Refusal, note
from longshore.bootstrap.host.user import find, in_docker

PATIENCE = 0.3
"""Seconds: an agent that only looks who holds a lock has it for an instant itself."""


def bring(changes: Changes, path: Path, user: str) -> None:
    """Have the folder, 0700, for ``user``; with "" for root, or for whoever in the group docker has it now.

    Raises ``Refusal`` when the path is taken, or when it would change hands while a run is at work in it.
    """
    path = Path(os.path.realpath(path))
    owner = find(user or "root")  # None: a user that a check doesn't make
    name = user or "root"
    try:
        there = path.stat()
    except FileNotFoundError:
        changes.make(f"make {path} (0700, {name})", lambda: _make(path, name))
        _note_parents(path, owner)
        return
    if not stat.S_ISDIR(there.st_mode):
        raise Refusal("state_dir", f"{path} is no folder", "Move it away, or set `state_dir`.")
    theirs = there.st_uid == owner.pw_uid if owner else False
    if not theirs and (user or not _deploys(there.st_uid)):
        text = f"give {path} and the releases in it to {name} (0700; it was {_name(there.st_uid)}'s)"
        changes.make(text, lambda: _give(path, name))
    elif there.st_mode & 0o077:
        changes.make(f"close {path} to others (0700)", lambda: path.chmod(0o700))
    _note_parents(path, owner)


def need_free(path: Path, user: str) -> None:
    """Raises ``Refusal`` when the folder isn't ``user``'s yet, and a run is at work in it."""
    owner = find(user)
    if path.is_dir() and (owner is None or path.stat().st_uid != owner.pw_uid):
        with locked(path, f"{path} can't be given to another user now"):
            pass


def _deploys(uid: int) -> bool:
    """Whether the folder was given to this user by an earlier run, which one without a user leaves so."""
    try:
        return in_docker(pwd.getpwuid(uid))
    except KeyError:
        return False


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def _make(path: Path, name: str) -> None:
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    path.mkdir(mode=0o700, exist_ok=True)
    _give(path, name)


def _give(path: Path, name: str) -> None:
    user = pwd.getpwnam(name)
    with locked(path, f"{path} can't be given to another user now"):
        give(path, user.pw_uid, user.pw_gid)


def give(path: Path, uid: int, gid: int) -> None:
    """Give the folder and what is ours in it to ``uid``, itself last: a run that breaks off begins again.

    What is ours is what root or the folder's owner has. What a container has made its own stays, and
    so does all that is in ``<app>/state``: it belongs to containers, which may check its owner.
    """
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        ours = {0, os.fstat(handle).st_uid}
        # By open folders: a container that can write to a mounted one could put a link in the way.
        for place, folders, files, inside in os.fwalk(".", dir_fd=handle, follow_symlinks=False):
            for entry in (*folders, *files):
                _change(entry, inside, ours, uid, gid)
            if len(Path(place).parts) == 1 and "state" in folders:
                folders.remove("state")
        os.fchown(handle, uid, gid)
        os.fchmod(handle, 0o700)
    finally:
        os.close(handle)


def _change(entry: str, inside: int, ours: set[int], uid: int, gid: int) -> None:
    try:
        if os.stat(entry, dir_fd=inside, follow_symlinks=False).st_uid in ours:
            os.chown(entry, uid, gid, dir_fd=inside, follow_symlinks=False)
    except FileNotFoundError:
        pass  # a container's own file


@contextmanager
def locked(path: Path, what: str) -> Iterator[None]:
    """Hold the lock of every app under ``path``.

    Raises ``Refusal`` where another run has one; ``what`` says what isn't done then.
    """
    with ExitStack() as stack:
        for lock in sorted(path.glob("*/lock")):
            handle = os.open(lock, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            stack.callback(os.close, handle)
            if not _taken(handle):
                raise _busy(lock, handle, what)
        yield


def _taken(handle: int) -> bool:
    end = time.monotonic() + PATIENCE
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= end:
                return False
            time.sleep(0.05)


def _busy(lock: Path, handle: int, what: str) -> Refusal:
    try:
        holder = json.loads(os.pread(handle, 4096, 0))
        who = str(holder["by"])
    except (ValueError, KeyError, TypeError):
        who = "another run"
    app = lock.parent.name
    return Refusal(
        "locked",
        f"{who} is at work on {app} here, so {what}",
        "Bootstrap again when that run has ended.",
    )


def _note_parents(path: Path, owner: pwd.struct_passwd | None) -> None:
    if owner is not None and owner.pw_uid == 0:
        return
    for parent in path.parents:
        try:
            status = parent.stat()
        except FileNotFoundError:
            continue  # a check: it would be made, open
        mine = owner is not None and status.st_uid == owner.pw_uid
        if not mine and not status.st_mode & 0o001:
            note(f"who deploys may not get through {parent} to {path}: it is closed to others")
