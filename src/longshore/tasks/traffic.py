"""A canary or a mirror, as ``deploy`` was asked for it and ``plan`` says that it will come."""

from __future__ import annotations

import re
from dataclasses import replace

from longshore.errors import LongshoreError
from longshore.inventory.traffic import Traffic
from longshore.plan import HostPlan, Plan
from longshore.records import dataclass
from longshore.tasks.words import duration


@dataclass(frozen=True)
class Asked:
    """What was typed, each ``None`` when it wasn't. Empty ``shares`` and a ``mirror`` of 0: none."""

    shares: tuple[int, ...] | None = None
    mirror: int | None = None
    each: float | None = None

    def over(self, traffic: Traffic) -> Traffic:
        """What holds, with what the inventory says. Raises ``LongshoreError`` for a time of nothing."""
        if self.shares is not None:
            # Who says that there is no canary wants the inventory's mirror neither.
            traffic = replace(traffic, shares=self.shares, mirror=traffic.mirror if self.shares else None)
        if self.mirror is not None:
            traffic = replace(traffic, mirror=self.mirror or None)
        if self.each is not None:
            if not traffic.wanted:
                raise LongshoreError("there is no canary", where="--canary-for", hint="Say --canary 10%.")
            traffic = replace(traffic, each=self.each)
        return traffic


def asked(*, canary: str, canary_for: str, mirror: str) -> Asked:
    """Read ``--canary 5%,25%`` (or ``none``), ``--canary-for 5m`` and ``--mirror 5%`` (or ``none``)."""
    shares = None
    if canary:
        words = [] if canary == "none" else canary.split(",")
        shares = tuple(_percent(word, "--canary", most=99) for word in words)
        if list(shares) != sorted(set(shares)):
            raise LongshoreError(f"{canary} doesn't rise", where="--canary", hint="Say --canary 5%,25%.")
    copies = None
    if mirror:
        copies = 0 if mirror == "none" else _percent(mirror, "--mirror", most=100)
    each = duration(canary_for, "--canary-for") if canary_for else None
    if each is not None and each < 1:
        raise LongshoreError(f"{canary_for} is too short to see anything", where="--canary-for")
    return Asked(shares, copies, each)


def _percent(word: str, option: str, *, most: int) -> int:
    match = re.fullmatch(r"\s*(\d{1,3})\s*%\s*", word, re.ASCII)
    if match is None or not 1 <= int(match[1]) <= most:
        hint = f"Say {option} 10%, or {option} none."
        raise LongshoreError(f"{word!r} is not a percentage from 1% to {most}%", where=option, hint=hint)
    return int(match[1])


def for_plan(plan: Plan, traffic: Traffic) -> tuple[Traffic, str]:
    """What of it this plan can have, and a sentence for the person; empty without a canary.

    Raises ``LongshoreError`` when no service of the app could ever share its requests.
    """
    if not traffic.wanted or not plan.todo:
        return Traffic(), ""
    if not any(_can(host) for host in plan.todo):
        raise LongshoreError(
            f"nothing was changed: {plan.app} can't have a canary: {_why_not(plan)}",
            hint="docs/proxy.md says what it takes; `--canary none` deploys without.",
        )
    names = sorted({name for host in plan.todo for name in services(host)})
    if not names:
        return Traffic(), "no canary: nothing new comes beside something old that the proxy serves"
    from longshore.rollout.canary import in_words

    return traffic, f"canary of {', '.join(names)}: {in_words(traffic)}, then all"


def services(host: HostPlan) -> tuple[str, ...]:
    """The services that would share their requests on a host: they change, and can run twice."""
    if host.action == "repair" or host.current is None:
        return ()
    changing = {step.service for step in host.steps if step.deed in ("recreate", "maybe")}
    return tuple(name for name in _can(host) if name in changing)


def _can(host: HostPlan) -> tuple[str, ...]:
    return tuple(name for name, facts in sorted(host.bundle.services.items()) if facts.twin and facts.routed)


def _why_not(plan: Plan) -> str:
    gaps = {
        name: facts.gap
        for host in plan.todo
        for name, facts in sorted(host.bundle.services.items())
        if facts.routed
    }
    if not gaps:
        return "none of its services is behind the proxy"
    return "; ".join(f"{name} is replaced in place, for {gap}" for name, gap in gaps.items())
