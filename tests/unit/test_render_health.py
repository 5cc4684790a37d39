"""Health checks: the scripts are run here, with one tool on PATH at a time."""

from __future__ import annotations

import contextlib
import http.server
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from longshore.errors import RenderError, Where
from longshore.inventory.model import Health
from longshore.render.health import healthcheck, http_script, tcp_script

NOWHERE = Where("inventory/test.yml", 3)


class Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path.startswith("/ok") else 503)
        self.end_headers()
        with contextlib.suppress(OSError):  # bash reads the status line only
            self.wfile.write(b"hello")

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


def found(tool: str) -> str | None:
    if tool.startswith("python"):
        return os.path.realpath(sys.executable)
    return shutil.which(tool)


def run(script: str, tool: str | None, folder: Path) -> int:
    """The exit code in a container that has a shell and this one tool."""
    if tool is not None:
        program = found(tool)
        if program is None:
            pytest.skip(f"no {tool} here")
        (folder / tool).symlink_to(program)
    environment = {"PATH": str(folder)}
    return subprocess.run(
        ["/bin/sh", "-c", script], env=environment, capture_output=True, timeout=30, check=False
    ).returncode


TOOLS = ["curl", "wget", "python3", "python", "node", "bash"]


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize(("path", "healthy"), [("/ok?a=b&c=d;e", True), ("/bad", False)])
def test_http_is_asked_with_whatever_the_image_has(
    port: int, tool: str, path: str, healthy: bool, tmp_path: Path
) -> None:
    assert (run(http_script(f"{port}{path}", 5, NOWHERE), tool, tmp_path) == 0) is healthy


@pytest.mark.parametrize("tool", TOOLS)
def test_nobody_listening_is_unhealthy(tool: str, tmp_path: Path) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))  # taken, but not listening
        assert run(http_script(f"{sock.getsockname()[1]}/ok", 5, NOWHERE), tool, tmp_path) != 0


def test_an_image_without_any_tool_is_unhealthy_and_says_why(tmp_path: Path) -> None:
    script = http_script("80/", 5, NOWHERE)
    done = subprocess.run(
        ["/bin/sh", "-c", script], env={"PATH": str(tmp_path)}, capture_output=True, check=False
    )
    assert done.returncode == 1 and b"use health.command" in done.stderr


def test_a_listening_port_is_found_without_any_tool(port: int, tmp_path: Path) -> None:
    assert run(tcp_script(port), None, tmp_path) == 0


def test_a_port_that_nobody_listens_on_is_unhealthy(tmp_path: Path) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        assert run(tcp_script(sock.getsockname()[1]), None, tmp_path) == 1


@pytest.mark.parametrize(
    "address",
    [
        "",
        "health",
        "0/x",
        "70000/x",
        "http://example.com:80/",
        "80/a b",
        "80/`id`",
        "80/\nid",
        '80/"',
        "80/\\",
    ],
)
def test_an_address_that_cannot_be_asked_is_refused(address: str) -> None:
    with pytest.raises(RenderError, match="a health check can ask"):
        healthcheck(Health(http=address), NOWHERE)


def test_an_address_is_never_run_by_the_shell(port: int, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    script = http_script(f"{port}/ok$(touch)'&touch&'", 5, NOWHERE)
    (tmp_path / "touch").write_text(f"#!/bin/sh\n: > {mark}\n")
    (tmp_path / "touch").chmod(0o755)
    for tool in ("bash", "curl"):
        if found(tool):
            run(script, tool, tmp_path)
    assert not mark.exists()


@pytest.mark.parametrize("tcp", [0, 70000, -1])
def test_a_port_out_of_range_is_refused(tcp: int) -> None:
    with pytest.raises(RenderError):
        healthcheck(Health(tcp=tcp), NOWHERE)
