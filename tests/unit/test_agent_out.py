"""A host out of the load balancer: what it answers, when it leaves, and that it comes back whoever dies."""

from __future__ import annotations

import copy
import json
import time
from pathlib import Path
from typing import Any

import pytest

from longshore.agent import leaving, out, overlays, recovery, wire
from longshore.agent.fail import Refusal
from longshore.agent.journal import Journal
from longshore.agent.store import AppStore
from longshore.agent.switch import Switch

OLD, NEW = "0" * 12, "1" * 12
CHECK = {"path": "/health", "interval": "5s", "timeout": "3s"}
ROUTES: dict[str, Any] = {
    "http": {
        "routers": {
            "shop:web:0": {
                "rule": "Host(`a`) && PathPrefix(`/x`)",
                "priority": 40020,
                "service": "shop:web",
                "entryPoints": ["websecure"],
                "tls": {},
                "middlewares": ["shop:web:users"],
            },
            f"shop:web{wire.ASKED}": {"rule": "B", "priority": 9, "service": "shop:web", "middlewares": []},
            "shop:admin:0": {"rule": "C", "priority": 2, "service": "shop:admin", "middlewares": []},
        },
        "middlewares": {"shop:web:users": {}},
        "services": {
            "shop:web": {
                "loadBalancer": {"servers": [{"url": "http://10.0.0.2:8000"}], "healthCheck": CHECK}
            },
            "shop:admin": {"loadBalancer": {"servers": []}},
        },
        "serversTransports": {},
    }
}
ARGS = {"asked": {"web": "/health"}, "wait": 0.0, "by": "ada"}


class _Proxy:
    """A proxy that takes what it is told; ``refuses``: it doesn't; ``runs``: whether there is one."""

    refuses = False
    runs = True

    def __init__(self, engine: Any, state_dir: str, emit: Any) -> None:
        self.path = Path(state_dir, "routes.json")

    def current(self) -> Any:
        return {"Id": "p"} if self.runs else None

    def file_of(self, app: str) -> dict[str, Any]:
        return dict(json.loads(self.path.read_text())) if self.path.exists() else {}

    def route(self, app: str, dynamic: dict[str, Any], servers: Any) -> None:
        if self.refuses:
            raise Refusal(wire.UNHEALTHY, "the proxy doesn't take its new routes")
        self.path.write_text(json.dumps(dynamic))
        if not self.runs:
            raise Refusal(wire.UNHEALTHY, "the host's proxy doesn't run")


class _Engine:
    def __init__(self, *found: dict[str, Any]) -> None:
        self.found = list(found)

    def wait(self, seconds: float) -> None:
        """It answers."""

    def containers(self, project: str = "", labels: tuple[str, ...] = ()) -> list[dict[str, Any]]:
        return self.found

    def container(self, ident: str) -> None:
        return None


def _container(service: str, hash_: str = "1", state: str = "running", status: str = "Up") -> dict[str, Any]:
    labels = {"com.docker.compose.service": service, "com.docker.compose.config-hash": hash_}
    return {"Id": service, "Labels": labels, "State": state, "Status": status, "ImageID": "i"}


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AppStore:
    """A host with routes at its proxy, on which OLD is current and NEW is staged."""
    made = AppStore(str(tmp_path), "shop")
    made.make()
    for release in (OLD, NEW):
        folder = Path(made.release_dir(release))
        folder.mkdir(parents=True)
        facts = {"replicas": 1, "one_shot": False, "depends_on": []}
        services = {
            "web": {**facts, "routed": True, "depends_on": ["db"]},
            "green": {**facts, "routed": True, "twin": True, "depends_on": []},
            "db": facts,
            "worker": facts,
        }
        manifest = {"id": release, "project": "shop", "services": services, "settings": {}, "files": {}}
        (folder / "manifest.json").write_text(json.dumps(manifest))
    made.set_current(OLD)
    (tmp_path / "routes.json").write_text(json.dumps(ROUTES))
    for module in (leaving, overlays):
        monkeypatch.setattr(module, "Proxy", _Proxy)
    monkeypatch.setattr(leaving, "drained", lambda *_: True)
    return made


