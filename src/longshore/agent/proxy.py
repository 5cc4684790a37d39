"""The proxy in front of a host's applications: one Traefik, in the host's own network.

Its routes are a file for each application in a folder that it watches; a file that is renamed into place
is the switch. Containers are reached by addresses of a network of ours, which stay theirs through restarts,
so that routes stay true without us. A new proxy (another image, other settings) starts beside the old one on
the same ports (``SO_REUSEPORT``), and takes over from it (``handover``).
"""

import hashlib
import json
import os
import shutil
import time
from typing import Any, Dict, Iterable, List, Optional, Set

from longshore.agent import fallback, handover, pausing, wire
from longshore.agent.engine import Engine
from longshore.agent.fail import Refusal
from longshore.agent.health import Emit
from longshore.agent.network import LABEL, Network, alone, existing
from longshore.agent.sockets import LISTENING, sockets
from longshore.agent.store import AppStore, write
from longshore.agent.unixhttp import Connection, HttpError

FOLDER = "_proxy"
API = "longshore.proxy.api"
_WANTED = "settings.json"
_AGAIN = "order-again.yaml"
"""A file beside the apps' (``.yml``) that says nothing."""
INSIDE = "/etc/traefik/dynamic"
_OWN = "/etc/traefik/own"
_API_PORTS = range(8790, 8800)
_PATIENCE = 20.0
"""Seconds for a proxy to come up, and for a new file to take effect."""
_POLL = 0.02


def routes_file(store: AppStore) -> str:
    """Where the proxy reads an app's routes."""
    return os.path.join(os.path.dirname(store.root), FOLDER, "dynamic", f"{store.app}.yml")


def _ports(wanted: Dict[str, Any]) -> Set[int]:
    points = wanted.get("static", {}).get("entryPoints", {}).values()
    return {int(point["address"].rpartition(":")[2]) for point in points}


