"""What an inventory says about a new release's first requests: a share of them (canary), or copies (mirror).

Which hosts are the first batch is another setting, ``rollout.canary``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from longshore.errors import Where
from longshore.inventory.kinds import Reading, Text, Whole, duration
from longshore.inventory.sections import ListOf, Section, Setting, own
from longshore.records import dataclass

_SHARE = r"[1-9]\d?%"


@dataclass(frozen=True)
class Traffic:
    """How much of the requests a new release gets before it gets all of them, and when it is taken back.

    Without ``shares`` and ``mirror`` it gets all at once.
    """

    shares: tuple[int, ...] = ()
    """Percentages, one after the other, rising."""
    mirror: int | None = None
    """Before that: so many percent of the requests are copied to it, and what it answers is thrown away."""
    each: float = 60.0
    """How long each share, and the mirror, is watched (s)."""
    errors: float = 0.01
    """By so much (1.0 is all) its share of failed requests may be above the old one's."""
    latency: float | None = 1.5
    """So many times the old one's 95th percentile its own may be; ``None``: it isn't looked at."""
    min_requests: int | None = None
    """With fewer requests in that time it is taken back; ``None``: it goes on, and that is said."""

    @property
    def wanted(self) -> bool:
        """Whether there is a canary or a mirror at all."""
        return bool(self.shares) or self.mirror is not None


TRAFFIC = Section(
    settings=(
        Setting(
            "share",
            ListOf(
                item=Text("a percentage", "10%", pattern=_SHARE, rule="a percentage from 1% to 99%"),
                single=True,
                example="[5%, 25%]",
            ),
            "The share of requests that the new release gets first; several: one after the other.",
            "none",
            scope="environment",
        ),
        Setting(
            "mirror",
            Text("a percentage", "5%", pattern=_SHARE + "|100%", rule="a percentage from 1% to 100%"),
            "So many of the GET and HEAD requests are copied to the new release before it gets any; nobody"
            " sees what it answers.",
            "none",
            scope="environment",
        ),
        Setting(
            "for",
            duration("2m", minimum=1, shortest="1s"),
            "How long each of these is watched.",
            "1m",
            scope="environment",
        ),
        Setting(
            "errors",
            Text("a percentage", "0.5%", pattern=r"(\d|[1-9]\d)(\.\d+)?%", rule="a percentage"),
            "So many percent more of its requests may fail (5xx) than of the old one's.",
            "1%",
            scope="environment",
        ),
        Setting(
            "latency",
            Text(
                "a factor",
                "2x",
                pattern=r"[1-9]\d{0,2}(\.\d+)?x|none",
                rule="a factor from 1x on, or none",
            ),
            "So many times the old one's time its own may be, both at the 95th percentile.",
            "1.5x",
            scope="environment",
        ),
        Setting(
            "min_requests",
            Whole("a whole number", "100", minimum=1),
            "With fewer requests in that time the new release is taken back.",
            "it goes on, and that is said",
            scope="environment",
        ),
    )
)


def percent(text: str) -> int:
    """``10%`` as 10."""
    return int(text[:-1])


def traffic_policy(found: Mapping[str, Any], reading: Reading) -> Traffic:
    """The value of checked settings. Shares that don't rise are reported."""
    values = own(found)
    shares = tuple(percent(text) for text in values.pop("share", ()))
    if list(shares) != sorted(set(shares)):
        message = f"rollout.traffic.share: {', '.join(f'{share}%' for share in shares)} doesn't rise."
        reading.problem(message, found.get("", Where("")), "Write share: [5%, 25%]")
    mirror = values.pop("mirror", None)
    if "for" in values:
        values["each"] = values.pop("for")
    if "errors" in values:
        values["errors"] = float(values["errors"][:-1]) / 100
    if "latency" in values:
        latency = values["latency"]
        values["latency"] = None if latency == "none" else float(latency[:-1])
    return Traffic(shares=shares, mirror=None if mirror is None else percent(mirror), **values)
