"""A line that doesn't break: one image's registry for the engine, on this host, for the time of one pull.

What an engine does when the line breaks in the middle of a layer is to fail, or to begin anew. The relay asks
the real registry in its place, goes on from where a line broke, and has the engine wait meanwhile. Engines
take plain HTTP from 127.0.0.0/8 without being told to.

It gives out what belongs to the image, to who knows the secret in the path (the login it asks with is not for
every user of the host), and is gone with the pull.
"""

import hashlib
import hmac
import json
import queue
import re
import secrets
import socket
import ssl
import threading
import time
from types import TracebackType
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple, Type

from longshore.agent.engine import Engine, EngineError
from longshore.agent.fail import Refusal
from longshore.agent.kept import Kept, Part
from longshore.agent.registry import ACCEPT, UNREACHED, Answer, NoUseError, Repository
from longshore.agent.unixhttp import quoted

NAME = "longshore-relay-"
_LEFT = re.compile(rf"127\.0\.0\.1:(\d+)/{NAME}[0-9a-f]{{32}}@sha256:[0-9a-f]{{64}}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_REQUEST = re.compile(r"(GET|HEAD) (/\S*) HTTP/1\.[01]")
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/")
_DOCUMENT = 8 << 20
"""Bytes of a manifest at most; registries refuse more than 4 MiB."""
_PAUSES = (0.0, 0.5, 1.0, 2.0, 4.0)
"""Seconds before the registry is asked again; the last for all that follow."""
_COMPARED = 64
"""Bytes by which a beginning is known again: packed, no two layers have the same ones at the same place."""
_TICK = 0.2
_GRACE = 10.0
_LINES = 100
_INDEX = "application/vnd.oci.image.index.v1+json"
_NOTHING = json.dumps({"schemaVersion": 2, "mediaType": _INDEX, "manifests": []}).encode()
"""An image index without images."""


class OverError(Exception):
    """The pull has ended, or the registry's patience is up."""


def split(ref: str) -> Tuple[str, str, str]:
    """Registry, repository, and tag or digest of an image reference (distribution/reference)."""
    rest, _, digest = ref.partition("@")
    name, colon, tag = rest.rpartition(":")
    if not colon or "/" in tag:
        name, tag = rest, "latest"
    first, slash, repository = name.partition("/")
    if not (slash and ("." in first or ":" in first or first == "localhost")):
        first, repository = "docker.io", name
    return "docker.io" if first == "index.docker.io" else first, repository, digest or tag


class Relay:
    """The relay of the image ``ref``; a context manager.

    ``patience``: seconds without a byte of the registry's after which it is given up; ``given_up``: nobody
    waits for it any more; ``info``: the engine's. Raises ``NoUseError`` where the engine goes other ways.
    """

    def __init__(
        self,
        ref: str,
        auth: Optional[Dict[str, str]],
        info: Dict[str, Any],
        kept: Kept,
        patience: float,
        given_up: Optional[Callable[[], bool]] = None,
    ) -> None:
        if any("rootless" in str(one) for one in info.get("SecurityOptions") or []):
            raise NoUseError("the engine has a network of its own")
        registry, name, self._target = split(ref)
        self._upstream = Repository(registry, name, auth, info)
        self._kept = kept
        self._patience = patience
        self._given_up = given_up
        self.broken: queue.Queue[str] = queue.Queue()
        """What was said each time the line broke and wasn't back at once."""
        self.over = ""
        """Why it was given up, in the words of what broke the line."""
        self.no_use = ""
        """Why it is none: the registry's no, and not its silence."""
        self.asked = threading.Event()
        """Set when the engine has found its way here."""
        self.digest = ""
        self._documents: Dict[str, Tuple[bytes, str]] = {}
        self._children: Dict[str, int] = {}
        self._blobs: Dict[str, int] = {}
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._down_since: Optional[float] = None
        self._told = True  # that it broke at first is known to who asks for a relay
        self._sockets: List[socket.socket] = []
        self._listener: Optional[socket.socket] = None
        self._name = NAME + secrets.token_hex(16)
        self._place = ""

    @property
    def ref(self) -> str:
        """By what name the engine pulls the image here, when it was found."""
        return f"{self._place}@{self.digest}"

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
        self._closed.set()
        with self._lock:
            sockets, self._sockets = self._sockets, []
        if self._listener is not None:
            _hang_up(self._listener)  # who waits in accept hears of it, too
        for one in sockets:
            _hang_up(one)

    def knows(self) -> None:
        """Ask the registry, once, whether it gives us the image. Raises ``NoUseError``, and what
        ``UNREACHED`` lists."""
        self._upstream.ask(f"manifests/{self._target}", {"Accept": ACCEPT}, "HEAD").close()

    def find(self) -> None:
        """Have the registry say which image it is. Raises ``OverError`` and ``NoUseError``."""
        self.digest, _ = self._document(self._target)

    def is_reached(self, engine: Engine) -> bool:
        """Whether the engine finds its way here: it may be anywhere behind its socket."""
        digest = _digest_of(_NOTHING)
        self._documents[digest] = (_NOTHING, _INDEX)
        try:
            engine.request("GET", f"/distribution/{quoted(f'{self._place}@{digest}', safe='/:@')}/json")
        except (EngineError, Refusal):
            pass  # that there is nothing in it may be an error; it was asked for
        return self.asked.is_set()

    # What the registry gives

    def _wait(self, error: Exception, tries: int) -> None:
        """The line is broken: wait before the next try. Raises ``OverError``."""
        said = _said(error)
        with self._lock:
            now = time.monotonic()
            if self._down_since is None:
                self._down_since = now
            elif tries and not self._told:
                self._told = True
                self.broken.put(said)
            if now - self._down_since > self._patience:
                self.over = self.over or said
        until = now + _PAUSES[min(tries, len(_PAUSES) - 1)]
        while True:
            if self._given_up is not None and self._given_up():
                self.over = self.over or said
            if self.over or self.no_use or self._closed.is_set():
                raise OverError(said)
            left = until - time.monotonic()
            if left <= 0:
                return
            self._closed.wait(min(left, _TICK))

    def _came(self) -> None:
        self._down_since = None
        self._told = False

    def _document(self, target: str) -> Tuple[str, Tuple[bytes, str]]:
        """A manifest or index by tag or digest; what it names is given out from now on."""
        if target in self._documents:
            return target, self._documents[target]
        tries = 0
        while True:
            try:
                answer = self._upstream.ask(f"manifests/{target}", {"Accept": ACCEPT})
                try:
                    data, kind = answer.read(_DOCUMENT), answer.header("Content-Type")
                finally:
                    answer.close()
                break
            except UNREACHED as error:
                self._wait(error, tries)
                tries += 1
        self._came()
        digest = _digest_of(data)
        if _DIGEST.fullmatch(target) and digest != target:
            raise NoUseError(f"the registry gives other content for {target}")
        try:
            value = json.loads(data)
            for child in value.get("manifests") or []:
                self._children[child["digest"]] = int(child["size"])
            for part in [*([value["config"]] if "config" in value else []), *(value.get("layers") or [])]:
                self._blobs[part["digest"]] = int(part["size"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise NoUseError(f"what the registry has as {target} is no image") from error
        found = data, value.get("mediaType") or kind.partition(";")[0]
        self._documents[digest] = found
        return digest, found

    def _bytes(self, digest: str, at: int, stop: int) -> Iterator[bytes]:
        """A blob's bytes from ``at`` up to ``stop``, through whatever befalls the line. Raises ``OverError``
        and ``NoUseError``."""
        size = self._blobs[digest]
        whole = self._kept.whole(digest, size)
        if whole is not None:
            for piece in whole.read(at, stop):
                at += len(piece)
                yield piece
        beginnings = self._kept.beginnings(digest, size)
        tries = 0
        while at < stop:
            try:
                part = next((one for one in beginnings if one.size > at), None)
                if part is not None:
                    beginnings.remove(part)
                    if part.digest or self._fits(digest, part):
                        for piece in part.read(at, min(stop, part.size)):
                            at += len(piece)
                            yield piece
                    continue
                for piece in self._from_upstream(digest, at):
                    self._came()
                    tries = 0
                    at += len(piece)
                    yield piece[: len(piece) - max(0, at - stop)]
                    if at >= stop:
                        return
                raise ConnectionResetError("unexpected EOF")
            except UNREACHED as error:
                if part is not None:
                    beginnings.insert(0, part)
                self._wait(error, tries)
                tries += 1

    def _fits(self, digest: str, part: Part) -> bool:
        """Whether it is the beginning of this blob: its last bytes are compared."""
        stop = part.size
        start = max(0, stop - _COMPARED)
        answer = self._upstream.ask(f"blobs/{digest}", {"Range": f"bytes={start}-{stop - 1}"})
        try:
            if answer.status != 206 or _first_of(answer) != start:
                return False
            return answer.read(stop - start) == b"".join(part.read(start, stop))
        finally:
            answer.close()

    def _from_upstream(self, digest: str, at: int) -> Iterator[bytes]:
        answer = self._upstream.ask(f"blobs/{digest}", {"Range": f"bytes={at}-"} if at else {})
        try:
            # Some give all of it, or from a place that suits them.
            first = _first_of(answer) if answer.status == 206 else 0
            if first > at:
                raise NoUseError(f"the registry goes on at {first} instead of {at}")
            while True:
                piece = answer.some()
                if not piece:
                    return
                skipped = min(len(piece), at - first)
                first += skipped
                if len(piece) > skipped:
                    at += len(piece) - skipped
                    first = at
                    yield piece[skipped:]
        finally:
            answer.close()

    # What the engine asks

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                made, _ = listener.accept()
            except OSError:
                return
            with self._lock:
                self._sockets.append(made)
            if self._closed.is_set():
                _hang_up(made)
                return
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
            self._closed.wait(_GRACE)
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
        self.asked.set()
        if kind == "manifests" and (digest in self._documents or digest in self._children):
            _, (data, media) = self._document(digest)
            facts = {"Content-Type": media, "Content-Length": str(len(data)), "Docker-Content-Digest": digest}
            _head(made, 200, facts)
            if method == "GET":
                made.sendall(data)
            return True
        if kind == "blobs" and digest in self._blobs:
            self._give(made, method, digest, headers.get("range", ""))
            return True
        _head(made, 404, {"Content-Length": "0"})
        return True

    def _give(self, made: socket.socket, method: str, digest: str, wanted: str) -> None:
        size = self._blobs[digest]
        asked = _RANGE.fullmatch(wanted)
        start, stop = 0, size
        facts = {
            "Content-Type": "application/octet-stream",
            "Docker-Content-Digest": digest,
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
            for piece in self._bytes(digest, start, stop):
                made.sendall(piece)


def left_behind(engine: Engine) -> None:
    """Remove what relays of killed agents have left in the engine: names, whose images go with them where
    nothing else has them. That of a relay at work (its port answers) stays."""
    for image in engine.images():
        for name in image.get("RepoDigests") or []:
            found = _LEFT.fullmatch(name)
            if found and not _answers(int(found[1])):
                untag(engine, name)


def untag(engine: Engine, ref: str) -> None:
    """Take a relay's name from an image; one that isn't there is as good."""
    try:
        engine.request("DELETE", f"/images/{quoted(ref, safe='/:@')}")
    except (EngineError, Refusal):
        pass  # the next one, or a cleanup, takes it


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
    except OSError:
        return False
    return True


def _digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def _said(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror and not isinstance(error, ssl.SSLError):
        return error.strerror.lower()
    return str(error) or type(error).__name__


def _first_of(answer: Answer) -> int:
    """Where a part begins. Raises ``NoUseError`` when it doesn't say."""
    found = _CONTENT_RANGE.match(answer.header("Content-Range"))
    if not found:
        raise NoUseError("the registry doesn't say where what it gives begins")
    return int(found[1])


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
