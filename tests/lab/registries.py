"""Registries of a test's own: real ones with a log of every request, a slow line that can be cut, images
whose layers are put together here, so that no host has them."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import http.server
import io
import json
import os
import re
import socket
import subprocess
import tarfile
import threading
import time
import urllib.error
import urllib.request
import zipfile
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from longshore.images.registry import LISTS
from longshore.lab.commands import wait_until

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
MANIFESTS = (MANIFEST, "application/vnd.docker.distribution.manifest.v2+json")
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
_REQUEST = re.compile(r'^(\S+) - \S+ \[[^\]]*\] "(\S+) (\S+) [^"]*" (\d+) (\d+)')


class Request(NamedTuple):
    """A line of a registry's log: who asked, what, and the answer's status and bytes."""

    client: str
    method: str
    path: str
    status: int
    size: int


class Registry:
    """Debian's docker-registry at ``address`` (host:port), with its content and log in ``home``.

    ``upstream`` makes it a mirror of that registry.
    """

    def __init__(self, program: Path, home: Path, address: str, *, upstream: str = "") -> None:
        self.address, self.home = address, home
        self.log = home / "log"
        home.mkdir(parents=True, exist_ok=True)
        settings = [
            "version: 0.1",
            "log: {level: error, accesslog: {disabled: false}}",
            f"storage: {{filesystem: {{rootdirectory: {home}/content}}}}",
            f"http: {{addr: '{address}'}}",
        ]
        if upstream:
            settings.append(f"proxy: {{remoteurl: '{upstream}'}}")
        self._settings = settings
        self._program = program
        self._running: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self, users: Path | None = None) -> None:
        """Have it running, for the ``users`` of a file of htpasswd or for everybody."""
        file = self.home / "config.yml"
        logins = [f"auth: {{htpasswd: {{realm: practice, path: {users}}}}}"] if users else []
        file.write_text("\n".join([*self._settings, *logins]) + "\n")
        with self.log.open("a") as log:
            self._running = subprocess.Popen(
                [str(self._program), "serve", str(file)], stdout=log, stderr=subprocess.DEVNULL
            )
        host, _, port = self.address.partition(":")
        assert wait_until(lambda: _listens(host, int(port)), timeout=20), f"no registry at {self.address}"

    def stop(self) -> None:
        """Kill it."""
        if self._running is not None:
            self._running.kill()
            self._running.wait()
            self._running = None

    def requests(self, since: int = 0) -> list[Request]:
        """Every request, from the byte ``since`` of the log on."""
        found = [_REQUEST.match(line) for line in self.log.read_text()[since:].splitlines()]
        return [
            Request(one[1], one[2], one[3].partition("?ns=")[0], int(one[4]), int(one[5]))
            for one in found
            if one
        ]

    def mark(self) -> int:
        """Where the log ends now."""
        return len(self.log.read_text())

    def fetched(self, since: int = 0) -> list[tuple[str, int]]:
        """The blobs that were given out, each time with how many bytes of it."""
        return [
            (one.path.rpartition("/")[2], one.size)
            for one in self.requests(since)
            if one.method == "GET" and "/blobs/sha256:" in one.path and one.status in (200, 206)
        ]

    def uploaded(self, since: int = 0) -> set[str]:
        """The digests of the blobs that came whole."""
        asked = [one.path for one in self.requests(since) if one.method == "PUT" and one.status == 201]
        found = [re.search(r"digest=sha256(?::|%3A)([0-9a-f]{64})", path, re.I) for path in asked]
        return {f"sha256:{one[1]}" for one in found if one}

    def get(self, path: str) -> tuple[dict[str, Any], str]:
        """A document of the API, and its digest."""
        headers = {"Accept": ", ".join((*LISTS, *MANIFESTS, "*/*"))}
        request = urllib.request.Request(f"http://{self.address}/v2/{path}", headers=headers)
        with _OPENER.open(request, timeout=20) as answer:
            return json.loads(answer.read()), answer.headers["Docker-Content-Digest"]

    def tags(self, repository: str) -> list[str]:
        """A repository's tags; none when there is no such repository."""
        with contextlib.suppress(urllib.error.HTTPError):
            return sorted(self.get(f"{repository}/tags/list")[0].get("tags") or [])
        return []

    def put_image(
        self, name: str, base: Base, *sizes: int, script: str = "", listed: bool = False
    ) -> list[tuple[str, int]]:
        """Put ``repository:tag``: the base with layers of so many random bytes, which runs ``script`` or
        sleeps; ``listed``: in an index. Gives those layers' digests and sizes."""
        repository, _, tag = name.partition(":")
        layers, diffs, own = list(base.layers), list(base.diff_ids), []
        for size in sizes:
            packed, diff = _layer(size)
            layers.append({"mediaType": LAYER, **self._put(repository, packed)})
            diffs.append(diff)
            own.append((str(layers[-1]["digest"]), len(packed)))
        for layer in base.layers:
            address = f"http://{self.address}/v2/{repository}/blobs/uploads/"
            _send("POST", f"{address}?mount={layer['digest']}&from={base.repository}", b"")
        command = {
            **base.config.get("config", {}),
            "Entrypoint": None,
            "Cmd": ["sh", "-c", script or "sleep 1000000"],
        }
        config = {
            **base.config,
            "config": command,
            "history": [],
            "rootfs": {"type": "layers", "diff_ids": diffs},
        }
        described = {"mediaType": CONFIG, **self._put(repository, json.dumps(config).encode())}
        document = {"schemaVersion": 2, "mediaType": MANIFEST, "config": described, "layers": layers}
        address = f"http://{self.address}/v2/{repository}/manifests"
        data, kind = json.dumps(document).encode(), MANIFEST
        if listed:
            digest = "sha256:" + hashlib.sha256(data).hexdigest()
            _send("PUT", f"{address}/{digest}", data, kind)
            entry = {"mediaType": kind, "digest": digest, "size": len(data)}
            entry["platform"] = {"os": "linux", "architecture": base.config["architecture"]}
            kind = LISTS[0]
            data = json.dumps({"schemaVersion": 2, "mediaType": kind, "manifests": [entry]}).encode()
        _send("PUT", f"{address}/{tag}", data, kind)
        return own

    def _put(self, repository: str, data: bytes) -> dict[str, Any]:
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        place = _send("POST", f"http://{self.address}/v2/{repository}/blobs/uploads/", b"")
        _send("PUT", f"{place}&digest={digest}", data, "application/octet-stream")
        return {"digest": digest, "size": len(data)}


