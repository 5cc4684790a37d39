"""Certificates that are ordered, on practice hosts, from an authority that looks whether all is true."""

from __future__ import annotations

import json
import signal
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.lab.acme import PASSWORD, USER, Authority, authority
from tests.lab.conftest import clean
from tests.lab.project import PYTHON, Done, Project
from tests.lab.test_proxy import ECHO, _ask, _htpasswd, _until, service

from longshore.lab import Lab

pytestmark = pytest.mark.lab


@dataclass
class Ground:
    """A project whose certificates come from ``ca``, for host ``h1``."""

    project: Project
    ca: Authority

    def deploy(self, routes: str, *, acme: str = "", proxy: str = "grace: 1s", version: str = "one") -> Done:
        """Deploy the echo server with these settings of its ``proxy:``, of ``acme:`` and of the host's."""
        project = self.project
        project.write("compose.yml", "services:" + service("web").replace("NAME: web", f"NAME: {version}"))
        policy = f"{{port: 8000, tls: {{acme: true}}, {routes}}}"
        project.inventory("h1", app=f"stability: 500ms\nservices: {{web: {{proxy: {policy}}}}}")
        said = f"email: ops@shop.test, server: '{self.ca.directory}', ca: env/tls/acme.pem{acme}"
        file = project.root / "inventory/try.yml"
        host = f"longshore:\n      proxy: {{{proxy}, acme: {{{said}}}}}"
        file.write_text(file.read_text().replace("longshore:", host, 1))
        return project.deploy()

    def until(self, name: str) -> float | None:
        """When the certificate that is served for a name ends, where it is by this authority."""
        try:
            served = _served(self.project.lab.addresses["h1"], name, self.ca.root)
        except ssl.SSLCertVerificationError:
            return None
        return ssl.cert_time_to_seconds(served)

    def serves(self, *names: str) -> bool:
        """Whether all of these names have a certificate."""
        return all(self.until(name) is not None for name in names)


def _served(address: str, name: str, root: Path) -> str:
    import socket

    context = ssl.create_default_context(cafile=str(root))
    with (
        socket.create_connection((address, 443), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=name) as secure,
    ):
        found = secure.getpeercert()
        assert found is not None
        return str(found["notAfter"])


@pytest.fixture(scope="module")
def ca(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Authority]:
    with authority(lab, tmp_path_factory.mktemp("acme"), "h1") as made:
        yield made


@pytest.fixture
def ground(tmp_path: Path, lab: Lab, ca: Authority, stand_ins: Callable[..., None]) -> Ground:
    stand_ins(PYTHON, "traefik:v3")
    clean(lab, "h1")
    project = Project(tmp_path, lab)
    project.write("echo.py", ECHO)
    project.write("env/tls/acme.pem", ca.ca.read_text())
    return Ground(project, ca)


def test_a_certificate_is_ordered_once_and_stays_through_releases_another_proxy_and_a_reboot(
    ground: Ground, lab: Lab
) -> None:
    before = ground.ca.issued()
    names = ("shop.test", "www.shop.test")
    done = ground.deploy("hosts: [shop.test, www.shop.test], hsts: 1d")
    assert done.code == 0, done.all
    assert "is not read" not in done.all
    assert ground.serves(*names), "after the deploy it is there"
    assert ground.ca.issued() == before + 2
    status, headers, _ = _ask(lab, host="shop.test")
    assert (status, headers["location"]) == (301, "https://shop.test/")
    _, headers, body = _ask(lab, host="shop.test", ca=ground.ca.root)
    assert (headers["strict-transport-security"], json.loads(body)["name"]) == ("max-age=86400", "one")
    modes = lab.ssh(
        "h1", ["sh", "-c", "stat -c %a /var/lib/longshore/_proxy/acme /var/lib/longshore/_proxy/acme/*"]
    )
    assert modes.stdout.split() == ["700", "600"]
    # Another release and, because of the host's settings, another proxy; one more by hand; a reboot.
    done = ground.deploy("hosts: [shop.test, www.shop.test]", proxy="grace: 2s", version="two")
    assert done.code == 0, done.all
    assert ground.project.run("proxy.restart", "--env", "try").code == 0
    lab.stop("h1")
    lab.start("h1")

    def back() -> bool:
        try:
            return ground.serves(*names)
        except OSError:
            return False

    _until(back)
    assert json.loads(_ask(lab, host="www.shop.test", ca=ground.ca.root)[2])["name"] == "two"
    assert ground.ca.issued() == before + 2, "an authority has limits: none was ordered again"
    # A stranger's proxy goes, and nothing of those before it is left.
    left = lab.ssh(
        "h1", ["sh", "-c", "docker ps -a --format {{.Names}}; ls /var/lib/longshore/_proxy"]
    ).stdout
    assert len({name for name in left.split() if name.startswith("longshore-proxy")}) == 1
    found = ground.project.run("proxy.status", "--env", "try")
    assert found.code == 0
    assert "https until 2" in found.out