def _routes(store: AppStore) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(store.root).parent.joinpath("routes.json").read_text())
    return found


def _silent(kind: str, **facts: Any) -> None:
    """Nobody listens."""


# What is answered


def test_a_host_that_is_out_answers_503_to_what_the_balancer_asks_and_all_else_as_before() -> None:
    state = out.made(ARGS, hand=False)
    made = out.over(ROUTES, state, "shop")["http"]
    asked = made["routers"]["shop::out:shop:web:0"]
    assert asked["rule"] == "(Host(`a`) && PathPrefix(`/x`)) && Path(`/health`)"
    assert asked["priority"] > ROUTES["http"]["routers"]["shop:web:0"]["priority"]
    assert (asked["entryPoints"], asked["tls"]) == (["websecure"], {})
    assert "middlewares" not in asked  # whoever may not come in is told, too
    assert made["services"][asked["service"]]["loadBalancer"]["servers"] == []
    assert made["routers"][f"shop::out:shop:web{wire.ASKED}"]["rule"] == "B"
    assert not [label for label in made["routers"] if "admin" in label and "out" in label]
    assert {name: made["routers"][name] for name in ROUTES["http"]["routers"]} == ROUTES["http"]["routers"]


def test_what_is_laid_over_the_routes_can_be_taken_off_health_checks_among_it() -> None:
    state = {**out.made(ARGS, hand=True), "quiet": True}
    laid = out.over(ROUTES, state, "shop")
    assert "healthCheck" not in laid["http"]["services"]["shop:web"]["loadBalancer"]
    assert overlays.bare(copy.deepcopy(laid), "shop") == ROUTES
    assert overlays.bare(out.over(ROUTES, {**state, "quiet": False}, "shop"), "shop") == ROUTES


# When it leaves


def test_what_differs_from_what_was_committed_is_replaced_and_nothing_that_can_run_twice(
    store: AppStore,
) -> None:
    engine = _Engine(_container("web"), _container("db", "2"), _container("green", "2"), _container("worker"))
    done = [
        {"service": name, "config_hash": "1", "image_id": "i"} for name in ("web", "db", "green", "worker")
    ]
    store.write_committed(OLD, {"at": 1.0, "containers": done})
    assert leaving.replaced(engine, store, OLD) == {"db"}  # type: ignore[arg-type]
    assert leaving.replaced(engine, store, NEW) == {"web", "db", "worker"}  # type: ignore[arg-type]
    assert leaving.replaced(engine, store, NEW, ["web", "green"]) == {"web"}  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("names", "db", "gaps"),
    [
        ({"web"}, "running", ["web"]),
        ({"db"}, "running", ["web"]),  # it needs the database
        ({"worker"}, "running", []),
        ({"db"}, "exited", []),  # what is dead has nothing to lose
    ],
)
def test_a_gap_is_one_that_requests_would_feel(
    store: AppStore, names: set[str], db: str, gaps: list[str]
) -> None:
    engine = _Engine(_container("web"), _container("db", state=db), _container("green"), _container("worker"))
    assert leaving.gaps(engine, store, NEW, names) == gaps  # type: ignore[arg-type]


def test_a_host_leaves_only_at_the_controllers_word_and_only_for_a_gap(store: AppStore) -> None:
    engine: Any = _Engine(_container("web"), _container("worker"))
    assert not leaving.leave(engine, store, _silent, NEW, None, {"web"})
    assert not leaving.leave(engine, store, _silent, NEW, {**ARGS, "asked": {}}, {"web"})
    assert not leaving.leave(engine, store, _silent, NEW, ARGS, {"worker"})
    assert out.state_of(store) is None
    assert leaving.leave(engine, store, _silent, NEW, {**ARGS, "always": True}, {"worker"})
    assert _routes(store) != ROUTES
    assert leaving.come_back(engine, store, _silent)
    assert leaving.leave(engine, store, _silent, NEW, ARGS, {"web"})


