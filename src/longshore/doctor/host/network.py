"""What the host listens on, and whether its engine reaches the registries."""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from longshore.agent.engine import Engine, EngineError
from longshore.agent.network import LABEL
from longshore.agent.sockets import LISTENING, sockets

_SECONDS = 20.0


def ports(wish: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Of each port of the proxy: ``port``, and ``by``: empty when it is free, ``ours``, or who has it."""
    if not wish["ports"]:
        return []
    listening: dict[int, str] = {}
    for row in sockets(LISTENING):
        listening.setdefault(row.port, row.inode)
    containers = Engine(timeout=_SECONDS).containers()
    ours = any(LABEL in (one.get("Labels") or {}) and one.get("State") == "running" for one in containers)
    published = {
        int(port["PublicPort"]): (one.get("Names") or ["/?"])[0].lstrip("/")
        for one in containers
        for port in one.get("Ports") or []
        if port.get("PublicPort") and port.get("Type", "tcp") == "tcp"
    }
    found = []
    for port in wish["ports"]:
        by = ""
        if port in published:
            by = f"the container {published[port]}"
        elif port in listening:
            process = _process(listening[port])
            by = "ours" if ours and process in ("", "traefik") else process or "a process on the host"
        found.append({"port": port, "by": by})
    return found


def _process(inode: str) -> str:
    """The name of the process that has this socket; empty when that can't be seen."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            for handle in (process / "fd").iterdir():
                if str(handle.readlink()) == f"socket:[{inode}]":
                    return (process / "comm").read_text(errors="replace").strip()
        except OSError:
            continue
    return ""


def registries(wish: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Of each registry, asked by the engine for one image: ``name``, ``image``, ``pushed``,
    ``status`` (HTTP; 200 is good) and ``said``."""
    engine = Engine(timeout=_SECONDS)
    found = []
    for one in wish["registries"]:
        status, said = 200, ""
        try:
            if one.get("auth"):
                # The engine logs in and keeps nothing of it.
                engine.request("POST", "/auth", None, one["auth"])
            if one.get("image"):
                headers = {"X-Registry-Auth": _auth(one["auth"])} if one.get("auth") else {}
                engine.request("GET", f"/distribution/{one['image']}/json", None, None, headers)
        except EngineError as error:
            status, said = error.status, error.message
        facts = {"name": one["name"], "image": one.get("image") or "", "pushed": bool(one.get("pushed"))}
        found.append({**facts, "status": status, "said": said})
    return found


def _auth(login: Mapping[str, str]) -> str:
    return base64.urlsafe_b64encode(json.dumps(dict(login)).encode()).decode()


def mirrors(wish: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Of each mirror of Docker Hub: ``url``, and ``said``: why it doesn't answer."""
    found = []
    # As the engine does it, not by a proxy of this user's.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for url in wish["mirrors"]:
        said = ""
        try:
            opener.open(f"{url.rstrip('/')}/v2/", timeout=8).close()
        except urllib.error.HTTPError as error:
            said = "" if error.code == 401 else f"HTTP status {error.code}"
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", None) or error
            said = str(getattr(reason, "strerror", None) or reason)
        found.append({"url": url, "said": said})
    return found
