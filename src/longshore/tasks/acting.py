"""``restart``, ``stop``, ``start`` and ``down``: acting on the release that runs, under the app's lock."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from longshore.tasks.command import task

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from longshore.tasks.fleet import Fleet

_WHY = {"why": "a sentence for those who find the app locked meanwhile"}


@task(help=_WHY)
def restart(
    context: Any,
    env: str = "",
    app: str = "",
    limit: str = "",
    service: str = "",
    why: str = "",
    json: bool = False,
) -> None:
    """Restart containers, one after the other and host by host, each healthy before the next."""
    from longshore.agent import wire

    _act(
        wire.RESTART,
        "restarting",
        "restarted",
        one_by_one=True,
        env=env,
        app=app,
        limit=limit,
        service=service,
        why=why,
        json=json,
    )


@task(help=_WHY)
def stop(
    context: Any,
    env: str = "",
    app: str = "",
    limit: str = "",
    service: str = "",
    why: str = "",
    json: bool = False,
) -> None:
    """Stop containers; they stay, with their data, until 'start' or the next deploy."""
    from longshore.agent import wire

    _act(wire.STOP, "stopping", "stopped", env=env, app=app, limit=limit, service=service, why=why, json=json)


@task(help=_WHY)
def start(
    context: Any,
    env: str = "",
    app: str = "",
    limit: str = "",
    service: str = "",
    why: str = "",
    json: bool = False,
) -> None:
    """Start what was stopped, in the release that is there, and wait until it is healthy."""
    from longshore.agent import wire

    _act(
        wire.START, "starting", "started", env=env, app=app, limit=limit, service=service, why=why, json=json
    )


def _act(op: str, doing: str, did: str, *, service: str, one_by_one: bool = False, **settings: Any) -> None:
    from longshore.agent import wire
    from longshore.tasks.balanced import out_args
    from longshore.tasks.fleet import open_fleet, raise_all
    from longshore.tasks.services import choose, drop_strangers

    with open_fleet(**settings) as fleet:
        for name, hosts in choose(fleet, service).items():
            leaves = op in (wire.RESTART, wire.STOP)
            outs = out_args(fleet, name, hosts, together=not one_by_one) if leaves else {}

            def on(host: str, app: str = name, outs: Any = outs) -> Any:
                fleet.output.step(host, doing, service or app)
                args = {"service": service or None, "out": outs.get(host)}
                value = locked(fleet, app, host, op, args)
                fleet.output.step(host, did, ", ".join(value["containers"]) or "nothing to do")
                return value

            # One host at a time keeps the others serving; what fails on the first isn't done to the rest.
            batches = [(host,) for host in hosts] if one_by_one else [hosts]
            values: dict[str, Any] = {}
            new: dict[str, Any] = {}
            for batch in batches:
                if any(value.get("left") for value in new.values()) and batch[0] in outs:
                    fleet.output.step(batch[0], "waiting", "for the load balancer to notice who is back")
                    time.sleep(outs[batch[0]]["wait"])
                new, errors = fleet.each(batch, on)
                values |= new
                errors = drop_strangers(errors, service, last=batch is batches[-1] and not values)
                for host in errors:
                    fleet.output.step(host, "failed")
                if errors:
                    fleet.output.result({"app": name, "hosts": values})
                raise_all(errors)
            fleet.output.result({"app": name, "hosts": values})


def locked(
    fleet: Fleet,
    app: str,
    host: str,
    op: str,
    args: Mapping[str, Any],
    *,
    on_event: Callable[[Mapping[str, Any]], None] | None = None,
) -> Any:
    """Carry out one request under the app's lock on a host, and show what it tells on the way."""
    from contextlib import suppress

    from longshore.agent import wire
    from longshore.errors import LongshoreError
    from longshore.rollout.pulse import LEASE, Pulse

    session = fleet.session(host)
    facts = {"app": app, **fleet.facts.args()}

    def tell(event: Mapping[str, Any]) -> None:
        if event["kind"] == "health":
            fleet.output.step(host, "waiting", f"{event['service']} is {event['state']}")
        elif event["kind"] == "out":
            fleet.output.step(host, "out of the load balancer", f"{event['seconds']:g} s")
        elif event["kind"] == "in":
            fleet.output.step(host, "in the load balancer")
        elif event["kind"] == "note":
            fleet.output.say(f"{host}: {event['message']}")

    with Pulse([session]):  # a host that we are cut off from is free again when the lease is over
        answer = session.call(wire.LOCK, {**facts, "lease": LEASE})
        if answer["recovered"]:
            fleet.output.say(f"{host}: a run before this one had ended in the middle; that was undone.")
        if answer.get("trouble"):
            fleet.output.say(f"warning: {host}: what ran before is back, but: {answer['trouble']}")
        try:
            return session.call(op, {**facts, **args}, on_event=on_event or tell)
        finally:
            with suppress(LongshoreError):
                session.call(wire.UNLOCK, facts)


