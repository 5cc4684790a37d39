"""``python -m tests.lab.ready [amd64|arm64]``: what the tests on practice hosts need and takes minutes, once.

The hosts' roots and the images that stand in for Docker Hub's. Both stay in the lab's cache.
"""

from __future__ import annotations

import signal
import sys

from tests.lab.project import PYTHON

from longshore.lab import Lab, standins
from longshore.lab.machine import native_arch
from longshore.lab.place import Place

# Under QEMU a distribution's set-up takes minutes, so only what is run for both architectures.
FOREIGN = (PYTHON, "redis:7")


def wanted(arch: str) -> dict[str, list[str]]:
    """The images that are missing for an architecture; none where Docker Hub is reached."""
    if standins.hub_is_reached():
        return {}
    images = tuple(standins.STAND_INS) if arch == native_arch() else FOREIGN
    return standins.missing(Place.of("ready").cache / "images", images, [arch])


def make(arch: str) -> None:
    """Make what is missing. Raises ``LabError``."""
    if not (missing := wanted(arch)):
        return
    lab = Lab("ready", say=lambda text: print(text, flush=True))
    try:
        lab.up(1)  # the roots
        lab.stand_in(list(missing), platforms=[arch])
    finally:
        lab.down()


def _end(*_: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _end)
    make(*sys.argv[1:2] or [native_arch()])
