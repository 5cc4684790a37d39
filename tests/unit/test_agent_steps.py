"""The steps of a rollout as the agent's session carries them out."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from longshore.agent import wire
from longshore.agent.fail import Refusal
from longshore.agent.main import Agent
from longshore.agent.switch import Switch

SWITCH = {"app": "shop", "release": "r2", "boot": False}


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Agent:
    """One that has the lock of shop, and whose switches always succeed."""
    made = Agent(str(tmp_path), "1", io.BytesIO(), io.BytesIO())
    made.handle(wire.LOCK, {"app": "shop", "run": "r1"}, b"")
    monkeypatch.setattr(Switch, "switch", lambda *_: {"from": "r1"})
    return made


def _kinds(agent: Agent) -> list[str]:
    out: Any = agent.stdout
    return [json.loads(line)["kind"] for line in out.getvalue().splitlines()]


def test_a_switch_is_verified_in_the_same_request(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    monkeypatch.setattr(Switch, "verify", lambda _, release, given_up: seen.append(release) or {})
    assert agent.handle(wire.SWITCH, SWITCH, b"") == {"from": "r1"}
    assert seen == []
    assert agent.handle(wire.SWITCH, {**SWITCH, "verify": True}, b"") == {"from": "r1"}
    assert seen == ["r2"]
    assert _kinds(agent) == ["verify"]


def test_one_that_is_not_good_has_switched_all_the_same_and_goes_back_with_the_session(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bad(*_: object) -> None:
        raise Refusal(wire.UNHEALTHY, "web has stopped")

    reverted: list[dict[str, Any]] = []
    monkeypatch.setattr(Switch, "verify", bad)
    monkeypatch.setattr(Switch, "revert", lambda _, facts, **more: reverted.append(facts) or {})
    with pytest.raises(Refusal, match="web has stopped"):
        agent.handle(wire.SWITCH, {**SWITCH, "verify": True}, b"")
    assert agent.begun["shop"] == {"release": "r2", "switched": True}
    agent._controller_is_gone()
    assert len(reverted) == 1


@pytest.mark.parametrize(
    ("current", "images", "told"),
    [("r1", ["web:2"], True), ("r2", ["web:2"], False), ("r1", [], False)],
    ids=["another release", "nothing to do", "not asked"],
)
def test_a_host_that_is_to_get_something_says_with_its_state_which_images_it_has(
    agent: Agent, monkeypatch: pytest.MonkeyPatch, current: str, images: list[str], told: bool
) -> None:
    asked: list[list[str]] = []
    monkeypatch.setattr("longshore.agent.main.inspect", lambda *_, **more: {"current": current, "good": True})
    monkeypatch.setattr(
        "longshore.agent.present.present", lambda engine, refs, layers: asked.append(refs) or {"refs": refs}
    )
    value = agent.handle(
        wire.INSPECT, {"app": "shop", "project": "shop", "release": "r2", "images": images}, b""
    )
    assert value.get("present") == ({"refs": images} if told else None)
    assert asked == ([images] if told else [])