class Base:
    """An image for amd64 of the lab's registry. A registry that is to have images on it has it, too."""

    def __init__(self, registry: str, name: str) -> None:
        self.repository, _, tag = name.partition(":")
        repository = self.repository
        top = json.loads(_get(registry, f"{repository}/manifests/{tag}"))
        if "manifests" in top:
            entry = next(one for one in top["manifests"] if one["platform"]["architecture"] == "amd64")
            top = json.loads(_get(registry, f"{repository}/manifests/{entry['digest']}"))
        self.config = json.loads(_get(registry, f"{repository}/blobs/{top['config']['digest']}"))
        self.layers: list[dict[str, Any]] = top["layers"]
        self.diff_ids: list[str] = self.config["rootfs"]["diff_ids"]


class Index:
    """A package index (PEP 503) at ``http://ADDRESS/HOW/simple/``, of tiny wheels made on demand.

    What is below ``kept`` has the headers that PyPI's files have, what is below ``plain`` none: some
    proxies take them away. ``/begin/NAME`` and ``/end/NAME`` are noted. A context manager.
    """

    def __init__(self, host: str) -> None:
        self.files: list[str] = []
        """The wheels that were fetched."""
        self.most = 0
        """How many had begun and not ended, at most."""
        self._going: set[str] = set()
        index = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                index._answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer((host, 0), Handler)
        self.address = f"{host}:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def __enter__(self) -> Index:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        how, *rest = request.path.strip("/").split("/")
        headers = {"Content-Type": "text/html"}
        body = b""
        if how == "begin":
            self._going.add(rest[0])
            self.most = max(self.most, len(self._going))
        elif how == "end":
            self._going.discard(rest[0])
        elif rest[0] == "simple":
            name = f"{rest[1].replace('-', '_')}-1.0-py3-none-any.whl"
            body = f'<a href="/{how}/files/{name}">{name}</a>'.encode()
        else:
            self.files.append(rest[1])
            body = _wheel(rest[1].partition("-")[0])
            headers = {"Content-Type": "application/octet-stream"}
            if how == "kept":
                headers |= {"Cache-Control": "max-age=365000000, immutable, public", "ETag": f'"{rest[1]}"'}
        request.send_response(200)
        for key, value in headers.items():
            request.send_header(key, value)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)


