"""QEMU's user emulation on hosts that build for architectures which aren't their own.

The kernel starts it for programs of those (binfmt_misc). What counts is the flag F: the interpreter is opened
when it is registered, and so works in containers that lack it. Source: the kernel's admin-guide/binfmt-misc.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from longshore.bootstrap.host.apt import Apt
from longshore.bootstrap.host.say import Changes, note
from longshore.bootstrap.host.system import need_known, need_space, release, run

BINFMT = Path("/proc/sys/fs/binfmt_misc")
BROUGHT = Path("/usr/lib/binfmt.d")
"""What packages bring for systemd-binfmt (binfmt.d(5))."""
KNOWN = Path("/var/lib/binfmts")
"""What binfmt-support has been told of, switched on or off."""
_QEMU = {
    "linux/amd64": "x86_64",
    "linux/386": "i386",
    "linux/arm64": "aarch64",
    "linux/arm": "arm",
    "linux/riscv64": "riscv64",
    "linux/ppc64le": "ppc64le",
    "linux/s390x": "s390x",
    "linux/loong64": "loongarch64",
}
"""Platforms as Docker names them, as QEMU names their processors."""
_OWN = {"x86_64": ("x86_64", "i386"), "aarch64": ("aarch64",), "armv7l": ("arm",)}
STATIC, BINFMT_PACKAGE, SUPPORT = "qemu-user-static", "qemu-user-binfmt", "binfmt-support"


def lacking(
    platforms: Sequence[str], *, folder: Path = BINFMT, machine: str = "", built: Sequence[str] | None = None
) -> tuple[str, ...]:
    """Those of ``platforms`` whose programs this host can't run in containers.

    ``built`` is what the engine says that it builds for: it knows it where binfmt_misc isn't mounted, too.
    """
    machine = machine or os.uname().machine
    own = _OWN.get(machine, (machine,))
    known = {_cpu(one) for one in (_built() if built is None else built)} | {*own}
    return tuple(
        one for one in platforms if (cpu := _cpu(one)) not in known and not (cpu and _registered(cpu, folder))
    )


def _built() -> list[str]:
    with tempfile.TemporaryDirectory(prefix="longshore-") as notes:
        # buildx notes who was asked last; that is the person's own affair.
        code, told = run(["env", f"BUILDX_CONFIG={notes}", "docker", "buildx", "inspect"])
    found = re.search(r"^Platforms:[ \t]*(\S.*)$", told, re.M) if code == 0 else None
    return [one.strip().rstrip("*") for one in found[1].split(",")] if found else []


def _cpu(platform: str) -> str:
    """linux/arm/v7 is QEMU's arm; empty for a platform that it doesn't know."""
    return _QEMU.get("/".join(platform.split("/")[:2]), "")


def _registered(cpu: str, folder: Path) -> bool:
    try:
        lines = (folder / f"qemu-{cpu}").read_text().splitlines()
    except OSError:
        return False
    flags = next((line.partition(":")[2] for line in lines if line.startswith("flags:")), "")
    return lines[:1] == ["enabled"] and "F" in flags


def choose(candidates: Mapping[str, str], *, systemd: bool) -> tuple[str, ...]:
    """The packages that bring it. ``candidates`` is what apt offers: package to version.

    Where there is a qemu-user-static it is that, or what it has become: since Debian 13 qemu-user is static.
    """
    first = next((name for name in (STATIC, BINFMT_PACKAGE) if name in candidates), "")
    if not first:
        return ()
    # Either registers what the package brings; binfmt-support where there is no systemd to do it.
    return (first, *((SUPPORT,) if not systemd and SUPPORT in candidates else ()))


def bring(changes: Changes, platforms: Sequence[str], *, lock_timeout: float) -> None:
    """Have programs of these platforms run here. What can't be had is a note: the rest of the host is fine.

    Raises ``Refusal`` when apt fails.
    """
    missing = lacking(platforms)
    if not missing:
        return
    unknown = [one for one in missing if not _cpu(one)]
    if unknown:
        note(f"QEMU runs nothing for {', '.join(unknown)}: build that on a host of that architecture")
    missing = tuple(one for one in missing if one not in unknown)
    if missing and not _installed():
        _install(changes, missing, lock_timeout)
    if _installed() or not changes.check:
        _tell_kernel(changes, missing)


def _install(changes: Changes, missing: Sequence[str], lock_timeout: float) -> None:
    need_known(release())
    need_space("/usr", "/var")
    with tempfile.TemporaryDirectory(prefix="longshore-") as folder:
        apt = Apt(lock_timeout=lock_timeout, lists=folder if changes.check else "")
        apt.update()
        systemd = Path("/run/systemd/system").is_dir()
        packages = choose(apt.candidates((STATIC, BINFMT_PACKAGE, SUPPORT)), systemd=systemd)
        if packages:
            text = f"install {', '.join(packages)}, to build for {', '.join(missing)}"
            changes.make(text, lambda: apt.install(packages))
        else:
            note(f"apt offers no {STATIC}, so nothing can be built here for {', '.join(missing)}")


def _installed() -> bool:
    for name in (STATIC, BINFMT_PACKAGE):
        code, output = run(["dpkg-query", "-W", "-f", "${db:Status-Status}", name])
        if code == 0 and output == "installed":
            return True
    return False


def _tell_kernel(changes: Changes, missing: Sequence[str]) -> None:
    """Installed is not yet registered: a person may have switched it off, or nothing here does it."""
    still = lacking(missing)
    if still and Path("/run/systemd/system").is_dir():
        if not changes.check:
            run(["systemctl", "restart", "systemd-binfmt.service"])
    else:
        # Since Debian 13 QEMU's packages leave it to systemd alone.
        for one in still:
            words = _registration(_cpu(one))
            if words:
                changes.make(f"have the kernel run programs of {one} with QEMU", partial(_do, words))
    still = () if changes.check else lacking(missing)
    if still:
        note(
            f"QEMU is installed, and the kernel isn't told to run {', '.join(still)} with it:"
            " `systemctl restart systemd-binfmt`, or `update-binfmts --enable`, on the host"
        )


def _do(words: Sequence[str]) -> None:
    run(words)


def _registration(cpu: str) -> list[str]:
    """How binfmt-support is told to register it, now and at every boot, as the package has it for systemd;
    empty where there is nothing to tell, or somebody has."""
    try:
        text = (BROUGHT / f"qemu-{cpu}.conf").read_text().strip()
    except OSError:
        return []
    fields = text.split(":")
    if (
        len(fields) != 8
        or fields[2] != "M"
        or (KNOWN / fields[1]).exists()
        or not shutil.which("update-binfmts")
    ):
        return []
    _, name, _, offset, magic, mask, interpreter, flags = fields
    words = ["update-binfmts", "--package", "longshore", "--install", name, interpreter]
    words += ["--offset", offset or "0", "--magic", magic, "--mask", mask, "--fix-binary", "yes"]
    words += ["--preserve", "yes"] if "P" in flags else []
    return words + (["--credentials", "yes"] if "C" in flags else [])
