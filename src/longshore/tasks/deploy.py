"""``invoke deploy``: bring the applications of an environment to what the inventory says."""

from __future__ import annotations

from typing import Any

from longshore.tasks.command import done, task


@task(
    iterable=["set"],
    help={
        "build": "build and push the images first, and deploy just those",
        "dirty": "with --build, also in production: build what is not committed",
        "plan": "do just what was saved in this file by `plan --save`, or nothing",
        "why": "a sentence for the history",
        "wait": "how long to wait for another run's lock (30s, 5m)",
        "yes": "don't ask between batches (rollout.confirm)",
        "canary": "this share of the requests first (10%, or 5%,25% in turn); none: all at once",
        "canary-for": "how long each share, and the mirror, is watched (default: 1m)",
        "mirror": "before that, copy so many GET and HEAD requests to the new release (5%)",
        "breaking": "the old release doesn't work on the new schema: maintenance is on meanwhile",
        "on-lost-controller": "what a host does that loses us after its switch: back, or keep what is good",
    },
)
def deploy(
    context: Any,
    env: str = "",
    app: str = "",
    limit: str = "",
    set: list[str] | None = None,
    build: bool = False,
    dirty: bool = False,
    json: bool = False,
    plan: str = "",
    why: str = "",
    wait: str = "0s",
    yes: bool = False,
    canary: str = "",
    canary_for: str = "",
    mirror: str = "",
    breaking: bool = False,
    on_lost_controller: str = "",
) -> None:
    """Render, stage, migrate, switch, verify and commit; what fails is taken back."""
    from longshore.tasks.fleet import open_fleet
    from longshore.tasks.words import back_or_keep, duration

    if dirty and not build:
        from longshore.errors import LongshoreError

        raise LongshoreError("--dirty is for what --build builds", hint="Add --build, or leave --dirty out.")
    patience = duration(wait, "--wait")
    lost = back_or_keep(on_lost_controller)
    overrides = set or ()
    traffic = None
    if canary or canary_for or mirror:
        from longshore.tasks.traffic import asked

        traffic = asked(canary=canary, canary_for=canary_for, mirror=mirror)
    saved = None
    if plan:
        from longshore.plan.saved import check_choice, load

        saved = load(plan)
        check_choice(saved, environment=env, app=app, limit=limit, build=build)
        env, app, limit = saved.environment, saved.app, saved.limit
    with open_fleet(
        env=env, app=app, limit=limit, json=json, overrides=overrides, why=why, ahead=True, values=True
    ) as fleet:
        from longshore.tasks.notifying import failures_told
        from longshore.tasks.releasing import deploy_app, plans_as_saved  # now: hosts are being connected to

        _ = fleet.hooks  # what is wrong there is said before anything is asked or built
        if build:
            from longshore.tasks.building import built_first

            fleet = built_first(fleet, dirty=dirty)
        plans = plans_as_saved(fleet, saved) if saved else {}
        balancer = None
        if fleet.environment.balancer is not None:
            from longshore.tasks.balancing import before

            balancer = before(fleet)
        if balancer:
            balancer.widen()
        for name in fleet.chosen:
            with failures_told(fleet, name):
                one = plans.get(name)
                good = deploy_app(
                    fleet,
                    name,
                    wait=patience,
                    breaking=breaking,
                    plan=one,
                    yes=yes,
                    on_lost_controller=lost,
                    traffic=traffic,
                )
            if not good or (balancer and not balancer.settle(name)):
                done(1)


@task(
    help={
        "to": "the release to go to (default: the one before)",
        "why": "a sentence for the history",
        "wait": "how long to wait for another run's lock (30s, 5m)",
        "as-it-is": "also to a release whose files were edited on the host",
        "breaking": "also past a breaking migration: the schema is the old one again",
    }
)
def rollback(
    context: Any,
    env: str = "",
    app: str = "",
    limit: str = "",
    to: str = "",
    json: bool = False,
    why: str = "",
    wait: str = "0s",
    as_it_is: bool = False,
    breaking: bool = False,
) -> None:
    """Go back to a release that the hosts still have: same images, same env, same files."""
    from longshore.tasks.fleet import open_fleet
    from longshore.tasks.notifying import failures_told
    from longshore.tasks.releasing import roll_back_app
    from longshore.tasks.words import duration

    patience = duration(wait, "--wait")
    with open_fleet(env=env, app=app, limit=limit, json=json, why=why) as fleet:
        _ = fleet.hooks  # as for a deploy
        for name in fleet.chosen:
            with failures_told(fleet, name):
                good = roll_back_app(
                    fleet, name, to=to or None, wait=patience, as_it_is=as_it_is, breaking=breaking
                )
            if not good:
                done(1)
