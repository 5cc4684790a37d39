"""One proxy takes over from another on the same ports, and no request meets neither.

A Traefik that is told to stop closes its listeners at once: what was just accepted, or is about to be, gets
no answer. So it isn't told before nothing new comes to it. First the kernel is (``steering``): new
connections go to the new one. Then those that are kept alive are asked to move: the old one closes each after
its next answer (``Connection: close``). What is left when they have had their time is busy, or has been idle
for as long. Traefik waits for the busy ones itself.
"""

import json
import os
import time
from typing import Any, Callable, Dict, List, Optional

from longshore.agent import steering
from longshore.agent.engine import Engine
from longshore.agent.sockets import ESTABLISHED, sockets
from longshore.agent.store import write

FOLDER = "this-proxy"
"""In the folder that Traefik watches, one of each proxy's own."""
_NAME = "longshore-farewell"
_FILE = "farewell.yml"
_LOOK = "look-again"
"""A file that isn't read: that it appears has Traefik read all others, also those in folders."""
_STAY: Dict[str, Any] = {"chain": {"middlewares": []}}
_GO: Dict[str, Any] = {"headers": {"customResponseHeaders": {"Connection": "close"}}}
_SETTLE = 0.5
"""Seconds in which what the kernel has given to the old one before it was told otherwise gets accepted, and
its first request comes."""
_TAKES_EFFECT = 3.0
_POLL = 0.05

Ask = Callable[[Dict[str, Any], str], Optional[Dict[str, Any]]]
"""A proxy of the engine's list, and a path of its API; its answer."""


def prepare(home: str, dynamic: str, static: Dict[str, Any]) -> None:
    """Let a proxy that will be started be one that can say farewell: a middleware in front of all its routes
    that does nothing yet. ``home``: its own folder on the host. Changes ``static``."""
    os.makedirs(os.path.join(dynamic, FOLDER), mode=0o700, exist_ok=True)  # where its own is mounted
    os.makedirs(os.path.join(home, FOLDER), mode=0o700, exist_ok=True)
    _put(home, _STAY)
    for point in ("web", "websecure"):
        if point in static["entryPoints"]:
            static["entryPoints"][point].setdefault("http", {})["middlewares"] = [f"{_NAME}@file"]


def _put(home: str, middleware: Dict[str, Any]) -> None:
    config = {"http": {"middlewares": {_NAME: middleware}}}
    write(os.path.join(home, FOLDER, _FILE), json.dumps(config).encode())


class Handover:
    """From ``old`` proxies to a ``new`` one, all of the engine's list; ``points`` are Traefik's entry points,
    ``root`` is the proxy's folder, ``ask`` asks a proxy's API."""

    def __init__(self, engine: Engine, root: str, points: Dict[str, Any], ask: Ask) -> None:
        self.engine = engine
        self.root = root
        self.ports = [int(point["address"].rpartition(":")[2]) for point in points.values()]
        self.ask = ask

    def hold(self, old: List[Dict[str, Any]]) -> None:
        """Have the old ones get the new connections: the new one knows no routes yet. Where that can't be
        done, a request may meet a proxy without routes for some hundredths of a second."""
        for pid in self._pids(old):
            steering.hold(pid, self.ports)

    def make(self, old: List[Dict[str, Any]], new: Dict[str, Any], seconds: float) -> None:
        """Have the new one get the new connections, and the old ones lose theirs, for up to ``seconds``. Then
        they may be stopped."""
        pids = self._pids(old)
        if not pids:
            return
        for pid in self._pids([new]):
            steering.turn(pid, self.ports)
        for one in old:
            self._farewell(one)
        time.sleep(_SETTLE)
        until = time.monotonic() + seconds
        while time.monotonic() < until and _connections(pids, self.ports):
            time.sleep(_POLL)

    def _farewell(self, one: Dict[str, Any]) -> None:
        home = os.path.join(self.root, one["Names"][0].lstrip("/"))
        if not os.path.isdir(os.path.join(home, FOLDER)):
            return  # started by a Longshore that did not know this
        _put(home, _GO)
        write(os.path.join(self.root, "dynamic", _LOOK), f"{time.time_ns()}\n".encode())
        until = time.monotonic() + _TAKES_EFFECT
        while time.monotonic() < until:
            seen = self.ask(one, f"/api/http/middlewares/{_NAME}@file") or {}
            if "headers" in seen:
                return
            time.sleep(_POLL)

    def _pids(self, proxies: List[Dict[str, Any]]) -> List[int]:
        found = []
        for one in proxies:
            pid = int(((self.engine.container(one["Id"]) or {}).get("State") or {}).get("Pid") or 0)
            if pid:
                found.append(pid)
        return found


def _connections(pids: List[int], ports: List[int]) -> bool:
    """Whether one of these processes has a client's connection."""
    open_ones = {row.inode for row in sockets(ESTABLISHED) if row.port in ports}
    return any(open_ones & steering.descriptors(pid).keys() for pid in pids)
