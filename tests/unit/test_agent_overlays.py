"""What is laid over an app's routes at the proxy can be taken off again, and a pause lets everybody go."""

from __future__ import annotations

import copy
import json
import os
import socket
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from longshore.agent import closing, holding, maintenance, overlays, pages, pausing
from longshore.agent.store import AppStore

ROUTES: dict[str, Any] = {
    "http": {
        "routers": {
            "shop:web:0": {
                "rule": "A",
                "priority": 2,
                "service": "shop:web",
                "middlewares": ["shop:web:retry"],
            },
            "shop:web:0:plain": {"rule": "A", "service": "shop:web", "middlewares": ["shop:web:https"]},
            "shop:maintenance:0": {"rule": "B", "service": "shop:maintenance", "middlewares": []},
        },
        "middlewares": {"shop:web:retry": {"retry": {"attempts": 3}}, "shop:web:https": {}},
        "services": {
            "shop:web": {"loadBalancer": {"servers": [{"url": "http://10.0.0.2:8000"}]}},
            "shop:maintenance": {"loadBalancer": {"servers": []}},
        },
        "serversTransports": {},
    }
}
PAUSE: dict[str, Any] = {
    "by": "ada",
    "why": "",
    "at": 0.0,
    "until": 0.0,
    "token": "t",
    "port": 1,
    "entry": 80,
}
CLOSED: dict[str, Any] = {
    "by": "ada", "why": "", "at": 0.0, "retry_after": 60, "allow": ["10.0.0.0/8"], "pass": "secret",
    "page": {"port": 4711, "path": "/p"},
}  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> AppStore:
    made = AppStore(str(tmp_path), "shop")
    made.make()
    return made


def test_what_is_laid_over_the_routes_can_be_taken_off_whatever_it_was() -> None:
    laid = maintenance.over(pausing.over(ROUTES, PAUSE, "shop", hold=True), CLOSED, "shop")
    marked = copy.deepcopy(laid)
    marked["http"]["services"]["shop:0123456789ab"] = {"loadBalancer": {"servers": []}}
    assert laid != ROUTES
    assert overlays.bare(marked, "shop") == ROUTES
    assert overlays.bare(ROUTES, "shop") == ROUTES


def test_a_pause_holds_what_has_been_let_in_and_not_redirects() -> None:
    made = pausing.over(ROUTES, PAUSE, "shop", hold=True)["http"]
    hold = "shop::pause:hold"
    assert made["routers"]["shop:web:0"]["middlewares"] == [hold, "shop:web:retry"]
    assert made["routers"]["shop:web:0:plain"]["middlewares"] == ["shop:web:https"]
    assert made["routers"]["shop:maintenance:0"]["middlewares"] == [hold]
    before = pausing.over(ROUTES, PAUSE, "shop", hold=False)["http"]
    assert before["routers"].keys() == made["routers"].keys()
    assert not [one for one in before["routers"].values() if hold in one["middlewares"]]


def test_whoever_has_the_deploys_secret_goes_past_maintenance_and_the_app_does_not_see_it() -> None:
    made = maintenance.over(ROUTES, CLOSED, "shop")["http"]
    passing = made["routers"]["shop::pass:shop:web:0"]
    assert passing["rule"] == "(A) && Header(`X-Longshore-Pass`, `secret`)"
    assert passing["priority"] > max(one.get("priority", 0) for one in ROUTES["http"]["routers"].values())
    assert passing["middlewares"] == ["shop::maintenance:pass", "shop:web:retry"]
    assert made["middlewares"]["shop::maintenance:pass"] == {
        "headers": {"customRequestHeaders": {"X-Longshore-Pass": ""}}
    }


def test_an_apps_own_503_is_not_taken_for_maintenances() -> None:
    made = maintenance.over(ROUTES, CLOSED, "shop")["http"]["middlewares"]
    turned_away = made["shop::maintenance:closed"]["ipAllowList"]["rejectStatusCode"]
    page = made["shop::maintenance:page"]["errors"]
    assert page["status"] == [str(turned_away)] != ["503"]
    assert page["statusRewrites"] == {str(turned_away): 503}


