"""A deploy to four hosts, against the same by plain ssh and Compose."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.bench.ground import Ground
from tests.bench.timing import Figure, Took, alternately, command, ratio

PROGRAM = str(Path(sys.executable).with_name("longshore"))
DEPLOY = (PROGRAM, "deploy", "--env", "try")

FLOOR = "ssh+compose"


def nothing_to_do(ground: Ground, rounds: int) -> Figure:
    """Both are asked for what runs already."""
    image = ground.take()
    ground.longshore(image)
    ground.floor(image)
    command(DEPLOY, cwd=ground.project.root)
    taken = alternately(
        {
            "longshore": lambda _: command(DEPLOY, cwd=ground.project.root),
            FLOOR: lambda _: ground.floor(),
        },
        rounds,
    )
    return ratio(f"nothing to do, {len(ground.hosts)} hosts", taken, "longshore", FLOOR, 0.6)


def new_version(ground: Ground, rounds: int) -> Figure:
    """Each round a version that no host has: pulled, started, and healthy at the end."""
    ground.longshore(ground.take())
    ground.floor(ground.take())
    command(DEPLOY, cwd=ground.project.root)

    def ours(_: int) -> Took:
        ground.longshore(ground.take())
        return command(DEPLOY, cwd=ground.project.root)

    taken = alternately({"longshore": ours, FLOOR: lambda _: ground.floor(ground.take())}, rounds)
    return ratio(f"new version, {len(ground.hosts)} hosts", taken, "longshore", FLOOR, 1.3)
