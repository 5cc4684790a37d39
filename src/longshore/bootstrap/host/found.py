"""What of the engine is on the host already, and what of it is too old or missing."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from longshore.bootstrap.host.say import Refusal
from longshore.bootstrap.host.system import run
from longshore.bootstrap.host.versions import (
    OLDEST_BUILDX,
    OLDEST_COMPOSE,
    OLDEST_ENGINE,
    parse_version,
)

OLDEST = {"engine": OLDEST_ENGINE, "cli": (), "compose": OLDEST_COMPOSE, "buildx": OLDEST_BUILDX}


@dataclass(frozen=True)
class Found:
    """Versions by part (``engine``, ``cli``, ``compose``, ``buildx``); () where a part isn't there."""

    versions: dict[str, tuple[int, ...]]

    @property
    def missing(self) -> tuple[str, ...]:
        """The parts that aren't there, or are too old."""
        return tuple(
            part for part, oldest in OLDEST.items() if not self.versions[part] or self.versions[part] < oldest
        )

    @property
    def engine(self) -> bool:
        """Whether there is an engine of any age."""
        return bool(self.versions["engine"])


def look() -> Found:
    """Ask each program for its version. Raises ``Refusal`` for a Docker that isn't one we can work with."""
    _refuse_others()
    return Found(
        {
            "engine": _version(["dockerd", "--version"]),
            "cli": _version(["docker", "--version"]),
            "compose": _version(["docker", "compose", "version", "--short"]),
            "buildx": _version(["docker", "buildx", "version"], after="buildx"),
        }
    )


def _version(argv: list[str], after: str = "") -> tuple[int, ...]:
    code, output = run(argv)
    if code != 0:
        return ()
    return parse_version(output.partition(after)[2] if after else output)


def _refuse_others() -> None:
    docker = shutil.which("docker")
    if Path("/snap/bin/docker").exists() or (docker and os.path.realpath(docker) == "/usr/bin/snap"):
        raise Refusal(
            "snap",
            "Docker is installed as a snap, which can't mount files from outside of its own folders",
            "Save its volumes, remove it with `snap remove docker`, and bootstrap again.",
        )
    if docker and _is_podman(Path(docker)):
        raise Refusal(
            "podman",
            f"{docker} is Podman under Docker's name",
            "Remove it with `apt-get remove podman-docker`, and bootstrap again.",
        )


def _is_podman(program: Path) -> bool:
    if Path(os.path.realpath(program)).name.startswith("podman"):
        return True
    with program.open("rb") as file:
        head = file.read(4096)
    return head.startswith(b"#!") and b"podman" in head
