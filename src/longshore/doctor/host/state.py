"""The host itself: its system, disks, our folder on it, and what runs before have left there."""

from __future__ import annotations

import os
import pwd
import stat
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from longshore.agent.boot import Boot
from longshore.agent.engine import Engine
from longshore.agent.journal import Journal
from longshore.agent.lock import Hold, Lock
from longshore.bootstrap.host.system import release

MIGRATE = Path("/proc/sys/net/ipv4/tcp_migrate_req")


def system(wish: Mapping[str, Any]) -> dict[str, Any]:
    """``name``, ``kernel``, ``python``, ``user``; ``migrates``: the kernel hands waiting connections on."""
    return {
        "name": release().get("PRETTY_NAME") or os.uname().sysname,
        "kernel": os.uname().release,
        "python": ".".join(map(str, sys.version_info[:3])),
        "user": _name(os.geteuid()),
        "migrates": MIGRATE.exists(),
    }


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def disks(wish: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Of each disk that we or the engine write to: ``folder``, ``size``, ``free`` (bytes), ``inodes``,
    ``inodes_free`` (0 where the file system has no such bound)."""
    folders = [_existing(Path(wish["state_dir"]))]
    try:
        folders.append(_existing(Path(Engine().info().get("DockerRootDir") or "/var/lib/docker")))
    except Exception:  # noqa: S110 - without an engine there is no folder of its
        pass
    found: dict[int, dict[str, Any]] = {}
    for folder in folders:
        disk = os.statvfs(folder)
        found.setdefault(
            folder.stat().st_dev,
            {
                "folder": str(folder),
                "size": disk.f_blocks * disk.f_frsize,
                "free": disk.f_bavail * disk.f_frsize,
                "inodes": disk.f_files,
                "inodes_free": disk.f_favail,
            },
        )
    return list(found.values())


def _existing(path: Path) -> Path:
    while not path.is_dir():
        path = path.parent
    return path


def folder(wish: Mapping[str, Any]) -> dict[str, Any]:
    """``there``; and if so ``mode``, ``owner``, and ``ours``: whether we could run an agent from it."""
    try:
        status = Path(wish["state_dir"]).stat()
    except FileNotFoundError:
        return {"there": False}
    return {
        "there": True,
        "mode": stat.S_IMODE(status.st_mode),
        "owner": _name(status.st_uid),
        "ours": status.st_uid in (0, os.geteuid()) and os.access(str(wish["state_dir"]), os.W_OK),
        "folder": stat.S_ISDIR(status.st_mode),
    }


def apps(wish: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Of each app that is here: ``app``, ``unfinished`` (the release that a run was bringing), ``lock`` and
    ``hold`` (who has it, or ``None``)."""
    found = []
    for app in wish["apps"]:
        root = str(Path(wish["state_dir"], app))
        if not Path(root).is_dir():
            continue
        begun = Journal(root).unfinished()
        found.append(
            {
                "app": app,
                "unfinished": begun["to"] if begun else None,
                "lock": Lock(root).holder(),
                "hold": Hold(root).read(),
            }
        )
    return found


def boot(wish: Mapping[str, Any]) -> dict[str, Any]:
    """How the host takes back by itself what a power cut left: ``by``, and if by nothing, ``why``."""
    found = Boot(str(wish["state_dir"])).found()
    return {"by": found.by, "why": found.why}
