"""The proxy on practice hosts: nothing fails while releases, routes and the proxy itself change, and a route
does what the inventory says."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import re
import ssl
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from tests.lab.project import PYTHON, Done, Project
from tests.load.changes import observed
from tests.load.generator import Load
from tests.load.ground import Ground, of_the_proxy, prepare, settings, under_load

from longshore.lab import Lab

pytestmark = pytest.mark.lab

# Answers with what it was asked: the path, the headers, who it is.
ECHO = """
import http.server, json, os, socket, time


class Echo(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        sick = self.path == "/health" and os.path.exists("/tmp/sick")
        if self.path.endswith("/stream"):
            return self.stream()
        told = {"path": self.path, "me": socket.gethostname(), "headers": dict(self.headers),
                "name": os.environ["NAME"], "body": len(body), "filler": "x" * 4000}
        data = json.dumps(told).encode()
        self.send_response(503 if sick else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def stream(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        for number in range(4):
            self.wfile.write(f"data: {number}\\n\\n".encode())
            self.wfile.flush()
            time.sleep(0.4)

    do_POST = do_HEAD = do_GET

    def log_message(self, *args):
        pass


http.server.ThreadingHTTPServer(("", 8000), Echo).serve_forever()
"""


def service(name: str) -> str:
    """A compose service of the echo server."""
    return f"""
  {name}:
    image: {PYTHON}
    init: true
    command: ["python3", "-u", "/srv/echo.py"]
    environment: {{NAME: {name}}}
    volumes: ["./echo.py:/srv/echo.py:ro"]
"""


@pytest.fixture
def images(stand_ins: Callable[..., None], clean_hosts: None) -> None:
    """What the tests deploy, in the registry; and clean hosts."""
    stand_ins(PYTHON, "traefik:v3")


@pytest.fixture
def ground(tmp_path: Path, lab: Lab, images: None) -> Ground:
    """Two replicas on one host, deployed. A machine that is busy is no failure: requests may be late."""
    made = prepare(tmp_path, lab, ("h1",), rate=40, slow=2.0, grace=4.0)
    made.load.late = 25.0
    first = made.deploy("r0")
    assert first.code == 0, first.all
    return made


def _address(lab: Lab) -> str:
    return lab.addresses["h1"]


def _ask(
    lab: Lab,
    path: str = "/",
    *,
    host: str,
    method: str = "GET",
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
    ca: Path | None = None,
) -> tuple[int, dict[str, str], bytes]:
    """A request to the proxy of ``h1``: status, headers (small letters), body."""
    connection: http.client.HTTPConnection
    if ca is None:
        connection = http.client.HTTPConnection(_address(lab), 80, timeout=30)
    else:
        context = ssl.create_default_context(cafile=str(ca))
        plain = http.client.HTTPSConnection(host, 443, timeout=30, context=context)
        # The name is the certificate's, the address the practice host's.
        plain._create_connection = lambda _, *rest: _connect(_address(lab), *rest)  # type: ignore[attr-defined]
        connection = plain
    try:
        connection.request(method, path, body=body, headers={"Host": host, **(headers or {})})
        answer = connection.getresponse()
        found = {name.lower(): value for name, value in answer.getheaders()}
        return answer.status, found, answer.read()
    finally:
        connection.close()


def _connect(address: str, *rest: Any) -> Any:
    import socket

    return socket.create_connection((address, 443), *rest)


def _no_failure(load: Load) -> None:
    assert not load.failures(), load.failures()


def _proxy(project: Project) -> dict[str, Any]:
    done = project.run("proxy.status", "--env", "try", "--json")
    found: dict[str, Any] = done.json()[-1]["value"]["hosts"]["h1"]
    return found


def _until(what: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.2)


def test_no_request_fails_in_good_and_bad_deploys_a_rollback_and_a_new_proxy(ground: Ground) -> None:
    project = ground.project
    with under_load(ground) as load:
        rows = [
            observed(ground, "good", 0, "r1", partial(ground.deploy, "r1")),
            observed(ground, "dies", 1, "r1", partial(ground.deploy, "r2", EXIT_AT_ONCE="1")),
            observed(ground, "smoke", 1, "r1", partial(ground.deploy, "r3", BROKEN_LATER="1")),
            observed(ground, "rollback", 0, "r0", partial(project.run, "rollback", "--env", "try")),
            observed(ground, "restart", 0, "r0", partial(project.run, "restart", "--env", "try")),
        ]
        assert not [row.wrong for row in rows if row.wrong], (rows, load.failures())
        load.cuts = False
        row = observed(ground, "proxy", 0, "r0", partial(project.run, "proxy.restart", "--env", "try"))
        assert not row.wrong, (row.wrong, load.failures())
        # Other settings of the proxy itself, and another route: a release like any other.
        before = _proxy(project)["proxy"]["container"]
        more = ", response_headers: {X-Route: two}"
        app = settings(ground.addresses, more, drain=4)
        project.inventory("h1", app=app)
        of_the_proxy(project, "grace: 4s, metrics: 9100")
        row = observed(ground, "settings", 0, "r4", partial(ground.deploy, "r4"))
        assert not row.wrong, (row.wrong, load.failures())
        after = _proxy(project)
    _no_failure(load)
    kinds = Counter(one.kind for one in load.outcomes)
    assert set(kinds) == {"new connection", "kept-alive", "post", "slow", "download", "websocket"}
    assert after["proxy"]["container"] != before
    assert [server["up"] for server in after["routes"][0]["servers"]] == [True, True]
    metrics = project.lab.ssh("h1", ["python3", "-c", _FETCH.format(url="http://127.0.0.1:9100/metrics")])
    assert 'traefik_service_requests_total{code="200"' in metrics.stdout
    # One proxy is left, and nothing of those before it.
    names = project.lab.ssh("h1", ["docker", "ps", "-a", "--format", "{{.Names}}"]).stdout.split()
    assert [name for name in names if "proxy" in name] == [after["proxy"]["container"]]
    folders = project.lab.ssh("h1", ["ls", "/var/lib/longshore/_proxy"]).stdout.split()
    assert [name for name in folders if name.startswith("longshore-proxy")] == [after["proxy"]["container"]]


_FETCH = "import urllib.request as u; print(u.urlopen('{url}', timeout=10).read().decode())"


def test_two_apps_share_a_proxy_that_comes_back_by_itself_and_down_takes_only_its_own_routes(
    tmp_path: Path, lab: Lab, images: None
) -> None:
    apps = {}
    for name in ("shop", "blog"):
        project = apps[name] = Project(tmp_path / name, lab, app=name)
        project.write("compose.yml", "services:" + service("web"))
        project.write("echo.py", ECHO)
        project.inventory("h1", app=f"services: {{web: {{proxy: {{port: 8000, hosts: {name}.test}}}}}}\n")
        done = project.deploy()
        assert done.code == 0, done.all

    def statuses() -> list[int]:
        return [_ask(lab, host=f"{name}.test")[0] for name in apps]

    assert statuses() == [200, 200]
    found = _proxy(apps["shop"])
    assert [route["app"] for route in found["routes"]] == ["blog", "shop"]
    # Apps of one host don't meet over the proxy's network.
    address = next(one for one in found["routes"] if one["app"] == "blog")["servers"][0]["url"]
    reach = ["docker", "exec", "shop-web-1", "timeout", "2", "python3", "-c", _FETCH.format(url=address)]
    assert lab.ssh("h1", reach, check=False).returncode != 0
    # The engine starts it again, and its routes are as they were.
    lab.ssh("h1", ["docker", "kill", found["proxy"]["container"]])
    lab.ssh("h1", ["docker", "start", found["proxy"]["container"]])

    def back() -> bool:
        try:
            return statuses() == [200, 200]
        except OSError:
            return False

    _until(back)
    # Maintenance stays through a deploy, and whoever is let through sees the app.
    shop = apps["shop"]
    assert shop.run("maintenance", "on", "--env", "try", "--why", "a move").code == 0
    status, headers, _ = _ask(lab, host="shop.test")
    assert (status, headers["retry-after"]) == (503, "300")
    shop.write("compose.yml", "services:" + service("web").replace("NAME: web", "NAME: next"))
    assert shop.deploy().code == 0
    assert statuses() == [503, 200]
    assert "maintenance is on since" in shop.run("proxy.status", "--env", "try").out
    allowed = _address(lab).rpartition(".")[0] + ".1"  # where this test is, as the host sees it
    assert shop.run("maintenance", "on", "--env", "try", "--allow", allowed).code == 0
    assert json.loads(_ask(lab, host="shop.test")[2])["name"] == "next"
    assert shop.run("maintenance", "off", "--env", "try").code == 0
    # Stopped: the proxy says so itself, at once. Down: it knows nothing of the app.
    assert shop.run("stop", "--env", "try").code == 0
    assert statuses() == [503, 200]
    assert shop.run("proxy.status", "--env", "try").code == 1
    assert shop.run("start", "--env", "try").code == 0
    assert statuses() == [200, 200]
    assert shop.run("down", "--env", "try", "--yes").code == 0
    assert statuses() == [404, 200]


def test_a_service_that_cannot_run_twice_is_replaced_in_place_and_the_plan_says_so_and_why(
    tmp_path: Path, lab: Lab, images: None
) -> None:
    project = Project(tmp_path, lab)
    project.write("echo.py", ECHO)
    project.inventory(
        "h1",
        app="""
        services:
          web: {proxy: {port: 8000, hosts: web.test}}
          fixed: {proxy: {port: 8000, hosts: fixed.test}}
          writer: {proxy: {port: 8000, hosts: writer.test}}
        """,
    )

    def compose(name: str) -> str:
        ports = service("fixed") + "    ports: ['8081:8000']\n"
        writes = service("writer").replace("volumes: [", "volumes: ['data:/data', ")
        text = "services:" + service("web") + ports + writes + "volumes: {data: }\n"
        return re.sub(r"NAME: \w+", f"NAME: {name}", text)

    project.write("compose.yml", compose("one"))
    first = project.deploy()
    assert first.code == 0, first.all
    project.write("compose.yml", compose("two"))
    plan = project.run("plan", "--env", "try")
    assert plan.code == 2
    lines = {line.split(":")[0].strip(): line for line in plan.out.splitlines() if "recreated" in line}
    gap = "replaced in place: for a moment it is not there, for it"
    assert f"{gap} publishes port 8081" in lines["fixed"]
    assert f"{gap} writes to /data" in lines["writer"]
    assert "in place" not in lines["web"]
    second = project.deploy()
    assert second.code == 0, second.all
    for name in ("web", "fixed", "writer"):
        assert json.loads(_ask(lab, host=f"{name}.test")[2])["name"] == "two"
    assert project.run("plan", "--env", "try").code == 0


def _htpasswd(name: str, password: str) -> str:
    digest = base64.b64encode(hashlib.sha1(password.encode()).digest()).decode()
    return f"{name}:{{SHA}}{digest}"


def _certificate(folder: Path, name: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}", "-days", "2",
         "-keyout", folder / "own.key", "-out", folder / "own.pem"],
        capture_output=True, check=True,
    )  # fmt: skip
    (folder / "own.key").chmod(0o600)
    return folder / "own.pem"


ROUTES = """
services:
  web:
    replicas: 2
    proxy:
      port: 8000
      hosts: [shop.test]
      tls: {certificate: env/tls/own.pem, key: env/tls/own.key}
      hsts: 1d
      sticky: true
      compress: true
      health: /health
      health_interval: 300ms
      request_headers: {X-From: proxy}
      response_headers: {X-Frame-Options: DENY}
  api:
    proxy: {port: 8000, hosts: shop.test, paths: [/api, /api/deep], strip: true, body_limit: 1k}
  wild:
    proxy: {port: 8000, hosts: '*.wild.test', users: 'USERS'}
  busy:
    proxy: {port: 8000, hosts: busy.test, rate: {average: 1, period: 1m, burst: 3}}
  shut:
    proxy: {port: 8000, hosts: shut.test, allow: 192.0.2.0/24}
"""


def test_a_route_does_what_the_inventory_says(tmp_path: Path, lab: Lab, images: None) -> None:
    project = Project(tmp_path, lab)
    ca = _certificate(tmp_path / "env/tls", "shop.test")
    project.write("echo.py", ECHO)
    names = ("web", "api", "wild", "busy", "shut")
    project.write("compose.yml", "services:" + "".join(service(name) for name in names))
    # Of the same name: the api answers plain HTTP, and the rest of it is sent on to HTTPS.
    project.inventory("h1", app=ROUTES.replace("USERS", _htpasswd("ada", "secret")))
    of_the_proxy(project, "access_log: true")
    done = project.deploy()
    assert done.code == 0, done.all
    ask = partial(_ask, lab)

    # Names, wildcards and prefixes; strip; the longer path wins.
    assert ask(host="nobody.test")[0] == 404
    assert ask(host="a.b.wild.test")[0] == 404
    told = json.loads(ask("/api/deep/x?y=1", host="shop.test")[2])
    assert (told["name"], told["path"]) == ("api", "/x?y=1")
    assert told["headers"]["X-Forwarded-Prefix"] == "/api/deep"
    assert json.loads(ask("/api", host="shop.test")[2])["path"] == "/"

    # A body that is too large is refused; an event stream is not held back.
    assert ask("/api/", host="shop.test", method="POST", body=b"x" * 900)[0] == 200
    assert ask("/api/", host="shop.test", method="POST", body=b"x" * 1100)[0] == 413
    assert _first_event(lab, "/api/stream") < 1.0

    # HTTPS by the project's own certificate; plain HTTP is sent on; HSTS.
    status, headers, _ = ask("/apiary?z=1", host="shop.test")
    assert (status, headers["location"]) == (301, "https://shop.test/apiary?z=1")
    status, headers, data = ask("/apiary", host="shop.test", ca=ca)
    told = json.loads(data)
    assert (status, told["name"], told["headers"]["X-From"]) == (200, "web", "proxy")
    assert headers["strict-transport-security"] == "max-age=86400"
    assert headers["x-frame-options"] == "DENY"
    key = lab.ssh("h1", ["stat", "-c", "%a", "/var/lib/longshore/_proxy/dynamic/shop.yml"]).stdout.strip()
    assert key == "600"

    # Who asks for a name without one is shown the host's own, which lasts.
    pem = ssl.get_server_certificate((_address(lab), 443)).encode()
    assert x509.load_pem_x509_certificate(pem).subject.rfc4514_string() == "CN=longshore fallback"

    # A client stays with one container, by its cookie; without one it meets both.
    cookie = headers["set-cookie"].partition(";")[0]
    assert "Secure" in headers["set-cookie"]
    with_cookie = {
        json.loads(ask(host="shop.test", ca=ca, headers={"Cookie": cookie})[2])["me"] for _ in range(6)
    }
    assert with_cookie == {told["me"]}
    assert len({json.loads(ask(host="shop.test", ca=ca)[2])["me"] for _ in range(6)}) == 2
    packed = ask(host="shop.test", ca=ca, headers={"Accept-Encoding": "gzip"})
    assert packed[1].get("content-encoding") == "gzip"

    # Who may come in, and how often.
    basic = base64.b64encode(b"ada:secret").decode()
    assert ask(host="a.wild.test")[0] == 401
    status, _, data = ask(host="a.wild.test", headers={"Authorization": f"Basic {basic}"})
    assert (status, "Authorization" in json.loads(data)["headers"]) == (200, False)
    assert [ask(host="busy.test")[0] for _ in range(5)] == [200, 200, 200, 429, 429]
    assert ask(host="shut.test")[0] == 403

    # A container that says it is sick gets no requests.
    lab.ssh("h1", ["docker", "exec", "shop-web-1", "touch", "/tmp/sick"])
    servers = partial(_servers, project)
    _until(lambda: servers() == {"shop-web-1": False, "shop-web-2": True})
    assert len({json.loads(ask(host="shop.test", ca=ca)[2])["me"] for _ in range(6)}) == 1
    shown = project.run("proxy.status", "--env", "try")
    assert "shop-web-1 DOWN, shop-web-2" in shown.out
    assert shown.code == 0, shown.all

    # Each request is logged, and the log is rotated.
    log = project.run("proxy.logs", "--env", "try", "--tail", "500").out
    assert '"RequestPath":"/api/deep/x?y=1"' in log
    container = _proxy(project)["proxy"]["container"]
    rotation = lab.ssh("h1", ["docker", "inspect", "-f", "{{json .HostConfig.LogConfig}}", container]).stdout
    assert json.loads(rotation)["Config"]["max-size"] == "10m"

    # No secret of a route is shown by a plan.
    project.inventory("h1", app=ROUTES.replace("USERS", _htpasswd("ada", "other")))
    plan = project.run("plan", "--env", "try", "--diff")
    assert plan.code == 2, plan.all
    assert "PRIVATE KEY" not in plan.all
    assert "{SHA}" not in plan.all


def _servers(project: Project) -> dict[str, bool]:
    (web,) = [route for route in _proxy(project)["routes"] if route["service"] == "web"]
    return {server["container"]: server["up"] for server in web["servers"]}


def _first_event(lab: Lab, path: str) -> float:
    """How long the first event of a stream that takes 1.6 s needs (s)."""
    connection = http.client.HTTPConnection(_address(lab), 80, timeout=30)
    began = time.monotonic()
    connection.request("GET", path, headers={"Host": "shop.test"})
    answer = connection.getresponse()
    assert answer.read1(100).startswith(b"data: 0")
    took = time.monotonic() - began
    connection.close()
    return took


def test_a_port_that_something_else_has_is_a_sentence_and_nothing_is_deployed(
    tmp_path: Path, lab: Lab, images: None
) -> None:
    project = Project(tmp_path, lab)
    project.write("compose.yml", "services:" + service("web"))
    project.write("echo.py", ECHO)
    project.inventory("h1", app="services: {web: {proxy: {port: 8000}}}\n")
    lab.ssh("h1", ["sh", "-c", "python3 -m http.server 80 >/dev/null 2>&1 & echo $! >/srv/other.pid"])
    try:
        time.sleep(1)
        done: Done = project.deploy()
        assert done.code == 1
        assert "the proxy can't start: a port of it is taken by something else" in done.err
        assert not project.containers("h1")
    finally:
        lab.ssh("h1", ["sh", "-c", "kill $(cat /srv/other.pid)"])
