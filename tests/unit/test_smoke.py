"""What a smoke check looks at, against servers on the loopback; and what the inventory takes as one."""

from __future__ import annotations

import contextlib
import datetime
import http.server
import ipaddress
import json
import ssl
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tests.unit.inventory_project import SHOP, loaded, problems

from longshore.agent.probe import address, probe
from longshore.inventory.model import SmokeCheck
from longshore.verify import SmokeResult, distinct, run_checks


class _Server(http.server.BaseHTTPRequestHandler):
    tries = 0

    def do_GET(self) -> None:
        size = int(self.headers.get("Content-Length") or 0)
        body = {
            "method": self.command,
            "body": self.rfile.read(size).decode(),
            "key": self.headers.get("X-Key"),
            "items": [{"id": 7}],
            "good": True,
            "version": "version 3.1",
        }
        type(self).tries += 1
        if self.path == "/slow":
            time.sleep(0.25)
        if self.path == "/dribble":
            self.send_response(200)
            self.end_headers()
            with contextlib.suppress(OSError):
                for _ in range(40):
                    self.wfile.write(b"x")
                    self.wfile.flush()
                    time.sleep(0.05)
            return
        if self.path == "/garbage":
            self.wfile.write(b"this is no HTTP\r\n\r\n")
            return
        self.send_response(503 if self.path == "/second" and type(self).tries < 2 else 200)
        self.send_header("Content-Type", "application/json; charset=utf-8")
        self.send_header("Strict-Transport-Security", "max-age=31536000")
        self.end_headers()
        with contextlib.suppress(BrokenPipeError):  # who asked may have given up
            self.wfile.write(json.dumps(body).encode())

    do_POST = do_PUT = do_GET  # noqa: N815 - the names are http.server's

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    handler = type("Server", (_Server,), {"tries": 0})
    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=made.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{made.server_port}"
    made.shutdown()
    made.server_close()


def _why(url: str = "", **settings: Any) -> str:
    """Why a check failed; empty when it passed."""
    check = SmokeCheck("check", url=url or None, **{"retries": 0, **settings})
    [result] = run_checks([check])
    assert result.ok == (not result.why)
    return result.why


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({}, ""),
        ({"answer_headers": {"content-type": "application/JSON", "Strict-Transport-Security": ""}}, ""),
        ({"answer_headers": {"X-Frame-Options": ""}}, "the answer has no header X-Frame-Options"),
        ({"answer_headers": {"Content-Type": "text/html"}}, "without 'text/html'"),
        ({"matches": r"version \d+\.\d+"}, ""),
        ({"matches": r"version 4"}, "doesn't match 'version 4'"),
        ({"json": {"items.0.id": 7, "good": True}}, ""),
        ({"json": {"good": 1}}, "good is True, not 1"),
        ({"json": {"items.1.id": 7}}, "items.1.id is None, not 7"),
        ({"headers": {"X-Key": "k"}, "json": {"key": "k", "method": "GET"}}, ""),
        ({"body": "ping", "json": {"body": "ping", "method": "POST"}}, ""),
        ({"body": "ping", "method": "PUT", "json": {"method": "PUT"}}, ""),
        ({"status": 404}, "answered 200, not 404"),
    ],
)
def test_what_an_answer_must_be(server: str, settings: dict[str, Any], why: str) -> None:
    found = _why(f"{server}/", **settings)
    assert why in found
    assert bool(why) == bool(found)


def test_an_answer_that_takes_too_long_fails_by_its_latency(server: str) -> None:
    assert "not in 100 ms" in _why(f"{server}/slow", latency=0.1)
    assert _why(f"{server}/slow", latency=5) == ""


def test_a_server_that_only_dribbles_does_not_outlast_the_try(server: str) -> None:
    began = time.monotonic()
    assert _why(f"{server}/dribble", timeout=0.3) == "no answer within 0.3 s"
    assert time.monotonic() - began < 1.5


def test_an_answer_that_is_no_http_is_a_sentence(server: str) -> None:
    assert "this is no HTTP" in _why(f"{server}/garbage")


