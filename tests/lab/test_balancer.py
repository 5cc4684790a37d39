"""The balancer on practice hosts: one stands before two, and no request through it fails while releases and
its own Traefik change."""

from __future__ import annotations

import http.client
import socket
import ssl
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from tests.lab.project import PYTHON, Project
from tests.lab.test_proxy import ECHO, _certificate, service
from tests.load.changes import observed
from tests.load.generator import HOST, Load
from tests.load.ground import COMPOSE, Ground, under_load

from longshore.lab import Lab
from longshore.render.proxy import IDLE

pytestmark = pytest.mark.lab

WEB, LB = ("h1", "h2"), "h3"
SECURE = "secure.test"


def inventory(project: Project, services: str) -> None:
    """The app on two hosts, and a balancer on the third."""
    where = {host: f"{{ansible_host: {address}}}" for host, address in project.lab.addresses.items()}
    check = f"{{name: front, url: 'http://{project.lab.addresses[LB]}/check', headers: {{Host: {HOST}}}"
    project.write(
        "inventory/try.yml",
        f"""\
all:
  vars:
{project.connection}
    longshore:
      registries: {{docker.io: {{mirror: 'http://{project.lab.registry}', insecure: true}}}}
      proxy: {{grace: 4s}}
      balancer: {{hosts: lb, interval: 500ms, timeout: 1s}}
      apps:
        shop:
          hosts: web
          compose: compose.yml
          services: {{{services}}}
          smoke: [{check}, contains: works, retries: 1}}]
  children:
    web: {{hosts: {{{", ".join(f"{host}: {where[host]}" for host in WEB)}}}}}
    lb: {{hosts: {{{LB}: {where[LB]}}}}}
""",
    )


@pytest.fixture
def ground(tmp_path: Path, lab: Lab, stand_ins: Callable[..., None], clean_hosts: None) -> Ground:
    """The project, not deployed, and requests that go to the balancer alone."""
    stand_ins(PYTHON, "traefik:v3")
    project = Project(tmp_path, lab)
    project.write("server.py", (Path(__file__).parents[1] / "load/server.py").read_text())
    project.write("echo.py", ECHO)
    load = Load([(lab.addresses[LB], 80)], rate=30, slow=2.0)
    load.late = 25.0
    return Ground(project, WEB, load)


def hosts_up(project: Project) -> dict[str, bool]:
    """Which hosts get the requests of ``web``, by the balancer's own word."""
    routes = project.run("balancer", "--env", "try", "--json").json()[-1]["value"]["balancer"][LB]["routes"]
    web = next(route for route in routes if route["service"] == "web")
    return {server["container"]: server["up"] for server in web["servers"]}


def ask(
    lab: Lab,
    path: str = "/",
    *,
    host: str = HOST,
    ca: Path | None = None,
    headers: dict[str, str] | None = None,
) -> tuple[int, dict[str, str], bytes]:
    """A request to the balancer: status, headers (small letters), body."""
    address = lab.addresses[LB]
    connection = http.client.HTTPConnection(address, 80, timeout=30)
    if ca is not None:
        context = ssl.create_default_context(cafile=ca)
        connection = http.client.HTTPSConnection(host, 443, timeout=30, context=context)
        # The name is the certificate's, the address the practice host's.
        there = lambda *_: socket.create_connection((address, 443))  # noqa: E731
        connection._create_connection = there  # type: ignore[attr-defined]
    try:
        connection.request("GET", path, headers={"Host": host, **(headers or {})})
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def test_no_request_fails_at_the_balancer_while_releases_and_its_own_traefik_change_or_when_a_host_is_dead(
    ground: Ground,
) -> None:
    project, lab = ground.project, ground.project.lab
    _certificate(project.root / "env/tls", SECURE)
    tls = "tls: {certificate: env/tls/own.pem, key: env/tls/own.key}, hsts: 1d, sticky: true, drain: 4s"
    inventory(
        project,
        f"web: {{proxy: {{port: 8000, hosts: {HOST}, health: /health, drain: 4s}}}},"
        f" echo: {{proxy: {{port: 8000, hosts: {SECURE}, health: /, users: 'ada:{{SHA}}x', {tls}}}}}",
    )
    whole = COMPOSE + service("echo")
    project.write("compose.yml", whole)
    first = ground.deploy("r0")
    assert first.code == 0, first.all
    assert f"balancer {LB}: web of shop: answers (Host(`{HOST}`)), by h1 and h2" in first.out
    assert project.run("plan", "--env", "try").code == 0
    _https(project, project.root / "env/tls/own.pem")
    _closed_and_held(project)
    with under_load(ground) as load:
        rows = [
            observed(ground, "good", 0, "r1", partial(ground.deploy, "r1")),
            observed(ground, "dies", 1, "r1", partial(ground.deploy, "r2", EXIT_AT_ONCE="1")),
        ]
        # From here on it can't run twice: each host is out while it is replaced there.
        writes = whole.replace('["./server', '["data:/data", "./server')
        project.write("compose.yml", writes + "\nvolumes: {data: }\n")
        rows.append(observed(ground, "in place", 0, "r3", partial(ground.deploy, "r3")))
        assert not [row.wrong for row in rows if row.wrong], (rows, load.failures())
        load.cuts = False
        restart = partial(project.run, "proxy.restart", "--env", "try", "--limit", "lb")
        row = observed(ground, "the balancer's own Traefik", 0, "r3", restart)
        assert not row.wrong, (row.wrong, load.failures())
        assert not load.failures(), load.failures()
    # A host that dies: whoever comes then finds the other one; but not along a connection that was used a
    # moment ago, of which nobody tells the balancer that it is dead, too (docs/balancer.md).
    time.sleep(IDLE + 1)
    lab.stop("h2")
    for _ in range(20):
        assert ask(lab)[0] == 200
    gone = time.monotonic()
    while hosts_up(project) != {"h1": True, "h2": False}:
        assert time.monotonic() < gone + 10, "the balancer doesn't notice it"
    lab.stop(LB)
    refused = ground.deploy("r4")
    assert refused.code == 1
    assert (
        "nothing was changed on any host of an app: the balancer can't be brought up to date" in refused.err
    )
    assert f"leave the balancer as it is with --limit 'all:!{LB}'" in refused.err


def _https(project: Project, ca: Path) -> None:
    """HTTPS ends at the balancer: its certificate, and the way there from plain HTTP."""
    status, headers, _ = ask(project.lab, "/x?y=1", host=SECURE)
    assert (status, headers["location"]) == (301, f"https://{SECURE}/x?y=1")
    # The balancer's own question is not turned away by the password that everybody else is asked for.
    status, headers, _ = ask(project.lab, host=SECURE, ca=ca)
    assert (status, headers["strict-transport-security"]) == (401, "max-age=86400")
    assert "Secure" in headers["set-cookie"]


def _closed_and_held(project: Project) -> None:
    """Maintenance and a pause are the hosts' answer, and no reason to take them out."""
    assert project.run("maintenance", "on", "--env", "try").code == 0
    time.sleep(1.5)
    status, headers, body = ask(project.lab)
    assert (status, headers["retry-after"], b"<html" in body) == (503, "300", True)
    assert hosts_up(project) == {"h1": True, "h2": True}
    # Nobody comes past it by asking as the balancer does.
    name = {"X-Longshore-Check": "shop:web"}
    assert project.run("maintenance", "off", "--env", "try").code == 0
    assert ask(project.lab, "/.longshore/check/shop/web", headers=name)[0] == 403
