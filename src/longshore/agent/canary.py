"""A canary: a new release gets a share of the requests, or copies of them, while the old one serves the rest.

What comes of it is counted here and judged by the controller, for all hosts together. It is undone like any
other switch; that the old release serves alone again can be done from the proxy's file alone, whoever does it
(``BlueGreen.alone_again``).
"""

import time
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Set

from longshore.agent import overlays, wire
from longshore.agent.bluegreen import BlueGreen, Change, routes_of
from longshore.agent.fail import Refusal
from longshore.agent.health import autopsy, containers
from longshore.agent.metrics import Meter
from longshore.agent.sharing import NEW, OLD, Part, part_of, shared
from longshore.agent.store import AppStore

if TYPE_CHECKING:
    from longshore.agent.switch import Switch

_BLIND = 20.0
"""Seconds without the proxy's metrics (it may be starting anew) after which nothing can be judged."""
_COPIED = ("GET", "HEAD")


def can_share(store: AppStore, release: str) -> List[str]:
    """The services of which this release's containers can run beside those of the current one, and share
    their requests."""
    current = store.current()
    before = routes_of(store, current) if current else None
    after = routes_of(store, release)
    if before is None or after is None:
        return []
    services = store.manifest(release)["services"]
    return [
        name
        for name in sorted(after["services"])
        if name in before["services"] and services.get(name, {}).get("twin")
    ]


class Canary:
    """One app's new release on this host, between being good and getting all requests."""

    def __init__(self, blue: BlueGreen, astray: Set[str]) -> None:
        """Have the new containers run beside the old ones, which go on serving alone. Raises ``Refusal``."""
        self.blue = blue
        store = blue.store
        names = can_share(store, blue.release)
        self.before = routes_of(store, str(store.current())) or {}
        self.changes: Dict[str, Change] = blue.prepare(astray, forward=True)
        self.services = [name for name in names if self.changes[name].new and self.changes[name].old]
        self.meter: Optional[Meter] = None
        self._seen = time.monotonic()
        self._restarts: Dict[str, int] = {}
        # What was replaced in place meanwhile has another address; the rest stays as it is.
        self.give(Part(0, 0))

    def give(self, part: Part) -> None:
        """The new release gets this part from now on, and counting begins anew."""
        blue, shares = self.blue, self.services if part.share or part.mirror else []
        config = shared(self.before, blue.routes, shares, part)
        chosen: Dict[str, List[str]] = {}
        ports: Dict[str, int] = {}
        replaced: Dict[str, List[str]] = {}
        for service, entry in self.before["services"].items():
            name, change = entry["name"], self.changes.get(service)
            ports[name] = int(entry["port"])
            if service in shares and change is not None:
                old, new = part_of(name, OLD), part_of(name, NEW)
                chosen[old], chosen[new] = change.old, [*change.keep, *change.new]
                ports[old], ports[new] = ports[name], int(blue.routes["services"][service]["port"])
            elif change is not None:
                chosen[name] = [*change.keep, *change.old]
            else:
                replaced[service] = chosen[name] = blue.running(service)
                now = blue.routes["services"].get(service)
                ports[name] = int(now["port"]) if now else ports[name]
        blue.until_good({name: ids for name, ids in replaced.items() if name in blue.services})
        addresses = blue.proxy.connect([ident for ids in chosen.values() for ident in ids])
        servers = {
            name: [f"http://{addresses[ident]}:{ports[name]}" for ident in ids]
            for name, ids in chosen.items()
        }
        with overlays.steady(blue.store):
            blue.proxy.route(blue.store.app, overlays.laid(config, blue.store), servers)
        self._count_anew(shares, copies_only=not part.share)

    def _count_anew(self, shares: List[str], *, copies_only: bool) -> None:
        names = [
            part_of(self.before["services"][name]["name"], half) for name in shares for half in (OLD, NEW)
        ]
        # Copies are compared with what they are copies of.
        self.meter = Meter(names, _COPIED if copies_only else None)
        self._seen = time.monotonic()
        text = self.blue.proxy.metrics()
        if text is not None:
            self.meter.add(text)

    def look(self) -> Dict[str, Any]:
        """What the two releases have answered since ``give``: ``services``, by name ``old`` and ``new``
        (``Meter.of``). Raises ``Refusal`` when a new container is no longer good, or nothing can be seen."""
        self._check_containers()
        text = self.blue.proxy.metrics()
        if text is None and time.monotonic() - self._seen > _BLIND:
            raise Refusal(wire.UNHEALTHY, f"the proxy has given no metrics for {_BLIND:g} s")
        meter = self.meter or Meter(())
        if text is not None:
            self._seen = time.monotonic()
            meter.add(text)
        found = {}
        for service in self.services:
            name = self.before["services"][service]["name"]
            if part_of(name, NEW) in meter.totals:
                found[service] = {half: meter.of(part_of(name, half)) for half in (OLD, NEW)}
        return {"services": found}

    def _check_containers(self) -> None:
        engine = self.blue.engine
        there = {one["id"]: one for one in containers(engine, self.blue.manifest["project"])}
        for service, change in self.changes.items():
            for ident in change.new:
                one, full = there.get(ident), engine.container(ident)
                if one is None or full is None:
                    raise Refusal(wire.UNHEALTHY, f"a new container of {service} is gone")
                again = int(full["RestartCount"]) > self._restarts.setdefault(
                    ident, int(full["RestartCount"])
                )
                if one["state"] == "running" and one["health"] != "unhealthy" and not again:
                    continue
                how = "died" if again or one["state"] != "running" else "became unhealthy"
                detail = autopsy(engine, one, full)
                raise Refusal(
                    wire.UNHEALTHY, f"{service} {how} while it had a part of the requests", "", detail
                )

    def stop(self, service: str, why: str) -> None:
        """The new release was judged: it gets nothing more. Raises the ``Refusal`` with that verdict, and
        with what one of its containers wrote, before that is gone."""
        self.give(Part(0, 0))
        engine = self.blue.engine
        found = containers(engine, self.blue.manifest["project"])
        one = next((one for one in found if one["id"] in self.changes[service].new), None)
        detail = autopsy(engine, one, engine.container(one["id"])) if one else {}
        raise Refusal(wire.CANARY_FAILED, why, "", detail)

    def take_over(self) -> None:
        """The new release gets all requests, and the old containers go."""
        self.blue.take_over(self.changes)


def handle(canaries: Dict[str, Canary], switch: "Switch", args: Dict[str, Any]) -> Dict[str, Any]:
    """``do``: ``begin`` has ``release`` run beside the current one, and gives the ``services`` that can share
    their requests; then ``give`` (``share`` and ``mirror``, in percent), ``look``, ``stop`` (``service``,
    ``why``). ``canaries``: the session's, by app. A switch or a way back ends it."""
    app, do = switch.store.app, args.get("do")
    if do == "begin":
        made = switch.try_out(str(args["release"]), args.get("out"))
        if made is not None:
            canaries[app] = made
        return {"services": made.services if made is not None else []}
    if app not in canaries:
        raise Refusal(wire.BAD_REQUEST, f"no release of {app} runs beside the current one")
    if do == "give":
        canaries[app].give(Part(int(args.get("share") or 0), int(args.get("mirror") or 0)))
        return {}
    if do == "stop":
        canaries[app].stop(str(args["service"]), str(args["why"]))
    return canaries[app].look()
