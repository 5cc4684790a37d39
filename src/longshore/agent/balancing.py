"""The balancer: this host's Traefik stands before the proxies of other hosts.

Its routes are a file for each app, as a host's proxy has them. Before a deploy they are only widened: what
is there goes on, what is new is added, so that a deploy which is taken back leaves nothing that is closed.
When the app is deployed they are settled: just what the inventory says, with the hosts that have it now.
"""

import json
import os
import time
from typing import Any, ContextManager, Dict, Iterable, List, Set

from longshore.agent import certificates, overlays, wire
from longshore.agent.engine import Engine
from longshore.agent.fail import Refusal
from longshore.agent.health import Emit
from longshore.agent.lock import alone
from longshore.agent.proxy import Proxy
from longshore.agent.store import AppStore, read_json, write

_OWNER = "balancer.json"
_POLL = 0.1
Config = Dict[str, Any]
"""Traefik's dynamic configuration of one app."""


def handle(engine: Engine, state_dir: str, args: Dict[str, Any], emit: Emit) -> Dict[str, Any]:
    """``step``: ``plan`` (nothing is touched), ``widen`` or ``settle``. ``environment``: whose balancer it
    is. ``file``: what it is to do, for all apps (``render.balancer``); ``apps``: those that this is about;
    ``whole``: that is all of them. ``hosts``: those that get the apps, or have them by now. ``auth``: the
    login for the image.

    Gives ``changes`` (sentences), and of ``settle`` ``up``: service to host to whether it gets requests.
    Raises ``Refusal``.
    """
    balancing = Balancing(Proxy(engine, state_dir, emit), args, emit)
    balancing.check_owner()
    if args["step"] == "plan":
        return {"changes": balancing.plan()}
    with balancing.alone():
        return balancing.widen() if args["step"] == "widen" else balancing.settle()


