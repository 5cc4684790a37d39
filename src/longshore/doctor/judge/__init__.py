"""Judging, apart from asking: what a host has said and what it is for, to findings.

A rule is a function of both that yields findings; ``RULES`` is their order in what is shown. Whatever is to
be looked at besides gets a fact in :mod:`longshore.doctor.host` and a rule here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from longshore.doctor.finding import Finding, Seen, Wanted
from longshore.doctor.judge import building, engine, network, state

Rule = Callable[[Wanted, Seen], Iterable[Finding]]

RULES: tuple[Rule, ...] = (
    state.system,
    state.clock,
    engine.programs,
    engine.running,
    engine.settings,
    building.store,
    building.emulation,
    state.disks,
    state.folder,
    state.leftovers,
    state.boot,
    network.registries,
    network.mirrors,
    network.ports,
    network.handover,
)


def judge(wanted: Wanted, seen: Seen) -> tuple[Finding, ...]:
    """Everything that is to be said of a host, in the rules' order."""
    found = [finding for rule in RULES for finding in rule(wanted, seen)]
    found += [
        Finding(
            "warning", f"{name}-unseen", f"{name} could not be looked at: {value['error']}", value["hint"]
        )
        for name, value in seen.facts.items()
        # Without an engine much can't be looked at: that is one error, and not five.
        if isinstance(value, dict)
        and "error" in value
        and name in ("disks", "folder", "apps", "boot", "system")
    ]
    return tuple(found)
