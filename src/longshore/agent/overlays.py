"""What is laid over an app's routes at the proxy, and is no part of its release: maintenance, a pause, and
being out of a load balancer.

Its names at Traefik have an empty part (``shop::pause``), which a service's can't have; so it can be taken
off again, whatever release's routes are below.
"""

import os
import re
from typing import Any, ContextManager, Dict, Optional

from longshore.agent import maintenance, out, pages, pausing, wire
from longshore.agent.engine import Engine
from longshore.agent.fail import Refusal
from longshore.agent.health import Emit
from longshore.agent.lock import alone
from longshore.agent.proxy import Proxy
from longshore.agent.store import AppStore

_OLDEST = (3, 4)
"""The Traefik that knows ``statusRewrites``."""
_EMPTY: Dict[str, Any] = {"loadBalancer": {"servers": []}}


def steady(store: AppStore) -> ContextManager[None]:
    """From reading what holds to the proxy's word that it does, nobody else changes it: a pause ends by
    itself, also in the middle of a deploy."""
    return alone(os.path.join(store.root, "routes.lock"))


def laid(dynamic: Dict[str, Any], store: AppStore, *, hold: bool = True) -> Dict[str, Any]:
    """A release's routes with all that holds just now laid over them; without ``hold`` a pause has not begun
    yet. Only inside of ``steady``."""
    hold = hold and pausing.state_of(store) is not None
    paused = pausing.over(dynamic, pausing.lately(store), store.app, hold=hold)
    closed = maintenance.over(paused, maintenance.state_of(store), store.app)
    return out.over(closed, out.state_of(store), store.app)


def bare(dynamic: Dict[str, Any], app: str) -> Dict[str, Any]:
    """The routes as ``Proxy.route`` was given them, with nothing laid over; the mark that it adds is gone."""
    ours = f"{app}::"
    mark = re.compile(re.escape(app) + ":[0-9a-f]{12}")
    http = dict(dynamic.get("http", {}))
    if "services" in http:
        http["services"] = out.under(http["services"], app)
    used = {router["service"] for router in http.get("routers", {}).values()}
    found: Dict[str, Any] = {}
    for kind, entries in http.items():
        found[kind] = {name: value for name, value in entries.items() if not name.startswith(ours)}
    for name in list(found.get("services", {})):
        if mark.fullmatch(name) and name not in used and found["services"][name] == _EMPTY:
            del found["services"][name]
    for name, router in found.get("routers", {}).items():
        kept = [one for one in router.get("middlewares", []) if not one.startswith(ours)]
        found["routers"][name] = {**router, "middlewares": kept}
    return {**dynamic, "http": found}


def renew(proxy: Proxy, store: AppStore, *, hold: bool = True) -> None:
    """Have the proxy's routes say what holds now. Raises ``Refusal`` when they don't."""
    there = proxy.file_of(store.app)
    if there:
        proxy.route(store.app, laid(bare(there, store.app), store, hold=hold), {})


def state_dir(store: AppStore) -> str:
    """The state folder that an app's folder is in."""
    return os.path.dirname(store.root)


def _proxy(engine: Engine, store: AppStore, emit: Emit) -> Proxy:
    return Proxy(engine, state_dir(store), emit)


def _is_new(proxy: Proxy) -> bool:
    version = re.findall(r"\d+", (proxy.ask("/api/version") or {}).get("Version", ""))
    return tuple(map(int, version[:2])) >= _OLDEST


def _served(proxy: Proxy, app: str) -> None:
    if not proxy.file_of(app).get("http", {}).get("routers"):
        raise Refusal(
            wire.BAD_REQUEST,
            f"the proxy serves nothing of {app} here",
            "What is asked for is the proxy's: give a service `proxy:` (docs/proxy.md).",
        )


