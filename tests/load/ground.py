"""What is under load: two practice hosts, two replicas on each behind the host's proxy."""

from __future__ import annotations

import contextlib
import gc
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.lab.project import PYTHON, Done, Project
from tests.load.generator import HOST, Load

from longshore.lab import Lab

COMPOSE = f"""
services:
  web:
    image: {PYTHON}
    init: true
    command: ["python3", "-u", "/srv/server.py"]
    environment:
      RELEASE: "${{RELEASE}}"
      EXIT_AT_ONCE: "${{EXIT_AT_ONCE:-}}"
      BROKEN_LATER: "${{BROKEN_LATER:-}}"
      FAIL_EVERY: "${{FAIL_EVERY:-}}"
      SLOWER: "${{SLOWER:-}}"
    volumes: ["./server.py:/srv/server.py:ro"]
    healthcheck:
      test: ["CMD", "python3", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/health')"]
      interval: 30s
      timeout: 5s
      start_period: 30s
      start_interval: 500ms
"""


def settings(addresses: list[str], more: str = "", *, drain: float = 8.0) -> str:
    """The app's lines of the inventory. ``more``: further settings of the service's ``proxy``."""
    checks = "\n".join(
        f"  - {{name: {name}, url: 'http://{address}/check', headers: {{Host: {HOST}}}, contains: works,"
        " retries: 1}"
        for name, address in enumerate_names(addresses)
    )
    return f"""
services:
  web: {{replicas: 2, proxy: {{port: 8000, hosts: [{HOST}], drain: {drain:g}s{more}}}}}
smoke:
{checks}
"""


def enumerate_names(addresses: list[str]) -> list[tuple[str, str]]:
    """``check 1``, ``check 2`` … with their addresses."""
    return [(f"check {number}", address) for number, address in enumerate(addresses, 1)]


@dataclass
class Ground:
    """``project`` on ``hosts``; ``load`` runs against their proxies."""

    project: Project
    hosts: tuple[str, ...]
    load: Load

    @property
    def addresses(self) -> list[str]:
        return [self.project.lab.addresses[host] for host in self.hosts]

    def deploy(self, release: str, *words: str, **variables: str) -> Done:
        """Deploy a release with these variables, and these options of ``deploy``."""
        return self.project.deploy(*words, RELEASE=release, **variables)


def prepare(
    root: Path, lab: Lab, hosts: tuple[str, ...], *, rate: float, slow: float = 6.0, grace: float = 10.0
) -> Ground:
    """Write the project; nothing is deployed yet. ``slow``: what a slow request takes (s). ``grace``: the
    proxy's (s), which it waits for the WebSocket when it is replaced."""
    project = Project(root, lab)
    addresses = [lab.addresses[host] for host in hosts]
    project.inventory(*hosts, app=settings(addresses, drain=slow + 2))
    of_the_proxy(project, f"grace: {grace:g}s")
    project.write("compose.yml", COMPOSE)
    project.write("server.py", (Path(__file__).parent / "server.py").read_text())
    load = Load([(address, 80) for address in addresses], rate=rate, slow=slow)
    return Ground(project, hosts, load)


def of_the_proxy(project: Project, settings: str) -> None:
    """Say these settings of the host's proxy in the inventory that was written last."""
    file = project.root / "inventory/try.yml"
    file.write_text(file.read_text().replace("longshore:", f"longshore:\n      proxy: {{{settings}}}", 1))


@contextmanager
def under_load(ground: Ground) -> Iterator[Load]:
    """Requests go on while the body runs, in a thread of their own; at the end all are counted."""
    import asyncio

    def send() -> None:
        # Users have machines of their own: the hosts' time is measured, not the wait for this one's CPU.
        with contextlib.suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), -10)
        asyncio.run(ground.load.run())

    thread = threading.Thread(target=send, daemon=True)
    # With 100,000 outcomes a look for garbage takes a tenth of a second, in which nobody is asked anything.
    gc.disable()
    thread.start()
    try:
        time.sleep(1)
        yield ground.load
    finally:
        ground.load.stopping = True
        thread.join(60)
        gc.enable()
