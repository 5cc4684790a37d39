"""What is measured on: practice hosts, a project for them, and an image with many versions."""

from __future__ import annotations

import shlex
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench.timing import Took, at_once
from tests.lab.project import Project

from longshore.lab import Lab

PYTHON = "python:3.12-slim-bookworm"
REPOSITORY = "bench/web"

SERVER = """
import http.server


class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(open("/version").read().encode())

    def log_message(self, *args):
        pass


http.server.ThreadingHTTPServer(("", 8000), Page).serve_forever()
"""

# Checked often while it starts and seldom afterwards: what runs beside must not disturb the measurement.
COMPOSE = """
services:
  web:
    image: {image}
    init: true
    ports: ["{port}:8000"]
    healthcheck:
      test: ["CMD", "python3", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/')"]
      interval: 30s
      timeout: 5s
      start_period: 30s
      start_interval: 250ms
"""

# The layer that differs is the last and a few bytes; everything below is on the hosts already.
DOCKERFILE = f"""
FROM {PYTHON}
COPY server.py /srv/server.py
CMD ["python3", "-u", "/srv/server.py"]
ARG VERSION
LABEL bench.version=$VERSION
RUN echo $VERSION >/version
"""


@dataclass
class Ground:
    """``hosts`` are deployed to; ``versions`` of the image are in the lab's registry, on no host."""

    lab: Lab
    project: Project
    hosts: tuple[str, ...]
    versions: list[str]

    def take(self) -> str:
        """An image that no host has pulled."""
        return self.versions.pop()

    def longshore(self, image: str) -> None:
        """Write our project's compose file."""
        self.project.write("compose.yml", COMPOSE.format(image=image, port=8080))

    def floor(self, image: str | None = None) -> Took:
        """Plain OpenSSH and Compose on all hosts at once. With ``image`` its compose file is sent first, by
        the same ssh; without, the one that is there is brought up again."""
        up = "docker compose -p floor -f /srv/floor.yml up -d --wait --quiet-pull"
        script = up if image is None else f"cat >/srv/floor.yml && {up}"
        stdin = b"" if image is None else COMPOSE.format(image=image, port=8090).encode()
        argv = ["sh", "-c", script]
        return at_once([self.lab.ssh_argv(host, argv) for host in self.hosts], stdin=stdin)


@contextmanager
def ground(*, hosts: int, versions: int, keep: bool, say: Callable[[str], None]) -> Iterator[Ground]:
    """A lab of its own with a host more than is deployed to: on that one the images are built."""
    lab = Lab("bench", say=say)
    names = tuple(f"h{number}" for number in range(1, hosts + 1))
    try:
        lab.up(hosts + 1)
        lab.registry_up()
        lab.stand_in([PYTHON])
        say(f"Building {versions} versions of an image.")
        images = _build(lab, f"h{hosts + 1}", versions)
        with tempfile.TemporaryDirectory(prefix="longshore-bench-") as folder:
            project = Project(Path(folder), lab)
            project.inventory(*names)
            project.write("env/try.env", "")
            project.write("tasks.py", (Path(__file__).parents[2] / "tasks.py").read_text())
            yield Ground(lab, project, names, images)
    finally:
        if not keep:
            lab.down()


def _build(lab: Lab, builder: str, versions: int) -> list[str]:
    """Build and push; gives the references."""
    script = textwrap.dedent(
        """
        set -eu
        name=$1
        shift
        mkdir -p /srv/build
        cd /srv/build
        cat >server.py <<'SERVER'
        {server}
        SERVER
        cat >Dockerfile <<'DOCKERFILE'
        {dockerfile}
        DOCKERFILE
        for version in "$@"; do
            docker buildx build -q --provenance=false --build-arg VERSION=$version --push -t $name:$version .
        done
        """
    ).format(server=SERVER, dockerfile=DOCKERFILE)
    name = f"{lab.registry}/{REPOSITORY}"
    made = lab.ssh(builder, ["date", "+%s"]).stdout.strip()
    tags = [f"{made}-{number}" for number in range(versions)]
    lab.ssh(builder, ["sh", "-c", f"exec sh -s {shlex.join([name, *tags])}"], stdin=script, timeout=1200)
    return [f"{name}:{tag}" for tag in tags]
