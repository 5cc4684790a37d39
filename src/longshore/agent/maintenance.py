"""Maintenance: an app's routes answer 503, but for addresses that are let through.

It is a file of the app on the host, and no part of a release: a deploy in between keeps it.
"""

import json
import os
import time
from typing import Any, Dict, Optional

from longshore.agent.store import AppStore, read_json, write

_FILE = "maintenance.json"
_NOBODY = "255.255.255.255/32"
"""No request comes from there, and Traefik wants to be told some network."""


def state_of(store: AppStore) -> Optional[Dict[str, Any]]:
    """``None`` when it is off; else ``by``, ``why``, ``at`` (s since the epoch), ``retry_after`` (s), and
    ``allow`` (networks)."""
    found = read_json(os.path.join(store.root, _FILE))
    return found if isinstance(found, dict) else None


def put(store: AppStore, args: Dict[str, Any]) -> Optional[Dict[str, Any]]:
    """Turn it on (``on``) or off, and return the state that holds from now on."""
    path = os.path.join(store.root, _FILE)
    if not args.get("on"):
        if os.path.exists(path):
            os.unlink(path)
        return None
    state = {
        "by": str(args.get("by", "")),
        "why": str(args.get("why", "")),
        "at": time.time(),
        "retry_after": int(args.get("retry_after") or 0),
        "allow": [str(network) for network in args.get("allow") or []],
    }
    write(path, json.dumps(state, sort_keys=True).encode())
    return state


def sentence(state: Dict[str, Any]) -> str:
    """The state in words."""
    since = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(state["at"]))
    why = f": {state['why']}" if state["why"] else ""
    return f"maintenance is on since {since}, by {state['by'] or 'someone'}{why}"


def over(dynamic: Dict[str, Any], state: Optional[Dict[str, Any]]) -> Dict[str, Any]:
    """Traefik's configuration with the state laid over it."""
    if state is None or not dynamic["http"]["routers"]:
        return dynamic
    http = dynamic["http"]
    first = next(iter(http["routers"].values()))
    app = first["service"].partition(":")[0]
    closed: Dict[str, Any] = {"sourceRange": state["allow"] or [_NOBODY], "rejectStatusCode": 503}
    for known in http.get("middlewares", {}).values():
        strategy = known.get("ipAllowList", {}).get("ipStrategy")
        if strategy:
            closed["ipStrategy"] = strategy
    middlewares: Dict[str, Any] = {f"{app}:maintenance:closed": {"ipAllowList": closed}}
    if state["retry_after"]:
        header = {"customResponseHeaders": {"Retry-After": str(state["retry_after"])}}
        middlewares[f"{app}:maintenance:later"] = {"headers": header}
    before = sorted(middlewares, reverse=True)  # the header first: it is the answer's, whoever gives that
    routers = {
        name: {**router, "middlewares": [*before, *router.get("middlewares", [])]}
        for name, router in http["routers"].items()
    }
    both = {**http.get("middlewares", {}), **middlewares}
    return {**dynamic, "http": {**http, "routers": routers, "middlewares": both}}
