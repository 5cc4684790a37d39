"""A registry for the relay's tests: one image, on real sockets, that does to clients what lines, proxies and
storage services do."""

from __future__ import annotations

import base64
import hashlib
import http.server
import json
import socket
import ssl
import threading
import time
from types import TracebackType
from typing import Any

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Upstream:
    """``http://127.0.0.1:PORT/v2/shop/api``: the ``layers`` as one image, in an index with another one.

    A context manager. ``tls``: served with that.
    """

    def __init__(self, *layers: bytes, tls: ssl.SSLContext | None = None) -> None:
        config = b'{"architecture": "amd64"}'
        self.blobs = {digest_of(one): one for one in (config, *layers)}
        self.layers = [digest_of(one) for one in layers]
        document = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"digest": digest_of(config), "size": len(config)},
            "layers": [{"digest": digest_of(one), "size": len(one)} for one in layers],
        }
        manifest = json.dumps(document).encode()
        index = {
            "schemaVersion": 2,
            "mediaType": INDEX,
            "manifests": [{"digest": digest_of(manifest), "size": len(manifest)}],
        }
        top = json.dumps(index).encode()
        self.manifest, self.index = digest_of(manifest), digest_of(top)
        self.documents = {self.manifest: manifest, self.index: top, "1": top}

        self.breaks: list[int] = []
        """After so many bytes of a blob the line breaks, one after the other."""
        self.silence = 0.0
        """So many seconds nothing comes before it does."""
        self.outage = 0
        """So many requests after that are hung up on."""
        self._down = 0
        self.ranges = True
        self.statuses: list[int] = []
        """What is answered to the next requests for a blob, instead of it."""
        self.login: tuple[str, str] | None = None
        self.token = ""
        """Wanted, when it isn't empty; it is given to who has the ``login``."""
        self.elsewhere = ""
        """Where blobs are, when not here."""
        self.sent = 0
        """Bytes of blobs."""
        self.forms: list[str] = []
        """What was posted."""
        self.seen: list[tuple[str, dict[str, str]]] = []
        """Method and path, and the headers by small letters."""
        upstream = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                upstream._answer(self)

            do_HEAD = do_GET  # noqa: N815 - the library's name

            def do_POST(self) -> None:
                upstream.forms.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
                upstream._answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._scheme = "https" if tls else "http"
        if tls:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.address = f"127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def __enter__(self) -> Upstream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Be away from now on."""
        self._server.shutdown()
        self._server.server_close()

    def asked(self, what: str) -> int:
        """How many requests had this in their path."""
        return sum(what in path for path, _ in self.seen)

    @property
    def info(self) -> dict[str, Any]:
        """What an engine on this host says of its registries."""
        return {
            "RegistryConfig": {
                "IndexConfigs": {"docker.io": {"Mirrors": None, "Secure": True}},
                "InsecureRegistryCIDRs": ["127.0.0.0/8"],
            }
        }

    def _answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.seen.append((f"{request.command} {request.path}", headers))
        if self._down:
            self._down -= 1
            request.connection.shutdown(socket.SHUT_RDWR)
            return
        if request.path.startswith("/token"):
            self._give(request, json.dumps({"token": self.token}).encode(), "application/json")
            return
        wanted = f"Bearer {self.token}" if self.token else self._basic() if self.login else ""
        path = request.path.partition("?")[0].removeprefix("/v2/shop/api/")
        if wanted and headers.get("authorization") != wanted:
            realm = f"{self._scheme}://{self.address}/token"
            request.send_response(401)
            kind = f'Bearer realm="{realm}",service="practice"' if self.token else 'Basic realm="practice"'
            request.send_header("WWW-Authenticate", kind)
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        kind, _, name = path.lstrip("/").partition("/")
        if kind == "manifests" and name in self.documents:
            self._give(request, self.documents[name], INDEX if name != self.manifest else MANIFEST)
        elif kind in ("blobs", "stored") and name in self.blobs:
            self._blob(request, name, headers)
        else:
            request.send_error(404)

    def _basic(self) -> str:
        assert self.login
        return "Basic " + base64.b64encode(":".join(self.login).encode()).decode()

    def _blob(self, request: http.server.BaseHTTPRequestHandler, name: str, headers: dict[str, str]) -> None:
        if self.statuses:
            request.send_error(self.statuses.pop(0))
            return
        if self.elsewhere:
            request.send_response(307)
            request.send_header("Location", f"{self.elsewhere}/stored/{name}?signed=yes")
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        data = self.blobs[name]
        start, stop = 0, len(data)
        if "range" in headers and self.ranges:
            first, _, last = headers["range"].removeprefix("bytes=").partition("-")
            start, stop = int(first), int(last) + 1 if last else len(data)
            request.send_response(206)
            request.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(data)}")
        else:
            request.send_response(200)
        request.send_header("Content-Length", str(stop - start))
        request.end_headers()
        broken = self.breaks.pop(0) if self.breaks else None
        piece = data[start:stop] if broken is None else data[start : min(stop, start + broken)]
        self.sent += len(piece)
        request.wfile.write(piece)
        if broken is not None:
            self._down = self.outage
            time.sleep(self.silence)
            request.connection.shutdown(socket.SHUT_RDWR)

    def _give(self, request: http.server.BaseHTTPRequestHandler, data: bytes, kind: str) -> None:
        request.send_response(200)
        request.send_header("Content-Type", kind)
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(data)
