"""A pause: for some seconds the proxy holds an app's requests back, and then they go on as if nothing was.

The proxy asks before each request (Traefik's forwardAuth), and who is asked (:mod:`longshore.agent.holding`)
doesn't answer before the pause is over. It is asked by way of the proxy itself, where what fails is taken for
a yes: should it be gone (killed, or after a reboot), requests go on at once, and none fails.
"""

import fcntl
import json
import os
import secrets
import socket
import time
from contextlib import contextmanager
from typing import Any, Dict, Iterator, List, Optional

from longshore.agent import detached, wire
from longshore.agent.store import AppStore, read_json, write

BACKLOG = 16384
"""Requests that are held at once; the kernel's net.core.somaxconn (4096) bounds it, too."""
_FILE = "pause.json"
_LOCK = "pause.lock"
_POLL = 0.02
_ANSWERED = 10.0
"""Seconds in which what was held has its answer, when the pause is over."""
GOES_ON = 1.0
"""Seconds in which what was held has found its container and, mostly, its answer."""
_LATELY = 30.0
"""Seconds after its end in which a pause's question may still be asked."""
_FIRST = 20_000_000
"""The priority of the route by which the proxy asks: before all of any app."""


def state_of(store: AppStore) -> Optional[Dict[str, Any]]:
    """``None`` without a pause; else ``by``, ``why``, ``at`` and ``until`` (s since the epoch), ``token``,
    ``port`` (where the holder listens) and ``entry`` (the proxy's port for plain HTTP)."""
    found = lately(store)
    return found if found is not None and found["until"] > time.time() else None


def lately(store: AppStore) -> Optional[Dict[str, Any]]:
    """The pause, also one that was over a moment ago: a request may just be on its way to ask."""
    found = read_json(os.path.join(store.root, _FILE))
    return found if isinstance(found, dict) and float(found["until"]) + _LATELY > time.time() else None


def begin(store: AppStore, args: Dict[str, Any], entry: int) -> Dict[str, Any]:
    """Hold requests for ``seconds`` from now on, as soon as the routes say so, or for longer than a pause
    that there is. ``by`` and ``why`` are kept. Returns the state."""
    now = time.time()
    known = state_of(store)
    if known is not None and _is_held(store):
        until = max(known["until"], min(now + float(args["seconds"]), known["at"] + wire.LONGEST_PAUSE))
        state = {**known, "until": until}
        _put(store, state)
        return state
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(BACKLOG)
        token = secrets.token_hex(16)
        state = {
            "by": str(args.get("by", "")),
            "why": str(args.get("why", "")),
            "at": now,
            "until": now + min(float(args["seconds"]), wire.LONGEST_PAUSE),
            "token": token,
            "port": listener.getsockname()[1],
            "entry": entry,
        }
        _put(store, state)
        state_dir = os.path.dirname(store.root)
        detached.start("holding", [state_dir, store.app, str(listener.fileno()), token], listener)
    return state


def _put(store: AppStore, state: Dict[str, Any]) -> None:
    write(os.path.join(store.root, _FILE), json.dumps(state, sort_keys=True).encode())


def end(store: AppStore, token: str = "") -> bool:
    """There is no pause any more, or, with ``token``, not this one. Returns whether there was."""
    found = lately(store)
    if found is None or token not in ("", found["token"]):
        return False
    _put(store, {**found, "until": min(found["until"], time.time())})
    return True


def forget(store: AppStore, token: str) -> bool:
    """Nobody asks for this pause any more. Returns whether that was to be said."""
    found = read_json(os.path.join(store.root, _FILE))
    if not isinstance(found, dict) or token != found.get("token"):
        return False
    os.unlink(os.path.join(store.root, _FILE))
    return True


