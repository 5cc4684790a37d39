"""Whether a new release answers worse than the one beside it. Decides, from counts; touches nothing.

Both tests are the same one: so many requests of the new release did badly; could that be chance, if it were
no worse than it may be? Only when chance is below one in a thousand is it worse (the binomial distribution's
tail, summed exactly). One failure among three decides nothing; a dozen of twenty do.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from longshore.inventory.traffic import Traffic
from longshore.records import dataclass

CHANCE = 0.001
"""Below this it is no chance."""
ENOUGH = 20
"""Requests of the new release from which on it can be said that it was judged at all."""
_ENOUGH_OLD = 100
"""Requests of the old release from which on its 95th percentile is one."""
_PERCENTILE = 0.95
_NOTHING = 0.01
"""So much more (s) is nothing that anybody would notice."""


@dataclass(frozen=True)
class Counts:
    """What a release has answered: requests, those of them that failed (5xx), and how many took no longer
    than each of some times (s), rising."""

    requests: int = 0
    errors: int = 0
    within: tuple[tuple[float, int], ...] = ()

    @classmethod
    def of(cls, said: Mapping[str, Any]) -> Counts:
        """As the agent counts (``Meter.of``)."""
        within = tuple((float(bound), int(count)) for bound, count in said["within"])
        return cls(int(said["requests"]), int(said["errors"]), within)

    @property
    def error_share(self) -> float:
        return self.errors / self.requests if self.requests else 0.0

    def percentile(self, share: float = _PERCENTILE) -> float | None:
        """The time (s) in which that share of the requests was answered, by straight lines between the
        bounds; beyond the last bound, infinity. ``None`` without requests."""
        if not self.requests:
            return None
        wanted = share * self.requests
        low, below = 0.0, 0
        for bound, count in self.within:
            if count >= wanted:
                return low + (bound - low) * (wanted - below) / max(1, count - below)
            low, below = bound, count
        return math.inf

    def slower_than(self, seconds: float) -> int:
        """How many took longer; by the first bound that isn't below, for times in between aren't known."""
        for bound, count in self.within:
            if bound >= seconds:
                return max(0, self.requests - count)
        return 0


@dataclass(frozen=True)
class Pair:
    """The two releases of one service, over the same time."""

    old: Counts = Counts()
    new: Counts = Counts()


def together(pairs: Iterable[Pair]) -> Pair:
    """What several hosts counted, as one."""
    all_pairs = list(pairs)
    return Pair(_sum(pair.old for pair in all_pairs), _sum(pair.new for pair in all_pairs))


def _sum(counts: Iterable[Counts]) -> Counts:
    requests = errors = 0
    within: dict[float, int] = {}
    whole = [one for one in counts if one.requests]
    for one in whole:
        requests += one.requests
        errors += one.errors
        for bound, count in one.within:
            within[bound] = within.get(bound, 0) + count
    return Counts(requests, errors, tuple(sorted(within.items())))


def worse(pair: Pair, traffic: Traffic, *, warm: bool = True) -> str:
    """Why the new release is clearly worse; empty when it isn't. Its times count only when it is ``warm``:
    what a release does first is slow in any case."""
    old, new = pair.old, pair.new
    # One error more than the old one had: with few requests its share could as well be that.
    may_fail = (old.errors + 1) / (old.requests + 1) + traffic.errors
    if chance(new.errors, new.requests, may_fail) < CHANCE:
        return (
            f"{_percent(new.error_share)} of {new.requests} requests failed (of the old release"
            f" {_percent(old.error_share)} of {old.requests}; {_percent(traffic.errors)} more may)"
        )
    usual = old.percentile()
    if (
        not warm
        or traffic.latency is None
        or old.requests < _ENOUGH_OLD
        or usual is None
        or math.isinf(usual)
    ):
        return ""
    slow = new.slower_than(max(usual * traffic.latency, usual + _NOTHING))
    if chance(slow, new.requests, 1 - _PERCENTILE) < CHANCE:
        return (
            f"95 % of {new.requests} requests took up to {seconds(new.percentile())} (of the old release"
            f" {seconds(usual)}; {traffic.latency:g} times that may be)"
        )
    return ""


def chance(count: int, of: int, share: float) -> float:
    """How probable it is that at least ``count`` of ``of`` do what each does with probability ``share``."""
    if count <= 0 or share >= 1:
        return 1.0
    if share <= 0:
        return 0.0
    if count / of <= share:
        return 1.0  # no more than is to be expected: it isn't asked how probable exactly
    log_share, log_rest = math.log(share), math.log1p(-share)
    whole = math.lgamma(of + 1)
    total = 0.0
    for number in range(count, of + 1):
        term = math.exp(
            whole
            - math.lgamma(number + 1)
            - math.lgamma(of - number + 1)
            + number * log_share
            + (of - number) * log_rest
        )
        total += term
        if term < total * 1e-9:
            break
    return min(1.0, total)


def line(pair: Pair) -> str:
    """``412 requests, 0.2 % errors (old 0.1 %), p95 12 ms (old 11 ms)``."""
    old, new = pair.old, pair.new
    return (
        f"{new.requests} requests, {_percent(new.error_share)} errors (old {_percent(old.error_share)}),"
        f" p95 {seconds(new.percentile())} (old {seconds(old.percentile())})"
    )


def seconds(time: float | None) -> str:
    """A time as people read it; ``-`` for none."""
    if time is None:
        return "-"
    if math.isinf(time):
        return "over 30 s"
    return f"{time * 1000:.0f} ms" if time < 1 else f"{time:.1f} s"


def _percent(share: float) -> str:
    return f"{share * 100:.1f}".rstrip("0").rstrip(".") + " %"
