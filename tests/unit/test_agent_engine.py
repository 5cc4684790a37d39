"""The engine's API, as the agent uses it, against an engine that takes its time."""

from __future__ import annotations

import http.server
import json
import socketserver
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from longshore.agent import gently
from longshore.agent.bluegreen import BlueGreen
from longshore.agent.engine import CONFIG_HASH, SERVICE, Engine, EngineError, moment
from longshore.agent.store import AppStore


class _Slow(http.server.BaseHTTPRequestHandler):
    """Takes half a second for everything; it knows one container."""

    protocol_version = "HTTP/1.1"
    asked: tuple[str, ...] = ()
    """What it was asked, since the test began."""

    def address_string(self) -> str:
        return "unix"

    def do_POST(self) -> None:
        type(self).asked = (*self.asked, self.path)
        time.sleep(0.5)
        self.send_response(204 if self.path.startswith("/containers/c1") else 404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_DELETE = do_POST  # noqa: N815 - the server's name for it

    def log_message(self, *args: object) -> None:
        """Nobody is told."""


@pytest.fixture
def path(tmp_path: Path) -> Iterator[str]:
    class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
        daemon_threads = True

    _Slow.asked = ()
    with Server(str(tmp_path / "docker.sock"), _Slow) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
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


def test_only_a_container_that_never_ran_takes_its_nameless_volumes_along(path: str) -> None:
    engine = Engine(path)
    engine.remove("c1")
    engine.remove("c1", unused=True)
    engine.remove("c2")  # gone already
    assert _Slow.asked == ("/containers/c1?force=1", "/containers/c1?force=1&v=1", "/containers/c2?force=1")


class _Beside:
    """The engine of a host on which one container of web runs; a second one was just made."""

    def __init__(self, *, changed: bool) -> None:
        self.made = False
        self.changed = changed
        self.removed: list[tuple[str, bool]] = []

    def containers(self, project: str) -> list[dict[str, object]]:
        names = {"runs": "1", "made": "2" if self.changed else "1"}
        return [
            {
                "Id": name,
                "State": "running" if name == "runs" else "created",
                "ImageID": "i",
                "Labels": {SERVICE: "web", CONFIG_HASH: hash_},
            }
            for name, hash_ in names.items()
            if name == "runs" or self.made
        ]

    def remove(self, ident: str, *, unused: bool = False) -> None:
        self.removed.append((ident, unused))

    def request(self, method: str, path: str) -> None:
        """It is started."""


@pytest.mark.parametrize(
    ("changed", "kept", "new", "removed"),
    [(False, ["runs"], [], [("made", True)]), (True, [], ["made"], [])],
)
def test_a_container_that_was_made_to_compare_with_goes_with_all_that_was_made_for_it(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    changed: bool,
    kept: list[str],
    new: list[str],
    removed: list[tuple[str, bool]],
) -> None:
    store = AppStore(str(tmp_path), "shop")
    folder = Path(store.release_dir("0" * 12))
    folder.mkdir(parents=True)
    facts = {"twin": True, "replicas": 1, "depends_on": []}
    manifest = {
        "id": "0" * 12, "project": "shop", "project_directory": ".", "services": {"web": facts},
        "compose_files": [], "profiles": [], "settings": {},
    }  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps(manifest))
    engine: Any = _Beside(changed=changed)
    blue = BlueGreen(engine, store, "0" * 12, lambda kind, **facts: None)
    monkeypatch.setattr(blue.compose, "create_beside", lambda *_: setattr(engine, "made", True))
    monkeypatch.setattr(blue, "_watch", lambda *_: weights.append("good"))
    weights: list[str] = []
    monkeypatch.setattr(gently, "begin", lambda _, ident: weights.append(f"less for {ident}"))
    monkeypatch.setattr(gently, "end", lambda _, ident: weights.append(f"all for {ident}"))
    change = blue._beside("web", set())
    assert (change.keep, change.new) == (kept, new)
    assert engine.removed == removed
    assert weights == (["less for made", "good", "all for made"] if changed else ["all for runs"])


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-02T00:00:00Z", 86400.0),
        ("1970-01-02T00:00:00.25Z", 86400.25),
        ("1970-01-02T00:00:01.123456789+01:30", 86401.123456789 - 5400),
        ("1970-01-02T00:00:00-01:30", 86400.0 + 5400),
        ("0001-01-01T00:00:00Z", -62135596800.0),
        ("", 0.0),
        (None, 0.0),
        ("yesterday", 0.0),
    ],
)
def test_the_engines_time_is_read_with_its_fraction_and_zone(text: str | None, seconds: float) -> None:
    assert moment(text) == seconds
