"""How often an agent tells of progress: what nobody can read costs the controller CPU, on every host."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path

import pytest

from longshore.agent import wire
from longshore.agent.main import Agent


@pytest.mark.parametrize(("pause", "told"), [(60.0, 1), (0.001, 4)])
def test_between_two_lines_of_progress_there_is_the_pause_that_the_lock_was_taken_with(
    tmp_path: Path, pause: float, told: int
) -> None:
    out = io.BytesIO()
    agent = Agent(str(tmp_path), "1", io.BytesIO(), out)
    agent.handle(wire.LOCK, {"app": "shop", "run": "r1", "pause": pause}, b"")
    for number in range(4):
        agent.emit("pull", image="a", done=number, total=9)
        agent.emit("note", message=str(number))
        time.sleep(0.002)
    agent.handle(wire.UNLOCK, {"app": "shop"}, b"")
    kinds = [json.loads(line)["kind"] for line in out.getvalue().splitlines()]
    assert kinds.count("pull") == told
    assert kinds.count("note") == 4  # what isn't progress is told, however fast it comes


@pytest.mark.parametrize(("pause", "told"), [(0.2, ["compose", "health", "health", "note"]), (6.0, ["note"])])
def test_of_many_hosts_only_a_step_that_takes_long_tells_how_it_goes(
    tmp_path: Path, pause: float, told: list[str]
) -> None:
    out = io.BytesIO()
    agent = Agent(str(tmp_path), "1", io.BytesIO(), out)
    agent.pause, agent.asked = pause, time.monotonic()
    agent.emit("compose", line="Container web Recreate")
    agent.emit("health", service="web", state="starting")
    agent.emit("health", service="web", state="healthy")
    agent.emit("note", message="that is told in any case")
    agent.asked -= 7  # it has taken so long
    agent.told.clear()
    agent.emit("health", service="web", state="restarting")
    kinds = [json.loads(line)["kind"] for line in out.getvalue().splitlines()]
    assert kinds == [*told, "health"]
