"""A host whose disk is small, so that it can be filled: one file system for the engine and for Longshore."""

from __future__ import annotations

import os
import time
from pathlib import Path

from tests.faults.ground import Ground

from longshore.lab import LabError

SIZE = 1_500_000_000
FOLDERS = ("docker", "containerd", "longshore")


def shrink(ground: Ground, host: str) -> None:
    """Give the host a small disk, empty. The fleet must be made anew afterwards."""
    ground.lab.ssh(host, ["service", "docker", "stop"])
    binds = " && ".join(
        f"mkdir -p /disk/{name} /var/lib/{name} && mount --bind /disk/{name} /var/lib/{name}"
        for name in FOLDERS
    )
    script = f"mkdir -p /disk && mount -t tmpfs -o size={SIZE},mode=755 disk /disk && {binds}"
    ground.lab.ssh(host, ["sh", "-c", f"{script} && chmod 700 /disk/longshore && service docker start"])


def restore(ground: Ground, host: str) -> None:
    """Give the host its own disk back: what was mounted goes with its power."""
    ground.lab.stop(host)
    ground.lab.start(host)


def is_small(ground: Ground, host: str) -> bool:
    """Whether the host has the small disk now, by the kernel's own list of its mounts."""
    if not ground.is_on(host):
        return False
    mounts = Path(f"/proc/{ground.pid(host)}/mounts").read_text().splitlines()
    return any(line.startswith("disk /disk tmpfs ") for line in mounts)


def fill(ground: Ground, host: str) -> None:
    """Leave not one byte. Logs and the like take what is freed meanwhile, so it is done twice.

    Raises ``LabError`` on any other disk: this machine's own is not ours to fill.
    """
    path = ground.disk(host) / "disk/fill"
    if not is_small(ground, host):
        raise LabError("It has no small disk, so it is not filled.", where=host)
    with path.open("ab") as file:
        for _ in range(2):
            free = os.statvfs(path)
            if free.f_blocks * free.f_frsize > 2 * SIZE:
                raise LabError("Its disk is not the small one, so it is not filled.", where=host)
            size = file.seek(0, os.SEEK_END)
            if free.f_bavail:
                os.posix_fallocate(file.fileno(), size, free.f_bavail * free.f_frsize)
            time.sleep(0.05)


def free(ground: Ground, host: str) -> None:
    """Room again."""
    if is_small(ground, host):
        (ground.disk(host) / "disk/fill").unlink(missing_ok=True)