def test_it_is_tried_again_until_it_is_good_and_no_longer_than_its_deadline(server: str) -> None:
    [result] = run_checks([SmokeCheck("second", url=f"{server}/second", retries=3)])
    assert (result.ok, result.tries) == (True, 2)
    began = time.monotonic()
    [result] = run_checks([SmokeCheck("never", url=f"{server}/", status=404, retries=100, deadline=0.3)])
    assert time.monotonic() - began < 2
    assert not result.ok


def test_a_command_is_run_in_the_project_without_a_shell_and_judged_by_its_code_and_output(
    tmp_path: Path,
) -> None:
    def command(*words: str, **settings: Any) -> str:
        return _why(command=words, root=tmp_path, **settings)

    assert command("pwd", contains=str(tmp_path)) == ""
    assert command("echo", "$HOME; ls", contains="$HOME; ls") == ""
    assert command("echo", '{"a": [1]}', json={"a.0": 1}) == ""
    assert "the answer has no 'bye'" in command("echo", "hello", contains="bye")
    code = "import sys; print('no quorum'); sys.exit(3)"
    assert "exited with code 3: no quorum" in command(sys.executable, "-c", code)
    assert "no-such can't be run: No such file" in command("no-such")
    began = time.monotonic()
    assert "sleep took longer than 0.2 s and was killed" in command("sleep", "30", timeout=0.2)
    assert time.monotonic() - began < 3


def test_all_that_a_command_prints_is_looked_at(tmp_path: Path) -> None:
    def prints(code: str, **settings: Any) -> str:
        return _why(command=(sys.executable, "-c", code), root=tmp_path, **settings)

    pretty = "import json; print(json.dumps({'all': [*range(500)], 'end': 'ok'}, indent=1))"
    assert prints(pretty, json={"end": "ok", "all.0": 0}) == ""
    assert prints(pretty.replace(", indent=1", ", indent=None") + ";print()", json={"end": "ok"}) == ""
    wide = "import json; print(json.dumps({'all': 'x' * 9000, 'end': 'ok'}))"
    assert prints(wide, json={"end": "ok"}) == ""
    assert prints("print('first'); print('more\\n' * 200)", contains="first", matches="^first$") == ""


