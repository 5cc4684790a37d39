"""Out of the load balancer in front: what asks whether this host may get requests hears 503.

Everything else is answered as before, so what still comes is served. It is kept with the app on the host, and
is no part of a release. A deploy's ends with the deploy, whoever dies meanwhile: whoever has the app's lock
next ends it (:mod:`longshore.agent.leaving`). One that a person made stays until a person ends it.
"""

import json
import os
import time
from typing import Any, Dict, Optional

from longshore.agent import wire
from longshore.agent.store import AppStore, read_json, write

_FILE = "out.json"
_FIRST = 5_000_000
"""Added to a route's priority, so that it comes before all others of any app, but not before those by which a
deploy's own checks go past maintenance."""


def state_of(store: AppStore) -> Optional[Dict[str, Any]]:
    """``None`` when the app's services here are in; else ``asked`` (service to the path that is asked for),
    ``by``, ``why``, ``at`` (s since the epoch), ``hand``: whether a person wants it so, and ``quiet``:
    whether the proxy's own health checks rest, which look like requests to who waits for their end."""
    found = _read(store)
    return found if "asked" in found else None


def _read(store: AppStore) -> Dict[str, Any]:
    found = read_json(os.path.join(store.root, _FILE))
    return found if isinstance(found, dict) else {}


def in_for(store: AppStore) -> Optional[float]:
    """How long ago it came back in (s); ``None`` when it is out, or never was. A balancer may not have
    noticed yet."""
    back = _read(store).get("back")
    return None if back is None else max(0.0, time.time() - float(back))


def by_hand(store: AppStore) -> bool:
    """Whether a person has taken it out."""
    return bool((state_of(store) or {}).get("hand"))


def put(store: AppStore, state: Optional[Dict[str, Any]]) -> None:
    """This state holds from now on; ``None``: it is in, again where it was out."""
    if state is None and state_of(store) is None:
        return
    value = {"back": time.time()} if state is None else state
    write(os.path.join(store.root, _FILE), json.dumps(value, sort_keys=True).encode())


def made(args: Dict[str, Any], *, hand: bool) -> Dict[str, Any]:
    """A state from now on, of ``asked``, ``by`` and ``why``."""
    return {
        "asked": {str(service): str(path) for service, path in args["asked"].items()},
        "by": str(args.get("by", "")),
        "why": str(args.get("why", "")),
        "at": time.time(),
        "hand": hand,
        "quiet": False,
    }


def sentence(state: Dict[str, Any]) -> str:
    """The state in words."""
    since = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(state["at"]))
    who = state["by"] or "someone"
    if not state["hand"]:
        return f"out of the load balancer since {since}, for what {who} does"
    why = f": {state['why']}" if state["why"] else ""
    return f"out of the load balancer since {since}, by {who}{why}; `undrain` puts it back"


def over(dynamic: Dict[str, Any], state: Optional[Dict[str, Any]], app: str) -> Dict[str, Any]:
    """Traefik's configuration with the state laid over it, after all else: whoever may ask, and whatever else
    holds just now, the answer is a 503 (a service without servers, Traefik's own)."""
    http = dynamic.get("http", {})
    if state is None or not http.get("routers"):
        return dynamic
    nobody = f"{app}::out"
    routers = dict(http["routers"])
    for label, router in http["routers"].items():
        path = None if label.startswith(f"{app}::") else state["asked"].get(label.split(":")[1])
        if path is None:
            continue
        rule = router["rule"] if label.endswith(wire.ASKED) else f"({router['rule']}) && Path(`{path}`)"
        kept = {key: router[key] for key in ("entryPoints", "tls") if key in router}
        priority = int(router.get("priority", 0)) + _FIRST
        routers[f"{nobody}:{label}"] = {**kept, "rule": rule, "priority": priority, "service": nobody}
    services = dict(http["services"])
    if state["quiet"]:
        services.update(_quiet(http["services"], app))
    services[nobody] = {"loadBalancer": {"servers": []}}
    return {**dynamic, "http": {**http, "routers": routers, "services": services}}


def _quiet(services: Dict[str, Any], app: str) -> Dict[str, Any]:
    """The services without their health checks, and those kept with services that have no servers to
    check."""
    found: Dict[str, Any] = {}
    for name, service in services.items():
        balancer = dict(service.get("loadBalancer", {}))
        check = balancer.pop("healthCheck", None)
        if check is not None:
            found[name] = {"loadBalancer": balancer}
            found[_kept(app, name)] = {"loadBalancer": {"servers": [], "healthCheck": check}}
    return found


def _kept(app: str, name: str) -> str:
    return f"{app}::out:{name}"


def under(services: Dict[str, Any], app: str) -> Dict[str, Any]:
    """The services as they were before the state was laid over them."""
    found = dict(services)
    for name, service in services.items():
        kept = services.get(_kept(app, name), {}).get("loadBalancer", {})
        if "healthCheck" in kept:
            check = kept["healthCheck"]
            found[name] = {**service, "loadBalancer": {**service["loadBalancer"], "healthCheck": check}}
    return found
