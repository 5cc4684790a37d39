"""From a tag to a digest, against a registry's answers on loopback."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from longshore.images import parse, resolve
from longshore.images.resolve import ImageMissingError
from longshore.inventory.model import Registry

DIGEST = "sha256:" + "ab" * 32


class FakeRegistry(BaseHTTPRequestHandler):
    asked: list[tuple[str, str, str]]
    secured: bool

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        authorization = self.headers.get("Authorization", "")
        self.asked.append((self.command, self.path, authorization))
        if self.path.startswith("/token"):
            self._send(200, body=b'{"token": "t0ken"}')
        elif self.secured and authorization != "Bearer t0ken":
            host = self.headers["Host"]
            realm = f'Bearer realm="http://{host}/token",service="s",scope="repository:shop:pull"'
            self._send(401, {"WWW-Authenticate": realm})
        elif "/missing/" in self.path:
            self._send(404)
        else:
            self._send(200, {"Docker-Content-Digest": DIGEST})

    def _send(self, status: int, headers: dict[str, str] | None = None, body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def registry() -> Iterator[tuple[str, type[FakeRegistry]]]:
    handler = type("Handler", (FakeRegistry,), {"asked": [], "secured": False})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield f"127.0.0.1:{server.server_address[1]}", handler
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_tag_is_pinned_to_the_registrys_digest(registry: tuple[str, type[FakeRegistry]]) -> None:
    host, handler = registry
    found = resolve([f"{host}/shop:1", f"{host}/other@{DIGEST}"], {})
    assert found.digests == {f"{host}/shop:1": f"{host}/shop@{DIGEST}"}
    assert [(method, path) for method, path, _ in handler.asked] == [("HEAD", "/v2/shop/manifests/1")]


def test_an_image_that_is_not_there_is_an_error(registry: tuple[str, type[FakeRegistry]]) -> None:
    with pytest.raises(ImageMissingError, match="missing/app:2"):
        resolve([f"{registry[0]}/missing/app:2"], {})


def test_a_registry_that_is_down_leaves_the_image_unpinned() -> None:
    found = resolve(["127.0.0.1:1/shop:1"], {})
    assert found.digests == {}
    assert "refused" in found.unpinned["127.0.0.1:1/shop:1"].lower()


def test_the_login_goes_to_the_token_server_and_the_token_to_the_registry(
    registry: tuple[str, type[FakeRegistry]],
) -> None:
    host, handler = registry
    handler.secured = True
    login = Registry(host, insecure=True, username="ann", password="pw")
    assert resolve([f"{host}/shop:1"], {host: login}).digests
    basic = "Basic " + base64.b64encode(b"ann:pw").decode()
    assert [(path.split("?")[0], sent) for _, path, sent in handler.asked] == [
        ("/v2/shop/manifests/1", ""),
        ("/token", basic),
        ("/v2/shop/manifests/1", "Bearer t0ken"),
    ]


def test_a_login_is_not_sent_unencrypted_unless_the_registry_is_insecure(
    registry: tuple[str, type[FakeRegistry]],
) -> None:
    host, handler = registry
    handler.secured = True
    login = Registry("secure.example", mirror=f"http://{host}", username="ann", password="pw")
    found = resolve(["secure.example/shop:1"], {"secure.example": login})
    assert "unencrypted" in found.unpinned["secure.example/shop:1"]
    assert not any("token" in path for _, path, _ in handler.asked)


def test_a_mirror_stands_in_for_docker_hub(registry: tuple[str, type[FakeRegistry]]) -> None:
    host, handler = registry
    found = resolve(["postgres:15"], {"docker.io": Registry("docker.io", mirror=f"http://{host}")})
    assert found.digests == {"postgres:15": f"postgres@{DIGEST}"}
    assert handler.asked[0][1] == "/v2/library/postgres/manifests/15"


@pytest.mark.parametrize(
    ("text", "registry", "repository", "tag"),
    [
        ("redis", "docker.io", "library/redis", "latest"),
        ("redis:7", "docker.io", "library/redis", "7"),
        ("team/app:1.2", "docker.io", "team/app", "1.2"),
        ("10.0.0.1:5000/app", "10.0.0.1:5000", "app", "latest"),
        ("ghcr.io/a/b/c:x", "ghcr.io", "a/b/c", "x"),
        (f"app@{DIGEST}", "docker.io", "library/app", None),
        (f"app:1@{DIGEST}", "docker.io", "library/app", "1"),
    ],
)
def test_a_reference_is_taken_apart_as_docker_does(
    text: str, registry: str, repository: str, tag: str | None
) -> None:
    found = parse(text)
    assert (found.registry, found.repository, found.tag) == (registry, repository, tag)
