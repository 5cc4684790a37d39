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
