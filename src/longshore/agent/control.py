"""Acting on the release that runs: restart, stop, start and down, and commands in a one-off container."""

import threading
from typing import Any, Dict, List

from longshore.agent import bluegreen, leaving, wire
from longshore.agent.compose import Compose, remove_container
from longshore.agent.daily import Daily
from longshore.agent.engine import EngineError
from longshore.agent.fail import Refusal
from longshore.agent.health import Watch, is_ours
from longshore.agent.history import History
from longshore.agent.order import in_order


def restart(daily: Daily, args: Dict[str, Any]) -> Dict[str, Any]:
    """Restart containers one by one, what others need first, and wait until they are healthy again.

    A service that had been stopped is started. One-shots that have done their work are left alone. ``out``:
    how to leave the load balancer meanwhile (``leaving.leave``), where a service has no other container here.
    """
    running = [one["service"] for one in _ordered(daily, args) if one["state"] == "running"]
    with leaving.away(daily, args, {name for name in running if running.count(name) == 1}) as left:
        return {**_restart(daily, args), "left": left}


def _restart(daily: Daily, args: Dict[str, Any]) -> Dict[str, Any]:
    services = {
        name: facts for name, facts in daily.services(args.get("service")).items() if not facts["one_shot"]
    }
    release = daily.current()
    found = _ordered(daily, args)
    done = []
    for one in found:
        facts = services.get(one["service"])
        # One with `restart: "no"` that has ended may be a job; it runs again when it is asked for by name.
        over = facts and facts.get("may_exit") and one["state"] == "exited" and not args.get("service")
        if facts and not over:
            daily.emit("compose", line=f"{one['service']} restarts")
            others = any(
                other["service"] == one["service"] and other["state"] == "running" and other is not one
                for other in found
            )
            served_by_others = bool(facts.get("routed")) and others and one["state"] == "running"
            if served_by_others:
                bluegreen.leave_routes(daily.engine, daily.store, release, daily.emit, {one["id"]})
            daily.engine.restart(one["id"])
            done.append(one["name"])
            if served_by_others:
                _watch(daily, {one["service"]: facts})
                bluegreen.settle_routes(daily.engine, daily.store, release, daily.emit)
    _watch(daily, services)
    bluegreen.settle_routes(daily.engine, daily.store, release, daily.emit)
    return {"containers": done}


def stop(daily: Daily, args: Dict[str, Any]) -> Dict[str, Any]:
    """Stop containers, what needs others first. They stay, with their volumes, until ``start``. ``out``: how
    to leave the load balancer before (``leaving.leave``)."""
    going = _ordered(daily, args)
    with leaving.away(daily, args, {one["service"] for one in going}):
        return _stop(daily, going)


def _stop(daily: Daily, going: List[Dict[str, Any]]) -> Dict[str, Any]:
    done = []
    idents = {one["id"] for one in going}
    bluegreen.leave_routes(daily.engine, daily.store, daily.current(), daily.emit, idents)
    for one in reversed(going):
        if one["state"] in ("running", "restarting", "paused"):
            daily.emit("compose", line=f"{one['service']} stops")
            daily.engine.stop(one["id"])
            done.append(one["name"])
    return {"containers": done}


def start(daily: Daily, args: Dict[str, Any]) -> Dict[str, Any]:
    """Start what was stopped, or make it anew where it is gone, and wait until it is healthy.

    Compose does it: it waits for what a service depends on, and takes nothing but this release.
    """
    services = daily.services(args.get("service"))
    release = daily.current()
    found = daily.of(args.get("service"))
    before = {one["id"] for one in found if one["state"] == "running"}
    # What runs is left out, for Compose would run the finished one-shots that it once waited for again.
    names = tuple(
        name
        for name, facts in sorted(services.items())
        if args.get("service") or not _stands(facts, [one for one in found if one["service"] == name])
    )
    if names:
        Compose(daily.manifest(), daily.store.bundle_dir(release)).up(
            lambda line: daily.emit("compose", line=line), names
        )
    _watch(daily, services)
    bluegreen.settle_routes(daily.engine, daily.store, release, daily.emit)
    now = daily.of(args.get("service"))
    return {"containers": [one["name"] for one in now if one["id"] not in before]}