def set_maintenance(engine: Engine, store: AppStore, emit: Emit, args: Dict[str, Any]) -> Dict[str, Any]:
    """Turn maintenance ``on`` (with ``by``, ``why``, ``allow``, ``retry_after``, and the ``page``'s text) or
    off. Gives ``state``. Raises ``Refusal``; then it is as it was."""
    proxy = _proxy(engine, store, emit)
    if args.get("on"):
        _served(proxy, store.app)
    with steady(store):
        before = maintenance.state_of(store)
        state = None
        if args.get("on"):
            # What a deploy noted stays: it says that nothing may be started on this schema.
            state = maintenance.made(args, _page(proxy, store, emit, args))
            state.update({key: value for key, value in (before or {}).items() if key in ("deploy", "pass")})
        maintenance.put(store, state)
        try:
            renew(proxy, store)
        except Refusal:
            maintenance.put(store, before)
            raise
    return {"state": state and {key: value for key, value in state.items() if key != "pass"}}


def _page(proxy: Proxy, store: AppStore, emit: Emit, args: Dict[str, Any]) -> Optional[Dict[str, Any]]:
    if _is_new(proxy):
        return pages.serve(store, str(args.get("page") or ""))
    if args.get("page"):
        oldest = ".".join(map(str, _OLDEST))
        emit("note", message=f"503 without a page: that needs Traefik {oldest} or newer")
    return None


def close(engine: Engine, store: AppStore, emit: Emit, args: Dict[str, Any]) -> bool:
    """Maintenance as a deploy wants it, with its note (``deploy``) and what lets its checks through
    (``pass``); what a person has turned on before stays. Returns whether the proxy has a route of the app."""
    proxy = _proxy(engine, store, emit)
    served = bool(proxy.file_of(store.app).get("http", {}).get("routers"))
    with steady(store):
        state = maintenance.state_of(store)
        if state is None:
            state = maintenance.made(args, _page(proxy, store, emit, args) if served else None)
        maintenance.put(store, {**state, "deploy": args["deploy"], "pass": str(args["pass"])})
        if served:
            renew(proxy, store)
    return served


def reopen(engine: Engine, store: AppStore, emit: Emit, *, own: bool) -> None:
    """The end of that: off, or as a person has turned it on before."""
    with steady(store):
        state = maintenance.state_of(store) or {}
        kept = {key: value for key, value in state.items() if key not in ("deploy", "pass")}
        maintenance.put(store, kept if kept and not own else None)
        renew(_proxy(engine, store, emit), store)


def begin_pause(engine: Engine, store: AppStore, emit: Emit, args: Dict[str, Any]) -> Dict[str, Any]:
    """Hold requests back for ``seconds`` (``by``, ``why``). Gives ``seconds``, from now on. Raises
    ``Refusal``; then none is held."""
    proxy = _proxy(engine, store, emit)
    _served(proxy, store.app)
    wanted = proxy.wanted() or {}
    entry = wanted.get("static", {}).get("entryPoints", {}).get("web", {}).get("address", "")
    if not entry or not _is_new(proxy):
        oldest = ".".join(map(str, _OLDEST))
        raise Refusal(
            wire.BAD_REQUEST,
            f"this host's proxy can't hold requests back: that needs Traefik {oldest} or newer",
            "`longshore.proxy.image` says which; `invoke maintenance on` does without.",
        )
    with steady(store):
        longer = pausing.state_of(store) is not None
        state = pausing.begin(store, args, int(entry.rpartition(":")[2]))
        try:
            renew(proxy, store, hold=longer)
            renew(proxy, store)
        except Refusal:
            pausing.forget(store, state["token"])
            raise
    return {"seconds": round(state["until"] - state["at"], 1), "until": state["until"]}


def end_pause(engine: Engine, store: AppStore, emit: Emit, token: str = "") -> bool:
    """No more requests are held. With ``token``: only if it is this pause. Returns whether there was one."""
    with steady(store):
        there = pausing.end(store, token)
        if there:
            renew(_proxy(engine, store, emit), store)
    return there


def forget_pause(engine: Engine, store: AppStore, emit: Emit, token: str) -> None:
    """Nothing of this pause is left in the routes."""
    with steady(store):
        if pausing.forget(store, token):
            renew(_proxy(engine, store, emit), store)


def resume(engine: Engine, store: AppStore, emit: Emit) -> Dict[str, Any]:
    """End a pause, and wait until all that was held has gone on. Gives ``paused``, whether there was one, and
    ``held``, how many requests were."""
    there = store.exists() and pausing.state_of(store) is not None and end_pause(engine, store, emit)
    return {"paused": there, "held": pausing.outlast(store, 15.0) if there else 0}