def test_the_challenge_comes_through_what_keeps_others_out(ground: Ground, lab: Lab) -> None:
    closed = f"allow: 203.0.113.0/24, users: ['{_htpasswd('ada', 'x')}'], rate: {{average: 1, period: 1h}}"
    done = ground.deploy(f"hosts: allow.test, {closed}")
    assert done.code == 0, done.all
    assert ground.serves("allow.test")
    assert _ask(lab, host="allow.test", ca=ground.ca.root)[0] == 403
    assert ground.project.run("maintenance", "on", "--env", "try").code == 0
    done = ground.deploy("hosts: closed.test")
    assert done.code == 0, done.all
    assert ground.serves("closed.test")
    assert _ask(lab, host="closed.test", ca=ground.ca.root)[0] == 503
    assert ground.project.run("maintenance", "off", "--env", "try").code == 0
    # Held back are the app's requests, not the authority's.
    assert ground.project.run("pause", "--env", "try", "--for", "10s").code == 0
    began = time.monotonic()
    assert _ask(lab, "/.well-known/acme-challenge/x", host="closed.test")[0] == 404
    assert time.monotonic() - began < 5
    assert ground.project.run("resume", "--env", "try").code == 0


def test_without_a_certificate_the_deploy_ends_and_says_why_and_serves_and_it_comes_when_it_can(
    ground: Ground, lab: Lab
) -> None:
    ground.ca.points("astray.test", ground.ca.address)
    began = time.monotonic()
    done = ground.deploy("hosts: [shop.test, astray.test]")
    assert done.code == 0, done.all
    assert time.monotonic() - began < 45
    assert "there is no certificate for astray.test: " in done.err + done.out
    assert "connection refused" in done.all.lower() or "urn:ietf:params:acme:error" in done.all
    assert "`proxy.restart` orders it again" in done.all
    assert ground.serves("shop.test"), "one name costs the others nothing"
    assert not ground.serves("astray.test")
    assert "there is no certificate for astray.test" in ground.project.run("status", "--env", "try").out
    status = ground.project.run("proxy.status", "--env", "try")
    assert (status.code, "there is no certificate for astray.test: " in status.out) == (1, True)
    assert ground.project.run("plan", "--env", "try").code == 0
    # It points here now.
    ground.ca.points("astray.test", lab.addresses["h1"])
    assert ground.project.run("proxy.restart", "--env", "try").code == 0
    _until(lambda: ground.serves("astray.test"))
    assert ground.project.run("proxy.status", "--env", "try").code == 0
    # A server that takes the connection and says nothing.
    ground.ca.processes["pebble"].send_signal(signal.SIGSTOP)
    try:
        began = time.monotonic()
        done = ground.deploy("hosts: [shop.test, late.test]")
        assert done.code == 0, done.all
        assert time.monotonic() - began < 45
        assert "there is no certificate for late.test yet: it is being ordered" in done.all
    finally:
        ground.ca.processes["pebble"].send_signal(signal.SIGCONT)
    _until(lambda: ground.serves("late.test"))


def test_a_name_with_a_star_is_proved_by_dns_and_renewed_and_the_providers_password_is_told_nobody(
    ground: Ground, lab: Lab
) -> None:
    ca = ground.ca
    env = f"{{HTTPREQ_ENDPOINT: '{ca.provider}', HTTPREQ_USERNAME: {USER}, HTTPREQ_PASSWORD: {PASSWORD}}}"
    acme = f", challenge: dns, provider: httpreq, resolvers: '{ca.address}:8053', wait: 100ms, env: {env}"
    done = ground.deploy("hosts: ['*.shop.test', shop.test, www.shop.test]", acme=acme)
    assert done.code == 0, done.all
    assert ground.serves("shop.test", "www.shop.test", "any.shop.test")
    assert {one["fqdn"] for one in ca.told} == {"_acme-challenge.shop.test."}
    plan = ground.project.run("plan", "--env", "try", "--diff", "--set", "longshore.proxy.grace=3s")
    logs = ground.project.run("proxy.logs", "--env", "try")
    for text in (done.all, plan.all, logs.all, lab.ssh("h1", ["ps", "axww", "-o", "args"]).stdout):
        assert PASSWORD not in text
    open_to_others = ["grep", "-rl", PASSWORD, "/var/lib/longshore", "/tmp", "/etc", "/run/longshore"]
    for file in lab.ssh("h1", open_to_others, check=False).stdout.split():
        assert lab.ssh("h1", ["stat", "-c", "%a", file]).stdout.strip() == "600", file
    # A certificate of 90 days is renewed where they are said to be valid for a year: 4 months before the end.
    first = ground.until("shop.test")
    done = ground.deploy("hosts: ['*.shop.test', shop.test, www.shop.test]", acme=f"{acme}, lifetime: 365d")
    assert done.code == 0, done.all
    _until(lambda: (ground.until("shop.test") or 0) > (first or 0))
