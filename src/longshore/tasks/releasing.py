"""From an app and its hosts to a rollout: what ``deploy``, ``rollback`` and ``plan`` share."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from longshore.agent import wire
from longshore.console import seconds_text
from longshore.errors import DeployError, LongshoreError, Problems
from longshore.images.resolve import Resolved
from longshore.inventory import patterns
from longshore.inventory.model import Migrate, RolloutPolicy, Target
from longshore.plan import HostPlan, Plan, grouped, make_plan, new_salt, question
from longshore.remote.session import Session
from longshore.render import Renderer
from longshore.render.bundle import Bundle, mounted_secrets
from longshore.rollout import HostReport, Move, Report
from longshore.rollout.moves import Story
from longshore.tasks import balanced
from longshore.tasks.breaking import closing_for, closing_for_rollback, told
from longshore.tasks.fleet import Fleet
from longshore.tasks.notifying import tell_webhooks
from longshore.tasks.pinning import pin
from longshore.tasks.words import says_yes

if TYPE_CHECKING:
    from longshore.plan.saved import SavedPlan
    from longshore.tasks.readying import Ready
    from longshore.tasks.traffic import Asked


def deploy_app(
    fleet: Fleet,
    app: str,
    *,
    wait: float = 0.0,
    plan: Plan | None = None,
    yes: bool = False,
    on_lost_controller: Literal["", "back", "keep"] = "",
    traffic: Asked | None = None,
    breaking: bool = False,
) -> bool:
    """Deploy one app to its chosen hosts; say how it went. Returns whether all is good.

    ``plan``: just that one, or none at all when a host has moved on since. ``wait``: seconds for another
    run's lock; what that run changed is then planned again. ``yes``: don't ask between batches.
    ``traffic``: the canary that was asked for. ``breaking``: the old release doesn't work on the new schema.
    """
    started = time.monotonic()
    until = started + wait
    bundles = render_app(fleet, app) if plan is None else {}
    while True:
        now = plan or plan_app(fleet, app, bundles)
        if not now.todo:
            for name, host in now.hosts.items():
                fleet.output.step(name, "nothing to do", host.current or "")
            return _tell(fleet, Report(app, _nothing_to_do(now), time.monotonic() - started))
        for text, names in grouped(now).items():
            fleet.output.say(f"{', '.join(names)}: {text}")
        from longshore.tasks.readying import make_ready  # now: most runs find nothing to do

        closing = closing_for(fleet, now, breaking=breaking)
        policy = _closed_policy(fleet, now, traffic) if closing else _policy(fleet, now, traffic)
        seen = {host.host: host.seen for host in now.todo}
        ready = make_ready(fleet, app, {host.host: host.bundle for host in now.todo}, seen)
        story = _story(fleet, app, now, ready, wait=max(0.0, until - time.monotonic()))
        story = replace(story, policy=policy, closing=closing)
        if closing is not None:  # nobody is served meanwhile
            story = replace(story, balancing=None)
        if on_lost_controller:
            story = replace(story, policy=replace(story.policy, on_lost_controller=on_lost_controller))
        report = _rollout(fleet, story, yes=yes)
        if plan is None and time.monotonic() < until and _moved_on(report):
            fleet.output.say("Another run has changed the hosts meanwhile: planned again.")
            continue
        hosts = (*report.hosts, *_nothing_to_do(now))
        return _tell(fleet, replace(report, hosts=hosts, seconds=time.monotonic() - started))


def _policy(fleet: Fleet, plan: Plan, asked: Asked | None) -> RolloutPolicy:
    """How the release goes over the fleet, with the canary that was asked for. Raises ``LongshoreError`` when
    there can't be one."""
    policy = fleet.target(plan.app, plan.todo[0].host).app.rollout
    if asked is None and not policy.traffic.wanted:
        return policy
    from longshore.tasks.traffic import for_plan

    traffic, told = for_plan(plan, asked.over(policy.traffic) if asked else policy.traffic)
    if told:
        fleet.output.say(told)
    return replace(policy, traffic=traffic)


