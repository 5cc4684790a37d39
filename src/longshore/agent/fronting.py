"""What a person asks of the host's proxy: how it is, that it starts anew, that an app is in maintenance, or
that requests wait."""

import time
from typing import Any, Dict, List

from longshore.agent import (
    bluegreen,
    certificates,
    closing,
    maintenance,
    out,
    overlays,
    pausing,
    sharing,
    wire,
)
from longshore.agent.daily import Daily
from longshore.agent.engine import Engine, moment
from longshore.agent.fail import Refusal
from longshore.agent.health import Emit
from longshore.agent.proxy import Proxy


def handle(engine: Engine, state_dir: str, args: Dict[str, Any], emit: Emit) -> Dict[str, Any]:
    """``do``: ``status``; ``logs`` (the last ``lines``); ``restart``, a new proxy beside the old one,
    which then goes; or ``balance``, a step of the balancer (:mod:`longshore.agent.balancing`)."""
    if args.get("do") == "balance":
        from longshore.agent import balancing

        return balancing.handle(engine, state_dir, args, emit)
    proxy = Proxy(engine, state_dir, emit)
    if args.get("do") == "logs":
        one = proxy.current()
        text = engine.logs(one["Id"], int(args["lines"])) if one else ""
        return {"proxy": one is not None, "lines": text.splitlines()}
    if args.get("do") == "restart":
        wanted = proxy.wanted()
        if wanted is None or proxy.current() is None:
            hint = "It starts with the first deploy of an app that it serves."
            raise Refusal(wire.BAD_REQUEST, "no proxy runs on this host", hint)
        began = time.time()
        proxy.ensure(wanted, anew=True)
        certificates.settle(proxy, proxy.apps(), emit, began)
    return status(proxy, engine)


def status(proxy: Proxy, engine: Engine) -> Dict[str, Any]:
    """``proxy``: ``None``, or ``container``, ``image``, ``version``, ``started`` (s since the epoch),
    ``restarts``. ``routes``: ``app``, ``service``, ``rules``, ``secure``, ``problem``,
    ``certificates`` (for names that one is ordered for: ``name``, ``until`` in s since the epoch) and
    ``servers`` (``url``, ``container``, ``up`` by the proxy's own health check, and ``canary``, the ``share``
    or ``mirror`` in percent that a release gets which is not committed). ``maintenance``,
    ``paused`` and ``out`` (of the load balancer): app to a sentence."""
    one = proxy.current()
    found: Dict[str, Any] = {"proxy": None, "routes": [], "maintenance": {}, "paused": {}, "out": {}}
    if one is None:
        return found
    full = engine.container(one["Id"]) or {}
    version = proxy.ask("/api/version") or {}
    found["proxy"] = {
        "container": one["Names"][0].lstrip("/"),
        "image": full.get("Config", {}).get("Image", ""),
        "version": version.get("Version", ""),
        "started": moment(full.get("State", {}).get("StartedAt", "")),
        "restarts": full.get("RestartCount", 0),
    }
    names = {address: ident for ident, address in proxy.addresses().items()}
    containers = {raw["Id"]: (raw.get("Names") or ["/?"])[0].lstrip("/") for raw in engine.containers()}
    for app in proxy.apps():
        found["routes"] += _routes(proxy, app, names, containers)
    certificates.tell(proxy, found["routes"])
    for app in proxy.apps():
        store = bluegreen.store_of(proxy, app)
        state = maintenance.state_of(store)
        if state is not None:
            found["maintenance"][app] = maintenance.sentence(state)
        paused = pausing.state_of(store)
        if paused is not None:
            found["paused"][app] = pausing.sentence(paused)
        away = out.state_of(store)
        if away is not None:
            found["out"][app] = out.sentence(away)
    return found


def _routes(
    proxy: Proxy, app: str, names: Dict[str, str], containers: Dict[str, str]
) -> List[Dict[str, Any]]:
    rows = []
    config = overlays.bare(proxy.file_of(app), app)
    http = config.get("http", {})
    parts = sharing.shares(config)
    used = {router["service"] for router in http.get("routers", {}).values()}
    for name in sorted(one for one in used if "mirroring" not in http["services"][one]):
        mine = {label: one for label, one in http["routers"].items() if one["service"] == name}
        problems = [_problem(proxy, label) for label in sorted(mine)]
        part = parts.get(name)
        servers = []
        for half, urls in sharing.servers_of(config, name).items():
            seen = proxy.ask(f"/api/http/services/{half}@file") or {}
            up: Dict[str, str] = seen.get("serverStatus") or {}
            of_the_new = part is not None and half == sharing.part_of(name, sharing.NEW)
            for url in urls:
                address = url.partition("//")[2].rpartition(":")[0]
                container = containers.get(names.get(address, ""), "")
                one: Dict[str, Any] = {"url": url, "container": container, "up": up.get(url) == "UP"}
                if of_the_new and part is not None:
                    one["canary"] = part._asdict()
                servers.append(one)
        rows.append(
            {
                "app": app,
                "service": name.partition(":")[2],
                # What only some requests take (bodies, plain HTTP) is the same route.
                "rules": [one["rule"] for label, one in sorted(mine.items()) if label.count(":") == 2],
                "secure": any("tls" in one for one in mine.values()),
                "servers": servers,
                "certificates": [],
                "problem": "; ".join(text for text in problems if text),
            }
        )
    return rows


def _problem(proxy: Proxy, router: str) -> str:
    seen = proxy.ask(f"/api/http/routers/{router}@file")
    if seen is None:
        return "the proxy doesn't know it"
    return "; ".join(seen.get("error") or [])


def set_maintenance(daily: Daily, args: Dict[str, Any]) -> Dict[str, Any]:
    """Turn maintenance on or off: ``overlays.set_maintenance``."""
    return overlays.set_maintenance(daily.engine, daily.store, daily.emit, args)


def seal(daily: Daily, args: Dict[str, Any]) -> Dict[str, Any]:
    """The schema may be the new one, or is the old one again (``sealed``): ``closing.seal``."""
    return closing.seal(daily.store, bool(args["sealed"]))


def reopen(daily: Daily, args: Dict[str, Any]) -> Dict[str, Any]:
    """End what a deploy has closed: ``closing.reopen``."""
    return closing.reopen(daily.engine, daily.store, daily.emit)


def pause(daily: Daily, args: Dict[str, Any]) -> Dict[str, Any]:
    """Hold requests back for some seconds: ``overlays.begin_pause``."""
    return overlays.begin_pause(daily.engine, daily.store, daily.emit, args)


def resume(daily: Daily, args: Dict[str, Any]) -> Dict[str, Any]:
    """Let them go on: ``overlays.resume``."""
    return overlays.resume(daily.engine, daily.store, daily.emit)
