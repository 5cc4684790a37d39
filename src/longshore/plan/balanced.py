"""What of a plan is felt by a load balancer in front: which hosts leave it, because of which services."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from longshore.plan.model import HostPlan, Plan
from longshore.render.bundle import Bundle


def replaced(host: HostPlan) -> tuple[str, ...]:
    """The services of a host that are replaced in place while they run, or may be."""
    return tuple(step.service for step in host.steps if step.gap or step.deed == "maybe")


def felt(host: HostPlan, asked: Collection[str]) -> frozenset[str]:
    """Those of them that the services in ``asked`` are, or need (``depends_on``)."""
    reached: set[str] = set()
    for service in asked:
        reached |= _with_needs(service, host.bundle)
    return frozenset(reached).intersection(replaced(host))


def _with_needs(service: str, bundle: Bundle) -> set[str]:
    found: set[str] = set()
    todo = [service]
    while todo:
        name = todo.pop()
        if name in bundle.services and name not in found:
            found.add(name)
            todo += bundle.services[name].depends_on
    return found


def with_leaving(plan: Plan, asked: Mapping[str, Collection[str]]) -> Plan:
    """The plan, where ``asked`` says of which services a host can leave the load balancer: their gaps are
    nobody's."""
    hosts = {}
    for name, host in plan.hosts.items():
        leaving = felt(host, asked.get(name, ()))
        steps = tuple(
            replace(step, out=True) if step.gap and step.service in leaving else step for step in host.steps
        )
        hosts[name] = replace(host, steps=steps)
    return Plan(plan.app, hosts)