def test_all_that_asked_get_their_answer_when_a_pause_is_over() -> None:
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    address = listener.getsockname()
    asking = [socket.create_connection(address, timeout=5) for _ in range(300)]
    for one in asking[1:]:
        one.sendall(b"GET /.longshore/pause/t HTTP/1.1\r\nHost: x\r\n\r\n")
    asking[0].close()  # one that has gone is no reason to forget the rest
    assert holding.answer(listener, quiet=0.2, longest=10) == 299
    assert {one.recv(100)[:15] for one in asking[1:]} == {b"HTTP/1.1 200 OK"}
    for one in (*asking, listener):
        one.close()


def test_one_that_never_finishes_its_question_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holding, "_PATIENCE", 0.3)
    listener = socket.create_server(("127.0.0.1", 0))
    dumb = socket.create_connection(listener.getsockname(), timeout=5)
    dumb.sendall(b"GET /")
    other = socket.create_connection(listener.getsockname(), timeout=5)
    other.sendall(b"GET / HTTP/1.1\r\n\r\n")
    assert holding.answer(listener, quiet=0.1, longest=10) == 1
    for one in (dumb, other, listener):
        one.close()


def test_a_pause_that_is_over_holds_nobody_and_is_answered_for_a_while(store: AppStore) -> None:
    (Path(store.root) / "pause.json").write_text(json.dumps({**PAUSE, "until": time.time() + 60}))
    assert pausing.state_of(store) is not None
    assert not pausing.end(store, "another")
    assert pausing.end(store, "t")
    assert pausing.state_of(store) is None
    assert pausing.lately(store) is not None
    laid = overlays.laid(ROUTES, store)["http"]["routers"]
    assert laid.keys() - ROUTES["http"]["routers"].keys() == {"shop::pause"}
    assert laid["shop:web:0"] == ROUTES["http"]["routers"]["shop:web:0"]
    assert pausing.forget(store, "t")
    assert overlays.laid(ROUTES, store) == ROUTES
    (Path(store.root) / "pause.json").write_text(json.dumps({**PAUSE, "until": time.time() - 3600}))
    assert overlays.laid(ROUTES, store) == ROUTES  # what a reboot has left


def test_a_pause_is_waited_for_as_long_as_somebody_holds(store: AppStore) -> None:
    assert pausing.outlast(store, 5) == 0
    with pausing.holding(store) as told:
        began = time.monotonic()
        pausing.outlast(store, 0.3)
        assert time.monotonic() - began >= 0.3
        os.pwrite(told, b"312", 0)
    assert pausing.outlast(store, 5) == 312


def test_the_pages_server_ends_when_maintenance_does(
    store: AppStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "_LOOK", 0.1)
    (Path(store.root) / maintenance.PAGE).write_text("<p>soon</p>")
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    maintenance.put(store, {**CLOSED, "page": {"port": port, "path": "/secret"}})
    argv = [str(Path(store.root).parent), "shop", str(listener.detach()), "/secret"]
    server = threading.Thread(target=pages.main, args=(argv,))
    server.start()
    found = _ask(f"http://127.0.0.1:{port}/secret")
    assert found == (503, "text/html; charset=utf-8", b"<p>soon</p>")
    assert _ask(f"http://127.0.0.1:{port}/")[0] == 404
    maintenance.put(store, None)
    server.join(10)
    assert not server.is_alive()


def _ask(url: str) -> tuple[int, str, bytes]:
    try:
        urllib.request.urlopen(url, timeout=5)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["Content-Type"], error.read()
    raise AssertionError("it was answered with 200")


def test_a_host_is_sealed_from_the_migration_on_until_the_schema_is_the_old_one_again(
    store: AppStore,
) -> None:
    assert not closing.sealed(store)
    closing.seal(store, True)  # nobody has closed it: nothing to note
    assert maintenance.state_of(store) is None
    note = {"release": "1a2b3c4d5e6f", "keep": ["db"], "own": True, "sealed": ""}
    maintenance.put(store, {**CLOSED, "deploy": note})
    closing.seal(store, True)
    assert closing.sealed(store)
    assert closing.told(store) == {"closed": True}
    assert closing.is_breaking(store, "1a2b3c4d5e6f")
    assert not closing.is_breaking(store, "000000000000")
    state = maintenance.state_of(store)
    assert state is not None
    assert "the schema may be that of 1a2b3c4d5e6f" in maintenance.sentence(state)
    closing.seal(store, False)
    assert closing.told(store) == {}
