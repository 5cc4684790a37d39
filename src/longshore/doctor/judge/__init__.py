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


# What is worth saying when it could not be looked at. What only an engine knows is said by its own rule.
_WITHOUT_ENGINE = ("system", "disks", "folder", "apps", "boot")


def judge(wanted: Wanted, seen: Seen) -> tuple[Finding, ...]:
    """Everything that is to be said of a host, in the rules' order."""
    found = [finding for rule in RULES for finding in rule(wanted, seen)]
    closed = seen.of("folder").get("ours") is False  # that says why nothing in it can be looked at
    for name in _WITHOUT_ENGINE:
        value = seen.facts.get(name)
        if isinstance(value, dict) and "error" in value and not (closed and name == "apps"):
            text = f"{name} could not be looked at: {value['error']}"
            found.append(Finding("warning", f"{name}-unseen", text, value["hint"]))
    return tuple(found)
