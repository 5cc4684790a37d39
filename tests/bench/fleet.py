"""A deploy to four hosts, against the same by plain ssh and Compose."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.bench.ground import Ground
from tests.bench.timing import Figure, Took, alternately, command, ratio

WORDS = ("deploy", "--env", "try")
DEPLOY = (str(Path(sys.executable).with_name("longshore")), *WORDS)
BY_INVOKE = (str(Path(sys.executable).with_name("invoke")), *WORDS)

FLOOR = "ssh+compose"


def nothing_to_do(ground: Ground, rounds: int) -> list[Figure]:
    """All are asked for what runs already: by our own command, by Invoke's, and by the floor."""
    image = ground.take()
    ground.longshore(image)
    ground.floor(image)
    command(DEPLOY, cwd=ground.project.root)
    taken = alternately(
        {
            "longshore": lambda _: command(DEPLOY, cwd=ground.project.root),
            "invoke": lambda _: command(BY_INVOKE, cwd=ground.project.root),
            FLOOR: lambda _: ground.floor(),
        },
        rounds,
    )
    hosts = f"{len(ground.hosts)} hosts"
    return [
        ratio(f"nothing to do, {hosts}", taken, "longshore", FLOOR, 0.6),
        ratio(f"nothing to do, {hosts}, invoke deploy", taken, "invoke", FLOOR, 0.6),
    ]


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
