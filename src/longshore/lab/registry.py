"""A real registry (Debian's docker-registry) on the lab's bridge, the hosts' mirror of Docker Hub."""

from __future__ import annotations

import os
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from longshore.lab.commands import LabError, Process, run, wait_until
from longshore.lab.machine import Say, alone_with_apt
from longshore.lab.state import locked

JOIN = 'for procs in $LAB_JOIN; do echo 0 >"$procs"; done; exec "$0" "$@"'
# What the filesystem driver of docker-registry 2.8 keeps below its root.
STORAGE = "docker/registry/v2"
UPLOADS = "_uploads"
SETTINGS = "config.yml"


def program(cache: Path, say: Say) -> Path:
    """The registry's program: the installed one, or Debian's, unpacked in the cache.

    It isn't installed, since the package would start a service of its own on every boot.
    """
    installed = shutil.which("docker-registry")
    if installed:
        return Path(installed)
    folder = cache / "docker-registry"
    unpacked = folder / "usr/bin/docker-registry"
    cache.mkdir(parents=True, exist_ok=True)
    with locked(cache / "registry.lock"):
        if unpacked.exists():
            return unpacked
        if shutil.which("apt-get") is None:
            raise LabError("The program 'docker-registry' isn't installed on this machine.")
        say("Getting Debian's docker-registry.")
        half = cache / "docker-registry-new"
        shutil.rmtree(half, ignore_errors=True)
        half.mkdir()
        get = ["sh", "-c", 'cd "$1" && exec apt-get download -q docker-registry', "sh", str(half)]
        with alone_with_apt():
            if run(get, check=False).returncode != 0:
                run(["apt-get", "update", "-q"])
                run(get)
        (package,) = half.glob("*.deb")
        run(["dpkg-deb", "-x", package, half])
        half.replace(folder)
    return unpacked


def start(home: Path, address: str, binary: Path, join: Sequence[Path] = ()) -> Process:
    """Start the registry at ``address`` (host:port) with its content below ``home``.

    ``join`` are the ``cgroup.procs`` files of the groups that it is to be in: it is found by them when
    whoever started it was killed before taking note.
    Raises ``LabError`` with its log's end when it doesn't answer within 10 seconds.
    """
    home.mkdir(parents=True, exist_ok=True)
    settings = home / SETTINGS
    settings.write_text(
        "version: 0.1\n"
        "log: {level: warn}\n"
        f"storage: {{filesystem: {{rootdirectory: {home}/content}}, delete: {{enabled: true}}}}\n"
        f"http: {{addr: '{address}'}}\n"
    )
    log = home / "log"
    with log.open("a") as output:
        child = subprocess.Popen(
            ["sh", "-c", JOIN, str(binary), "serve", str(settings)],
            env={**os.environ, "LAB_JOIN": " ".join(map(str, join))},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd="/",
            start_new_session=True,
        )
    process = Process.of(child.pid)
    if process is None or not wait_until(lambda: child.poll() is not None or answers(address), timeout=10):
        child.kill()
    if process is None or child.poll() is not None:
        said = " / ".join(log.read_text(errors="replace").strip().splitlines()[-2:])
        raise LabError(f"The registry at {address} didn't start: {said}")
    return process


def running(home: Path) -> list[Process]:
    """The processes of this machine that are the registry with its content below ``home``."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if words[1:3] == [b"serve", os.fsencode(home / SETTINGS)]:
            found.append(Process.of(int(path.parent.name)))
    return [process for process in found if process is not None]


def answers(address: str) -> bool:
    """Whether a registry answers there."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://{address}/v2/", timeout=2) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def repositories(content: Path) -> list[str]:
    """The names of the repositories in a registry's content."""
    folder = content / STORAGE / "repositories"
    return sorted(str(path.parent.relative_to(folder)) for path in folder.rglob("_manifests"))


def copy_content(source: Path, target: Path, repositories: list[str]) -> None:
    """Copy repositories from one registry's content to another's; neither needs to be stopped.

    Blobs are never rewritten, so they are linked; what names them is small and copied. What is pushed to
    the same repository meanwhile may come or not.
    """
    if not (source / STORAGE).exists():
        return
    blobs = target / STORAGE / "blobs"
    blobs.mkdir(parents=True, exist_ok=True)
    for blob in (source / STORAGE / "blobs").rglob("data"):
        link = blobs / blob.relative_to(source / STORAGE / "blobs")
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.exists():
            os.link(blob, link)
    for repository in repositories:
        folder = source / STORAGE / "repositories" / repository
        into = target / STORAGE / "repositories" / repository
        for where, folders, names in os.walk(folder):
            if UPLOADS in folders:
                folders.remove(UPLOADS)  # half of something, and soon gone
            below = into / Path(where).relative_to(folder)
            below.mkdir(parents=True, exist_ok=True)
            for name in names:
                with suppress(FileNotFoundError):
                    shutil.copy2(Path(where, name), below / name)
