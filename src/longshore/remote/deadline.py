"""How long a wait may still take."""

from __future__ import annotations

import time


def left(end: float | None) -> float | None:
    """Seconds until ``end`` (monotonic), None without one. Raises ``TimeoutError`` when it is over."""
    if end is None:
        return None
    seconds = end - time.monotonic()
    if seconds <= 0:
        raise TimeoutError
    return seconds
