"""The order in which one proxy takes over from another, and what each is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from longshore.agent import handover, steering
from longshore.agent.handover import FOLDER, Handover

POINTS = {"web": {"address": ":80"}, "websecure": {"address": ":443"}, "metrics": {"address": "127.0.0.1:9"}}
OLD: dict[str, Any] = {"Id": "old", "Names": ["/old"]}
NEW: dict[str, Any] = {"Id": "new", "Names": ["/new"]}


class Engine:
    def container(self, ident: str) -> dict[str, Any]:
        return {"State": {"Pid": {"old": 7, "new": 8}[ident]}}


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is done, in its order; the old one has two connections, that end one after the other."""
    done: list[str] = []
    open_ones = [True, True, False]

    def connections(pids: list[int], ports: list[int]) -> bool:
        done.append(f"looks at {pids} {ports}")
        return open_ones.pop(0)

    monkeypatch.setattr(steering, "hold", lambda pid, ports: done.append(f"hold {pid}"))
    monkeypatch.setattr(steering, "turn", lambda pid, ports: done.append(f"turn {pid} {ports}"))
    monkeypatch.setattr(handover, "_connections", connections)
    monkeypatch.setattr(handover, "_SETTLE", 0.0)
    monkeypatch.setattr(handover, "_TAKES_EFFECT", 0.3)
    monkeypatch.setattr(handover, "_POLL", 0.0)
    return done


def _said(home: Path) -> Any:
    return json.loads((home / FOLDER / "farewell.yml").read_text())["http"]["middlewares"]


def test_a_proxy_has_a_middleware_in_front_of_all_routes_that_does_nothing_yet(tmp_path: Path) -> None:
    static: dict[str, Any] = {"entryPoints": json.loads(json.dumps(POINTS))}
    handover.prepare(str(tmp_path / "old"), str(tmp_path / "dynamic"), static)
    (name,) = _said(tmp_path / "old")
    assert _said(tmp_path / "old")[name] == {"chain": {"middlewares": []}}
    for point in ("web", "websecure"):
        assert static["entryPoints"][point]["http"]["middlewares"] == [f"{name}@file"]
    assert "http" not in static["entryPoints"]["metrics"]
    assert (tmp_path / "dynamic" / FOLDER).is_dir()


def test_new_connections_turn_first_then_the_old_are_asked_to_move_and_waited_for(
    tmp_path: Path, told: list[str]
) -> None:
    handover.prepare(str(tmp_path / "old"), str(tmp_path / "dynamic"), {"entryPoints": {}})

    def ask(one: dict[str, Any], path: str) -> dict[str, Any]:
        told.append(f"asks {one['Id']}")
        return next(iter(_said(tmp_path / "old").values()))

    made = Handover(Engine(), str(tmp_path), POINTS, ask)  # type: ignore[arg-type]
    made.hold([OLD])
    made.make([OLD], NEW, 5.0)
    looks = "looks at [7] [80, 443, 9]"
    assert told == ["hold 7", "turn 8 [80, 443, 9]", "asks old", looks, looks, looks]
    (middleware,) = _said(tmp_path / "old").values()
    assert middleware == {"headers": {"customResponseHeaders": {"Connection": "close"}}}
    assert (tmp_path / "dynamic/look-again").exists()  # what has Traefik read it


def test_a_proxy_that_can_not_say_farewell_or_keeps_its_connections_is_waited_for_no_longer_than_said(
    tmp_path: Path, told: list[str]
) -> None:
    (tmp_path / "old").mkdir()  # started by an older Longshore
    made = Handover(Engine(), str(tmp_path), POINTS, lambda one, path: None)  # type: ignore[arg-type]
    made.make([OLD], NEW, 0.0)
    assert told == ["turn 8 [80, 443, 9]"]
    assert not (tmp_path / "dynamic").exists()
