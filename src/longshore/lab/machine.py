"""What a lab changes on the machine itself, and how the last lab takes it back.

The record is in ``/run``: what it describes doesn't survive a restart of the machine either.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import platform
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from longshore.lab.commands import LabError, run
from longshore.lab.state import locked
from longshore.records import dataclass

RECORD = Path("/run/longshore-lab/machine.json")
IP_FORWARD = Path("/proc/sys/net/ipv4/ip_forward")
BINFMT = Path("/proc/sys/fs/binfmt_misc")
PACKAGED = Path("/usr/lib/binfmt.d/qemu-aarch64.conf")
_DPKG = Path("/var/lib/dpkg")
_APT_BUSY = 300
"""Seconds that apt waits for another one, as a new machine's own updates."""
Say = Callable[[str], None]

# ELF, 64 bit, little endian, executable or shared object, AArch64; as QEMU's own binfmt.d entry has it.
AARCH64_MAGIC = r"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"
AARCH64_MASK = r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff"


@dataclass(frozen=True)
class Machine:
    """What was changed, and for whom. ``ip_forward`` is what the setting was before; empty: untouched."""

    labs: tuple[str, ...] = ()
    ip_forward: str = ""
    binfmt_entry: bool = False
    binfmt_mount: bool = False


def native_arch() -> str:
    """This machine's architecture by Debian's name."""
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())


def _read() -> Machine:
    try:
        raw = json.loads(RECORD.read_text())
        return Machine(**{**raw, "labs": tuple(raw["labs"])})
    except (OSError, ValueError, KeyError, TypeError):
        return Machine()


def _write(machine: Machine) -> None:
    beside = RECORD.with_suffix(".new")
    beside.write_text(json.dumps(asdict(machine)))
    beside.replace(RECORD)


def claim(lab: str) -> None:
    """Let the machine forward packets, for this lab. Recorded before it is done."""
    with locked(RECORD.with_suffix(".lock")):
        machine = _read()
        if lab not in machine.labs:
            machine = replace(machine, labs=(*machine.labs, lab))
        if not machine.ip_forward:
            machine = replace(machine, ip_forward=IP_FORWARD.read_text().strip())
        _write(machine)
        IP_FORWARD.write_text("1")


def runs_arm64() -> bool:
    """Whether arm64 programs run here, also in roots without QEMU (binfmt_misc's flag F)."""
    there = BINFMT.glob("*aarch64*")
    return native_arch() == "arm64" or any(
        "F" in entry.read_text().partition("flags: ")[2].split("\n")[0] for entry in there
    )


def emulate_arm64(lab: str, say: Say) -> None:
    """Let the machine, and so every practice host, run arm64 programs by QEMU.

    The F flag makes the kernel hold QEMU open: it need not exist in a host or container. An entry that
    is there already is used and left alone.
    """
    if native_arch() == "arm64":
        return
    with locked(RECORD.with_suffix(".lock")):
        machine = _read()
        if not (BINFMT / "status").exists():
            run(["mount", "-t", "binfmt_misc", "binfmt_misc", BINFMT])
            machine = replace(machine, binfmt_mount=True)
            _write(machine)
        if runs_arm64():
            return
        if not any(shutil.which(name) for name in ("qemu-aarch64-static", "qemu-aarch64")):
            install({"qemu-aarch64-static": "qemu-user-static"}, say)
        qemu = shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64") or ""
        _write(replace(machine, binfmt_entry=True, labs=tuple({*machine.labs, lab})))
        entry = BINFMT / "qemu-aarch64"
        if entry.exists():  # by the package just installed, or one without the F flag
            entry.write_text("-1")
        (BINFMT / "register").write_text(binfmt_line(qemu))


def binfmt_line(qemu: str, packaged: Path = PACKAGED) -> str:
    """What to write to binfmt_misc's ``register`` (the kernel's admin-guide/binfmt-misc): the distribution's
    own line where QEMU's package brings one with the F flag, else one for the program ``qemu``."""
    line = packaged.read_text().strip() if packaged.exists() else ""
    if line.startswith(":qemu-aarch64:") and "F" in line.rpartition(":")[2]:
        return line + "\n"
    return f":qemu-aarch64:M::{AARCH64_MAGIC}:{AARCH64_MASK}:{qemu}:OCF\n"


def release(lab: str) -> None:
    """Say that this lab is gone; when it was the last one, the machine's settings go back."""
    if not RECORD.exists():
        return
    with locked(RECORD.with_suffix(".lock")):
        machine = _read()
        machine = replace(machine, labs=tuple(other for other in machine.labs if other != lab))
        _write(machine)
        if machine.labs:
            return
        if machine.ip_forward == "0":
            IP_FORWARD.write_text("0")
        entry = BINFMT / "qemu-aarch64"
        if machine.binfmt_entry and entry.exists():
            entry.write_text("-1")
        if machine.binfmt_mount:
            run(["umount", BINFMT], check=False)
        RECORD.unlink()
    RECORD.with_suffix(".lock").unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        RECORD.parent.rmdir()


def install(programs: dict[str, str], say: Say) -> None:
    """Install the packages of those programs that this machine doesn't have (program to package).

    Raises ``LabError`` where there is no apt, or the person isn't root, with the names of the packages.
    """
    missing = _missing(programs)
    if not missing:
        return
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        raise LabError(
            f"Practice hosts need programs that aren't installed here: {' '.join(missing)}.",
            hint="Install them with this machine's package manager.",
        )
    with alone_with_apt():
        missing = _missing(programs)  # another lab may just have installed them
        if not missing:
            return
        say(f"Installing {' '.join(missing)} with apt (needed to make practice hosts).")
        env = {"DEBIAN_FRONTEND": "noninteractive"}
        wait = ["-o", f"DPkg::Lock::Timeout={_APT_BUSY}"]
        command = ["apt-get", "install", "-y", "-q", *wait, "--no-install-recommends", *missing]
        if run(command, check=False, env=env).returncode != 0:
            run(["apt-get", "update", "-q"], env=env)
            run(command, env=env)


def _missing(programs: dict[str, str]) -> list[str]:
    return sorted({package for program, package in programs.items() if shutil.which(program) is None})


@contextlib.contextmanager
def alone_with_apt() -> Iterator[None]:
    """One of us runs apt at a time: two that read its lists at once both fail, whatever they would wait for.

    The lock is on dpkg's folder itself, so nothing of it stays; it is none of apt's own locks.
    """
    folder = os.open(_DPKG, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def debian_mirror() -> str | None:
    """The Debian mirror that this machine's own apt uses; ``None`` on a machine that isn't Debian."""
    if shutil.which("apt-get") is None:
        return None
    listed = run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI)|$(LABEL)|$(COMPONENT)", "Created-By: Packages"],
        check=False,
    )
    return mirror_of(listed.stdout.splitlines())


def mirror_of(targets: Sequence[str]) -> str | None:
    """The first target that is Debian's main archive, of lines ``URI|label|component``."""
    for line in targets:
        uri, label, component = line.strip().split("|")
        if label == "Debian" and component == "main":
            return uri
    return None
