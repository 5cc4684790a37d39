"""Version numbers, as programs and packages print them, and the oldest that will do."""

from __future__ import annotations

import re

OLDEST_ENGINE = (24, 0)
OLDEST_COMPOSE = (2, 24, 4)
"""`!reset` and `!override` in the policy's compose file mean what they say from here on (docker/compose)."""
OLDEST_BUILDX = (0, 12)
NEEDED_BY_HAND = (
    "python3 3.9 or newer, Docker engine 24 or newer with its service started,"
    " Docker Compose 2.24.4 or newer and buildx 0.12 or newer"
)

_NUMBER = re.compile(r"\d+(?:\.\d+)*")


def parse_version(text: str) -> tuple[int, ...]:
    """The first number with dots in ``text``: ``5:27.3.1-1~debian.12`` is (27, 3, 1); () without one.

    Debian's epoch (``5:``) is not part of it.
    """
    match = _NUMBER.search(re.sub(r"^\d+:", "", text.strip()))
    return tuple(int(part) for part in match.group().split(".")) if match else ()


def version_text(version: tuple[int, ...]) -> str:
    """(2, 24, 4) as ``2.24.4``."""
    return ".".join(map(str, version))