class Line:
    """A line to ``target`` (host:port) from a port of ``host``, at most ``rate`` bytes a second in all, or
    as fast as may be. A context manager."""

    def __init__(self, host: str, target: str, rate: float | None = None) -> None:
        self._target = target.partition(":")[0], int(target.partition(":")[2])
        self.rate = rate
        self._broken: str | None = None
        self._sockets: list[tuple[str, socket.socket]] = []
        self._lock = threading.Lock()
        self._free_at = 0.0
        self._listener = socket.create_server((host, 0), backlog=64)
        self.address = "{}:{}".format(*self._listener.getsockname())
        self.passed = 0
        """Bytes that went through, both ways."""
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self, client: str = "") -> None:
        """Break what goes through it, and whoever comes; of one ``client`` (an address) or of all."""
        self._broken = client
        with self._lock:
            cut = [pair for pair in self._sockets if pair[0].startswith(client)]
            self._sockets = [pair for pair in self._sockets if pair not in cut]
        for _, one in cut:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def mend(self, rate: float | None = None) -> None:
        """Let through again."""
        self.rate, self._broken = rate, None

    def __enter__(self) -> Line:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                near, (client, _) = self._listener.accept()
            except OSError:
                return
            broken = self._broken is not None and client.startswith(self._broken)
            try:
                far = None if broken else socket.create_connection(self._target, timeout=10)
            except OSError:
                far = None
            if far is None:
                near.close()
                continue
            far.settimeout(None)
            with self._lock:
                self._sockets += [(client, near), (client, far)]
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._pass, args=(source, sink), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                time.sleep(self._wait(len(data)))
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def _wait(self, size: int) -> float:
        with self._lock:
            self.passed += size
            now = time.monotonic()
            self._free_at = max(now, self._free_at) + (size / self.rate if self.rate else 0.0)
            return self._free_at - now if self.rate else 0.0


def _listens(host: str, port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=1):
        return True
    return False


def _layer(size: int) -> tuple[bytes, str]:
    """A layer with one file of random bytes, packed, and the digest of what is in it."""
    unpacked = io.BytesIO()
    with tarfile.open(fileobj=unpacked, mode="w") as archive:
        data = os.urandom(size)
        member = tarfile.TarInfo(f"srv/{hashlib.sha256(data).hexdigest()[:12]}")
        member.size = size
        archive.addfile(member, io.BytesIO(data))
    packed = gzip.compress(unpacked.getvalue(), compresslevel=0)
    return packed, "sha256:" + hashlib.sha256(unpacked.getvalue()).hexdigest()


def _wheel(name: str) -> bytes:
    """A wheel (PEP 427) with one empty module."""
    info = f"{name}-1.0.dist-info"
    files = {
        f"{name}.py": "",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path, text in {**files, f"{info}/RECORD": record}.items():
            archive.writestr(zipfile.ZipInfo(path), text)
    return packed.getvalue()


def _get(registry: str, path: str) -> bytes:
    headers = {
        "Accept": ", ".join((*LISTS, MANIFEST, "application/vnd.docker.distribution.manifest.v2+json"))
    }
    request = urllib.request.Request(f"http://{registry}/v2/{path}", headers=headers)
    with _OPENER.open(request, timeout=60) as answer:
        data: bytes = answer.read()
        return data


def _send(method: str, address: str, data: bytes, kind: str = "") -> str:
    headers = {"Content-Type": kind} if kind else {}
    request = urllib.request.Request(address, data=data, method=method, headers=headers)
    with _OPENER.open(request, timeout=60) as answer:
        return str(answer.headers["Location"] or "")
