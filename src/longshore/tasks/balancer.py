"""``invoke balancer``: what the load balancer answers, and which hosts get requests from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from longshore.tasks.command import done, task

if TYPE_CHECKING:
    from longshore.tasks.fleet import Fleet


@task()
def balancer(context: Any, env: str = "", limit: str = "", json: bool = False) -> None:
    """Show what the load balancer answers, and which hosts get that; exit code 1 when none does."""
    from longshore.errors import InventoryError
    from longshore.tasks.balancing import balancers
    from longshore.tasks.fleet import open_fleet

    with open_fleet(env=env, json=json) as fleet:
        if fleet.environment.balancer is None:
            hint = "longshore: {balancer: {hosts: lb}} gives it one (docs/balancer.md)."
            raise InventoryError(f"The environment {fleet.environment.name} has no balancer.", hint=hint)
        if not balancers(fleet.environment, limit):
            hint = f"It runs on {', '.join(fleet.environment.balancer.hosts)}."
            raise InventoryError(f"{limit!r} matches no host of the balancer.", where="--limit", hint=hint)
        done(0 if show(fleet, limit) else 1)


def show(fleet: Fleet, limit: str) -> bool:
    """Show the balancer on those of its hosts that ``limit`` stands for. Returns whether all it answers goes
    somewhere; raises the hosts' errors."""
    from longshore.agent import wire
    from longshore.tasks.balancing import balancers, named
    from longshore.tasks.fleet import raise_all
    from longshore.tasks.proxy import is_well, show_proxy

    def on(host: str) -> Any:
        return named(fleet, fleet.session(host).call(wire.PROXY, {"do": "status"}))

    hosts = balancers(fleet.environment, limit)
    values, errors = fleet.each(hosts, on)
    for host, value in values.items():
        show_proxy(fleet, host, value, by="hosts")
    if hosts:
        fleet.output.result({"balancer": values})
    raise_all(errors)
    return all(
        value["proxy"] is not None and all(is_well(route) for route in value["routes"])
        for value in values.values()
    )
