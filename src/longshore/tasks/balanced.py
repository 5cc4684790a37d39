"""A load balancer in front of an app's hosts, as ``deploy``, ``rollback``, ``plan`` and the daily commands
need it."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from longshore.inventory.routing import routes_of
from longshore.rollout.balanced import Balancing

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from longshore.inventory.balanced import Balanced
    from longshore.plan import Plan
    from longshore.tasks.fleet import Fleet


def policy_of(fleet: Fleet, app: str) -> Balanced | None:
    """What the inventory says of a load balancer in front of an app: the same for all of its hosts."""
    hosts = fleet.environment.apps[app]
    return fleet.target(app, hosts[0]).app.balanced if hosts else None


def balancing_of(fleet: Fleet, app: str) -> Balancing | None:
    """The load balancer in front of an app's hosts; ``None`` where there is none, or it asks for nothing."""
    policy = policy_of(fleet, app)
    if policy is None:
        return None
    asked = {
        host: {
            service: path
            for service, route in routes_of(fleet.target(app, host))
            if (path := policy.asked(route)) is not None
        }
        for host in fleet.environment.apps[app]
    }
    found = Balancing({host: services for host, services in asked.items() if services}, policy.seconds)
    return found if found.asked else None


def _to_leave(fleet: Fleet, app: str) -> Balancing | None:
    """The same, where hosts are to leave it by themselves."""
    policy = policy_of(fleet, app)
    if policy is None or policy.when == "never":
        return None
    found = balancing_of(fleet, app)
    return found and replace(found, always=policy.when == "always")


def for_plan(fleet: Fleet, plan: Plan) -> Balancing | None:
    """For a run that carries out ``plan``."""
    from longshore.plan.balanced import felt, replaced

    found = _to_leave(fleet, plan.app)
    if found is None:
        return None
    todo = {host.host: host for host in plan.todo}
    return replace(
        found,
        gaps=frozenset(
            name
            for name, host in todo.items()
            if name in found.asked and (found.always or felt(host, found.asked[name]))
        ),
        replaced={name: replaced(host) for name, host in todo.items()},
        ill=_ill(found, {name: host.seen for name, host in plan.hosts.items()}),
    )


def for_rollback(
    fleet: Fleet, app: str, hosts: Iterable[str], seen: Mapping[str, Mapping[str, Any]]
) -> Balancing | None:
    """For a run that takes these hosts back to what they have: which of them have a gap they know
    themselves."""
    found = _to_leave(fleet, app)
    return found and replace(found, gaps=frozenset(hosts) & frozenset(found.asked), ill=_ill(found, seen))


def with_words(fleet: Fleet, plan: Plan) -> Plan:
    """The plan, which then says of a host that it is out of the load balancer meanwhile."""
    found = for_plan(fleet, plan)
    if found is None or not found.gaps:
        return plan
    from longshore.plan.balanced import with_leaving
    from longshore.tasks.breaking import wanted

    if wanted(plan, fleet.target(plan.app, plan.todo[0].host).app):
        return plan  # all hosts are closed for it

    # Who doesn't serve just now comes first, and serves again before others leave.
    mended = {host.host for host in plan.todo if not host.seen.get("out")}
    serving = frozenset(found.asked) - (found.ill - mended)
    return with_leaving(plan, {host: found.may_leave(host, (), serving) for host in found.gaps})


def _ill(found: Balancing, seen: Mapping[str, Mapping[str, Any]]) -> frozenset[str]:
    """The hosts that were looked at, and get no requests: a person has taken them out, or they serve nothing
    of what is asked for."""
    return frozenset(
        host
        for host, state in seen.items()
        if state.get("out")
        or not any(
            one["service"] in found.asked.get(host, {})
            and one["state"] == "running"
            and one["health"] != "unhealthy"
            for one in state["containers"]
        )
    )


# By hand, and for the daily commands


def who_serves(fleet: Fleet, app: str, hosts: Collection[str], wait: float) -> frozenset[str]:
    """Of these hosts, those that answer and that nobody has taken out of the load balancer. Returns when that
    has noticed those that are back in since (``wait``, s)."""
    from longshore.agent import wire

    values, _ = fleet.ask(app, wire.OUT, {"do": "look"}, hosts=tuple(hosts))
    serving = {host: value for host, value in values.items() if value["served"] and not value["out"]}
    back = [value["in_for"] for value in serving.values() if value["in_for"] is not None]
    if back and min(back) < wait:
        time.sleep(wait - min(back))
    return frozenset(serving)


def out_args(fleet: Fleet, app: str, hosts: Collection[str], *, together: bool) -> dict[str, dict[str, Any]]:
    """What to tell these hosts when their containers are restarted or stopped: the agent's ``out``, by host.

    ``together``: they are worked on at the same time; else one after the other.
    """
    found = _to_leave(fleet, app)
    if found is None:
        return {}
    found = replace(found, gaps=frozenset(found.asked))
    serving = who_serves(fleet, app, found.asked, found.wait)
    told = {}
    for host in hosts:
        asked = found.may_leave(host, hosts if together else (), serving)
        if asked:
            told[host] = found.args(asked, by=fleet.facts.by, replaced=None)
    return told