def test_a_controller_that_dies_while_the_balancer_is_waited_for_ends_the_waiting(store: AppStore) -> None:
    engine: Any = _Engine(_container("web"))
    began = time.monotonic()
    leaving.leave(engine, store, _silent, NEW, {**ARGS, "wait": 60.0}, {"web"}, lambda: True)
    assert time.monotonic() - began < 5


def test_a_proxy_that_does_not_take_it_leaves_the_host_in(
    store: AppStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_Proxy, "refuses", True)
    with pytest.raises(Refusal):
        leaving.leave(_Engine(_container("web")), store, _silent, NEW, ARGS, {"web"})  # type: ignore[arg-type]
    assert out.state_of(store) is None
    assert _routes(store) == ROUTES


# Coming back


@pytest.fixture
def away(store: AppStore) -> Switch:
    """A host that has left for NEW."""
    engine: Any = _Engine(_container("web"))
    made = Switch(engine, store, _silent, "run1")
    made.begin(NEW)
    assert leaving.leave(engine, store, _silent, NEW, ARGS, {"web"})
    assert out.state_of(store) is not None
    return made


def test_whoever_has_the_lock_next_puts_the_host_in_whatever_the_journal_says(away: Switch) -> None:
    away.journal.end("reverted", OLD, "run1")
    assert recovery.unfinished(str(Path(away.store.root).parent)) == ["shop"]  # the host's boot sees it
    recovery.recover(away, "ada")
    assert out.state_of(away.store) is None
    assert _routes(away.store) == ROUTES
    assert recovery.unfinished(str(Path(away.store.root).parent)) == []


def test_a_way_back_that_fails_puts_the_host_in_all_the_same(
    away: Switch, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: Any, **more: Any) -> None:
        raise Refusal(wire.COMPOSE_FAILED, "Compose could not start it")

    monkeypatch.setattr(Switch, "_up", broken)
    with pytest.raises(Refusal, match="could not be taken back"):
        away.revert({"out": ARGS})
    assert out.state_of(away.store) is None
    assert Journal(away.store.root).unfinished() is not None


def test_a_host_that_cannot_leave_goes_back_all_the_same(
    away: Switch, monkeypatch: pytest.MonkeyPatch
) -> None:
    leaving.come_back(away.engine, away.store, _silent)
    ups: list[str] = []
    monkeypatch.setattr(_Proxy, "refuses", True)
    monkeypatch.setattr(Switch, "_up", lambda self, release, **_: ups.append(release))
    monkeypatch.setattr(Switch, "verify", lambda self, release: {})
    assert away.revert({"out": {**ARGS, "always": True}})["reverted"]
    assert ups == [OLD]
    assert out.state_of(away.store) is None


def test_a_proxy_that_does_not_run_reads_that_the_host_is_in_when_it_starts(
    away: Switch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_Proxy, "runs", False)
    assert leaving.come_back(away.engine, away.store, _silent)
    assert _routes(away.store) == ROUTES
    assert out.state_of(away.store) is None


def test_a_proxy_that_does_not_take_it_is_asked_again_by_the_next_who_has_the_lock(
    away: Switch, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(_Proxy, "refuses", True)
    leaving.settle(away.engine, away.store, lambda kind, **facts: told.append(facts["message"]))
    assert "still out of the load balancer" in told[0]
    assert out.state_of(away.store) is not None
    monkeypatch.setattr(_Proxy, "refuses", False)
    away.journal.end("reverted", OLD, "run1")
    recovery.recover(away, "ada")
    assert out.state_of(away.store) is None


def test_what_a_person_has_taken_out_stays_out_until_a_person_puts_it_back(store: AppStore) -> None:
    engine: Any = _Engine(_container("web"))
    out.put(store, out.made({**ARGS, "why": "a new kernel"}, hand=True))
    assert not leaving.come_back(engine, store, _silent)
    assert recovery.unfinished(str(Path(store.root).parent)) == []
    state = out.state_of(store)
    assert state is not None
    assert "by ada: a new kernel; `undrain` puts it back" in out.sentence(state)
    assert leaving.come_back(engine, store, _silent, hand=True)
    assert out.state_of(store) is None
