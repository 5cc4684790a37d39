"""The system under the engine: which one it is, its programs and disks, and how files are written there."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from longshore.bootstrap.host.say import Refusal
from longshore.bootstrap.host.versions import NEEDED_BY_HAND, parse_version

OLDEST = {"debian": (12,), "ubuntu": (22, 4)}
KNOWN = "Debian 12 and 13 and Ubuntu 22.04, 24.04 and 26.04"
LEAST_FREE = 700 * 1000 * 1000
"""Bytes: the packages of the engine unpack to some 400 MB, and lie beside that as archives meanwhile."""


def prepare() -> None:
    """Give this process and its children a known environment: paths, language, no questions."""
    os.umask(0o022)
    for name in [*os.environ]:
        if name.startswith(("DOCKER_", "COMPOSE_", "DEBCONF_")):
            del os.environ[name]
    os.environ.update(
        PATH="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        LC_ALL="C",
        DEBIAN_FRONTEND="noninteractive",
        # Ubuntu's needrestart would restart services, the engine among them, by itself or after a question.
        NEEDRESTART_SUSPEND="1",
        # The person's current context may point to another machine's engine.
        DOCKER_CONTEXT="default",
    )


def run(argv: Sequence[str], *, timeout: float = 60.0) -> tuple[int, str]:
    """Run a program without input; its exit code (127: not there, 124: took too long) and all its output."""
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout,
            check=False,
        )
    except FileNotFoundError:
        return 127, f"{argv[0]}: not found"
    except subprocess.TimeoutExpired as error:
        return 124, (error.stdout or b"").decode(errors="replace")
    return done.returncode, done.stdout.decode(errors="replace")


def release(path: str = "/etc/os-release") -> dict[str, str]:
    """The fields of os-release(5), without their quotes; {} where there is no such file."""
    try:
        lines = Path(path).read_text(errors="replace").splitlines()
    except OSError:
        return {}
    pairs = [line.split("=", 1) for line in lines if "=" in line and not line.startswith("#")]
    return {name.strip(): value.strip().strip("\"'") for name, value in pairs}


def need_root() -> None:
    """Raises ``Refusal`` for anyone but root."""
    if os.geteuid() != 0:
        raise Refusal(
            "not_root",
            "installing an engine takes root, and this user isn't",
            "Set `ansible_become: true` for this host, or connect as root.",
        )


def need_known(fields: dict[str, str]) -> None:
    """Raises ``Refusal`` for a system whose packages this program doesn't know."""
    name = fields.get("ID", "")
    version = parse_version(fields.get("VERSION_ID", ""))
    # Debian's testing and unstable have no number: they are newer than every release.
    known = name in OLDEST and (not version or version >= OLDEST[name]) and shutil.which("apt-get")
    if not known:
        raise Refusal(
            "unsupported",
            f"this host runs {fields.get('PRETTY_NAME') or 'an unknown system'}; it can install on {KNOWN}",
            f"Install by hand: {NEEDED_BY_HAND}. Then bootstrap again: it does the rest.",
        )


def need_space(*folders: str) -> None:
    """Raises ``Refusal`` where less than ``LEAST_FREE`` bytes are free."""
    for folder in folders:
        free = shutil.disk_usage(folder).free
        if free < LEAST_FREE:
            raise Refusal(
                "no_space",
                f"only {free // 1000000} MB are free on the disk of {folder};"
                f" the engine's packages need {LEAST_FREE // 1000000} MB",
                "Free some, for example with `apt-get clean` and `journalctl --vacuum-size=100M`.",
            )


def write(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Write a file whole or not at all, synced. One that is there keeps its mode, owner and symlink."""
    target = Path(os.path.realpath(path))
    target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            try:
                old = target.stat()
                os.fchmod(descriptor, old.st_mode & 0o7777)
                os.fchown(descriptor, old.st_uid, old.st_gid)
            except FileNotFoundError:
                os.fchmod(descriptor, mode)
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        os.replace(name, target)  # noqa: PTH105 - one of the two is a plain name already
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
