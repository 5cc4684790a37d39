"""``lock.status``, ``lock.acquire`` and ``lock.release``: who has an app, and keeping everybody off it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from longshore.tasks.command import task

if TYPE_CHECKING:
    from collections.abc import Mapping

    from longshore.tasks.fleet import Fleet


@task()
def status(context: Any, env: str = "", app: str = "", limit: str = "", json: bool = False) -> None:
    """Show who runs something on an app's hosts now, and who holds it."""
    from longshore.agent import wire
    from longshore.tasks.fleet import open_fleet, raise_all

    with open_fleet(env=env, app=app, limit=limit, json=json) as fleet:
        for name in fleet.chosen:
            values, errors = fleet.ask(name, wire.LOCKS)
            rows = [row for host, value in values.items() for row in _rows(host, value)]
            if rows:
                fleet.output.table(("host", "what", "by", "since", "until", "why"), rows, title=name)
            elif values:
                fleet.output.say(f"{name}: nobody has it on {', '.join(values)}")
            fleet.output.result({"app": name, "hosts": values})
            raise_all(errors)


@task(
    help={
        "reason": "why nobody else may act on it: shown to all who are refused",
        "for": "how long, at most (30m, 2h); without it, until lock.release",
        "wait": "how long to wait for a run that is under way (30s, 5m)",
    }
)
def acquire(
    context: Any,
    env: str = "",
    app: str = "",
    reason: str = "",
    for_: str = "",
    wait: str = "0s",
    json: bool = False,
) -> None:
    """Hold an app: until it is released, no deploy, rollback or restart gets its lock on any of its hosts."""
    from longshore.errors import LongshoreError
    from longshore.tasks import words
    from longshore.tasks.fleet import open_fleet

    if not reason.strip():
        raise LongshoreError("there is no reason", hint="Say --reason 'moving the database'.")
    seconds = words.duration(for_, "--for") if for_ else 0.0
    patience = words.duration(wait, "--wait")
    with open_fleet(env=env, app=app, json=json, why=reason) as fleet:
        for name in fleet.chosen:
            _hold(fleet, name, seconds=seconds, wait=patience)


@task()
def release(context: Any, env: str = "", app: str = "", json: bool = False) -> None:
    """End the hold on an app. A run that is under way is not touched; it says whose that is."""
    from longshore.agent import wire
    from longshore.tasks.fleet import open_fleet, raise_all

    with open_fleet(env=env, app=app, json=json) as fleet:
        for name in fleet.chosen:
            values, errors = fleet.ask(name, wire.UNHOLD)
            for host, value in values.items():
                hold, lock = value["hold"], value["lock"]
                if hold:
                    fleet.output.step(host, "released", f"{hold['by']} held it: {hold['why']}")
                elif not lock:
                    fleet.output.step(host, "nothing to do", "nobody held it")
                if lock:
                    fleet.output.say(f"{host}: {running_words(lock)}")
            fleet.output.result({"app": name, "hosts": values})
            raise_all(errors)


def _hold(fleet: Fleet, app: str, *, seconds: float, wait: float) -> None:
    """On all hosts that can be reached, or on none: the first alone, as every run does it, then the others.

    One is enough to keep others off, for every run takes the lock on all of them.
    """
    from longshore.agent import wire
    from longshore.console import when_text
    from longshore.rollout.pulse import LEASE, Pulse
    from longshore.tasks.fleet import raise_all

    facts = {"app": app, **fleet.facts.args()}
    sessions, errors = fleet.each(fleet.chosen[app], fleet.session)
    if not sessions:
        raise_all(errors)
    for error in errors.values():
        fleet.output.say(f"note: not held there. {error}")
    hosts = tuple(sessions)
    values: dict[str, Any] = {}

    def lock(host: str) -> None:
        args = {**facts, "wait": wait, "lease": LEASE}
        sessions[host].call(wire.LOCK, args, timeout=wait + fleet.recovery(app))

    def hold(host: str) -> Any:
        return sessions[host].call(wire.HOLD, {**facts, "seconds": seconds})

    def free(host: str) -> None:
        sessions[host].call(wire.UNLOCK, facts)

    with Pulse(sessions.values()):
        taken: list[str] = []
        try:
            for part in (hosts[:1], hosts[1:]):
                done, errors = fleet.each(part, lock)
                taken += done
                raise_all(errors)
            values, errors = fleet.each(hosts, hold)
            if errors:
                fleet.each(values, lambda host: sessions[host].call(wire.UNHOLD, facts))
            raise_all(errors)
        finally:
            fleet.each(taken, free)
    for host, value in values.items():
        until = f"until {when_text(value['until'])}" if value["until"] else "until `invoke lock.release`"
        fleet.output.step(host, "held", until)
    fleet.output.result({"app": app, "hosts": values})


def _rows(host: str, value: Mapping[str, Any]) -> list[tuple[str, ...]]:
    from longshore.console import seconds_text, when_text

    rows: list[tuple[str, ...]] = []
    lock, hold = value["lock"], value["hold"]
    if lock is not None:
        since = f"{seconds_text(lock['age'])} ago" if "age" in lock else ""
        rows.append((host, "a run", lock.get("by", "someone"), since, _lease(lock), lock.get("why", "")))
    if hold is not None:
        until = when_text(hold["until"]) if hold["until"] else "released"
        rows.append((host, "held", hold["by"], when_text(hold["since"]), until, hold["why"]))
    return rows


def _lease(lock: Mapping[str, Any]) -> str:
    if "left" not in lock:
        return "its connection ends"
    if lock["left"] <= 0:
        return "what it began is taken back"
    return f"its lease ends in {lock['left']:.0f} s without a word"


def held_words(hold: Mapping[str, Any]) -> str:
    """Who keeps everybody off, since when, until when, and why."""
    from longshore.console import when_text

    until = f"until {when_text(hold['until'])}" if hold["until"] else "until `invoke lock.release`"
    return f"{hold['by']} holds it since {when_text(hold['since'])}, {until}: {hold['why']}"


def running_words(lock: Mapping[str, Any]) -> str:
    """Who runs something, and when the host gives them up."""
    why = f" ({lock['why']})" if lock.get("why") else ""
    return f"{lock.get('by', 'someone')} runs something here{why}, until that is done, or {_lease(lock)}"