def _stands(facts: Dict[str, Any], its: List[Dict[str, Any]]) -> bool:
    """Whether a service's containers are as ``start`` would make them: all running, or a one-shot's, done."""
    return len(its) >= facts["replicas"] and all(
        one["state"] == "running" or (facts["one_shot"] and one["status"].startswith("Exited (0)"))
        for one in its
    )


def down(daily: Daily, args: Dict[str, Any]) -> Dict[str, Any]:
    """Remove the app's containers and networks, and of its volumes only those named one by one. ``out``: how
    to leave the load balancer before (``leaving.leave``)."""
    release = daily.current()
    manifest = daily.store.manifest(release)
    asked = [str(name) for name in args.get("volumes") or []]
    have = daily.volumes_of(manifest["project"])
    for name in asked:
        if name not in have:
            known = ", ".join(have) or "none"
            raise Refusal(wire.BAD_REQUEST, f"{daily.store.app} has no volume {name!r}", f"It has: {known}.")
    found = daily.of(None)
    with leaving.away(daily, args, {one["service"] for one in found}):
        idents = {one["id"] for one in found}
        bluegreen.leave_routes(daily.engine, daily.store, release, daily.emit, idents)
        bluegreen.forget_routes(daily.store)
        Compose(manifest, daily.store.bundle_dir(release)).down(lambda line: daily.emit("compose", line=line))
    daily.store.set_current(None)
    _note_down(daily, release, args)
    for name in asked:
        try:
            daily.engine.request("DELETE", f"/volumes/{name}")
        except EngineError as error:
            raise Refusal(
                wire.BAD_REQUEST, f"the app is down, but its volume {name} stays: {error.message}"
            ) from error
    return {"release": release, "volumes": asked, "kept": [name for name in have if name not in asked]}


def _note_down(daily: Daily, release: str, args: Dict[str, Any]) -> None:
    History(daily.store.root).append(
        {
            "release": release,
            "outcome": "down",
            "seconds": 0,
            **{key: str(args.get(key, "")) for key in ("by", "run", "git", "why")},
        }
    )


def run(daily: Daily, args: Dict[str, Any]) -> Dict[str, Any]:
    """A one-off container of the release that runs, with its env; its output comes as events.

    ``service``, ``command`` (a list), ``run`` (a name for it), ``timeout`` (s). With ``finish`` it goes on
    when the controller hangs up (a migration); else it is removed then. Gives ``code``.
    """
    service = str(args["service"])
    daily.services(service)
    release = daily.current()
    compose = Compose(daily.store.manifest(release), daily.store.bundle_dir(release))
    name = f"{compose.project}-run-{args['run']}"
    over = threading.Event()
    if not args.get("finish"):
        threading.Thread(target=_remove_when_gone, args=(daily, name, over), daemon=True).start()

    def out(line: str) -> None:
        daily.emit("output", service=service, line=line)

    try:
        timeout = float(args.get("timeout") or 86400)
        finish = bool(args.get("finish"))
        code = compose.one_off(service, list(args["command"]), name, out, timeout, to_its_end=finish)
    finally:
        over.set()
    return {"code": code}


def _remove_when_gone(daily: Daily, name: str, over: threading.Event) -> None:
    while not over.wait(0.2):
        if daily.gone.is_set():
            remove_container(name)


def _watch(daily: Daily, services: Dict[str, Dict[str, Any]]) -> None:
    if services:
        Watch(daily.engine, {**daily.manifest(), "services": services}, daily.emit).run()


def _ordered(daily: Daily, args: Dict[str, Any]) -> List[Dict[str, Any]]:
    """The containers asked for, those of what others depend on first."""
    services = daily.manifest()["services"]
    ranks = {name: rank for rank, name in enumerate(in_order(services))}
    found = [one for one in daily.of(args.get("service")) if is_ours(one, daily.store.app, services)]
    return sorted(found, key=lambda one: (ranks.get(one["service"], len(ranks)), one["name"]))
