"""Maintenance: an app's routes answer 503, but for those who are let through.

It is kept with the app on the host, and is no part of a release: a deploy in between keeps it. The answer is
the proxy's own; the page that it shows comes from a small server of ours (:mod:`longshore.agent.pages`), and
where that is gone the answer is a 503 without a page, never the app.
"""

import json
import os
import time
from typing import Any, Dict, List, Optional

from longshore.agent import wire
from longshore.agent.store import AppStore, read_json, sync_folder, write

_FILE = "maintenance.json"
PAGE = "maintenance.html"
_NOBODY = "255.255.255.255/32"
"""No request comes from there, and Traefik wants to be told some network."""
_TURNED_AWAY = 510
"""What the proxy says to itself of a request that is turned away: no app answers with it ("Not Extended"),
so that an app's own 503, to somebody who is let through, isn't taken for it."""
_FIRST = 10_000_000
"""Added to a route's priority, so that it comes before all others of any app."""


def state_of(store: AppStore) -> Optional[Dict[str, Any]]:
    """``None`` when it is off; else ``by``, ``why``, ``at`` (s since the epoch), ``retry_after`` (s),
    ``allow`` (networks), ``page`` (where the proxy gets the page from: ``port``, ``path``; or ``None``), and
    ``deploy``, where a deploy turned it on (:mod:`longshore.agent.closing`)."""
    found = read_json(os.path.join(store.root, _FILE))
    return found if isinstance(found, dict) else None


def put(store: AppStore, state: Optional[Dict[str, Any]]) -> None:
    """This state holds from now on; ``None``: it is off."""
    path = os.path.join(store.root, _FILE)
    if state is not None:
        write(path, json.dumps(state, sort_keys=True).encode())
    elif os.path.exists(path):
        os.unlink(path)
        sync_folder(store.root)  # a power cut must not bring it back


def made(args: Dict[str, Any], page: Optional[Dict[str, Any]]) -> Dict[str, Any]:
    """A state as a person wants it, from now on."""
    return {
        "by": str(args.get("by", "")),
        "why": str(args.get("why", "")),
        "at": time.time(),
        "retry_after": int(args.get("retry_after") or 0),
        "allow": [str(network) for network in args.get("allow") or []],
        "page": page,
    }


def sentence(state: Dict[str, Any]) -> str:
    """The state in words."""
    since = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(state["at"]))
    why = f": {state['why']}" if state["why"] else ""
    note = state.get("deploy") or {}
    shut = f"; the schema may be that of {note['sealed']} already" if note.get("sealed") else ""
    return f"maintenance is on since {since}, by {state['by'] or 'someone'}{why}{shut}"


def over(dynamic: Dict[str, Any], state: Optional[Dict[str, Any]], app: str) -> Dict[str, Any]:
    """Traefik's configuration with the state laid over it."""
    if state is None or not dynamic.get("http", {}).get("routers"):
        return dynamic
    http = dynamic["http"]
    middlewares: Dict[str, Any] = {}
    services = dict(http["services"])
    before: List[str] = []

    def first(name: str, value: Dict[str, Any]) -> None:
        before.append(f"{app}::maintenance:{name}")
        middlewares[before[-1]] = value

    if state["retry_after"]:  # it is the answer's, whoever gives that
        first("later", {"headers": {"customResponseHeaders": {"Retry-After": str(state["retry_after"])}}})
    page = state.get("page")
    if page:
        place = f"{app}::maintenance:page"
        services[place] = {"loadBalancer": {"servers": [{"url": f"http://127.0.0.1:{page['port']}"}]}}
        rewrites = {str(_TURNED_AWAY): 503}
        errors = {"status": [str(_TURNED_AWAY)], "service": place, "query": page["path"]}
        first("page", {"errors": {**errors, "statusRewrites": rewrites}})
    closed: Dict[str, Any] = {"sourceRange": state["allow"] or [_NOBODY]}
    closed["rejectStatusCode"] = _TURNED_AWAY if page else 503
    for known in http.get("middlewares", {}).values():
        strategy = known.get("ipAllowList", {}).get("ipStrategy")
        if strategy:
            closed["ipStrategy"] = strategy
    first("closed", {"ipAllowList": closed})
    # A balancer has to go on sending requests here: the answer is ours to give, with its page.
    asked = {name: one for name, one in http["routers"].items() if name.endswith(wire.ASKED)}
    closing = {name: one for name, one in http["routers"].items() if name not in asked}
    routers = dict(asked)
    for name, router in closing.items():
        routers[name] = {**router, "middlewares": [*before, *router.get("middlewares", [])]}
    if state.get("pass"):
        forget = f"{app}::maintenance:pass"
        middlewares[forget] = {"headers": {"customRequestHeaders": {wire.PASSING: ""}}}
        for name, router in closing.items():
            routers[f"{app}::pass:{name}"] = {
                **router,
                "rule": f"({router['rule']}) && Header(`{wire.PASSING}`, `{state['pass']}`)",
                "priority": int(router.get("priority", 0)) + _FIRST,
                "middlewares": [forget, *router.get("middlewares", [])],
            }
    both = {**http.get("middlewares", {}), **middlewares}
    return {**dynamic, "http": {**http, "routers": routers, "middlewares": both, "services": services}}
