"""Blue and green: new containers beside the old ones, verified, and only then taken into use.

For services that can run twice on a host; all others are replaced in place by Compose. Compose makes the new
containers (its own scale, existing ones left alone), in the app's one project: same networks, same volumes,
same names for those who look. Going back is the same, with the other release.
"""

import os
import time
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Set, Tuple

from longshore.agent import certificates, gently, maintenance, out, overlays, pages, pausing, sharing
from longshore.agent.compose import Compose
from longshore.agent.draining import drained
from longshore.agent.drift import Finding
from longshore.agent.engine import Engine, EngineError
from longshore.agent.fail import Refusal
from longshore.agent.health import Emit, Watch, containers
from longshore.agent.order import in_order
from longshore.agent.proxy import Proxy, routes_file
from longshore.agent.store import AppStore, read_json

ROUTES = "proxy.json"


class Change(NamedTuple):
    """What becomes of a service's containers (ids)."""

    keep: List[str]
    new: List[str]
    old: List[str]


def routes_of(store: AppStore, release: str) -> Optional[Dict[str, Any]]:
    """What the release says of the proxy, or ``None``: ``host`` (see ``Proxy.ensure``), ``dynamic``
    (Traefik's configuration), ``services`` (by name: Traefik's ``name``, ``port``, ``drain`` in s)."""
    found = read_json(os.path.join(store.bundle_dir(release), ROUTES))
    return found if isinstance(found, dict) else None


def store_of(proxy: Proxy, app: str) -> AppStore:
    """Where an app is that the proxy serves."""
    return AppStore(os.path.dirname(proxy.root), app)


def needed(manifest: Dict[str, Any]) -> bool:
    """Whether a release has a service that the proxy serves, or that can run twice."""
    return any(facts.get("twin") or facts.get("routed") for facts in manifest["services"].values())


def forget_routes(store: AppStore) -> None:
    """Take the app's routes out of the host's proxy, where it has any."""
    try:
        os.unlink(routes_file(store))
    except FileNotFoundError:
        pass


def settle_routes(engine: Engine, store: AppStore, release: str, emit: Emit) -> None:
    """Have the proxy know the containers that run now: after they were started or made anew by hand."""
    if routes_of(store, release) is not None:
        BlueGreen(engine, store, release, emit).route()


def settle_certificates(engine: Engine, store: AppStore, release: str, emit: Emit, since: float) -> None:
    """Wait some seconds for the certificates that the release orders: ``certificates.settle``."""
    if routes_of(store, release) is not None:
        proxy = Proxy(engine, os.path.dirname(store.root), emit)
        certificates.settle(proxy, [store.app], emit, since)


def leave_routes(engine: Engine, store: AppStore, release: str, emit: Emit, idents: Set[str]) -> None:
    """Have the proxy send nothing more to these containers, which are about to stop, and wait until they have
    finished what they were sent."""
    if routes_of(store, release) is not None:
        BlueGreen(engine, store, release, emit).leave(idents)


def findings(
    engine: Engine, store: AppStore, manifest: Dict[str, Any], found: List[Dict[str, Any]]
) -> List[Finding]:
    """How the proxy and its routes differ from what was committed."""
    routes = routes_of(store, manifest["id"])
    if routes is None:
        return []
    proxy = Proxy(engine, os.path.dirname(store.root), lambda *_, **__: None)
    if proxy.current() is None:
        return [Finding("", "the host's proxy doesn't run", "start")]
    routed, addresses = proxy.routed(store.app), proxy.addresses()
    result = []
    state = maintenance.state_of(store)
    if state is not None:
        result.append(Finding("", maintenance.sentence(state), ""))
    away = out.state_of(store)
    if away is not None:
        result.append(Finding("", out.sentence(away), ""))
    for missing in certificates.missing(proxy, [store.app]):
        result.append(Finding("", f"there is no certificate for {missing}; `proxy.status` says why", ""))
    parts = sharing.shares(proxy.file_of(store.app))
    for name, entry in sorted(routes["services"].items()):
        if entry["name"] in parts:
            result.append(Finding(name, sharing.words(entry["name"], parts[entry["name"]]), "write"))
            continue
        running = [one["id"] for one in found if one["service"] == name and one["state"] == "running"]
        wanted = {f"http://{addresses.get(ident)}:{entry['port']}" for ident in running}
        if set(routed.get(entry["name"], ())) != wanted:
            result.append(
                Finding(name, f"{name}: the proxy's routes are not to the containers that run", "write")
            )
    return result


