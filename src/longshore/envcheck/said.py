"""A variable with its place, wherever it was said."""

from __future__ import annotations

from dataclasses import field

from longshore.errors import Where
from longshore.records import dataclass


@dataclass(frozen=True)
class Said:
    """A variable as somebody says it. ``environment`` is empty for a single file."""

    key: str
    value: str = field(repr=False)
    where: Where
    environment: str = ""
