"""Sizes, durations and CPU shares: parsed from what a person writes, and written back the same way.

Sizes are bytes, durations seconds, CPU cores. Every parser raises ``ValueError`` with a sentence that says
what was wrong and shows an example; the caller adds the place.
"""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation

_UNITS = ("", "k", "m", "g", "t", "p")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgtp]?)(i?)(b?)", re.IGNORECASE | re.ASCII)
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|us|h|m|s|d)", re.ASCII)
_SECONDS = {
    "us": Decimal("0.000001"),
    "ms": Decimal("0.001"),
    "s": Decimal(1),
    "m": Decimal(60),
    "h": Decimal(3600),
    "d": Decimal(86400),
}
_LARGEST_SIZE = 2**60
_LONGEST = Decimal(366 * 86400)
_FEWEST_CPUS = Decimal("0.01")
"""The kernel's smallest quota is 1 ms of 100: below it a container doesn't start."""
_MOST_CPUS = Decimal(4096)


def parse_size(text: str | int | float, *, base: int = 1024) -> int:
    """Return the bytes of ``512M``, ``1.5g``, ``64MiB`` or ``100b``.

    ``base`` is 1024 for memory and 1000 for log files: that is how Docker reads ``m`` in ``--memory`` and in
    ``max-size`` (docker/go-units ``RAMInBytes`` and ``FromHumanSize``). ``MiB`` is 1024² in both. A number
    without a unit is refused, since it nearly always means megabytes and would be taken as bytes.
    """
    written = str(text).strip()
    said = _cut(written)
    match = _SIZE.fullmatch(written)
    if not match or (match[3] and not match[2]):
        raise ValueError(f"{_shown(written)} is not a size. Write it with a unit, as 512M, 1.5G or 100k.")
    number, unit, binary, byte = match[1], match[2].lower(), match[3], match[4]
    if not unit and not byte and Decimal(number) != 0:
        raise ValueError(f"{said} has no unit. Write {said}M for megabytes, or {said}b for bytes.")
    size = Decimal(number) * (1024 if binary else base) ** _UNITS.index(unit)
    if size > _LARGEST_SIZE:
        raise ValueError(f"{said} is larger than any machine. Write it as 512M or 1.5G.")
    return int(size)


def format_size(size: int, *, base: int = 1024) -> str:
    """Return ``size`` (bytes) as the shortest text that reads back exactly: ``512M``, ``1536K``, ``100b``."""
    for power in range(len(_UNITS) - 1, 0, -1):
        if size and size % base**power == 0:
            return f"{size // base**power}{_UNITS[power].upper()}"
    return f"{size}b"


def parse_duration(text: str | int | float) -> float:
    """Return the seconds of ``30s``, ``1m30s``, ``500ms`` or ``2h``. A number without a unit is refused."""
    written = str(text).strip()
    if written == "0":
        return 0.0
    said = _cut(written)
    parts = list(_DURATION_PART.finditer(written))
    if not parts or "".join(part[0] for part in parts) != written:
        if re.fullmatch(r"\d+(\.\d+)?", written, re.ASCII):
            raise ValueError(f"{said} has no unit. Write {said}s for seconds, or {said}m for minutes.")
        raise ValueError(f"{_shown(written)} is not a duration. Write it as 30s, 1m30s or 500ms.")
    seconds = sum((Decimal(part[1]) * _SECONDS[part[2]] for part in parts), Decimal(0))
    if seconds > _LONGEST:
        raise ValueError(f"{said} is longer than a year. Write it as 30s, 1m30s or 2h.")
    return float(seconds)


def format_duration(seconds: float) -> str:
    """Return ``seconds`` as ``1h30m``, ``30s`` or ``500ms``: it reads back exactly, to the microsecond."""
    left = round(seconds * 1_000_000)
    if left == 0:
        return "0s"
    parts = []
    for unit, micro in (("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000), ("ms", 1000), ("us", 1)):
        count, left = divmod(left, micro)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts)


def parse_cpus(text: str | int | float) -> float:
    """Return the cores of ``0.5``, ``2`` or ``"1.5"``."""
    written = str(text).strip()
    if re.fullmatch(r"\d+m", written, re.ASCII):
        cores = format_cpus(int(written[:-1]) / 1000) if len(written) < 9 else "0.5"
        raise ValueError(f"{written} is Kubernetes' notation. Write it in cores: {cores}.")
    try:
        cpus = Decimal(written)
    except InvalidOperation:
        cpus = Decimal(-1)
    if not cpus.is_finite() or not 0 < cpus <= _MOST_CPUS:
        raise ValueError(f"{_shown(written)} is not a number of CPU cores. Write it as 0.5 or 2.")
    if cpus < _FEWEST_CPUS:
        raise ValueError(f"{_cut(written)} CPU cores are too few: the least is {_FEWEST_CPUS}.")
    return float(cpus)


def format_cpus(cpus: float) -> str:
    """Return cores as compose has them: ``0.5``, ``2``."""
    return f"{cpus:.4f}".rstrip("0").rstrip(".")


def _shown(text: str) -> str:
    """Quote what was written, shortened: an error must stay one line."""
    return repr(_cut(text))


def _cut(text: str) -> str:
    return text if len(text) <= 40 else text[:37] + "..."
