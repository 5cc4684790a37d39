"""The time in which a new release gets a part of the requests, beside the old one, and is judged by what it
answers.

All hosts of a batch do the same at the same time, each in its own proxy. A host whose new release is clearly
worse fails like any other; what they count together may show it earlier.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

from longshore.console import Output
from longshore.console.words import seconds_text
from longshore.errors import DeployError, LongshoreError
from longshore.inventory.traffic import Traffic
from longshore.records import dataclass
from longshore.rollout.crew import Crew
from longshore.rollout.judging import ENOUGH, Counts, Pair, line, together, worse
from longshore.rollout.steps import Steps

_LOOK = 1.0
"""Seconds between two looks."""

Do = Callable[[Iterable[str], Callable[[str], None]], None]
"""Does a step on hosts, and bears as many failures as the rollout may."""


@dataclass(frozen=True)
class Stage:
    """For ``seconds`` the new release gets a ``share`` of the requests, or copies of them (percent)."""

    share: int
    mirror: int
    seconds: float

    @property
    def kind(self) -> str:
        return "canary" if self.share else "mirror"

    def __str__(self) -> str:
        return f"{self.kind} {self.share or self.mirror} %"


def stages(traffic: Traffic) -> tuple[Stage, ...]:
    """The copies first, then the shares."""
    copies = (Stage(0, traffic.mirror, traffic.each),) if traffic.mirror is not None else ()
    return (*copies, *(Stage(share, 0, traffic.each) for share in traffic.shares))


def in_words(traffic: Traffic) -> str:
    """``copies of 5 % of the requests for 1 min, then 10 % of them for 1 min``."""
    each = seconds_text(traffic.each)
    told = [
        f"{stage.share} % of the requests" if stage.share else f"copies of {stage.mirror} % of the requests"
        for stage in stages(traffic)
    ]
    return ", then ".join(f"{text} for {each}" for text in told)


class Canary:
    """One batch's canary. ``do`` is the rollout's, and raises when too many hosts have failed."""

    def __init__(self, steps: Steps, crew: Crew, output: Output, traffic: Traffic, do: Do) -> None:
        self.steps = steps
        self.crew = crew
        self.output = output
        self.traffic = traffic
        self.do = do
        self.counted: dict[str, dict[str, Pair]] = {}
        """What each host has counted in this stage, by service."""

    def run(self, hosts: Sequence[str], moving: Callable[[], Iterable[str]]) -> None:
        """Have the release prove itself on these hosts, where it runs beside the old one. ``moving``: those
        that have not failed. Raises ``DeployError`` when what they count together says that it is worse.

        However it ends but well, the old release has all requests again at once.
        """
        if not hosts:
            self.output.say("Nothing that changes can share its requests with the release before: no canary.")
            return
        for stage in stages(self.traffic):
            with self._given_back(hosts):
                self._stage(stage, hosts, moving)

    @contextlib.contextmanager
    def _given_back(self, hosts: Iterable[str]) -> Iterator[None]:
        try:
            yield
        except BaseException:
            if not self.crew.abandoned:
                # Before hooks and all else that takes its time. What fails here goes back in a moment.
                self.crew.each(hosts, self._nothing, then="")
            raise

    def _nothing(self, host: str) -> None:
        with contextlib.suppress(LongshoreError):
            self.steps.give(host, share=0, mirror=0)

    def _stage(self, stage: Stage, hosts: Sequence[str], moving: Callable[[], Iterable[str]]) -> None:
        def left() -> list[str]:
            now = set(moving())
            return [host for host in hosts if host in now]

        self.counted = {}
        self.do(left(), partial(self.steps.give, share=stage.share, mirror=stage.mirror))
        began = time.monotonic()
        over = False
        while not over:
            rest = stage.seconds - (time.monotonic() - began)
            time.sleep(max(0.0, min(_LOOK, rest)))
            passed = time.monotonic() - began
            over = passed >= stage.seconds
            warm = passed >= stage.seconds / 2
            self.do(left(), partial(self._look, stage=stage, passed=passed, warm=warm))
            if not left():
                return
            for service, pair in self._together(left()).items():
                why = worse(pair, self.traffic, warm=warm)
                if why:
                    raise DeployError(f"the {stage} of {service} was stopped: {why}")
        self._conclude(stage, left())

    def _look(self, host: str, *, stage: Stage, passed: float, warm: bool) -> None:
        found = self.steps.look(host)
        pairs = {
            service: Pair(Counts.of(said["old"]), Counts.of(said["new"])) for service, said in found.items()
        }
        self.counted[host] = pairs
        told = "; ".join(
            line(pair) if len(pairs) == 1 else f"{service}: {line(pair)}" for service, pair in pairs.items()
        )
        when = f"{min(passed, stage.seconds):.0f} s of {stage.seconds:.0f} s"
        self.output.step(host, stage.kind, f"{stage.share or stage.mirror} %: {told}, {when}")
        for service, pair in pairs.items():
            why = worse(pair, self.traffic, warm=warm)
            if why:
                self.steps.stop_canary(host, service, f"the {stage} of {service} was stopped: {why}")

    def _together(self, hosts: Iterable[str]) -> dict[str, Pair]:
        counted = [self.counted[host] for host in hosts if host in self.counted]
        names = dict.fromkeys(name for pairs in counted for name in pairs)
        return {name: together(pairs[name] for pairs in counted if name in pairs) for name in names}

    def _conclude(self, stage: Stage, hosts: Iterable[str]) -> None:
        least = self.traffic.min_requests
        for service, pair in self._together(hosts).items():
            count = pair.new.requests
            if least is not None and count < least:
                raise DeployError(
                    f"the {stage} of {service} proves nothing: {count} requests in {stage.seconds:g} s, and"
                    f" min_requests is {least}"
                )
            if count < ENOUGH:
                self.output.say(
                    f"{service}: {stage}: {count} requests in {stage.seconds:g} s are too few to judge by;"
                    " the deploy goes on"
                )
            else:
                self.output.say(f"{service}: {stage}: good; {line(pair)}")