class Proxy:
    """The host's proxy, and its routes to one application."""

    def __init__(self, engine: Engine, state_dir: str, emit: Emit) -> None:
        self.engine = engine
        self.root = os.path.join(state_dir, FOLDER)
        self.dynamic = os.path.join(self.root, "dynamic")
        self.emit = emit
        self._apis: Dict[int, Connection] = {}

    # The proxy itself

    def ensure(self, wanted: Dict[str, Any], *, anew: bool = False) -> None:
        """Have a proxy run with these settings: ``image``, ``static`` (Traefik's), ``env``, ``memory``
        (bytes), ``cpus``, ``grace`` (s), ``files`` (name to text). Nothing when it does already, unless it
        is wanted ``anew``.

        Raises ``Refusal`` when it can't come up; the old one then goes on.
        """
        self._folders()
        with alone(self.root):
            self._ensure(wanted, anew=anew)
            write(os.path.join(self.root, _WANTED), json.dumps(wanted, sort_keys=True).encode())

    def wanted(self) -> Optional[Dict[str, Any]]:
        """The settings that ``ensure`` was given last; ``None`` before."""
        data = existing(os.path.join(self.root, _WANTED))
        return json.loads(data) if data else None

    def _ensure(self, wanted: Dict[str, Any], *, anew: bool) -> None:
        key = self._key(wanted)
        there = self._containers()
        running = [one for one in there if one["State"] == "running"]
        right = [one for one in running if one["Labels"][LABEL] == key]
        if right and not anew:
            newest = max(right, key=lambda one: int(one["Created"]))
            others = [one for one in there if one is not newest]
            if others:  # left by a handover that was broken off
                self._wait_for_all(newest)
            self._retire(others, newest, wanted)
            return
        self._check_others(wanted)
        self._move_backlogs()
        self._handover(wanted).hold(running)
        taken = {one["Labels"].get(API, "") for one in self._all() if one["State"] == "running"}
        new = self._start(key, wanted, taken=taken)
        try:
            self._wait_up(new)
            self._wait_for_all(new)
        except Refusal:
            self.engine.remove(new["Id"])
            raise
        self._retire([one for one in there if one["Id"] != new["Id"]], new, wanted)
        if running and "certificatesResolvers" in wanted["static"]:
            self.order_again()  # what was asked to prove a name met the old one, as long as that was there

    def order_again(self) -> None:
        """Have the proxy order the certificates that it lacks: it does at a change, and this is one. What it
        is just ordering isn't ordered twice."""
        name = f"again:{time.time_ns()}"
        config: Dict[str, Any] = {"http": {"services": {name: {"loadBalancer": {"servers": []}}}}}
        write(os.path.join(self.dynamic, _AGAIN), json.dumps(config).encode())

    def ordered_again(self) -> float:
        """When that was done last (s since the epoch)."""
        try:
            return os.stat(os.path.join(self.dynamic, _AGAIN)).st_mtime
        except FileNotFoundError:
            return 0.0

    def current(self) -> Optional[Dict[str, Any]]:
        """The proxy that runs, of the engine's list; the newest where one takes over from another."""
        running = [one for one in self._containers() if one["State"] == "running"]
        return max(running, key=lambda one: int(one["Created"])) if running else None

    def _containers(self) -> List[Dict[str, Any]]:
        """Those of this state folder."""
        return [one for one in self._all() if self._is_mine(one)]

    def _all(self) -> List[Dict[str, Any]]:
        return [one for one in self.engine.containers(labels=(LABEL,)) if one["Labels"].get(LABEL)]

    def _is_mine(self, one: Dict[str, Any]) -> bool:
        homes = [mount["Source"] for mount in one.get("Mounts") or [] if mount.get("Destination") == _OWN]
        # An engine in a machine of its own puts something before the path.
        roots = {os.path.normpath(self.root) + os.sep, os.path.realpath(self.root) + os.sep}
        return all(any(root in str(home) for root in roots) for home in homes)

    def _check_others(self, wanted: Dict[str, Any]) -> None:
        """Raises ``Refusal`` where the proxy of another state folder has a port that this one comes to. The
        kernel would let both have it, and give each a part of the requests."""
        others = [one for one in self._all() if one["State"] == "running" and not self._is_mine(one)]
        if not others:
            return
        had = _ports(self.wanted() or {}) if self.current() is not None else set()
        listening = {row.port for row in sockets(LISTENING)}
        for port in sorted((_ports(wanted) - had) & listening):
            raise Refusal(
                wire.PORT_TAKEN,
                f"port {port} is taken, and the proxy of another state folder runs on this host"
                f" ({others[0]['Names'][0].lstrip('/')})",
                "Give each its own ports (`longshore.proxy.http` and `https`), or both one `state_dir`.",
            )

    def _key(self, wanted: Dict[str, Any]) -> str:
        image = self.engine.image(wanted["image"])
        if image is None:
            raise Refusal(wire.NO_IMAGE, f"the proxy's image {wanted['image']} is not on the host")
        said = {name: value for name, value in wanted.items() if name != "image"}
        text = json.dumps([image["Id"], said], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def _folders(self) -> None:
        for folder in (self.root, self.dynamic, os.path.join(self.root, "acme")):
            os.makedirs(folder, mode=0o700, exist_ok=True)

    def _move_backlogs(self) -> None:
        """Let the kernel hand connections that wait for the old proxy to the new one (Linux 5.14)."""
        try:
            with open("/proc/sys/net/ipv4/tcp_migrate_req", "w", encoding="ascii") as file:
                file.write("1\n")
        except OSError:
            pass  # an older kernel, or not root: what waits at that very moment is refused

    def _start(self, key: str, wanted: Dict[str, Any], *, taken: Set[str]) -> Dict[str, Any]:
        port = next(port for port in _API_PORTS if str(port) not in taken)
        static = json.loads(json.dumps(wanted["static"]))
        static.setdefault("entryPoints", {})["traefik"] = {"address": f"127.0.0.1:{port}"}
        name = f"longshore-proxy-{key}-{port}"
        home = os.path.join(self.root, name)
        os.makedirs(home, mode=0o700, exist_ok=True)
        for file, text in wanted.get("files", {}).items():
            write(os.path.join(home, file), text.encode())
        handover.prepare(home, self.dynamic, static)
        fallback.prepare(self.root, home, _OWN, os.path.join(home, handover.FOLDER))
        write(os.path.join(home, "traefik.yml"), json.dumps(static, indent=1, sort_keys=True).encode())
        limits: Dict[str, Any] = {}
        if wanted.get("memory"):
            limits["Memory"] = int(wanted["memory"])
        if wanted.get("cpus"):
            limits["NanoCpus"] = int(float(wanted["cpus"]) * 1e9)
        body = {
            "Image": wanted["image"],
            "Cmd": [f"--configFile={_OWN}/traefik.yml"],
            "Env": [f"{name}={value}" for name, value in sorted(wanted.get("env", {}).items())],
            "Labels": {LABEL: key, API: str(port)},
            "StopTimeout": int(wanted["grace"]) + 5,
            "HostConfig": {
                "NetworkMode": "host",
                "RestartPolicy": {"Name": "unless-stopped"},
                "LogConfig": {
                    "Type": "json-file",
                    "Config": {"max-size": "10m", "max-file": "3", "compress": "true"},
                },
                "Binds": [
                    f"{home}:{_OWN}:ro",
                    f"{self.dynamic}:{INSIDE}:ro",
                    f"{os.path.join(home, handover.FOLDER)}:{INSIDE}/{handover.FOLDER}:ro",
                    f"{os.path.join(self.root, 'acme')}:/acme",
                ],
                **limits,
            },
        }
        for stale in self.engine.containers():
            if f"/{name}" in (stale.get("Names") or []):
                self.engine.remove(stale["Id"])
        self.emit("compose", line=f"the proxy starts ({wanted['image'].split('@')[0]})")
        made = self.engine.request("POST", "/containers/create", {"name": name}, body)
        self.engine.request("POST", f"/containers/{made['Id']}/start")
        return {"Id": made["Id"], "Labels": body["Labels"], "Names": [f"/{name}"]}

    def _wait_up(self, one: Dict[str, Any]) -> None:
        until = time.monotonic() + _PATIENCE
        while time.monotonic() < until:
            if self._ask(one, "/api/version") is not None:
                return
            full = self.engine.container(one["Id"])
            if full is None or not full["State"]["Running"] or full["RestartCount"]:
                break
            time.sleep(_POLL * 5)
        log = self.engine.logs(one["Id"], 20)
        taken = "address already in use" in log
        raise Refusal(
            wire.PORT_TAKEN if taken else wire.UNHEALTHY,
            "the proxy can't start: a port of it is taken by something else"
            if taken
            else "the proxy doesn't come up",
            "`longshore.proxy.http` and `https` choose its ports." if taken else "",
            {"container": one["Names"][0].lstrip("/"), "log": log.splitlines()[-20:]},
        )

    def _wait_for_all(self, one: Dict[str, Any]) -> None:
        """Wait until a new proxy knows every route that there is a file for."""
        for app in self.apps():
            self._wait_for(one, self.file_of(app))

    def _handover(self, wanted: Dict[str, Any]) -> handover.Handover:
        return handover.Handover(self.engine, self.root, wanted["static"].get("entryPoints", {}), self._ask)

    def _retire(self, old: List[Dict[str, Any]], new: Dict[str, Any], wanted: Dict[str, Any]) -> None:
        if old:  # what the old one holds back is the old one's to let go on
            pausing.outlast_all([AppStore(os.path.dirname(self.root), app) for app in self.apps()])
            self.emit("compose", line="the old proxy finishes what it has, and goes")
            self._handover(wanted).make(old, new, float(wanted["grace"]))
        for one in old:
            self.engine.stop(one["Id"], int(wanted["grace"]) + 5)
            self.engine.remove(one["Id"])
            shutil.rmtree(os.path.join(self.root, one["Names"][0].lstrip("/")), ignore_errors=True)

    # Routes

    def route(self, app: str, dynamic: Dict[str, Any], servers: Dict[str, List[str]]) -> None:
        """Have requests for ``app`` go to ``servers`` (URLs by the name of Traefik's service), and return
        when the proxy says that they do. ``dynamic``: Traefik's configuration, without servers.

        Raises ``Refusal`` when it doesn't take effect; then what was there before is there again.
        """
        config = json.loads(json.dumps(dynamic))
        for name, urls in servers.items():
            config["http"]["services"][name]["loadBalancer"]["servers"] = [{"url": url} for url in urls]
        self.put(app, config)

    def put(self, app: str, config: Dict[str, Any]) -> None:
        """Have the proxy do what ``config`` says for ``app``, and return when it says that it does.

        Raises ``Refusal`` when it doesn't take effect; then what was there before is there again.
        """
        # A service that is named after all the rest: when the API shows it, the rest holds, too.
        mark = hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:12]
        services = {**config["http"]["services"], f"{app}:{mark}": {"loadBalancer": {"servers": []}}}
        config = {**config, "http": {**config["http"], "services": services}}
        self._folders()
        path = os.path.join(self.dynamic, f"{app}.yml")
        before = existing(path)
        data = json.dumps(config, indent=1, sort_keys=True).encode()  # JSON is YAML
        if before != data:
            write(path, data)
        one = self.current()
        if one is None:
            raise Refusal(wire.UNHEALTHY, "the host's proxy doesn't run", "Deploy again.")
        try:
            self._wait_for(one, config, follow=True)
        except Refusal:
            if before is None:
                os.unlink(path)
            elif before != data:
                write(path, before)
            raise

    def apps(self) -> List[str]:
        """The apps that there are routes to, sorted."""
        try:
            names = os.listdir(self.dynamic)
        except FileNotFoundError:
            return []
        return sorted(name[: -len(".yml")] for name in names if name.endswith(".yml"))

    def file_of(self, app: str) -> Dict[str, Any]:
        """An app's part of Traefik's configuration, as it is now; empty without one."""
        data = existing(os.path.join(self.dynamic, f"{app}.yml"))
        return dict(json.loads(data)) if data else {}

    def routed(self, app: str) -> Dict[str, List[str]]:
        """The servers that the app's file names, by the name of Traefik's service."""
        services = self.file_of(app).get("http", {}).get("services", {})
        return {
            name: [server["url"] for server in one["loadBalancer"].get("servers", [])]
            for name, one in services.items()
            if "loadBalancer" in one
        }

    def ask(self, path: str) -> Optional[Dict[str, Any]]:
        """What the API of the proxy that runs says; ``None`` where it says nothing."""
        one = self.current()
        return self._ask(one, path) if one is not None else None

    def _wait_for(self, one: Dict[str, Any], config: Dict[str, Any], *, follow: bool = False) -> None:
        """Wait until the proxy's own API shows the file's services with their servers, and its routers.
        ``follow``: where another one takes over from it meanwhile, for another app's sake, that one's."""
        http = config.get("http", {})
        until = time.monotonic() + _PATIENCE
        missing = "its API doesn't answer"
        while True:
            missing = self._missing(one, http)
            if not missing:
                return
            if follow and self._ask(one, "/api/version") is None:
                one = self.current() or one
            if time.monotonic() > until:
                raise Refusal(
                    wire.UNHEALTHY,
                    f"the proxy doesn't take its new routes after {_PATIENCE:g} s: {missing}",
                    "",
                    {
                        "container": one["Names"][0].lstrip("/"),
                        "log": self.engine.logs(one["Id"], 10).splitlines(),
                    },
                )
            time.sleep(_POLL)

    def _missing(self, one: Dict[str, Any], http: Dict[str, Any]) -> str:
        for name, service in http.get("services", {}).items():
            if "loadBalancer" not in service:
                continue
            seen = self._ask(one, f"/api/http/services/{name}@file")
            wanted = {server["url"] for server in service["loadBalancer"].get("servers", [])}
            have = {
                server.get("url") for server in ((seen or {}).get("loadBalancer") or {}).get("servers") or []
            }
            if seen is None or have != wanted:
                return f"the service {name}"
        for name in http.get("routers", {}):
            seen = self._ask(one, f"/api/http/routers/{name}@file")
            if seen is None:
                return f"the router {name}"
            if seen.get("status") != "enabled" and seen.get("error"):
                return f"the router {name}: {'; '.join(seen['error'])}"
        return ""

    def _ask(self, one: Dict[str, Any], path: str) -> Optional[Dict[str, Any]]:
        data = self._get(int(one["Labels"][API]), path)
        try:
            return json.loads(data) if data else None
        except ValueError:
            return None

    def _get(self, port: int, path: str) -> Optional[bytes]:
        if port not in self._apis:
            self._apis[port] = Connection(("127.0.0.1", port), timeout=3.0)
        connection = self._apis[port]
        try:
            answer = connection.ask("GET", path, {})
            data = answer.read()
            return data if answer.status == 200 else None
        except (OSError, HttpError, ValueError):
            connection.close()
            return None

    def metrics(self) -> Optional[str]:
        """The Prometheus text of the proxy that runs; ``None`` where it gives none."""
        one = self.current()
        if one is None:
            return None
        said = (self.wanted() or {}).get("static", {}).get("entryPoints", {}).get("metrics")
        port = int(said["address"].rpartition(":")[2]) if said else int(one["Labels"][API])
        data = self._get(port, "/metrics")
        return data.decode("utf-8", "replace") if data else None

    # Addresses

    def connect(self, containers: Iterable[str]) -> Dict[str, str]:
        """Give each of these containers (ids) its address in our network, for good. Returns id to address."""
        self._folders()
        return Network(self.engine, self.root).connect(containers)

    def addresses(self, of: Optional[Iterable[str]] = None) -> Dict[str, str]:
        """See ``Network.addresses``."""
        return Network(self.engine, self.root).addresses(of)