@task(
    iterable=["volume"],
    help={
        "volume": "also remove this volume, with all its data: its full name; can be given again",
        "yes": "don't ask",
        "why": "a sentence for the history",
    },
)
def down(
    context: Any,
    env: str = "",
    app: str = "",
    limit: str = "",
    volume: list[str] | None = None,
    yes: bool = False,
    why: str = "",
    json: bool = False,
) -> None:
    """Remove an app's containers and networks. Volumes stay, but for those named with --volume."""
    from longshore.agent import wire
    from longshore.tasks.balanced import out_args
    from longshore.tasks.fleet import open_fleet, raise_all

    asked = list(dict.fromkeys(volume or []))
    with open_fleet(env=env, app=app, limit=limit, json=json, why=why) as fleet:
        found = _what_there_is(fleet, asked)
        if not found:
            fleet.output.say("There is nothing to remove.")
            return
        _confirm(fleet, found, asked, yes=yes)
        for name, hosts in found.items():
            outs = out_args(fleet, name, list(hosts), together=True)

            def on(host: str, app: str = name, have: Any = hosts, outs: Any = outs) -> Any:
                fleet.output.step(host, "removing", app)
                volumes = [one for one in asked if one in have[host]]
                args = {"volumes": volumes, "out": outs.get(host)}
                value = locked(fleet, app, host, wire.DOWN, args)
                fleet.output.step(host, "removed", _volume_words(value))
                return value

            values, errors = fleet.each(hosts, on)
            fleet.output.result({"app": name, "hosts": values})
            raise_all(errors)


def _what_there_is(fleet: Fleet, asked: list[str]) -> dict[str, dict[str, list[str]]]:
    """The volumes of each app by host, where it has a release.

    Raises ``LongshoreError`` when a host can't be asked, or a volume that was asked for is nowhere.
    """
    from longshore.agent import wire
    from longshore.errors import LongshoreError
    from longshore.tasks.fleet import raise_all
    from longshore.tasks.services import code_of

    found: dict[str, dict[str, list[str]]] = {}
    for name in fleet.chosen:
        values, errors = fleet.ask(name, wire.VOLUMES)
        raise_all({host: error for host, error in errors.items() if code_of(error) != wire.NO_RELEASE})
        if values:
            found[name] = values
    have = {volume for hosts in found.values() for volumes in hosts.values() for volume in volumes}
    for volume in asked:
        if volume not in have:
            raise LongshoreError(
                f"there is no volume {volume!r}; nothing was removed",
                hint=f"There are: {', '.join(sorted(have)) or 'none'}.",
            )
    return found


def _confirm(fleet: Fleet, found: Mapping[str, Any], asked: list[str], *, yes: bool) -> None:
    """Say what will go, and have the person say yes. Raises ``LongshoreError`` when they don't."""
    import sys

    from longshore.errors import LongshoreError
    from longshore.tasks.words import says_yes

    for name, hosts in found.items():
        stay = sorted({volume for volumes in hosts.values() for volume in volumes} - set(asked))
        kept = f"; these volumes stay: {', '.join(stay)}" if stay else ""
        fleet.output.say(f"{name} on {', '.join(hosts)}: all containers and networks go{kept}")
    for volume in asked:
        on = [host for hosts in found.values() for host in hosts if volume in hosts[host]]
        fleet.output.say(f"the volume {volume} on {', '.join(on)} goes, with all its data")
    if yes:
        return
    if not sys.stdin.isatty():
        raise LongshoreError("nothing was removed: nobody is here to ask", hint="Say --yes.")
    if not says_yes():
        raise LongshoreError("nothing was removed")


def _volume_words(value: Mapping[str, Any]) -> str:
    words = [f"and the volume {name}" for name in value["volumes"]]
    return ", ".join([*words, *([f"kept: {', '.join(value['kept'])}"] if value["kept"] else [])])
