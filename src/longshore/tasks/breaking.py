"""A deploy whose migration is breaking: what is closed for it, and what ``plan`` and ``deploy`` say of it."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from longshore.errors import DeployError, LongshoreError
from longshore.plan import Plan
from longshore.rollout.moves import Closing

if TYPE_CHECKING:
    from longshore.inventory.model import App
    from longshore.render.bundle import Bundle
    from longshore.tasks.fleet import Fleet


def closing_for(fleet: Fleet, plan: Plan, *, breaking: bool) -> Closing | None:
    """How the hosts of a plan are closed: for a migration that the inventory or ``breaking`` (the command
    line) says is a breaking one, and where hosts are closed since one that failed. ``None``: not at all.

    Raises ``LongshoreError`` when it can't be done like that.
    """
    app = fleet.target(plan.app, plan.todo[0].host).app
    if breaking and app.migrate is None:
        raise LongshoreError(
            f"nothing was changed: {plan.app} has no migration in the inventory, so none is breaking",
            hint="Declare it under the app: migrate: {service: api, command: [alembic, upgrade, head]}.",
        )
    if not wanted(plan, app, breaking=breaking):
        return None
    others = [host for host in fleet.environment.apps[plan.app] if host not in plan.hosts]
    if others:
        raise LongshoreError(
            f"nothing was changed: the migration of {plan.app} is breaking, so {', '.join(others)} can't be"
            " left out: the old release there would meet the new schema",
            hint="Leave out --limit.",
        )
    return _closing(
        app,
        frozenset(host.host for host in plan.todo),
        keep_running(app, {host.host: host.bundle for host in plan.hosts.values()}),
    )


def wanted(plan: Plan, app: App, *, breaking: bool = False) -> bool:
    """Whether the hosts of a plan are closed for it."""
    if any(host.seen.get("closed") for host in plan.todo):
        return True
    declared = app.migrate is not None and (breaking or app.migrate.breaking)
    new = any(host.action != "repair" for host in plan.todo)
    return declared and new and any(host.current is not None for host in plan.todo)


def told(plan: Plan, app: App) -> str:
    """What a person is told beforehand."""
    keep = keep_running(app, {host.host: host.bundle for host in plan.hosts.values()})
    going = f"only {', '.join(sorted(keep))} runs" if keep else "nothing runs"
    return (
        f"{plan.app}: its migration is a breaking one: from before it until the release is committed, all"
        f" hosts answer 503 (maintenance), and {going} while it is at work"
    )


def keep_running(app: App, bundles: Mapping[str, Bundle]) -> frozenset[str]:
    """What goes on during the migration: databases, and whatever the migrating service depends on."""
    found = {one.service for one in app.databases.values()}
    if app.migrate is not None:
        reached = {app.migrate.service}
        while True:
            more = {
                need
                for bundle in bundles.values()
                for name in reached & set(bundle.services)
                for need in bundle.services[name].depends_on
            }
            if more <= reached:
                break
            reached |= more
        found |= reached - {app.migrate.service}
    return frozenset(found)


def closing_for_rollback(
    fleet: Fleet, app: str, wanted: Mapping[str, str], seen: Mapping[str, Any], *, breaking: bool
) -> Closing | None:
    """Hosts that are closed open with the release that is gone back to. ``breaking``: the person says that
    the schema is the old one again. Raises ``LongshoreError`` where that is to be said and isn't."""
    closed = frozenset(host for host in wanted if seen[host].get("closed"))
    behind = [
        host
        for host, release in wanted.items()
        if host in closed or (seen[host].get("breaking") and release != seen[host]["current"])
    ]
    if behind and not breaking:
        raise DeployError(
            f"nothing was changed: the migration of {app} was a breaking one, and {wanted[behind[0]]} doesn't"
            " work on its schema",
            hint="Make the schema the old one again (from a backup, say), and then say --breaking.",
        )
    return _closing(fleet.target(app, next(iter(wanted))).app, closed, None) if closed else None


def _closing(app: App, hosts: frozenset[str], keep: frozenset[str] | None) -> Closing:
    from longshore.render.maintenance import page_text

    said = app.maintenance
    token = secrets.token_hex(16)
    page = page_text(said.page)
    return Closing(hosts, keep, token, page=page, retry_after=said.retry_after, allow=said.allow)
