"""Traefik's configuration while two releases of a service serve side by side: a share of the requests for the
new one (a canary), or copies of them (a mirror). Decides; touches nothing.

The routes stay those of the release that served alone; its service becomes two, ``:old`` and ``:new``.
"""

import copy
from typing import Any, Dict, Iterable, List, NamedTuple

OLD, NEW, COPIES = "old", "new", "copies"
_BODY = 64 * 1024
"""Bytes of a body that is copied. GET and HEAD have none to speak of."""
_ONLY_COPIES = "(Method(`GET`) || Method(`HEAD`)) && !HeaderRegexp(`Upgrade`, `.`)"
"""What may be sent twice: what changes nothing by HTTP's own rules (RFC 9110, 9.2.1), and is no WebSocket."""


class Part(NamedTuple):
    """What the new release gets, in percent: a share of the requests, copies of the rest."""

    share: int
    mirror: int


def part_of(name: str, which: str) -> str:
    """Traefik's name of a service's old or new half."""
    return f"{name}:{which}"


def shared(
    before: Dict[str, Any], after: Dict[str, Any], services: Iterable[str], part: Part
) -> Dict[str, Any]:
    """``before``, where each of ``services`` is shared with ``after``'s. All are what ``proxy.json`` holds:
    ``dynamic``, and ``services`` by their names in the app. Servers are still to be filled in."""
    config: Dict[str, Any] = copy.deepcopy(before["dynamic"])
    http = config["http"]
    new = copy.deepcopy(after["dynamic"]["http"])
    for service in services:
        name = before["services"][service]["name"]
        theirs = after["services"][service]["name"]
        old_half, new_half = http["services"][name], new["services"][theirs]
        transport = part_of(name, NEW)
        http["serversTransports"][transport] = new["serversTransports"][theirs]
        new_half["loadBalancer"]["serversTransport"] = transport
        http["services"][part_of(name, OLD)] = old_half
        http["services"][part_of(name, NEW)] = new_half
        http["services"][name] = _weighted(name, old_half["loadBalancer"], new_half["loadBalancer"], part)
        if part.mirror:
            _mirror(http, name, part.mirror)
    return config


def _weighted(name: str, old: Dict[str, Any], new: Dict[str, Any], part: Part) -> Dict[str, Any]:
    weights = ((OLD, 100 - part.share), (NEW, part.share))
    halves = [{"name": part_of(name, which), "weight": weight} for which, weight in weights if weight]
    weighted: Dict[str, Any] = {"services": halves}
    if "sticky" in old:  # who is with a release stays there
        cookie = old["sticky"]["cookie"]
        weighted["sticky"] = {"cookie": {**cookie, "name": f"{cookie['name']}_release"}}
    if all("healthCheck" in half for half in (old, new)):
        weighted["healthCheck"] = {}  # a half without a container that is up gets nothing
    return {"weighted": weighted}


def _mirror(http: Dict[str, Any], name: str, percent: int) -> None:
    copies = part_of(name, COPIES)
    mirrors = [{"name": part_of(name, NEW), "percent": percent}]
    http["services"][copies] = {"mirroring": {"service": name, "mirrors": mirrors, "maxBodySize": _BODY}}
    for label, router in list(http["routers"].items()):
        if router["service"] == name:
            http["routers"][f"{label}:{COPIES}"] = {
                **router,
                "rule": f"({router['rule']}) && {_ONLY_COPIES}",
                "priority": router["priority"] + 1,
                "service": copies,
            }


def unshared(config: Dict[str, Any]) -> Dict[str, Any]:
    """The app's configuration as it is at the proxy, with the old release serving alone again."""
    if not shares(config):
        return config
    http = copy.deepcopy(config["http"])
    copies = {part_of(name, COPIES) for name in shares(config)}
    for name in shares(config):
        http["services"][name] = http["services"].pop(part_of(name, OLD))
        http["services"].pop(part_of(name, NEW))
        http.get("serversTransports", {}).pop(part_of(name, NEW), None)
    services = {name: one for name, one in http["services"].items() if name not in copies}
    routers = {label: one for label, one in http["routers"].items() if one["service"] not in copies}
    return {**config, "http": {**http, "routers": routers, "services": services}}


def shares(config: Dict[str, Any]) -> Dict[str, Part]:
    """The services that are shared in an app's configuration, and what of each the new release gets."""
    services = config.get("http", {}).get("services", {})
    found = {}
    for name, one in services.items():
        if "weighted" in one:
            weights = {half["name"]: half["weight"] for half in one["weighted"]["services"]}
            copies = services.get(part_of(name, COPIES), {}).get("mirroring", {}).get("mirrors", [])
            mirror = int(copies[0]["percent"]) if copies else 0
            found[name] = Part(int(weights.get(part_of(name, NEW), 0)), mirror)
    return found


def servers_of(config: Dict[str, Any], name: str) -> Dict[str, List[str]]:
    """The servers that requests to a service can come to: URLs by the name of Traefik's load balancer."""
    services = config.get("http", {}).get("services", {})
    one = services.get(name, {})
    if "weighted" in one:
        names = [part_of(name, OLD), part_of(name, NEW)]
    elif "mirroring" in one:
        return servers_of(config, one["mirroring"]["service"])
    else:
        names = [name]
    return {
        half: [server["url"] for server in services.get(half, {}).get("loadBalancer", {}).get("servers", [])]
        for half in names
    }


def words(name: str, part: Part) -> str:
    """``web: a new release gets 10 % of its requests``."""
    service = name.partition(":")[2]
    if part.share:
        return f"{service}: a release that is not committed gets {part.share} % of its requests"
    return f"{service}: a release that is not committed gets copies of {part.mirror or 0} % of its requests"
