"""A Longshore project in a folder of its own, deployed to practice hosts by the command a user types."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longshore.lab import Lab

PYTHON = "python:3.12-slim-bookworm"

# A web service in one file: what it does is said by its environment, so that one image is enough.
SERVER = """
import http.server, os, sys, time

time.sleep(float(os.environ.get("START_AFTER", "0")))
if os.environ.get("EXIT_AT_ONCE"):
    sys.exit("KeyError: 'DATABASE_URL'")


class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        good = not (self.path == "/health" and os.environ.get("SICK"))
        self.send_response(200 if good else 503)
        self.end_headers()
        page = open("/srv/page.txt").read() if os.path.exists("/srv/page.txt") else ""
        self.wfile.write(f"{os.environ.get('VERSION')} {page}".encode())

    def log_message(self, *args):
        pass


http.server.ThreadingHTTPServer(("", 8000), Page).serve_forever()
"""

COMPOSE = """
services:
  web:
    image: {image}
    command: ["python3", "-u", "/srv/server.py"]
    stop_signal: SIGKILL
    environment:
      VERSION: ${{VERSION:-1}}
      SICK: ${{SICK:-}}
      EXIT_AT_ONCE: ${{EXIT_AT_ONCE:-}}
      START_AFTER: ${{START_AFTER:-0}}
    ports: ["${{PORT:-8080}}:8000"]
    volumes:
      - ./server.py:/srv/server.py:ro
      - ./page.txt:/srv/page.txt:ro
      - data:/data
    healthcheck:
      test: ["CMD", "python3", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/health')"]
      interval: 500ms
      timeout: 3s
      retries: 3
volumes:
  data:
"""


@dataclass
class Project:
    """``root`` is the folder; ``app`` the one app's name; ``lab`` where it goes."""

    root: Path
    lab: Lab
    app: str = "shop"

    def write(self, path: str, text: str) -> Path:
        """Write a file of the project."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text))
        return file

    @property
    def connection(self) -> str:
        """The variables by which an inventory reaches the practice hosts: lines below ``all.vars``."""
        return f"""\
    ansible_user: root
    ansible_ssh_private_key_file: {json.dumps(str(self.lab.key))}
    ansible_ssh_common_args: {json.dumps(self.lab.ssh_options())}"""

    def inventory(self, *hosts: str, app: str = "", **variables: str) -> None:
        """Write the inventory ``try``: these hosts, and the app with these lines of settings (YAML)."""
        addresses = self.lab.addresses
        lines = [
            "all:",
            "  vars:",
            self.connection,
            *(f"    {name}: {value}" for name, value in variables.items()),
            "    longshore:",
            "      registries:",
            f"        docker.io: {{mirror: 'http://{self.lab.registry}', insecure: true}}",
            f"        '{self.lab.registry}': {{insecure: true}}",
            "      apps:",
            f"        {self.app}:",
            "          compose: compose.yml",
            "          hosts: web",
            *("          " + line for line in textwrap.dedent(app).strip().splitlines()),
            "  children:",
            "    web:",
            "      hosts:",
            *(f"        {host}: {{ansible_host: {addresses[host]}}}" for host in hosts),
        ]
        self.write("inventory/try.yml", "\n".join(lines) + "\n")

    def server(self, page: str = "hello") -> None:
        """Write the compose file of the test server, the server, and the page that it mounts."""
        self.write("compose.yml", COMPOSE.format(image=PYTHON))
        self.write("server.py", SERVER)
        self.write("page.txt", page)

    def run(self, *words: str, env: dict[str, str] | None = None, timeout: float = 180) -> Done:
        """Run ``longshore WORDS`` in the project."""
        command = [sys.executable, "-c", "from longshore.tasks import main; main()", *words]
        done = subprocess.run(
            command,
            cwd=self.root,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def deploy(self, *words: str, **variables: str) -> Done:
        """Run ``longshore deploy`` with these values in the app's ``.env``."""
        values = "".join(f"{name}={value}\n" for name, value in variables.items())
        self.write("env/try.env", values).chmod(0o600)
        return self.run("deploy", "--env", "try", *words)

    def page(self, host: str, port: int = 8080) -> str:
        """What the server on a host answers; empty when it doesn't."""
        script = (
            "import sys, urllib.request\n"
            f"print(urllib.request.urlopen('http://127.0.0.1:{port}/', timeout=5).read().decode())"
        )
        done = self.lab.ssh(host, ["python3", "-c", script], check=False)
        return done.stdout.strip()

    def containers(self, host: str) -> list[dict[str, Any]]:
        """The app's containers on a host, in full, as the engine reports them."""
        label = f"label=com.docker.compose.project={self.app}"
        idents = self.lab.ssh(host, ["docker", "ps", "-aq", "--filter", label]).stdout.split()
        if not idents:
            return []
        found: list[dict[str, Any]] = json.loads(self.lab.ssh(host, ["docker", "inspect", *idents]).stdout)
        return found

    def status(self) -> dict[str, Any]:
        """``status --json`` by host."""
        lines = self.run("status", "--env", "try", "--json").json()
        value: dict[str, Any] = next(line for line in lines if line["event"] == "result")["value"]["hosts"]
        return value


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    def json(self) -> list[dict[str, Any]]:
        """Its JSON lines."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def all(self) -> str:
        """Everything it said."""
        return self.out + self.err
