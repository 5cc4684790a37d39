"""Behind a load balancer that isn't ours: a host that has a gap is out of it first, and no request fails."""

from __future__ import annotations

import http.client
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.lab.conftest import clean
from tests.lab.project import PYTHON, Project
from tests.load.generator import HOST, Load
from tests.load.ground import COMPOSE, Ground, enumerate_names, under_load

from longshore.lab import Lab

pytestmark = pytest.mark.lab

WEB, BALANCER = ("h1", "h2"), "h3"
HOOKS = ("before_switch", "after_switch", "on_rollback")


def _balancer(addresses: list[str]) -> tuple[str, str]:
    """A Traefik as anybody would write it: its settings, and its routes."""
    servers = "".join(f"\n        - url: http://{address}" for address in addresses)
    routes = f"""
http:
  routers:
    all: {{rule: "PathPrefix(`/`)", service: shop}}
  services:
    shop:
      loadBalancer:
        healthCheck: {{path: /health, hostname: {HOST}, interval: 200ms, timeout: 1s}}
        servers:{servers}
"""
    static = """
entryPoints: {web: {address: ":80", transport: {respondingTimeouts: {readTimeout: 0s}}}}
providers: {file: {filename: /etc/traefik/routes.yml}}
"""
    return static, routes


class Watch(threading.Thread):
    """Asks both hosts what the balancer asks them, and keeps who was out, and whether both were."""

    def __init__(self, addresses: dict[str, str]) -> None:
        super().__init__(daemon=True)
        self.addresses = addresses
        self.now: dict[str, int] = {}
        self.out: set[str] = set()
        self.both = False
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.05):
            self.now = {host: _health(address) for host, address in self.addresses.items()}
            out = {host for host, status in self.now.items() if status != 200}
            self.out |= out
            self.both = self.both or out == self.addresses.keys()

    def until(self, host: str, status: int, seconds: float) -> None:
        """Wait until a host answers so."""
        until = time.monotonic() + seconds
        while self.now.get(host) != status:
            assert time.monotonic() < until, f"{host} answers {self.now} after {seconds:g} s"
            time.sleep(0.02)


def _health(address: str) -> int:
    connection = http.client.HTTPConnection(address, 80, timeout=5)
    try:
        connection.request("GET", "/health", headers={"Host": HOST})
        return connection.getresponse().status
    except OSError:
        return 0
    finally:
        connection.close()


@pytest.fixture
def ground(tmp_path: Path, lab: Lab, stand_ins: Callable[..., None], clean_hosts: None) -> Iterator[Ground]:
    """A service that can't run twice, on two hosts; the load goes to the balancer on the third."""
    stand_ins(PYTHON, "traefik:v3")
    project = Project(tmp_path, lab)
    places = [lab.addresses[host] for host in WEB]
    checks = "".join(
        f"\n  - {{name: {name}, url: 'http://{address}/check', headers: {{Host: {HOST}}}, contains: works,"
        " retries: 1}"
        for name, address in enumerate_names(places)
    )
    project.inventory(
        *WEB,
        app=f"""
balanced: {{wait: 800ms}}
services:
  web: {{overlap: false, proxy: {{port: 8000, hosts: [{HOST}], health: /health, drain: 1500ms}}}}
smoke:{checks}
""",
    )
    project.write("compose.yml", COMPOSE)
    project.write("server.py", (Path(__file__).parents[1] / "load/server.py").read_text())
    for name in HOOKS:
        told = 'echo "$LONGSHORE_STEP $LONGSHORE_HOST of $LONGSHORE_HOSTS" >>hooks.log\n'
        project.write(f"hooks/{name}", f"#!/bin/sh\n{told}").chmod(0o755)
    load = Load([(lab.addresses[BALANCER], 80)], rate=40, slow=0.5, late=25.0)
    made = Ground(project, WEB, load)
    first = made.deploy("r0")
    assert first.code == 0, first.all
    _hooks_of(made)
    static, routes = _balancer(places)
    image = f"{lab.registry}/library/traefik:v3"
    lab.ssh(BALANCER, ["mkdir", "-p", "/srv/lb"])
    for name, text in (("traefik.yml", static), ("routes.yml", routes)):
        lab.ssh(BALANCER, ["sh", "-c", f"cat >/srv/lb/{name}"], stdin=text.encode())
    run = f"docker run -d --name lb --network host -v /srv/lb:/etc/traefik:ro {image}"
    lab.ssh(BALANCER, ["sh", "-c", run])
    until = time.monotonic() + 20
    while _health(lab.addresses[BALANCER]) != 200:
        assert time.monotonic() < until
        time.sleep(0.1)
    yield made
    clean(lab, BALANCER)


def test_no_request_fails_while_a_service_is_replaced_in_place_host_by_host(ground: Ground) -> None:
    watch = Watch({host: ground.project.lab.addresses[host] for host in WEB})
    watch.start()
    with under_load(ground) as load:
        good = ground.deploy("r1")
        assert good.code == 0, good.all
        assert "batch 2 of 2: h2" in good.out, good.all
        one_by_one = [f"{hook} {host} of h1 h2" for host in WEB for hook in HOOKS[:2]]
        assert _hooks_of(ground) == one_by_one
        dies = ground.deploy("r2", EXIT_AT_ONCE="1")
        assert dies.code == 1, dies.all
        assert _hooks_of(ground) == ["before_switch h1 of h1 h2", "on_rollback h1 of h1 h2"]
        broken = ground.deploy("r3", BROKEN_LATER="1")
        assert broken.code == 1, broken.all
        back = ground.project.run("rollback", "--env", "try")
        assert back.code == 0, back.all
        _killed_while_out(ground, watch)
    watch.over.set()
    assert not load.failures(), load.failures()
    assert watch.out == set(WEB)
    assert not watch.both
    assert set(load.answered_by(0)) >= {"r0", "r1"}


def _hooks_of(ground: Ground) -> list[str]:
    """What the hooks on the controller have written since the last time."""
    log = ground.project.root / "hooks.log"
    lines = log.read_text().splitlines()
    log.write_text("")
    return lines


def _killed_while_out(ground: Ground, watch: Watch) -> None:
    """The controller is killed while a host is out: the host comes back in, with what it had."""
    (ground.project.root / "env/try.env").write_text("RELEASE=r4\n")
    command = [sys.executable, "-c", "from longshore.tasks import main; main()", "deploy", "--env", "try"]
    deploy = subprocess.Popen(
        command, cwd=ground.project.root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    watch.until("h1", 503, 30)
    deploy.send_signal(signal.SIGKILL)
    deploy.wait()
    watch.until("h1", 200, 30)
    again = ground.project.run("status", "--env", "try")
    assert "out of the load balancer" not in again.out, again.all
