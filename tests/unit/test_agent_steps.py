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
