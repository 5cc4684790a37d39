"""``drain`` and ``undrain``: hosts out of the load balancer in front, while a person works on them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from longshore.tasks.command import task

if TYPE_CHECKING:
    from longshore.rollout.balanced import Balancing
    from longshore.tasks.fleet import Fleet


@task(help={"why": "a sentence for those who look at the host meanwhile"})
def drain(
    context: Any, env: str = "", app: str = "", limit: str = "", why: str = "", json: bool = False
) -> None:
    """Take hosts out of the load balancer until 'undrain', and wait until requests have stopped coming."""
    from longshore.agent import wire
    from longshore.tasks.acting import locked
    from longshore.tasks.fleet import open_fleet, raise_all

    with open_fleet(env=env, app=app, limit=limit, json=json, why=why) as fleet:
        for name, found in _to_drain(fleet).items():

            def out(host: str, app: str = name, found: Balancing = found) -> Any:
                args = {"do": "out", "asked": found.asked[host], "wait": found.wait}
                value = locked(fleet, app, host, wire.OUT, args)
                fleet.output.step(host, "drained" if value["changed"] else "nothing to do", app)
                return value

            values, errors = fleet.each([host for host in fleet.chosen[name] if host in found.asked], out)
            fleet.output.result({"app": name, "hosts": values})
            raise_all(errors)


def _to_drain(fleet: Fleet) -> dict[str, Balancing]:
    """The chosen apps with a load balancer in front. Raises ``LongshoreError`` where there is none, or where
    nobody would be left in it; then nothing was changed."""
    from longshore.errors import LongshoreError
    from longshore.tasks.balanced import balancing_of, who_serves

    known = {name: balancing_of(fleet, name) for name in fleet.chosen}
    found = {name: one for name, one in known.items() if one and set(fleet.chosen[name]) & one.asked.keys()}
    if not found:
        raise LongshoreError(
            f"the inventory says of no load balancer in front of {', '.join(known) or 'these hosts'}",
            hint="Write balanced: {path: /health} at the app (docs/proxy.md).",
        )
    for name, one in found.items():
        chosen = set(fleet.chosen[name])
        stay = who_serves(fleet, name, one.asked.keys() - chosen, one.wait)
        for service in sorted({service for host in chosen & one.asked.keys() for service in one.asked[host]}):
            if not one.serve(service) & stay:
                raise LongshoreError(
                    f"nothing was changed: nobody would be left in the load balancer for {service} of {name}",
                    hint="Leave a host out with --limit; `invoke maintenance on` closes the app everywhere.",
                )
    return found


@task()
def undrain(context: Any, env: str = "", app: str = "", limit: str = "", json: bool = False) -> None:
    """Put hosts back into the load balancer."""
    from longshore.agent import wire
    from longshore.tasks.acting import locked
    from longshore.tasks.fleet import open_fleet, raise_all

    with open_fleet(env=env, app=app, limit=limit, json=json) as fleet:
        for name in fleet.chosen:

            def back(host: str, app: str = name) -> Any:
                value = locked(fleet, app, host, wire.OUT, {"do": "back"})
                fleet.output.step(host, "undrained" if value["changed"] else "nothing to do", app)
                return value

            values, errors = fleet.each(fleet.chosen[name], back)
            fleet.output.result({"app": name, "hosts": values})
            raise_all(errors)
