"""The file systems that practice hosts start from: built once by debootstrap, kept in the cache.

``bare`` is a Debian server as a provider hands it out: sshd, sudo, python3, no Docker. ``engine`` is a
layer on it with Docker's engine, Compose and buildx. Hosts write to a layer of their own.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Sequence
from importlib.resources import as_file, files
from pathlib import Path

from longshore.lab.commands import run
from longshore.lab.machine import Say, debian_mirror, install, native_arch
from longshore.lab.state import locked

SUITE = "trixie"
BARE = (
    *("openssh-server", "sudo", "python3", "ca-certificates", "curl", "iproute2", "iputils-ping", "procps"),
    *("cron", "rsync", "gnupg", "less"),
)
ENGINE = ("docker.io", "docker-cli", "docker-compose", "docker-buildx", "iptables")
USER = "deploy"
PASSWORD = "practice"  # noqa: S105 - for sudo inside a practice host; its sshd takes keys only
MACHINE_CA = Path("/etc/ssl/certs/ca-certificates.crt")


def script(name: str) -> str:
    """One of the scripts in ``files/``."""
    return (files("longshore.lab") / "files" / name).read_text()


def layers(cache: Path, *, bare: bool, say: Say) -> list[Path]:
    """The layers of a host's root, uppermost first; built when they aren't in the cache.

    Raises ``LabError`` with the end of debootstrap's or apt's output when that fails.
    """
    cache.mkdir(parents=True, exist_ok=True)
    with locked(cache / "lock"):
        lowest = _cached(cache, "bare", [SUITE, *BARE, *machine_ca()], say, lambda path: _bare(path, say))
        if bare:
            return [lowest]
        upper = _cached(cache, "engine", [lowest.name, *ENGINE], say, lambda path: _engine(path, lowest))
        return [upper, lowest]


def _cached(cache: Path, what: str, recipe: Sequence[str], say: Say, build: Callable[[Path], None]) -> Path:
    """The folder for this recipe. It gets its name when it is complete, so half of one never counts."""
    done = cache / f"{what}-{short_hash(repr(recipe))}"
    if done.exists():
        return done
    say(f"Building the '{what}' root for practice hosts (once; it is kept in {cache}).")
    begun = time.monotonic()
    half = cache / f"building-{what}"
    shutil.rmtree(half, ignore_errors=True)
    half.mkdir()
    build(half)
    half.replace(done)
    say(f"Built the '{what}' root in {time.monotonic() - begun:.0f} s.")
    return done


def short_hash(text: str) -> str:
    """Twelve characters that stand for a recipe."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _bare(root: Path, say: Say) -> None:
    install({"debootstrap": "debootstrap"}, say)
    log = root.parent / "bare.log"
    log.unlink(missing_ok=True)
    debootstrap(root, log, say)
    _settings(root)
    _install(["install", root, *BARE], log)
    chroot = ["chroot", str(root)]
    run([*chroot, "useradd", "--create-home", "--shell", "/bin/bash", "--groups", "sudo", USER])
    run([*chroot, "chpasswd"], stdin=f"{USER}:{PASSWORD}\n")
    for key in (root / "etc/ssh").glob("ssh_host_*"):
        key.unlink()
    run([*chroot, "update-ca-certificates"], log=log)


def _engine(layer: Path, lowest: Path) -> None:
    log = layer.parent / "engine.log"
    log.unlink(missing_ok=True)
    work, root = layer.parent / "engine-work", layer.parent / "engine-root"
    for folder in (work, root):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
    _install(["layer", lowest, layer, work, root, *ENGINE], log)
    shutil.rmtree(work)
    root.rmdir()


def debootstrap(root: Path, log: Path, say: Say) -> None:
    """A minimal Debian in ``root``, from this machine's own mirror or ``LONGSHORE_LAB_MIRROR``."""
    keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
    if not Path(keyring).exists():
        install({"debian-archive-keyring": "debian-archive-keyring"}, say)
    command = ["debootstrap", "--variant=minbase", f"--arch={native_arch()}", f"--keyring={keyring}"]
    command += ["--include=ca-certificates", SUITE, str(root)]
    from_where = os.environ.get("LONGSHORE_LAB_MIRROR") or debian_mirror()
    # debootstrap mounts /proc while it works: in namespaces of its own, so that it never stays mounted.
    alone = ["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child"]
    run([*alone, *command, *([from_where] if from_where else [])], log=log)


def _settings(root: Path) -> None:
    for path, (text, mode) in settings_files().items():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        target.chmod(mode)


def settings_files() -> dict[str, tuple[str, int]]:
    """What every root has, path to text and mode: no service starts while packages are installed, no
    documentation, this machine's proxy and its authorities, sshd by key only."""
    proxy = ""
    if shutil.which("apt-config"):
        for scheme in ("http", "https"):
            proxy += run(["apt-config", "dump", f"Acquire::{scheme}::Proxy"], check=False).stdout
    return {
        "usr/sbin/policy-rc.d": ("#!/bin/sh\nexit 101\n", 0o755),
        "etc/dpkg/dpkg.cfg.d/longshore-lab": (
            "force-unsafe-io\npath-exclude=/usr/share/doc/*\npath-exclude=/usr/share/man/*\n"
            "path-exclude=/usr/share/locale/*\n",
            0o644,
        ),
        "etc/apt/apt.conf.d/90longshore-lab": (f'APT::Install-Recommends "false";\n{proxy}', 0o644),
        "etc/ssh/sshd_config.d/longshore-lab.conf": (
            "PasswordAuthentication no\nPermitRootLogin prohibit-password\n",
            0o644,
        ),
        **{
            f"usr/local/share/ca-certificates/longshore-lab/{number}.crt": (certificate, 0o644)
            for number, certificate in enumerate(machine_ca())
        },
    }


def _install(arguments: Sequence[str | Path], log: Path) -> None:
    with as_file(files("longshore.lab") / "files" / "root.sh") as program:
        run(["sh", program, *arguments], log=log)


def machine_ca() -> list[str]:
    """The authorities that this machine trusts beside Debian's own, as PEM texts.

    A machine behind a proxy that opens TLS has one; builds in a practice host must trust it, too.
    """
    own = Path("/usr/share/ca-certificates")
    if not MACHINE_CA.exists() or not own.is_dir():
        return []
    known = {_body(path.read_text(errors="replace")) for path in own.rglob("*.crt")}
    blocks = MACHINE_CA.read_text(errors="replace").split("-----BEGIN CERTIFICATE-----")[1:]
    every = [
        f"-----BEGIN CERTIFICATE-----{block.split('-----END')[0]}-----END CERTIFICATE-----\n"
        for block in blocks
    ]
    return sorted(pem for pem in every if _body(pem) not in known)


def _body(pem: str) -> str:
    return "".join(pem.partition("-----BEGIN CERTIFICATE-----")[2].partition("-----END")[0].split())