class Balancing:
    """Brings this host's Traefik to what an environment's balancer is to do."""

    def __init__(self, proxy: Proxy, args: Dict[str, Any], emit: Emit) -> None:
        self.proxy = proxy
        self.emit = emit
        self.environment = str(args["environment"])
        self.file: Dict[str, Any] = args["file"]
        self.whole = bool(args.get("whole"))
        self.hosts: Set[str] = set(args["hosts"])
        self.auth: Dict[str, Any] = args.get("auth") or {}
        self.about: List[str] = [app for app in args["apps"] if app in self.file["apps"]]
        self.owner = os.path.join(proxy.root, _OWNER)

    def check_owner(self) -> None:
        """Raises ``Refusal`` where the host's Traefik has other work."""
        known = read_json(self.owner)
        if known is not None:
            if known["environment"] != self.environment:
                raise Refusal(
                    wire.BAD_REQUEST,
                    f"this host is the balancer of the environment {known['environment']}",
                    "A balancer is one environment's: choose another host for this one's.",
                )
            return
        state_dir = os.path.dirname(self.proxy.root)
        own = [app for app in self.proxy.apps() if AppStore(state_dir, app).current()]
        if own:
            raise Refusal(
                wire.BAD_REQUEST,
                f"this host's proxy serves {' and '.join(own)} here, so it can't be the balancer",
                "Choose another host, or take that off this one with `invoke down`.",
            )

    def alone(self) -> ContextManager[None]:
        """Two apps may be deployed at once, and what is read here must still be there when it is written."""
        os.makedirs(self.proxy.root, mode=0o700, exist_ok=True)
        return alone(os.path.join(self.proxy.root, "balancer.lock"))

    # Looking

    def plan(self) -> List[str]:
        """What a deploy would change, in sentences."""
        said = self._changes_of_the_proxy()
        for app in self.about:
            said += differences(self._there(app), self._wanted(app), self._names(app), app)
        return said + [f"{app} is no longer answered" for app in self._gone()]

    def _changes_of_the_proxy(self) -> List[str]:
        wanted = self.file["host"]
        known = self.proxy.wanted() or {}
        title = str(wanted["image"]).partition("@")[0]
        if self.proxy.current() is None:
            return [f"the balancer starts ({title})"]
        if {**known, "image": ""} != {**wanted, "image": ""}:
            return [f"its Traefik is replaced, for its settings are other ones ({title})"]
        if not self._is_one(known["image"], wanted["image"]):
            return [f"its Traefik is replaced, for its image is another one ({title})"]
        return []

    def _is_one(self, ref: str, other: str) -> bool:
        """Whether both are one image: by digest here, and by its tag when the registry doesn't answer."""
        if ref == other:
            return True
        one, two = (self.proxy.engine.image(name) for name in (ref, other))
        return one is not None and two is not None and one["Id"] == two["Id"]

    def _there(self, app: str) -> Config:
        return overlays.bare(self.proxy.file_of(app), app)

    def _wanted(self, app: str) -> Config:
        one = self.file["apps"][app]
        whole = with_servers(one["dynamic"], {name: [*urls] for name, urls in one["backends"].items()})
        return settled(self._there(app), whole, self._names(app), self.hosts)

    def _names(self, app: str) -> Dict[str, str]:
        """The hosts' names by their URLs."""
        found: Dict[str, str] = {}
        for urls in self.file["apps"][app]["backends"].values():
            found.update(urls)
        return found

    def _gone(self) -> List[str]:
        """Apps that the balancer has and the inventory hasn't."""
        known = (read_json(self.owner) or {}).get("apps", [])
        return [app for app in known if app not in self.file["apps"]] if self.whole else []

    # Changing

    def widen(self) -> Dict[str, Any]:
        """Before a deploy: the Traefik runs, and answers what it did and what is new."""
        began = time.time()
        changes, gone = self.plan(), self._gone()
        if not changes:
            return {"changes": []}
        self._bring_image()
        self.proxy.ensure(self.file["host"])
        self._own(gone)
        for app in self.about:
            there = self._there(app)
            self._put(app, there, widened(there, self._wanted(app)))
        self._forget(gone)
        certificates.settle(self.proxy, self.about, self.emit, began)
        return {"changes": changes}

    def settle(self) -> Dict[str, Any]:
        """After it: just what the inventory says. Hosts that aren't deployed to yet come in when they are."""
        began = time.time()
        changed = False
        for app in self.about:
            changed = self._put(app, self._there(app), self._wanted(app)) or changed
        if changed:
            certificates.settle(self.proxy, self.about, self.emit, began)
            # All servers count as well after a change, until they have been asked.
            time.sleep(float(self.file["interval"]) + _POLL)
        return {"changes": [], "up": self._wait_up()}

    def _put(self, app: str, there: Config, wanted: Config) -> bool:
        """Returns whether anything was to be done."""
        if wanted != there:
            self.proxy.put(app, wanted)
        return wanted != there

    def _bring_image(self) -> None:
        from longshore.agent import pulling  # late: most looks find nothing to do

        ref = self.file["host"]["image"]
        if self.proxy.engine.image(ref) is None:
            pulling.bring(self.proxy.engine, ref, None, self.auth.get(pulling.registry_of(ref)), self.emit)

    def _own(self, gone: Iterable[str]) -> None:
        known = (read_json(self.owner) or {}).get("apps", [])
        apps = sorted({*known, *self.about} - set(gone))
        write(self.owner, json.dumps({"environment": self.environment, "apps": apps}).encode())

    def _forget(self, gone: Iterable[str]) -> None:
        for app in gone:
            try:
                os.unlink(os.path.join(self.proxy.dynamic, f"{app}.yml"))
            except FileNotFoundError:
                pass

    def _wait_up(self) -> Dict[str, Dict[str, bool]]:
        """Wait until the hosts get requests, as long as the balancer needs to notice."""
        until = time.monotonic() + 2 * float(self.file["interval"]) + float(self.file["timeout"])
        while True:
            found = self._up()
            waiting = [host for one in found.values() for host, up in one.items() if not up]
            if not self.hosts.intersection(waiting) or time.monotonic() > until:
                return found
            time.sleep(_POLL)

    def _up(self) -> Dict[str, Dict[str, bool]]:
        found = {}
        for app in self.about:
            names = self._names(app)
            for name, urls in self.proxy.routed(app).items():
                if name not in self.file["apps"][app]["backends"]:
                    continue
                seen = self.proxy.ask(f"/api/http/services/{name}@file") or {}
                status: Dict[str, str] = seen.get("serverStatus") or {}
                found[name] = {names.get(url, address(url)): status.get(url) == "UP" for url in urls}
        return found


