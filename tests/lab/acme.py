"""A certificate authority for practice hosts: Let's Encrypt's own test server (Pebble, from Debian) on the
lab's bridge, with a DNS server beside it that answers every name with one address.

What it validates it really asks for: ``http://NAME/.well-known/acme-challenge/…`` on port 80 of that address,
or a TXT record of that DNS server, which is set by HTTP as lego's provider ``httpreq`` does it.
"""

from __future__ import annotations

import base64
import http.server
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from longshore.lab import Lab
from longshore.lab.state import locked

_ACME, _MANAGEMENT, _DNS, _RECORDS = 14000, 15000, 8053, 8055
USER, PASSWORD = "longshore", "a-dns-password"
"""What the DNS provider asks for."""


def programs(lab: Lab) -> Path:
    """The folder of Debian's ``pebble`` and ``pebble-challtestsrv``, unpacked in the lab's cache."""
    cache = lab.place.cache
    folder = cache / "pebble"
    with locked(cache / "pebble.lock"):
        if not folder.exists():
            half = cache / "pebble-new"
            shutil.rmtree(half, ignore_errors=True)
            half.mkdir()
            get = ["sh", "-c", 'cd "$1" && exec apt-get download -q pebble', "sh", str(half)]
            if subprocess.run(get, capture_output=True, check=False).returncode != 0:
                subprocess.run(["apt-get", "update", "-q"], capture_output=True, check=True)
                subprocess.run(get, capture_output=True, check=True)
            (package,) = half.glob("*.deb")
            subprocess.run(["dpkg-deb", "-x", package, half], check=True)
            half.replace(folder)
    return folder / "usr/bin"


@dataclass
class Authority:
    """A running ACME server. ``address`` is the bridge's, ``folder`` holds its files."""

    address: str
    binaries: Path
    folder: Path
    target: str
    """The address of every name."""
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    told: list[dict[str, str]] = field(default_factory=list)
    """What the DNS provider was asked to set: ``fqdn``, ``value``, ``authorization``."""

    @property
    def directory(self) -> str:
        """The URL that a client is given."""
        return f"https://{self.address}:{_ACME}/dir"

    @property
    def provider(self) -> str:
        """The URL of the DNS provider."""
        return f"http://{self.address}:{_RECORDS + 1}"

    @property
    def ca(self) -> Path:
        """Who vouches for the server itself."""
        return self.folder / "server.pem"

    def start(self, *, valid: int = 90 * 86400, rejects: int = 5) -> None:
        """Start it, with certificates that are valid for so many seconds, and with ``rejects`` percent of the
        nonces refused, as a server may at any time. It has a new root, and remembers nothing."""
        settings = {
            "listenAddress": f"{self.address}:{_ACME}",
            "managementListenAddress": f"{self.address}:{_MANAGEMENT}",
            "certificate": str(self.ca),
            "privateKey": str(self.folder / "server.key"),
            "httpPort": 80,
            "tlsPort": 443,
            "externalAccountBindingRequired": False,
            "certificateValidityPeriod": valid,
        }
        file = self.folder / "pebble.json"
        file.write_text(json.dumps({"pebble": settings}))
        env = {"PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": str(rejects), "PEBBLE_AUTHZREUSE": "0"}
        self._run("pebble", ["-config", str(file), "-dnsserver", f"{self.address}:{_DNS}"], env, _ACME)
        context = ssl.create_default_context(cafile=str(self.ca))
        root = urllib.request.urlopen(f"https://{self.address}:{_MANAGEMENT}/roots/0", context=context)
        self.root.write_bytes(root.read())

    @property
    def root(self) -> Path:
        """The root of the certificates that it gives."""
        return self.folder / "root.pem"

    def start_dns(self) -> None:
        """Start the DNS server."""
        listen = ["-dns01", f"{self.address}:{_DNS}", "-management", f"{self.address}:{_RECORDS}"]
        nothing = ["-http01", "", "-https01", "", "-tlsalpn01", "", "-defaultIPv6", ""]
        self._run("pebble-challtestsrv", [*listen, *nothing, "-defaultIPv4", self.target], {}, _RECORDS)

    def stop(self) -> None:
        """Stop the ACME server; names can still be asked for."""
        process = self.processes.pop("pebble", None)
        if process is not None:
            process.kill()
            process.wait()

    def close(self) -> None:
        """Stop all of it."""
        for process in self.processes.values():
            process.kill()
            process.wait()
        self.processes.clear()

    def log(self) -> str:
        """What the server has said since it was made."""
        return (self.folder / "pebble.log").read_text(errors="replace")

    def issued(self) -> int:
        """How many certificates it has given."""
        return len(re.findall(r"Issued certificate serial", self.log()))

    def points(self, name: str, address: str) -> None:
        """Have a name mean this address, and no other."""
        self._record("/clear-a", {"host": f"{name}."})
        self._record("/add-a", {"host": f"{name}.", "addresses": [address]})

    def _record(self, path: str, what: Mapping[str, Any]) -> None:
        url = f"http://{self.address}:{_RECORDS}{path}"
        urllib.request.urlopen(url, data=json.dumps(what).encode(), timeout=10).read()

    def _run(self, name: str, words: list[str], env: Mapping[str, str], port: int) -> None:
        log: IO[bytes]
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [self.binaries / name, *words],
                env={**os.environ, **env},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        for _ in range(200):
            with suppress(OSError):
                socket.create_connection((self.address, port), timeout=1).close()
                return
            assert self.processes[name].poll() is None, (self.folder / f"{name}.log").read_text()
            time.sleep(0.05)
        raise AssertionError(f"{name} doesn't answer at {self.address}:{port}")

    def handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        """The DNS provider's: lego's ``httpreq``."""
        authority = self
        wanted = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()

        class Provider(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                said = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if self.headers.get("Authorization") != wanted:
                    self.send_error(401)
                    return
                authority.told.append({"path": self.path, **said})
                record = {"host": said["fqdn"], "value": said["value"]}
                authority._record("/set-txt" if self.path == "/present" else "/clear-txt", record)
                self.send_response(200)
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                """Nobody reads it."""

        return Provider


@contextmanager
def authority(lab: Lab, folder: Path, host: str) -> Iterator[Authority]:
    """An authority whose DNS server says that every name is ``host``."""
    address = lab.registry.rpartition(":")[0]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-subj", "/CN=practice authority", "-addext", f"subjectAltName=IP:{address}", "-days", "2",
         "-keyout", folder / "server.key", "-out", folder / "server.pem"],
        capture_output=True, check=True,
    )  # fmt: skip
    made = Authority(address, programs(lab), folder, lab.addresses[host])
    provider = http.server.ThreadingHTTPServer((address, _RECORDS + 1), made.handler())
    threading.Thread(target=provider.serve_forever, daemon=True).start()
    try:
        made.start_dns()
        made.start()
        yield made
    finally:
        provider.shutdown()
        provider.server_close()
        made.close()
