"""The engine's API, as the agent uses it, against an engine that takes its time."""

from __future__ import annotations

import http.server
import socketserver
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from longshore.agent.engine import Engine, EngineError


class _Slow(http.server.BaseHTTPRequestHandler):
    """Takes half a second for everything; it knows one container."""

    asked: tuple[str, ...] = ()

    def address_string(self) -> str:
        return "unix"

    def do_POST(self) -> None:
        type(self).asked = (*self.asked, self.path)
        time.sleep(0.5)
        self.send_response(204 if self.path.startswith("/containers/c1/") else 404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        """Nobody is told."""


@pytest.fixture
def path(tmp_path: Path) -> Iterator[str]:
    class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
        daemon_threads = True

    with Server(str(tmp_path / "docker.sock"), _Slow) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield str(tmp_path / "docker.sock")
        server.shutdown()


def test_a_container_has_its_own_time_to_stop_whatever_else_the_engine_is_given(path: str) -> None:
    engine = Engine(path, timeout=0.1)
    engine.stop("c1")
    engine.stop("c1", 90)
    engine.restart("c1")
    assert _Slow.asked == ("/containers/c1/stop", "/containers/c1/stop?t=90", "/containers/c1/restart")


def test_a_container_that_is_gone_needs_no_stopping(path: str) -> None:
    engine = Engine(path)
    engine.stop("c2")
    with pytest.raises(EngineError):
        engine.restart("c2")
