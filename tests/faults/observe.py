"""What a host is, looked at from outside: what it answers, what its engine runs, what lies on its disk."""

from __future__ import annotations

import fcntl
import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.app import PORT
from tests.faults.ground import APP, Ground

from longshore.lab.commands import wait_until

ASKED = 6
"""Requests that must all be answered by the same version."""
TO_START = 20.0
"""Seconds that a container has to answer, after a power cut for example."""
HALF = (".new-*", ".stage-*", ".old-*", "*.new", "*.tmp")
"""What files and folders are called before they count."""


@dataclass(frozen=True)
class Seen:
    """One host at one moment."""

    host: str
    answers: tuple[str, ...]
    """Version by request; "-" for one that failed."""
    containers: tuple[str, ...]
    """``state version`` of every container of the app, one-off ones too."""
    current: int | None
    """The version of the release that is recorded as current."""
    as_committed: bool
    """The one container is what was written down at the commit of ``current``: config hash and image."""
    unfinished: bool
    """The journal says that a switch was begun and not ended."""
    locked: bool
    agents: int
    half: tuple[str, ...]
    """Files and folders that were never finished."""
    volumes: tuple[str, ...]
    precious: bool
    """The volume holds every byte that was put there."""
    staged: tuple[str, ...] = field(default=())
    """Releases that were brought and never committed."""
    migrations: tuple[str, ...] = field(default=())
    """``begun`` and ``ended``, as the migrations wrote it down in the volume."""

    @property
    def version(self) -> int | None:
        """The one version that it serves."""
        one = set(self.answers)
        return int(one.pop()) if len(one) == 1 and "-" not in one else None


def look(ground: Ground, hosts: Iterable[str]) -> dict[str, Seen]:
    """Look at these hosts, all at once."""
    wanted = list(hosts)
    with ThreadPoolExecutor(max(len(wanted), 1)) as pool:
        return dict(zip(wanted, pool.map(lambda host: look_at(ground, host), wanted), strict=True))


def look_at(ground: Ground, host: str) -> Seen:
    """Look at one host: real requests to its service, its engine's view, its files."""
    address = ground.lab.addresses[host]
    wait_until(lambda: ask(address) != "-", timeout=TO_START, pause=0.2)
    answers = []
    for _ in range(ASKED):
        answers.append(ask(address))
        time.sleep(0.05)
    state = ground.state(host)
    containers = inspect(ground, host)
    link = state / "current"
    current = link.readlink().name if link.is_symlink() else None
    releases = [one for one in state.glob("releases/*") if not one.name.startswith(".")]
    precious = ground.volume(host) / "precious"
    migrations = ground.migrations(host)
    return Seen(
        host=host,
        answers=tuple(answers),
        containers=tuple(sorted(describe(one) for one in containers)),
        current=version_of(state, current) if current else None,
        as_committed=current is not None and same_as_committed(state, current, containers),
        unfinished=unfinished(state),
        locked=locked(state / "lock"),
        agents=len(ground.agents(host)),
        half=tuple(
            sorted({str(path.relative_to(state)) for pattern in HALF for path in state.rglob(pattern)})
        ),
        volumes=tuple(sorted(ground.inside(host, ["docker", "volume", "ls", "-q"]).split())),
        precious=precious.exists() and precious.read_bytes() == ground.precious[host],
        staged=tuple(sorted(one.name for one in releases if not (one / "committed.json").exists())),
        migrations=tuple(migrations.read_text().split()) if migrations.exists() else (),
    )


def ask(address: str, path: str = "/") -> str:
    """What the service answers there; "-" when it doesn't."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://{address}:{PORT}{path}", timeout=3) as answer:
            return str(answer.read().decode())
    except (OSError, urllib.error.URLError, ValueError):
        return "-"


def inspect(ground: Ground, host: str) -> list[dict[str, Any]]:
    """Every container of the app, as the engine reports it."""
    label = f"label=com.docker.compose.project={APP}"
    idents = ground.inside(host, ["docker", "ps", "-aq", "--no-trunc", "--filter", label]).split()
    found: list[dict[str, Any]] = []
    if idents:
        found = json.loads(ground.inside(host, ["docker", "inspect", *idents], check=False) or "[]")
    return found


def describe(container: dict[str, Any]) -> str:
    """``running 7``, with the version in the container's environment."""
    said = dict(word.partition("=")[::2] for word in container["Config"]["Env"])
    kind = "one-off " if container["Config"]["Labels"].get("com.docker.compose.oneoff") == "True" else ""
    return f"{kind}{container['State']['Status']} {said.get('VERSION', '?')}"


def version_of(state: Path, release: str) -> int | None:
    """The version in a release's own ``.env``."""
    try:
        lines = (state / "releases" / release / "bundle/.env").read_text().splitlines()
    except OSError:
        return None
    found = [line.partition("=")[2].strip("\"'") for line in lines if line.startswith("VERSION=")]
    return int(found[0]) if found else None


def same_as_committed(state: Path, release: str, containers: list[dict[str, Any]]) -> bool:
    """Whether what the engine runs carries the labels and image that the commit wrote down."""
    try:
        written = json.loads((state / "releases" / release / "committed.json").read_text())
    except (OSError, ValueError):
        return False
    want = sorted((one["config_hash"], one["image_id"]) for one in written["containers"])
    have = sorted(
        (one["Config"]["Labels"].get("com.docker.compose.config-hash", ""), one["Image"])
        for one in containers
    )
    return bool(want == have)


def unfinished(state: Path) -> bool:
    """Whether the journal's last switch has no end."""
    begun = False
    try:
        lines = (state / "journal.jsonl").read_text(errors="replace").splitlines()
    except OSError:
        return False
    for line in lines:
        try:
            step = json.loads(line).get("step")
        except ValueError:
            continue
        if step in ("switch", "commit", "reverted"):
            begun = step == "switch"
    return begun


def any_locked(ground: Ground) -> bool:
    """Whether somebody holds the lock of any host."""
    return any(locked(ground.state(host) / "lock") for host in ground.hosts)


def locked(path: Path) -> bool:
    """Whether somebody holds the lock."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False