def _closed_policy(fleet: Fleet, plan: Plan, asked: Asked | None) -> RolloutPolicy:
    """All at once: nothing of the old release runs while the hosts are closed."""
    if asked is not None and (asked.shares or asked.mirror):
        raise LongshoreError(
            "nothing was changed: the migration is breaking, so the new release can't run beside the old one",
            hint="Leave out --canary and --mirror.",
        )
    app = fleet.target(plan.app, plan.todo[0].host).app
    fleet.output.say(told(plan, app))
    return RolloutPolicy(on_lost_controller=app.rollout.on_lost_controller)


def _story(fleet: Fleet, app: str, plan: Plan, ready: Ready, *, wait: float) -> Story:
    target = fleet.target(app, plan.todo[0].host)
    # A repair brings nothing new, so there is nothing to migrate.
    migrate = target.app.migrate if any(host.action != "repair" for host in plan.todo) else None
    return Story(
        app=app,
        moves=tuple(_move(host, fleet.target(app, host.host)) for host in plan.todo),
        facts=fleet.facts,
        environment=fleet.environment.name,
        migrate=migrate,
        first=hosts_before_migration(migrate, {host.host: host.bundle for host in plan.todo}),
        hosts=fleet.environment.apps[app],
        policy=target.app.rollout,
        canary=canary_hosts(fleet, app, target.app.rollout.canary),
        balancing=balanced.for_plan(fleet, plan),
        auth=ready.auth,
        pulls=ready.pulls,
        parallel=fleet.environment.parallel,
        wait=wait,
        recovery=fleet.recovery(app),
    )


def canary_hosts(fleet: Fleet, app: str, pattern: str | None) -> frozenset[str]:
    """The hosts of an app that are its canaries."""
    if pattern is None:
        return frozenset()
    environment = fleet.environment
    return frozenset(patterns.match(pattern, hosts=environment.apps[app], groups=environment.groups))


def _moved_on(report: Report) -> bool:
    return any(getattr(host.error, "code", "") == wire.MOVED_ON for host in report.hosts)


def roll_back_app(
    fleet: Fleet,
    app: str,
    *,
    to: str | None,
    wait: float = 0.0,
    as_it_is: bool = False,
    breaking: bool = False,
) -> bool:
    """Take one app back on its chosen hosts, to ``to`` or the release before. Returns whether all is good.

    ``wait``: seconds for another run's lock. With ``to``, what that run changed is then looked at again; the
    release before is another one then, so without ``to`` a person has to say it again. ``as_it_is``: also
    to a release whose files were edited on its host. ``breaking``: also from a release with a breaking
    migration, whose schema is the old one again.
    """
    from longshore.rollout.rollback import releases_to_go_back_to

    started = time.monotonic()
    until = started + wait
    while True:
        seen = look(fleet, app, {})
        wanted = releases_to_go_back_to(app, seen, to)
        closing = closing_for_rollback(fleet, app, wanted, seen, breaking=breaking)
        there = [host for host, release in wanted.items() if _runs(seen[host], release)]
        same = [HostReport(host, "nothing to do", wanted[host]) for host in there]
        moves = tuple(
            replace(_move_back(fleet, app, host, seen[host], release), as_it_is=as_it_is)
            for host, release in wanted.items()
            if host not in there
        )
        report = Report(app, (), 0.0)
        if moves:
            story = _story_back(fleet, app, moves, wait=max(0.0, until - time.monotonic()))
            front = balanced.for_rollback(fleet, app, (move.host for move in moves), seen)
            report = _rollout(fleet, replace(story, closing=closing, balancing=None if closing else front))
        if to is not None and time.monotonic() < until and _moved_on(report):
            fleet.output.say("Another run has changed the hosts meanwhile: looked at again.")
            continue
        report = replace(report, hosts=(*report.hosts, *same), seconds=time.monotonic() - started)
        return _tell(fleet, report, rollback=True)


def _runs(seen: Mapping[str, Any], release: str) -> bool:
    return bool(release == seen["current"] and seen["good"])


def _move_back(fleet: Fleet, app: str, host: str, seen: Mapping[str, Any], release: str) -> Move:
    target = fleet.target(app, host)
    fleet.output.say(f"{host}: {seen['current'] or 'nothing'} → {release}")
    return Move(
        host,
        release,
        seen["current"],
        frozenset(one["service"] for one in seen["containers"]),
        smoke=target.app.smoke,
        roles=target.roles,
        url=target.app.url,
        recover_at_boot=target.recover_at_boot,
    )


