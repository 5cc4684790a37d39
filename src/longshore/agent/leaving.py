"""Leaving the load balancer before something that serves is replaced here, and coming back.

Who leaves does so at the controller's word alone, for only that knows how many others are in. Whoever has the
app's lock comes back by itself: a release that is verified, one that is back, the next command, the guardian
of an agent that was killed, and the host's boot.
"""

import time
from collections import Counter
from contextlib import contextmanager
from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional, Set, Tuple
from urllib.parse import urlsplit

from longshore.agent import bluegreen, drift, edited, out, overlays, pausing, sharing, wire
from longshore.agent.daily import Daily
from longshore.agent.draining import drained
from longshore.agent.engine import Engine, EngineError
from longshore.agent.fail import Refusal
from longshore.agent.health import Emit, containers
from longshore.agent.proxy import Proxy
from longshore.agent.store import AppStore

GivenUp = Callable[[], bool]
_GLANCE = 0.1


# Whether there is a gap


def replaced(
    engine: Engine, store: AppStore, release: str, planned: Optional[Iterable[str]] = None
) -> Set[str]:
    """The services that run and are replaced in place when ``release`` is brought. ``planned``: what the
    controller's plan says; without one, what differs from the containers that ``release`` was committed with
    or was changed by hand; or all, where it never was committed."""
    services = store.manifest(release)["services"]
    names = {name for name, facts in services.items() if not (facts.get("twin") or facts["one_shot"])}
    if planned is not None:
        return names & set(planned)
    done = store.committed(release)
    if done is None:
        return names
    found = containers(engine, store.manifest(release)["project"])
    wanted = Counter(drift.key(one) for one in done.get("containers", []))
    there = Counter(drift.key(one) for one in found if one["state"] == "running")
    differing = {service for service, _, _ in (wanted - there) + (there - wanted)}
    return names & {*differing, *drift.astray(engine, store, found, edited.restored(store))}


def gaps(engine: Engine, store: AppStore, release: str, names: Set[str]) -> List[str]:
    """The services behind the proxy that requests reach now, and don't while ``names`` are replaced: they are
    among them, or need one of them. What is dead already has nothing to lose."""
    services = store.manifest(release)["services"]
    alive = {
        one["service"]
        for one in containers(engine, store.manifest(release)["project"])
        if one["state"] == "running" and one["health"] != "unhealthy"
    }
    going = names & alive
    return sorted(
        name
        for name, facts in services.items()
        if facts.get("routed") and name in alive and going & {name, *needs(name, services)}
    )


def needs(name: str, services: Dict[str, Dict[str, Any]]) -> Set[str]:
    """The services that one depends on, and those that these do."""
    found: Set[str] = set()
    todo = [name]
    while todo:
        for need in services.get(todo.pop(), {}).get("depends_on") or []:
            if need not in found:
                found.add(need)
                todo.append(need)
    return found


# Leaving


def leave(
    engine: Engine,
    store: AppStore,
    emit: Emit,
    release: str,
    args: Optional[Dict[str, Any]],
    names: Set[str],
    given_up: Optional[GivenUp] = None,
) -> bool:
    """Go out before ``names`` are replaced, where that would be felt, and return when requests have stopped
    coming. ``args`` are the controller's: ``asked`` (service to path, of those that others serve meanwhile),
    ``wait`` (s), ``always`` (also where it isn't felt), ``by``, ``why``; without them the host stays in.

    Returns whether it went. Raises ``Refusal`` when the proxy doesn't take it; then the host is in.
    """
    if not args or not args.get("asked") or out.state_of(store) is not None:
        return False
    proxy = Proxy(engine, overlays.state_dir(store), emit)
    labels = proxy.file_of(store.app).get("http", {}).get("routers", {})
    if proxy.current() is None or not any(label.split(":")[1] in args["asked"] for label in labels):
        return False
    if not args.get("always") and not gaps(engine, store, release, names):
        return False
    _go(engine, store, emit, args, given_up, hand=False)
    return True


def leave_for(
    engine: Engine,
    store: AppStore,
    emit: Emit,
    release: str,
    args: Optional[Dict[str, Any]],
    given_up: Optional[GivenUp],
    *,
    only: str = "",
) -> None:
    """``leave``, before ``release`` is brought; or, with ``only``, before no more than what this service
    needs is. ``args`` also have ``replaced``: see there.

    Raises ``Refusal`` also when the controller has gone meanwhile: nothing is replaced then.
    """
    if not args or not args.get("asked"):
        return
    names = replaced(engine, store, release, args.get("replaced"))
    if only:
        names &= needs(only, store.manifest(release)["services"])
        args = {**args, "always": False}
    leave(engine, store, emit, release, args, names, given_up)
    if given_up and given_up():
        raise Refusal(wire.LOCK_LOST, "the controller went while requests were waited for")


def leave_to_go_back(
    engine: Engine,
    store: AppStore,
    emit: Emit,
    back: Optional[str],
    failed: str,
    args: Optional[Dict[str, Any]],
    given_up: Optional[GivenUp],
) -> None:
    """``leave_for``, on the way from ``failed`` to ``back`` (``None``: nothing), which nothing may stop."""
    if args and back is None:
        args = {**args, "always": True}
    try:
        leave_for(engine, store, emit, back or failed, args, given_up)
    except (Refusal, EngineError, OSError) as error:
        emit("note", message=f"it goes back without having left the load balancer: {error}")


