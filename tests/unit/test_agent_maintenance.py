"""Maintenance at the proxy, and which of two proxies gets the connections."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from longshore.agent import closing, control, maintenance, steering
from longshore.agent.daily import Daily
from longshore.agent.engine import APP, SERVICE
from longshore.agent.store import AppStore

ROUTES: dict[str, Any] = {
    "http": {
        "routers": {
            "shop:web:0": {"rule": "R", "service": "shop:web", "middlewares": ["shop:web:retry"]},
            "shop:web:0:plain": {"rule": "R", "service": "shop:web", "middlewares": ["shop:web:https"]},
        },
        "middlewares": {"shop:web:retry": {"retry": {"attempts": 3}}},
        "services": {"shop:web": {"loadBalancer": {"servers": []}}},
    }
}
STATE: dict[str, Any] = {"by": "ada", "why": "", "at": 0.0, "retry_after": 60, "allow": [], "page": None}


def test_maintenance_comes_before_everything_on_every_route_and_nobody_is_let_through_unasked() -> None:
    made = maintenance.over(ROUTES, STATE, "shop")["http"]
    for router in made["routers"].values():
        assert router["middlewares"][:2] == ["shop::maintenance:later", "shop::maintenance:closed"]
    closed = made["middlewares"]["shop::maintenance:closed"]["ipAllowList"]
    assert closed == {"sourceRange": ["255.255.255.255/32"], "rejectStatusCode": 503}
    later = made["middlewares"]["shop::maintenance:later"]["headers"]
    assert later["customResponseHeaders"] == {"Retry-After": "60"}


def test_without_maintenance_the_configuration_is_the_releases_own() -> None:
    assert maintenance.over(ROUTES, None, "shop") is ROUTES
    before = repr(ROUTES)
    maintenance.over(ROUTES, STATE, "shop")
    assert repr(ROUTES) == before


def test_maintenance_is_kept_with_the_app_and_gone_when_it_is_off(tmp_path: Path) -> None:
    store = AppStore(str(tmp_path), "shop")
    store.make()
    assert maintenance.state_of(store) is None
    asked = {"by": "ada@desk", "why": "a move", "allow": ["10.0.0.0/8"]}
    maintenance.put(store, maintenance.made(asked, None))
    state = maintenance.state_of(store)
    assert state is not None
    assert state["allow"] == ["10.0.0.0/8"]
    assert maintenance.sentence({**state, "at": 0.0}).endswith("1970-01-01 00:00 UTC, by ada@desk: a move")
    maintenance.put(store, None)
    assert maintenance.state_of(store) is None


def _listener(port: int = 0) -> socket.socket:
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    made.bind(("127.0.0.1", port))
    made.listen(64)
    made.settimeout(5)
    return made


def test_of_two_listeners_on_a_port_the_first_gets_all_connections_until_it_stops() -> None:
    first = _listener()
    port = first.getsockname()[1]
    if not steering.hold(os.getpid(), [port]):
        first.close()
        pytest.skip("this kernel or user can't take another process's socket (pidfd_getfd)")
    second = _listener(port)
    clients = [socket.create_connection(("127.0.0.1", port), timeout=5) for _ in range(20)]
    taken = [first.accept()[0] for _ in clients]
    first.close()
    clients.append(socket.create_connection(("127.0.0.1", port), timeout=5))
    taken.append(second.accept()[0])
    for one in (*clients, *taken, second):
        one.close()


@pytest.mark.parametrize("gone", ["the old one", "the new one"])
def test_new_connections_turn_to_the_last_listener_and_to_whoever_is_left(gone: str) -> None:
    old = _listener()
    port = old.getsockname()[1]
    if not steering.hold(os.getpid(), [port]):
        old.close()
        pytest.skip("this kernel or user can't take another process's socket (pidfd_getfd)")
    new = _listener(port)

    def accepted(listener: socket.socket) -> None:
        clients = [socket.create_connection(("127.0.0.1", port), timeout=5) for _ in range(10)]
        for one in (*[listener.accept()[0] for _ in clients], *clients):
            one.close()

    accepted(old)
    assert steering.turn(os.getpid(), [port])
    accepted(new)
    left, leaves = (new, old) if gone == "the old one" else (old, new)
    leaves.close()
    accepted(left)
    left.close()


def test_a_port_that_nobody_listens_on_needs_no_holding_and_a_process_that_is_gone_is_no_error() -> None:
    free = _listener()
    port = free.getsockname()[1]
    free.close()
    assert steering.hold(os.getpid(), [port])
    busy = _listener()
    assert not steering.hold(2**22 - 7, [busy.getsockname()[1]])
    busy.close()


class _Engine:
    """The app's containers, one of a service that a release before had, and one of a sibling stack."""

    def __init__(self) -> None:
        self.stopped: list[str] = []

    def containers(self, project: str) -> list[dict[str, Any]]:
        found = {"web": "shop", "db": "shop", "old": "shop", "by-hand": "", "sibling": ""}
        names = {"by-hand": "web"}
        labels = {ident: {SERVICE: names.get(ident, ident), APP: app} for ident, app in found.items()}
        return [{"Id": ident, "State": "running", "Labels": one} for ident, one in labels.items()]

    def stop(self, ident: str) -> None:
        self.stopped.append(ident)


@pytest.fixture
def deployed(tmp_path: Path) -> AppStore:
    store = AppStore(str(tmp_path), "shop")
    folder = Path(store.release_dir("0" * 12))
    folder.mkdir(parents=True)
    services: dict[str, Any] = {"web": {"depends_on": ["db"]}, "db": {}}
    (folder / "manifest.json").write_text(
        json.dumps({"id": "0" * 12, "project": "shop", "services": services})
    )
    store.set_current("0" * 12)
    return store


def test_closing_an_app_leaves_a_sibling_stack_of_its_projects_name_alone(deployed: AppStore) -> None:
    engine: Any = _Engine()
    maintenance.put(deployed, {"deploy": {"release": "0" * 12, "keep": ["db"]}})
    closing.stop(engine, deployed, lambda kind, **facts: None)
    assert sorted(engine.stopped) == ["by-hand", "old", "web"]


def test_so_does_stopping_it_by_hand(deployed: AppStore) -> None:
    engine: Any = _Engine()
    control.stop(Daily(engine, deployed, lambda kind, **facts: None), {})
    assert sorted(engine.stopped) == ["by-hand", "db", "old", "web"]