def _story_back(fleet: Fleet, app: str, moves: tuple[Move, ...], *, wait: float) -> Story:
    policy = fleet.target(app, moves[0].host).app.rollout
    return Story(
        app,
        moves,
        fleet.facts,
        environment=fleet.environment.name,
        hosts=fleet.environment.apps[app],
        # All at once: what is gone back from is not good anywhere.
        policy=RolloutPolicy(on_lost_controller=policy.on_lost_controller),
        parallel=fleet.environment.parallel,
        wait=wait,
        recovery=fleet.recovery(app),
    )


def _rollout(fleet: Fleet, story: Story, *, yes: bool = False) -> Report:
    from longshore.rollout.batches import batches
    from longshore.rollout.rollout import Rollout

    def ask(question: str) -> bool:
        fleet.output.close()
        return yes or says_yes(question)

    if story.policy.confirm and not yes and not sys.stdin.isatty() and len(batches(story)) > 1:
        raise LongshoreError(
            "nothing was changed: nobody is here to say yes between the batches (rollout.confirm)",
            hint="Say --yes.",
        )
    timeout = fleet.target(story.app, story.moves[0].host).app.hooks.timeout
    story = replace(story, hooks=fleet.hooks, hook_timeout=timeout)
    sessions = _sessions(fleet, story)
    return Rollout(story, sessions, fleet.output, reopen=fleet.reopen, ask=ask).run()


def _sessions(fleet: Fleet, story: Story) -> dict[str, Session]:
    """With all of the app's hosts, for the lock: those that nothing is to be done on may be unreachable."""
    sessions = {move.host: fleet.session(move.host) for move in story.moves}
    others = [host for host in story.hosts if host not in sessions]
    values, errors = fleet.each(others, fleet.session)
    for error in errors.values():
        fleet.output.say(f"note: a host that is not part of this run could not be locked. {error}")
    return {**sessions, **values}


def render_app(fleet: Fleet, app: str) -> dict[str, Bundle]:
    """The app's bundle for every chosen host, images pinned where the registry answers. Says the notes
    once, whatever the number of hosts."""
    targets = {host: fleet.target(app, host) for host in fleet.chosen[app]}
    unknown = [name for one in targets.values() for name, item in one.env.items() if not item.known]
    if unknown or fleet.environment.locked:
        # A command that renders has to say `values=True`: a reference must not get into a .env.
        raise DeployError(f"The env of {app} is not known here: {', '.join(unknown) or 'it is encrypted'}.")
    renderer = Renderer()
    rule = next(iter(targets.values())).app.pin
    known = fleet.built
    if fleet.environment.registry == "none":
        from longshore.tasks.readying import built_here

        known = built_here(fleet, app)
    resolved = (
        Resolved({}, {})
        if rule == "never"
        else pin(fleet.environment, targets.values(), renderer, known=known)
    )
    if resolved.unpinned and rule == "always":
        raise Problems(
            DeployError(f"{ref} could not be pinned: {why}", hint="Or say `pin: when-possible`.")
            for ref, why in resolved.unpinned.items()
        )
    for ref, why in resolved.unpinned.items():
        fleet.output.say(f"note: {ref} is pinned by each host, not from here ({why})")
    bundles = {host: renderer.render(target, digests=resolved.digests) for host, target in targets.items()}
    for bundle in bundles.values():
        fleet.output.masks = fleet.output.masks.plus(mounted_secrets(bundle.files))
    said = dict.fromkeys(
        f"{note.level}: {f'{note.where}: ' if note.where else ''}{note.message}"
        for bundle in bundles.values()
        for note in bundle.notes
        if note.level == "warning"
    )
    for text in said:
        fleet.output.say(text)
    return bundles


def plan_app(fleet: Fleet, app: str, bundles: Mapping[str, Bundle], *, deep: bool = False) -> Plan:
    """Ask every host what it has, and compare. ``deep``: reads every file there, and shows what is in it."""
    salt = new_salt()
    found = make_plan(app, bundles, look(fleet, app, bundles, salt=salt, deep=deep), salt=salt)
    return balanced.with_words(fleet, found)


