"""``invoke plan``: what a deploy would change on each host, and why. Changes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from longshore.tasks.command import done, task

if TYPE_CHECKING:
    from longshore.console import Output
    from longshore.plan import HostPlan, Plan
    from longshore.tasks.fleet import Fleet


@task(
    iterable=["set"],
    help={
        "save": "also write the plan to this file, for `deploy --plan FILE`",
        "diff": "show how the files differ, line by line",
    },
)
def plan(
    context: Any,
    env: str = "",
    app: str = "",
    limit: str = "",
    set: list[str] | None = None,
    save: str = "",
    json: bool = False,
    diff: bool = True,
) -> None:
    """Show what a deploy would change, and what was changed by hand; exit code 2 when there is something."""
    from longshore.tasks.fleet import open_fleet

    if save:
        from longshore.plan.saved import check_place

        check_place(save)
    with open_fleet(
        env=env, app=app, limit=limit, json=json, overrides=set or (), ahead=True, values=True
    ) as fleet:
        from longshore.tasks.releasing import plan_app, render_app

        plans = [plan_app(fleet, name, render_app(fleet, name), deep=True) for name in fleet.chosen]
        changes = _at_the_balancer(fleet)
        for one in plans:
            _show(fleet.output, one, diff=diff, breaking=_breaking(fleet, one), canary=_canary(fleet, one))
        if save:
            from longshore.plan.saved import save as write

            write(
                save,
                plans,
                environment=fleet.environment.name,
                app=app,
                limit=limit,
                variables=[item.partition("=")[0] for item in set or ()],
                by=fleet.facts.by,
            )
            fleet.output.say(f"Saved: `invoke deploy --plan {save}` does just this, or nothing.")
    done(2 if changes or any(one.todo for one in plans) else 0)


def _at_the_balancer(fleet: Fleet) -> list[str]:
    """What a deploy would change at the balancer; said, where there is one."""
    if fleet.environment.balancer is None:
        return []
    from longshore.tasks.balancing import before

    balancer = before(fleet)
    if balancer is None:
        return []
    changes = balancer.plan()
    for text in changes or [f"balancer {', '.join(balancer.hosts)}: nothing to do"]:
        fleet.output.say(text)
    fleet.output.say("")
    fleet.output.result({"balancer": list(balancer.hosts), "changes": changes})
    return changes


def _breaking(fleet: Fleet, plan: Plan) -> str:
    """That the hosts are closed for a breaking migration, in words."""
    from longshore.tasks import breaking

    app = fleet.target(plan.app, next(iter(plan.hosts))).app
    return breaking.told(plan, app) if plan.todo and breaking.wanted(plan, app) else ""


def _canary(fleet: Fleet, plan: Plan) -> str:
    """What comes before the new release gets all requests (``rollout.traffic``), in words."""
    if not plan.todo or _breaking(fleet, plan):
        return ""
    traffic = fleet.target(plan.app, plan.todo[0].host).app.rollout.traffic
    if not traffic.wanted:
        return ""
    from longshore.tasks.traffic import for_plan

    return for_plan(plan, traffic)[1]


def _show(output: Output, plan: Plan, *, diff: bool, breaking: str = "", canary: str = "") -> None:
    from longshore.plan.words import headline, lines

    groups: dict[tuple[Any, ...], list[HostPlan]] = {}
    for host in plan.hosts.values():
        groups.setdefault((headline(host), *lines(host), host.diffs), []).append(host)
    for hosts in groups.values():
        first = hosts[0]
        output.say(f"{plan.app} on {', '.join(host.host for host in hosts)}: {headline(first)}")
        for line in lines(first):
            output.say(f"  {line}")
        for file in first.diffs if diff else ():
            output.say("")
            for line in file.lines if len(file.lines) > 1 else [f"{file.name} {''.join(file.lines)}"]:
                output.say(line)
        output.say("")
    count, all_hosts = len(plan.todo), len(plan.hosts)
    would = f"{count} of {all_hosts} hosts would change" if count else "nothing to do"
    if breaking:
        output.say(breaking)
    if canary:
        output.say(f"{plan.app}: {canary}")
    output.say(f"{plan.app}: {would}")
    output.result({**as_json(plan, diff=diff), "breaking": bool(breaking), "canary": canary or None})


def as_json(plan: Plan, *, diff: bool) -> dict[str, Any]:
    """A plan for programs."""
    return {
        "app": plan.app,
        "changes": bool(plan.todo),
        "hosts": {
            name: {
                "from": host.current,
                "to": host.bundle.id,
                "action": host.action,
                "drift": list(host.drift),
                "notes": list(host.notes),
                "changes": [
                    {"service": one.service, "field": one.what, "text": one.why, "loose": one.loose}
                    for one in host.changes
                ],
                "services": {
                    step.service: {
                        "deed": step.deed,
                        "because": list(step.because),
                        "gap": step.gap,
                        "gap_why": step.gap_why,
                        "out": step.out,
                    }
                    for step in host.steps
                },
                **({"diff": {file.name: list(file.lines) for file in host.diffs}} if diff else {}),
            }
            for name, host in plan.hosts.items()
        },
    }