def _certificate(folder: Path, days: float) -> Path:
    """A certificate of its own for 127.0.0.1, with its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.timezone.utc)
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=30))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(names, critical=False)
        .sign(key, hashes.SHA256())
    )
    path = folder / "server.pem"
    none = serialization.NoEncryption()
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, none)
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM) + private)
    return path


@pytest.mark.parametrize(
    ("valid", "days", "why"),
    [(40, 14, ""), (5, 14, "in 4 days; 14 are wanted"), (5, 3, ""), (-1, 14, "certificate has expired")],
)
def test_a_certificate_must_be_valid_for_so_many_days_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, valid: float, days: int, why: str
) -> None:
    path = _certificate(tmp_path, valid)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Server)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    place = f"127.0.0.1:{server.server_port}"
    try:
        assert "certificate is not good" in _why(tls=place)  # nobody here trusts it
        monkeypatch.setenv("SSL_CERT_FILE", str(path))
        found = _why(tls=place, days=days)
        assert why in found
        assert bool(why) == bool(found)
        assert bool(_why(f"https://{place}/")) == (valid < 0)
    finally:
        server.shutdown()
        server.server_close()


def test_a_probe_asks_where_the_port_is_published_and_else_at_the_containers_address() -> None:
    def settings(ports: Any, networks: Any = None, mode: str = "shop_default") -> dict[str, Any]:
        return {
            "NetworkSettings": {"Ports": ports, "Networks": networks or {}},
            "HostConfig": {"NetworkMode": mode},
        }

    own = {"shop_default": {"IPAddress": "172.18.0.2"}}
    everywhere = [{"HostIp": "::", "HostPort": "8080"}, {"HostIp": "0.0.0.0", "HostPort": "8080"}]
    assert address(settings({"8000/tcp": everywhere}, own), 8000) == ("127.0.0.1", 8080)
    assert address(settings({"8000/tcp": [{"HostIp": "::", "HostPort": "81"}]}, own), 8000) == ("::1", 81)
    one = [{"HostIp": "10.0.0.5", "HostPort": "8080"}]
    assert address(settings({"8000/tcp": one}, own), 8000) == ("10.0.0.5", 8080)
    assert address(settings({"8000/tcp": None}, own), 8000) == ("172.18.0.2", 8000)
    assert address(settings({}, {}, mode="host"), 8000) == ("127.0.0.1", 8000)
    assert probe(settings({}, {}, mode="none"), {"port": 8000, "path": "/", "status": 200, "timeout": 1}) == (
        "port 8000",
        "the container has no address and publishes nothing",
    )


def test_a_probe_asks_until_the_right_status_comes_or_the_time_is_over(server: str) -> None:
    port = int(server.rpartition(":")[2])
    full = {"NetworkSettings": {"Ports": {"8000/tcp": [{"HostIp": "0.0.0.0", "HostPort": str(port)}]}}}
    wanted = {"port": 8000, "path": "/second", "status": 200, "timeout": 3}
    assert probe(full, wanted) == (f"{server}/second", "")
    began = time.monotonic()
    _, why = probe(full, {**wanted, "status": 204, "timeout": 0.3})
    assert why.startswith("answered 200, not 204: {")
    assert time.monotonic() - began < 1.5
    _, why = probe(full, {**wanted, "path": "/slow", "timeout": 0.1})
    assert "no answer within 0.1 s" in why


def _app(checks: str) -> dict[str, str]:
    settings = f"""
    longshore:
      apps:
        shop:
          url: https://shop.example.org
          smoke: {checks}
    """
    return {"inventory/prod.yml": SHOP, "inventory/prod/group_vars/all.yml": settings}


def test_every_kind_of_check_can_be_said_in_the_inventory(tmp_path: Path) -> None:
    text = """[{url: /x, method: PUT, body: b, headers: {X-Key: k}, answer_headers: {ETag: ""}, latency: 1s,
            matches: 'a+', deadline: 10s}, {tls: "shop.example.org:443", days: 30}, {tcp: "db:5432"},
            {command: [bin/check, "a b"], contains: ok}]"""
    checks = loaded(tmp_path, _app(text)).targets["shop", "h1"].app.smoke
    assert [check.name for check in checks] == ["/x", "shop.example.org:443", "db:5432", "bin/check a b"]
    assert (checks[0].url, checks[0].latency, checks[0].deadline) == ("https://shop.example.org/x", 1.0, 10.0)
    assert (checks[1].days, checks[3].command) == (30, ("bin/check", "a b"))
    assert checks[3].root == tmp_path.resolve()


def test_everything_that_is_wrong_with_checks_is_said_at_once(tmp_path: Path) -> None:
    wrong = """[{url: /x, matches: "["}, {url: /x, headers: {"a b": c}}, {url: /x, header: {}},
             {url: /x, latency: fast}]"""
    found = "\n".join(problems(tmp_path, _app(wrong)))
    for sentence in (
        "'[' is not a regular expression",
        "'a b' is not the name of an HTTP header",
        "has no setting 'header'. Did you mean headers",
        "latency: 'fast' is not a duration",
    ):
        assert sentence in found, sentence
    # What only shows when all levels are known.
    wrong = """[{name: nothing}, {tcp: "db:5432", status: 200, contains: x}, {command: "ls", days: 3},
             {url: /x, method: GET, body: b}]"""
    found = "\n".join(problems(tmp_path, _app(wrong)))
    for sentence in (
        "a check needs url, tcp, tls or command",
        "a check of tcp has no status and no contains",
        "a GET request has no body",
        "a check of command has no days",
    ):
        assert sentence in found, sentence


def test_checks_that_say_the_same_are_run_once(server: str) -> None:
    check = SmokeCheck("one", url=f"{server}/")
    results: tuple[SmokeResult, ...] = run_checks([check, replace(check)])
    assert len(results) == 1


def test_checks_of_one_name_are_told_apart_by_their_places() -> None:
    one = SmokeCheck("front page", url="http://h1/health")
    checks = [one, replace(one, url="http://h2/health"), one, SmokeCheck("docs", url="http://h1/docs")]
    assert [check.name for check in distinct(checks)] == [
        "front page http://h1/health",
        "front page http://h2/health",
        "docs",
    ]