def _go(
    engine: Engine,
    store: AppStore,
    emit: Emit,
    args: Dict[str, Any],
    given_up: Optional[GivenUp],
    *,
    hand: bool,
) -> None:
    proxy = Proxy(engine, overlays.state_dir(store), emit)
    seconds = float(args.get("wait") or 0)
    state = out.made(args, hand=hand)
    _say(proxy, store, state)
    emit("out", seconds=seconds)
    until = time.monotonic() + seconds
    while time.monotonic() < until and not (given_up and given_up()):
        time.sleep(min(_GLANCE, max(0.0, until - time.monotonic())))
    pausing.outlast_all([store])
    _say(proxy, store, {**state, "quiet": True})
    _finish(store, emit, proxy, set(args["asked"]), given_up)
    if hand:
        _say(proxy, store, state)


def _say(proxy: Proxy, store: AppStore, state: Dict[str, Any]) -> None:
    """Have this state hold at the proxy. Raises ``Refusal``; then it is as it was."""
    with overlays.steady(store):
        before = out.state_of(store)
        out.put(store, state)
        try:
            overlays.renew(proxy, store)
        except Refusal:
            out.put(store, before)
            raise


def _finish(
    store: AppStore, emit: Emit, proxy: Proxy, services: Set[str], given_up: Optional[GivenUp]
) -> None:
    """Wait until requests that are under way have their answer, up to each service's ``drain``."""
    config = proxy.file_of(store.app)
    known = (bluegreen.routes_of(store, store.current() or "") if store.current() else None) or {}
    entries: Dict[str, Any] = known.get("services", {})
    leaving: List[Tuple[str, int]] = []
    longest = 0.0
    for service in services & set(entries):
        for urls in sharing.servers_of(config, entries[service]["name"]).values():
            leaving += [(where.hostname or "", where.port or 80) for where in map(urlsplit, urls)]
        longest = max(longest, float(entries[service]["drain"]))
    if leaving and not drained(leaving, longest, given_up) and not (given_up and given_up()):
        why = "long requests, WebSockets, or a balancer that takes longer than balanced.wait"
        after = f"{longest:g} s after this host was out of the load balancer"
        emit("note", message=f"some connections were still open {after}: {why}")


# Coming back


def come_back(engine: Engine, store: AppStore, emit: Emit, *, hand: bool = False) -> bool:
    """In again; what a person has taken out only with ``hand``. Returns whether it had been out.

    Raises ``Refusal`` when the proxy doesn't take it; then the host is still out, and the next one who has
    the lock tries again. A proxy that doesn't run reads it when it starts.
    """
    with overlays.steady(store):
        state = out.state_of(store)
        if state is None or (state["hand"] and not hand):
            return False
        proxy = Proxy(engine, overlays.state_dir(store), emit)
        out.put(store, None)
        try:
            overlays.renew(proxy, store)
        except Refusal:
            if proxy.current() is not None:
                out.put(store, state)
                raise
    emit("in")
    return True


def settle(engine: Engine, store: AppStore, emit: Emit) -> None:
    """``come_back``, where not being able to is no reason to say that something else failed."""
    try:
        if out.state_of(store) is not None:
            come_back(engine, store, emit)
    except (Refusal, EngineError, OSError) as error:
        emit("note", message=f"this host is still out of the load balancer: {error}")


@contextmanager
def away(daily: Daily, args: Dict[str, Any], names: Set[str]) -> Iterator[bool]:
    """Out while the containers of ``names`` are restarted or stopped, as ``args["out"]`` says (``leave``).
    Gives whether it is."""
    engine, store, emit = daily.engine, daily.store, daily.emit
    try:
        yield leave(engine, store, emit, daily.current(), args.get("out"), names, daily.gone.is_set)
    finally:
        settle(engine, store, emit)


# By hand


def by_hand(daily: Daily, args: Dict[str, Any]) -> Dict[str, Any]:
    """``do``: ``look``; ``out`` (``asked``, ``wait`` in s, ``by``, ``why``), until requests have stopped
    coming; ``back``. Gives ``out``, a sentence or '', ``in_for`` (``out.in_for``), ``served``: whether the
    proxy has a route of the app, and ``changed``. Raises ``Refusal``."""
    engine, store, emit = daily.engine, daily.store, daily.emit
    proxy = Proxy(engine, overlays.state_dir(store), emit)
    served = bool(proxy.file_of(store.app).get("http", {}).get("routers"))
    changed = False
    if args.get("do") == "out":
        if not served:
            raise Refusal(
                wire.BAD_REQUEST,
                f"the proxy serves nothing of {store.app} here",
                "A load balancer asks the host's proxy: give a service `proxy:` (docs/proxy.md).",
            )
        changed = out.state_of(store) is None
        if changed:
            _go(engine, store, emit, args, daily.gone.is_set, hand=True)
    elif args.get("do") == "back":
        changed = come_back(engine, store, emit, hand=True)
    state = out.state_of(store)
    return {
        "out": out.sentence(state) if state else "",
        "in_for": out.in_for(store),
        "served": served,
        "changed": changed,
    }
