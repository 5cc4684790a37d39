"""Sizes, times and dates as people read them."""

from __future__ import annotations

from datetime import datetime


def bytes_text(count: float) -> str:
    """``1234567`` as ``1.2 MB`` (powers of 1000, as Docker prints sizes)."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit in ("B", "kB") else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError("unreachable")


def seconds_text(seconds: float) -> str:
    """A span of time: ``0.4 s``, ``12 s``, ``3 min 4 s``, ``2 h 5 min``, ``3 days``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} days"


def when_text(at: float) -> str:
    """Seconds since the epoch, in the reader's own time zone."""
    return datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")
