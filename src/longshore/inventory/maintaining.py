"""What an inventory says about an app's maintenance: what those see who are turned away meanwhile."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from longshore.inventory.kinds import Text, duration
from longshore.inventory.proxying import Networks
from longshore.inventory.sections import ListOf, Section, Setting


@dataclass(frozen=True)
class Maintenance:
    """The page, when to come again (s), and which networks are let through. ``page`` ``None``: our own."""

    page: Path | None = None
    retry_after: float = 300.0
    allow: tuple[str, ...] = ()


MAINTENANCE = Section(
    settings=(
        Setting(
            "page",
            Text("a path in the project", "templates/maintenance.html", pattern=r"[^\x00]+", rule="a path"),
            "An HTML file (UTF-8, at most 256 KiB) that is shown meanwhile.",
            "a plain one of Longshore's",
        ),
        Setting("retry_after", duration("5m"), "When clients should come again (Retry-After).", "5m"),
        Setting(
            "allow",
            ListOf(item=Networks("a network", "10.0.0.0/8"), single=True, example="[192.0.2.10]"),
            "Addresses and networks that are let through.",
            "none",
        ),
    )
)
