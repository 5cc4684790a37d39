"""A line that doesn't break: one image's registry for the engine, on this host, for the time of one pull.

What an engine does when the line breaks in the middle of a layer is to fail, or to begin anew. The relay asks
the real registry in its place, goes on from where a line broke, and has the engine wait meanwhile. Engines
take plain HTTP from 127.0.0.0/8 without being told to.

It gives out what belongs to the image, to who knows the secret in the path (the login it asks with is not for
every user of the host), and is gone with the pull.
"""

import hmac
import json
import re
import secrets
import socket
import threading
from types import TracebackType
from typing import Any, Dict, List, Optional, Type

from longshore.agent.engine import Engine, EngineError
from longshore.agent.fail import Refusal
from longshore.agent.registry import INDEX, NoUseError
from longshore.agent.relayed import NAME
from longshore.agent.unbroken import Image, OverError, digest_of
from longshore.agent.unixhttp import quoted

_REQUEST = re.compile(r"(GET|HEAD) (/\S*) HTTP/1\.[01]")
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")
_DIGEST = "Docker-Content-Digest"
_GRACE = 10.0
"""Seconds for whoever pulls to end it, when nothing comes any more."""
_LINES = 100
_IDLE = 300.0
"""Seconds in which an engine takes what it asked for, or asks for more; slow disks are slow."""
_CONNECTIONS = 64
_NOTHING = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": []}).encode()
"""An image index without images."""


class Relay:
    """The relay of an image; a context manager."""

    def __init__(self, image: Image) -> None:
        self.image = image
        self.no_use = ""
        """Why it is none: the registry's no, and not its silence."""
        self._asked = threading.Event()
        self._lock = threading.Lock()
        self._sockets: List[socket.socket] = []
        self._listener: Optional[socket.socket] = None
        self._name = NAME + secrets.token_hex(16)
        self._place = ""

    @property
    def ref(self) -> str:
        """By what name the engine pulls the image here, when it was found."""
        return f"{self._place}@{self.image.digest}"

    def open(self) -> None:
        """Answer from now on, until it is closed."""
        if self._listener is None:
            self._listener = socket.create_server(("127.0.0.1", 0), backlog=16)
            self._place = f"127.0.0.1:{self._listener.getsockname()[1]}/{self._name}"
            threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def __enter__(self) -> "Relay":
        self.open()
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self.close()

    def close(self) -> None:
        """Nobody is answered any more."""
        self.image.closed.set()
        with self._lock:
            sockets, self._sockets = self._sockets, []
        if self._listener is not None:
            _hang_up(self._listener)  # who waits in accept hears of it, too
        for one in sockets:
            _hang_up(one)

    def is_reached(self, engine: Engine) -> bool:
        """Whether the engine finds its way here: it may be anywhere behind its socket."""
        place = f"{self._place}@{digest_of(_NOTHING)}"
        try:
            engine.request("GET", f"/distribution/{quoted(place, safe='/:@')}/json")
        except (EngineError, Refusal):
            pass  # that there is nothing in it may be an error; it was asked for
        return self._asked.is_set()

    # What the engine asks

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                made, _ = listener.accept()
            except OSError:
                return
            with self._lock:
                many = len(self._sockets) >= _CONNECTIONS
                if not many:
                    self._sockets.append(made)
            if many or self.image.closed.is_set():
                _hang_up(made)
                continue
            made.settimeout(_IDLE)
            threading.Thread(target=self._converse, args=(made,), daemon=True).start()

    def _converse(self, made: socket.socket) -> None:
        try:
            if made.recv(1, socket.MSG_PEEK) not in (b"G", b"H"):
                # TLS, which an engine tries first. Told in plain HTTP that there is none, it takes that.
                made.recv(1 << 16)
                made.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                return
            with made.makefile("rb") as file:
                while self._answer(made, file):
                    pass
        except OSError:
            pass
        except (OverError, NoUseError) as error:
            if isinstance(error, NoUseError):
                self.no_use = self.no_use or str(error)
            # A pull that is cancelled leaves more behind than one that fails: whoever pulls has time for it.
            self.image.closed.wait(_GRACE)
        finally:
            with self._lock:
                if made in self._sockets:
                    self._sockets.remove(made)
            _hang_up(made)

    def _answer(self, made: socket.socket, file: Any) -> bool:
        """Answer one request; whether another one may follow."""
        request = _REQUEST.fullmatch(file.readline(1 << 13).decode("latin-1").rstrip("\r\n"))
        if request is None:
            return False
        headers: Dict[str, str] = {}
        for _ in range(_LINES):
            line = file.readline(1 << 13).decode("latin-1").rstrip("\r\n")
            if not line:
                break
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        else:
            return False
        method, path = request[1], request[2].partition("?")[0]
        if path in ("/v2", "/v2/"):
            _head(made, 200, {"Content-Length": "0", "Docker-Distribution-Api-Version": "registry/2.0"})
            return True
        name, _, rest = path[len("/v2/") :].partition("/")
        kind, _, digest = rest.partition("/")
        if not path.startswith("/v2/") or not hmac.compare_digest(name.encode(), self._name.encode()):
            _head(made, 404, {"Content-Length": "0"})
            return True
        self._asked.set()
        if kind == "manifests":
            found = (_NOTHING, INDEX) if digest == digest_of(_NOTHING) else self.image.document(digest)
            if found is not None:
                data, media = found
                length = str(len(data))
                _head(made, 200, {"Content-Type": media, "Content-Length": length, _DIGEST: digest})
                if method == "GET":
                    made.sendall(data)
                return True
        size = self.image.size(digest) if kind == "blobs" else None
        if size is not None:
            self._give(made, method, digest, size, headers.get("range", ""))
            return True
        _head(made, 404, {"Content-Length": "0"})
        return True

    def _give(self, made: socket.socket, method: str, digest: str, size: int, wanted: str) -> None:
        asked = _RANGE.fullmatch(wanted)
        start, stop = 0, size
        facts = {
            "Content-Type": "application/octet-stream",
            _DIGEST: digest,
            "Accept-Ranges": "bytes",
        }
        if asked:
            start = int(asked[1])
            stop = min(size, int(asked[2]) + 1) if asked[2] else size
            if start >= stop:
                _head(made, 416, {"Content-Length": "0", "Content-Range": f"bytes */{size}"})
                return
            facts["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
        _head(made, 206 if asked else 200, {**facts, "Content-Length": str(stop - start)})
        if method == "GET":
            for piece in self.image.content(digest, start, stop):
                made.sendall(piece)


def _head(made: socket.socket, status: int, facts: Dict[str, str]) -> None:
    reason = {200: "OK", 206: "Partial Content", 404: "Not Found"}.get(status, "Range Not Satisfiable")
    lines = [f"HTTP/1.1 {status} {reason}", *(f"{name}: {value}" for name, value in facts.items())]
    made.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))


def _hang_up(made: socket.socket) -> None:
    try:
        made.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    made.close()
