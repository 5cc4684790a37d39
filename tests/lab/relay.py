"""A TCP relay for tests: counts round trips, delays, cuts and heals a connection to a host."""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
import time
from types import TracebackType

CLIENT, SERVER = "client", "server"


class Relay:
    """Listens on ``127.0.0.1:port`` and passes everything on to ``(host, port)``. A context manager.

    ``delay`` is seconds in each direction, so a round trip costs twice that. ``turns`` counts how often
    the server began to answer after the client had begun to speak: data of the client that the server is
    given before it answers again is one turn. The TCP handshake isn't seen: add one for it.
    """

    def __init__(self, host: str, port: int = 22, *, delay: float = 0.0) -> None:
        self.target = (host, port)
        self.delay = delay
        self.turns = 0
        self.sent = {CLIENT: 0, SERVER: 0}
        """Bytes passed on, by who sent them."""
        self.connections = 0
        self._lock = threading.Lock()
        self._last = SERVER
        self._flowing = threading.Event()
        self._flowing.set()
        self._sockets: list[socket.socket] = []
        self._closed = False
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Swallow nothing and pass nothing on: as a network that went away. Connections stay open."""
        self._flowing.clear()

    def heal(self) -> None:
        """Pass on again, first what has waited."""
        self._flowing.set()

    def reset(self) -> None:
        """Break every connection at once."""
        with self._lock:
            sockets, self._sockets = self._sockets, []
        for sock in sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def close(self) -> None:
        """Stop listening, and break every connection."""
        self._closed = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.reset()
        self._flowing.set()

    def __enter__(self) -> Relay:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _accept(self) -> None:
        while not self._closed:
            try:
                near, _ = self._listener.accept()
                far = socket.create_connection(self.target, timeout=10)
            except OSError:
                continue
            far.settimeout(None)
            with self._lock:
                self.connections += 1
                self._sockets += [near, far]
            for sock in (near, far):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._pipe(near, far, CLIENT)
            self._pipe(far, near, SERVER)

    def _pipe(self, source: socket.socket, sink: socket.socket, who: str) -> None:
        waiting: queue.Queue[tuple[float, bytes]] = queue.Queue()

        def read() -> None:
            while True:
                try:
                    data = source.recv(1 << 16)
                except OSError:
                    data = b""
                with self._lock:
                    if data and who != self._last:
                        self._last = who
                        self.turns += who == SERVER
                    self.sent[who] += len(data)
                waiting.put((time.monotonic() + self.delay, data))
                if not data:
                    return

        def write() -> None:
            while True:
                due, data = waiting.get()
                time.sleep(max(0.0, due - time.monotonic()))
                self._flowing.wait()
                try:
                    if not data:
                        sink.shutdown(socket.SHUT_WR)
                        return
                    sink.sendall(data)
                except OSError:
                    return

        for work in (read, write):
            threading.Thread(target=work, daemon=True).start()