def plans_as_saved(fleet: Fleet, saved: SavedPlan) -> dict[str, Plan]:
    """The plans of all chosen apps, which are those that were saved. Raises ``Problems`` when they aren't;
    then nothing was changed anywhere."""
    from longshore.plan.saved import check

    plans = {app: plan_app(fleet, app, render_app(fleet, app), deep=True) for app in fleet.chosen}
    for plan in plans.values():
        check(saved, plan)
    return plans


def look(
    fleet: Fleet, app: str, bundles: Mapping[str, Bundle], *, salt: str = "", deep: bool = False
) -> dict[str, Any]:
    """What the chosen hosts report of an app. A host that can't be reached stops the run before anything
    is touched: half a fleet on a new release is what nobody wants."""

    def inspect(host: str) -> Any:
        bundle = bundles.get(host)
        project = bundle.project if bundle else fleet.target(app, host).app.project
        args: dict[str, Any] = {"app": app, "project": project, "deep": deep}
        if bundle:
            args |= {"release": bundle.id, "explain": question(bundle, salt, content=deep)}
            if not deep:  # a plan is shown, not carried out
                args["images"] = sorted({one.image for one in bundle.services.values() if one.image})
        return fleet.session(host).call(wire.INSPECT, args, timeout=120)

    values, errors = fleet.each(fleet.chosen[app], inspect)
    if errors:
        for host in values:
            fleet.output.step(host, "unchanged", values[host]["current"] or "")
        for host, error in errors.items():
            fleet.output.step(host, "failed", error.message)
        unusable = f"{len(errors)} of {len(fleet.chosen[app])} can't be used"
        hint = "Mend that."
        if values:
            hint = f"Mend that, or leave them out with --limit '{fleet.limit or 'all'}:!{':!'.join(errors)}'."
        nothing = DeployError(f"nothing was changed on any host: {unusable}", hint=hint)
        raise Problems([*errors.values(), nothing])
    return values


def hosts_before_migration(migrate: Migrate | None, bundles: Mapping[str, Bundle]) -> frozenset[str]:
    """Hosts that run what the migration needs (a database) but not the migrating service itself."""
    if migrate is None:
        return frozenset()
    needed: set[str] = set()
    for bundle in bundles.values():
        if migrate.service in bundle.services:
            needed |= set(bundle.services[migrate.service].depends_on)
    return frozenset(
        host
        for host, bundle in bundles.items()
        if migrate.service not in bundle.services and needed & set(bundle.services)
    )


def _nothing_to_do(plan: Plan) -> tuple[HostReport, ...]:
    return tuple(
        HostReport(name, "nothing to do", host.current)
        for name, host in plan.hosts.items()
        if host.action == "nothing"
    )


def _move(plan: HostPlan, target: Target) -> Move:
    return Move(
        host=plan.host,
        release=plan.bundle.id,
        expect=plan.current,
        services=frozenset(plan.bundle.services),
        bundle=plan.bundle,
        staged=bool(plan.seen["staged"]),
        smoke=target.app.smoke,
        roles=target.roles,
        url=target.app.url,
        recover_at_boot=target.recover_at_boot,
    )


def _tell(fleet: Fleet, report: Report, *, rollback: bool = False) -> bool:
    fleet.output.close()
    for problem in report.problems:
        fleet.output.error(problem)
    for host in report.hosts:
        if host.error is not None:
            fleet.output.error(host.error)
    counts: dict[str, int] = {}
    for host in report.hosts:
        counts[host.state] = counts.get(host.state, 0) + 1
    words = ", ".join(f"{count} {state}" for state, count in counts.items())
    fleet.output.say(f"{report.app}: {words} in {seconds_text(report.seconds)}")
    url = fleet.target(report.app, report.hosts[0].host).app.url if report.hosts else None
    if report.ok and url:
        fleet.output.say(f"{report.app} is at {url}")
    fleet.output.result(report.as_json())
    tell_webhooks(fleet, report, rollback=rollback)
    return report.ok
