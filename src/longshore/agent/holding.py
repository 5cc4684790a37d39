"""Who is asked by the proxy during a pause, and doesn't answer before it is over: a process of its own.

Questions wait in the listening socket, unaccepted. Two processes have it open, so that one of them can be
killed: the other goes on from where that was. Should both be gone, the proxy takes that for a yes.
"""

import contextlib
import os
import selectors
import socket
import time
from typing import List, Optional

from longshore.agent import overlays, pausing, wire
from longshore.agent.engine import Engine, EngineError
from longshore.agent.fail import Refusal
from longshore.agent.store import AppStore

_POLL = 0.05
_QUIET = 0.3
"""Seconds without a further question after which all have been answered."""
_LATE = 8.0
"""Seconds for those that didn't fit into the queue and come again: the kernel tries after 1, 3 and 7."""
_AT_ONCE = 200
_YES = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_PATIENCE = 5.0
"""Seconds for a question to be whole."""


def main(argv: List[str]) -> None:
    """Hold what asks until the pause is over, then take it out of the routes and answer. ``argv``: the state
    folder, the app, the number of the listening socket's descriptor, and the pause's token."""
    state_dir, app, descriptor, token = argv
    store = AppStore(state_dir, app)
    listener = socket.socket(fileno=int(descriptor))
    with pausing.holding(store) as told:
        began = time.monotonic()
        child = os.fork()
        if child:
            _, status = os.waitpid(child, 0)
            if not os.WIFSIGNALED(status):
                os._exit(0)
        _wait(store, token, began)
        # Where this can't be done: a question without anybody to answer it is a yes.
        with contextlib.suppress(Refusal, EngineError, OSError):
            overlays.end_pause(Engine(), store, _silent, token)
        os.pwrite(told, str(answer(listener, quiet=_QUIET, longest=_LATE)).encode(), 0)
    answer(listener, quiet=_LATE, longest=_LATE)
    with contextlib.suppress(Refusal, EngineError, OSError):
        overlays.forget_pause(Engine(), store, _silent, token)


def _silent(kind: str, **facts: object) -> None:
    """Nobody is there to be told."""


def _wait(store: AppStore, token: str, began: float) -> None:
    """Until its time is over, by the clock or by this process's own, or somebody has ended it."""
    while True:
        state = pausing.state_of(store)
        if state is None or state["token"] != token:
            return
        left = min(state["until"] - time.time(), wire.LONGEST_PAUSE - (time.monotonic() - began))
        if left <= 0:
            return
        time.sleep(min(_POLL, left))


def answer(listener: socket.socket, *, quiet: float, longest: float) -> int:
    """Say yes to all that ask, until nobody has for ``quiet`` seconds, or ``longest`` are over. Returns to
    how many."""
    count = 0
    until = time.monotonic() + longest
    last = time.monotonic()
    listener.setblocking(False)
    with selectors.DefaultSelector() as waiting:
        waiting.register(listener, selectors.EVENT_READ)
        accepting = True
        while True:
            now = time.monotonic()
            talking = [key for key in waiting.get_map().values() if key.fileobj is not listener]
            if now > until or (not talking and now - last > quiet):
                break
            if accepting and len(talking) >= _AT_ONCE:
                waiting.unregister(listener)
            elif not accepting and len(talking) < _AT_ONCE:
                waiting.register(listener, selectors.EVENT_READ)
            accepting = len(talking) < _AT_ONCE
            for key, _ in waiting.select(timeout=_POLL):
                if key.fileobj is listener:
                    asked = _accepted(listener)
                    if asked is not None:
                        waiting.register(asked, selectors.EVENT_READ, [b"", now])
                        last = now
                    continue
                asking = key.fileobj
                assert isinstance(asking, socket.socket)
                over = _said(asking, key.data)
                if over:
                    count += over > 0
                    waiting.unregister(asking)
                    asking.close()
            for key in talking:
                asking = key.fileobj
                assert isinstance(asking, socket.socket)
                if asking.fileno() >= 0 and now - key.data[1] > _PATIENCE:
                    waiting.unregister(asking)
                    asking.close()
        for key in list(waiting.get_map().values()):
            if isinstance(key.fileobj, socket.socket) and key.fileobj is not listener:
                key.fileobj.close()
    return count


def _accepted(listener: socket.socket) -> Optional[socket.socket]:
    try:
        asking, _ = listener.accept()
    except OSError:
        return None  # who asked has gone
    asking.setblocking(False)
    return asking


def _said(asking: socket.socket, data: List[object]) -> int:
    """Read on, and answer when the question is whole: 1. It must be read first, for a connection that is
    closed with something unread loses its answer. -1: nobody is there any more. 0: there is more to come."""
    try:
        part = asking.recv(65536)
        assert isinstance(data[0], bytes)
        data[0] = (data[0] + part)[-65536:]
        if not part:
            return -1
        if b"\r\n\r\n" not in data[0]:
            return 0
        asking.send(_YES)
        return 1
    except BlockingIOError:
        return 0
    except OSError:
        return -1