@contextmanager
def holding(store: AppStore) -> Iterator[int]:
    """For the one who holds: until the end of this everybody can see that somebody does. Gives a descriptor
    to write into how many were held."""
    handle = os.open(os.path.join(store.root, _LOCK), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        os.ftruncate(handle, 0)
        yield handle
    finally:
        fcntl.flock(handle, fcntl.LOCK_UN)  # a second process has it open, too
        os.close(handle)


def _is_held(store: AppStore) -> bool:
    try:
        handle = os.open(os.path.join(store.root, _LOCK), os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except BlockingIOError:
        return True
    finally:
        os.close(handle)


def outlast(store: AppStore, seconds: float = wire.LONGEST_PAUSE + _ANSWERED) -> int:
    """Wait until nobody is held any more. Returns how many were, the last time."""
    until = time.monotonic() + seconds
    while _is_held(store) and time.monotonic() < until:
        time.sleep(_POLL)
    try:
        with open(os.path.join(store.root, _LOCK), encoding="ascii") as file:
            return int(file.read() or 0)
    except (FileNotFoundError, ValueError):
        return 0


def outlast_all(stores: List[AppStore]) -> None:
    """Wait until the pauses of these apps are over, and what was held has gone on."""
    paused = [store for store in stores if _is_held(store)]
    for store in paused:
        outlast(store)
    if paused:
        time.sleep(GOES_ON)


def sentence(state: Dict[str, Any]) -> str:
    """The state in words."""
    why = f": {state['why']}" if state["why"] else ""
    left = max(0.0, state["until"] - time.time())
    return f"requests are held for another {left:.0f} s, by {state['by'] or 'someone'}{why}"


def over(dynamic: Dict[str, Any], state: Optional[Dict[str, Any]], app: str, *, hold: bool) -> Dict[str, Any]:
    """Traefik's configuration with the pause laid over it. Without ``hold`` nobody asks, but who does gets an
    answer: so it is before and after, for entry points don't change all at the same moment, and a request
    that was there before a change still asks."""
    if state is None or not dynamic.get("http", {}).get("routers"):
        return dynamic
    http = dynamic["http"]
    holds, asked, yes = f"{app}::pause:hold", f"{app}::pause", f"{app}::pause:yes"
    path = f"/.longshore/pause/{state['token']}"
    question = {
        "address": f"http://127.0.0.1:{state['entry']}{path}",
        "trustForwardHeader": False,
        "authRequestHeaders": ["X-Longshore-Pause"],  # nothing of the request but that there is one
        "maxResponseBodySize": 65536,
    }
    # Whatever comes back, and be it that nobody is there, is a yes. The page itself is of no interest.
    yes_always = {"status": ["300-599"], "service": "noop@internal", "query": "/"}
    middlewares = {
        **http.get("middlewares", {}),
        holds: {"forwardAuth": question},
        yes: {"errors": {**yes_always, "statusRewrites": {"300-599": 200}}},
    }
    routers = {
        name: _held(one, holds) if hold and not name.endswith(wire.ASKED) else one
        for name, one in http["routers"].items()
    }
    routers[asked] = {
        "rule": f"Path(`{path}`)",
        "priority": _FIRST,
        "entryPoints": ["web"],
        "service": asked,
        "middlewares": [yes],
    }
    servers = [{"url": f"http://127.0.0.1:{state['port']}"}]
    services = {**http["services"], asked: {"loadBalancer": {"servers": servers}}}
    return {
        **dynamic,
        "http": {**http, "routers": routers, "middlewares": middlewares, "services": services},
    }


def _held(router: Dict[str, Any], hold: str) -> Dict[str, Any]:
    """The last but one of what a request meets: it has been let in and counted (``allow``, ``rate``) when it
    came, and is tried again (``retry``) without being held again. A redirect is nothing to hold."""
    known = router.get("middlewares", [])
    if any(name.endswith(":https") for name in known):
        return router
    at = len(known) - 1 if known and known[-1].endswith(":retry") else len(known)
    return {**router, "middlewares": [*known[:at], hold, *known[at:]]}