# What to answer


def with_servers(dynamic: Config, servers: Dict[str, List[str]]) -> Config:
    """Traefik's configuration with these servers (URLs by service)."""
    config: Config = json.loads(json.dumps(dynamic))
    for name, urls in servers.items():
        config["http"]["services"][name]["loadBalancer"]["servers"] = [{"url": url} for url in urls]
    return config


def servers(config: Config, service: str) -> List[str]:
    """The URLs of a service's servers; none where there is no such service."""
    one = config.get("http", {}).get("services", {}).get(service, {})
    return [server["url"] for server in one.get("loadBalancer", {}).get("servers", [])]


def widened(there: Config, wanted: Config) -> Config:
    """What is wanted, and what is answered there already. A service that has hosts keeps just those of them
    that are wanted: others don't have it yet, and would be asked before they are known to be down."""
    kept = {
        name: [url for url in servers(wanted, name) if url in servers(there, name)]
        for name in wanted["http"]["services"]
    }
    config = with_servers(wanted, {name: urls for name, urls in kept.items() if urls})
    http = config["http"]
    rules = {(one["rule"], *one["entryPoints"]) for one in http["routers"].values()}
    for label, router in there["http"].get("routers", {}).items():
        if (router["rule"], *router["entryPoints"]) not in rules:
            http["routers"][label if label not in http["routers"] else f"{label}:before"] = router
    for kind in ("services", "middlewares", "serversTransports"):
        http[kind] = {**there["http"].get(kind, {}), **http.get(kind, {})}
    return config


def settled(there: Config, wanted: Config, names: Dict[str, str], hosts: Set[str]) -> Config:
    """What is wanted, with the hosts that are in already and with those that have the app now. ``names``: the
    hosts' by URL."""
    chosen: Dict[str, List[str]] = {}
    for name in wanted["http"]["services"]:
        known = servers(there, name)
        urls = [url for url in servers(wanted, name) if url in known or names[url] in hosts]
        if urls:
            chosen[name] = urls
    return with_servers(wanted, chosen)


def differences(there: Config, wanted: Config, names: Dict[str, str], app: str) -> List[str]:
    """How the two differ, in sentences. ``names``: the hosts' by URL."""
    if there == wanted:
        return []
    said: List[str] = []
    before, after = _answers(there), _answers(wanted)
    for service in sorted({*before, *after}):
        title = service.partition(":")[2] + " of " + app
        old, new = servers(there, service), servers(wanted, service)
        if service not in before:
            said.append(f"{title}: answers {_and(after[service])}, by {_and(names[url] for url in new)}")
            continue
        if service not in after:
            said.append(f"{title}: no longer answered")
            continue
        more = [rule for rule in after[service] if rule not in before[service]]
        less = [rule for rule in before[service] if rule not in after[service]]
        said += [f"{title}: answers {_and(more)}, too"] if more else []
        said += [f"{title}: no longer answers {_and(less)}"] if less else []
        came = [names[url] for url in new if url not in old]
        went = [names.get(url, address(url)) for url in old if url not in new]
        said += [f"{title}: {_and(came)} come{'' if len(came) > 1 else 's'} in"] if came else []
        said += [f"{title}: {_and(went)} go{'' if len(went) > 1 else 'es'} out"] if went else []
    return said or [f"{app}: other settings"]


def _answers(config: Config) -> Dict[str, List[str]]:
    """By service the rules that it answers; what only some requests take (plain HTTP) is the same rule."""
    found: Dict[str, List[str]] = {}
    for _, router in sorted(config.get("http", {}).get("routers", {}).items()):
        rules = found.setdefault(router["service"], [])
        if router["rule"] not in rules:
            rules.append(router["rule"])
    return found


def address(url: str) -> str:
    """A server's address, for one that has no name here any more."""
    return url.partition("//")[2]


def _and(names: Iterable[str]) -> str:
    *rest, last = names
    return f"{', '.join(rest)} and {last}" if rest else last
