"""``--limit`` and ``--app``: which apps on which of their hosts."""

from __future__ import annotations

from longshore.errors import InventoryError
from longshore.inventory import patterns
from longshore.inventory.model import Environment, Host
from longshore.inventory.nearest import did_you_mean

Selection = tuple[tuple[str, tuple[str, ...]], ...]
"""Apps in the inventory's order, each with its chosen hosts; never empty."""


def select(environment: Environment, limit: str | None = None, app: str | None = None) -> Selection:
    """Return the apps (all, or ``app``) with those of their hosts that the pattern ``limit`` stands for.

    ``app`` may name several, with commas. Raises ``InventoryError`` for an unknown app, host or group, and
    when nothing is left.
    """
    if not environment.apps:
        raise InventoryError(
            f"The environment {environment.name} has no app.",
            hint="Declare one below longshore.apps at all.vars.",
        )
    wanted = list(environment.apps) if not app else [name.strip() for name in app.split(",") if name.strip()]
    for name in wanted:
        if name not in environment.apps:
            raise InventoryError(
                f"There is no app named {name!r} in {environment.name}.",
                where="--app",
                hint=did_you_mean(name, environment.apps, list_all="Its apps"),
            )
    chosen = tuple(environment.hosts)
    if limit:
        chosen = patterns.match(limit, hosts=environment.hosts, groups=environment.groups, where="--limit")
        if not chosen:
            raise InventoryError(f"{limit!r} matches no host of {environment.name}.", where="--limit")
    allowed = set(chosen)
    selection = tuple(
        (name, hosts)
        for name in environment.apps
        if name in wanted and (hosts := tuple(host for host in environment.apps[name] if host in allowed))
    )
    if not selection:
        names = " or ".join(wanted)
        raise InventoryError(
            f"{limit!r} matches no host that runs {names}.",
            where="--limit",
            hint=f"It runs on: {', '.join(dict.fromkeys(h for a in wanted for h in environment.apps[a]))}.",
        )
    return selection


def one_host(environment: Environment, name: str) -> Host:
    """The host that ``--host`` names. Raises ``InventoryError`` when there is none."""
    found = environment.hosts.get(name)
    if found is None:
        raise InventoryError(
            f"There is no host named {name!r} in {environment.name}.",
            where="--host",
            hint=did_you_mean(name, environment.hosts, list_all="Its hosts"),
        )
    return found