class BlueGreen:
    """Brings one release of one app to this host without a gap, where its services allow that."""

    def __init__(
        self,
        engine: Engine,
        store: AppStore,
        release: str,
        emit: Emit,
        given_up: Optional[Callable[[], bool]] = None,
    ) -> None:
        self.engine = engine
        self.store = store
        self.release = release
        self.manifest = store.manifest(release)
        self.services: Dict[str, Dict[str, Any]] = self.manifest["services"]
        self.compose = Compose(self.manifest, store.bundle_dir(release))
        self.routes = routes_of(store, release) or {}
        self.emit = emit
        self.given_up = given_up
        self.proxy = Proxy(engine, os.path.dirname(store.root), emit)
        self.twins = [name for name in in_order(self.services) if self.services[name].get("twin")]

    def bring(self, astray: Set[str], *, forward: bool) -> None:
        """Make the release run. ``astray``: services whose containers were changed by hand, and don't count.

        ``forward`` also brings the proxy's own settings to the release's; going back leaves a proxy that
        runs as it is, for other apps use it, too. Raises ``Refusal``; before the switch of the proxy what
        served goes on serving, and the new containers are gone again.
        """
        self.take_over(self.prepare(astray, forward=forward))

    def prepare(self, astray: Set[str], *, forward: bool) -> Dict[str, Change]:
        """Have the release's containers run beside the old, which serve; see ``bring``."""
        if self.routes and (forward or self.proxy.current() is None):
            self.proxy.ensure(self.routes["host"])
        if not forward:
            try:
                self.alone_again()
            except Refusal:
                pass  # only sooner than by the switch of the routes, which comes in any case
        self._in_place(astray)
        changes: Dict[str, Change] = {}
        try:
            for name in self.twins:
                changes[name] = self._beside(name, astray)
        except BaseException:
            for change in changes.values():
                self._remove(change.new)
            raise
        return changes

    def _line(self, text: str) -> None:
        self.emit("compose", line=text)

    def _in_place(self, astray: Set[str]) -> None:
        """The services that can't run twice, and whatever the others need, become the release's."""
        names = tuple(name for name in sorted(self.services) if name not in self.twins)
        if not names:
            return
        anew = tuple(name for name in names if name in astray)
        if anew:
            self.compose.up(self._line, anew, anew=True)
        self.compose.up(self._line, names)
        needed_by_twins = {
            need for name in self.twins for need in self.services[name].get("depends_on") or []
        }
        waited_for = {name: self.services[name] for name in names if name in needed_by_twins}
        if waited_for:
            self._watch(waited_for, None)

    def _beside(self, name: str, astray: Set[str]) -> Change:
        """Have enough containers of a service that are as the release says, and good."""
        facts = self.services[name]
        before = self._of(name)
        had = {one["id"] for one in before}
        self.compose.create_beside(self._line, name, len(before) + max(1, facts["replicas"]))
        made = [one for one in self._of(name) if one["id"] not in had]
        try:
            right = {(one["config_hash"], one["image_id"]) for one in made}
            good = [
                one["id"]
                for one in before
                if (one["config_hash"], one["image_id"]) in right
                and one["state"] == "running"
                and one["health"] != "unhealthy"
                and name not in astray
            ]
            keep = good[: facts["replicas"]]
            missing = facts["replicas"] - len(keep)
            new, spare = made[:missing], made[missing:]
            for one in spare:
                self.engine.remove(one["id"], unused=True)
            self._connect_ahead(name, [one["id"] for one in new])
            for one in new:
                self._line(f"{one['name']} starts beside the old")
                self.engine.request("POST", f"/containers/{one['id']}/start")
                if any(other["state"] == "running" for other in before):
                    gently.begin(self.engine, one["id"])
            chosen = {*keep, *(one["id"] for one in new)}
            if new:
                self._watch({name: facts}, chosen)
            for ident in chosen:  # also what a run before this one has brought and left
                gently.end(self.engine, ident)
        except BaseException:
            self._remove([one["id"] for one in made])
            raise
        return Change(
            keep, [one["id"] for one in new], [one["id"] for one in before if one["id"] not in keep]
        )

    def _connect_ahead(self, name: str, idents: List[str]) -> None:
        """Before they are started, when the engine only notes it; for one that runs it starts a program, and
        takes some tenths of a second."""
        if name not in self.routes.get("services", {}):
            return
        try:
            self.proxy.connect(idents)
        except EngineError:
            pass  # it is tried again when they are good, and then it is said why

    def take_over(self, changes: Dict[str, Change]) -> None:
        """Take the new into use, and the old out of it."""
        began = time.monotonic()
        self.route({name: [*change.keep, *change.new] for name, change in changes.items()})
        if self.routes and any(change.old for change in changes.values()):
            self.emit("moved", seconds=round(time.monotonic() - began, 3))
        self._drain({name: change.old for name, change in changes.items()})
        for change in changes.values():
            self._retire(change.old)

    def alone_again(self) -> None:
        """A release that got a share of the requests gets no more; the one beside it gets all."""
        app = self.store.app
        if self.proxy.current() is None or not sharing.shares(self.proxy.file_of(app)):
            return
        with overlays.steady(self.store):
            there = overlays.bare(self.proxy.file_of(app), app)
            self.proxy.put(app, overlays.laid(sharing.unshared(there), self.store))

    def leave(self, idents: Set[str]) -> None:
        """Take containers out of the routes, and let them finish what they have."""
        if self.proxy.current() is None:
            return
        staying: Dict[str, List[str]] = {}
        going: Dict[str, List[str]] = {}
        for name in self.routes["services"]:
            running = [one["id"] for one in self._of(name) if one["state"] == "running"]
            staying[name] = [ident for ident in running if ident not in idents]
            going[name] = [ident for ident in running if ident in idents]
        if any(going.values()):
            self._point(staying)
            self._drain(going)

    def _drain(self, going: Dict[str, List[str]]) -> None:
        if any(going.values()):  # what is held knows the old containers, and has no connection to them yet
            pausing.outlast_all([self.store])
        leaving: List[Tuple[str, int]] = []
        longest = 0.0
        for name, idents in going.items():
            entry = self.routes.get("services", {}).get(name)
            if entry is None:
                continue
            addresses = self.proxy.addresses(idents)
            found = [(addresses[ident], int(entry["port"])) for ident in idents if ident in addresses]
            leaving += found
            longest = max(longest, float(entry["drain"]) if found else 0.0)
        if leaving and not drained(leaving, longest):
            self.emit("note", message=f"some requests were not finished {longest:g} s after the switch")

    def route(self, chosen: Optional[Dict[str, List[str]]] = None) -> None:
        """Have the proxy send requests to these containers (ids by service); without an entry, to all of the
        service's that run."""
        if not self.routes:
            forget_routes(self.store)
            return
        wanted: Dict[str, List[str]] = {}
        for name in self.routes["services"]:
            ids = (chosen or {}).get(name)
            wanted[name] = self.running(name) if ids is None else ids
        self.until_good(wanted)
        self._point(wanted)

    def running(self, name: str) -> List[str]:
        """The service's containers that run."""
        return [one["id"] for one in self._of(name) if one["state"] == "running"]

    def _point(self, wanted: Dict[str, List[str]]) -> None:
        addresses = self.proxy.connect([ident for ids in wanted.values() for ident in ids])
        servers = {
            entry["name"]: [f"http://{addresses[ident]}:{entry['port']}" for ident in wanted[name]]
            for name, entry in self.routes["services"].items()
        }
        pages.ensure(self.store)
        with overlays.steady(self.store):
            dynamic = overlays.laid(self.routes["dynamic"], self.store)
            self.proxy.route(self.store.app, dynamic, servers)

    def until_good(self, wanted: Dict[str, List[str]]) -> None:
        """What was replaced in place gets requests when it is healthy, not before."""
        replaced = {
            name: self.services[name] for name, ids in wanted.items() if ids and name not in self.twins
        }
        if replaced:
            self._watch(replaced, None)

    def _watch(self, services: Dict[str, Any], only: Optional[Set[str]]) -> None:
        Watch(self.engine, {**self.manifest, "services": services}, self.emit, self.given_up, only).run()

    def _of(self, name: str) -> List[Dict[str, Any]]:
        return [one for one in containers(self.engine, self.manifest["project"]) if one["service"] == name]

    def _retire(self, idents: List[str]) -> None:
        """Stop containers, each in its own grace period, and remove them."""
        for ident in idents:
            self.engine.stop(ident)
        self._remove(idents)

    def _remove(self, idents: List[str]) -> None:
        for ident in idents:
            self.engine.remove(ident)
