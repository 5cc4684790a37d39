"""``python -m tests.faults.controller deploy …``: Longshore as it is typed, but it can be stopped on its way.

The environment variable ``LONGSHORE_FAULTS`` (JSON) says how: ``folder`` is where ``reached`` is written and
``open`` waited for, ``at`` the place: ``smoke``, ``between commits``, or ``before OP``. ``lease`` (seconds)
makes the hosts give up a silent controller sooner than the usual 30 s. And the agent that it sends has gates
(:mod:`tests.faults.gates`).
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import longshore.agent
import longshore.verify
from longshore.agent import wire
from longshore.remote import program
from longshore.remote.conversation import AgentSession
from longshore.rollout.rollout import Rollout

LONGEST = 90.0


class Gate:
    """The one place at which this controller stops."""

    def __init__(self, at: str, folder: Path) -> None:
        self.at = at
        self.folder = folder
        self._once = threading.Lock()

    def stop(self, name: str) -> None:
        """Wait here if this is the place; whoever else comes by waits, too."""
        if name != self.at:
            return
        with self._once:
            self.folder.joinpath("reached").touch()
            until = time.monotonic() + LONGEST
            while not self.folder.joinpath("open").exists() and time.monotonic() < until:
                time.sleep(0.01)


def send_gates() -> None:
    """The agent that this controller sends stops at gates."""
    with tempfile.TemporaryDirectory(prefix="longshore-gates-") as name:
        folder = Path(name)
        assert longshore.agent.__file__
        for module in Path(longshore.agent.__file__).parent.glob("*.py"):
            shutil.copy(module, folder)
        shutil.copy(Path(__file__).with_name("gates.py"), folder)
        with folder.joinpath("main.py").open("a") as main:
            main.write("\n\nfrom longshore.agent import gates\n\ngates.install()\n")
        packed = program.pack(folder)
    program._agent = lambda: packed  # type: ignore[assignment]


def stop_in_calls(gate: Gate) -> None:
    """Stop before a request, and between two hosts' commits: the second waits until the first is done."""
    real = AgentSession.call
    first_is_done = threading.Event()
    order = threading.Lock()
    commits: list[str] = []

    def call(self: AgentSession, op: str, args: Mapping[str, Any] | None = None, **more: Any) -> Any:
        gate.stop(f"before {op}")
        if op != wire.COMMIT or gate.at != "between commits":
            return real(self, op, args, **more)
        with order:
            commits.append(self.host)
            first = len(commits) == 1
        if not first:
            first_is_done.wait(LONGEST)
            gate.folder.joinpath("second").write_text(self.host)
            gate.stop("between commits")
        try:
            return real(self, op, args, **more)
        finally:
            first_is_done.set()

    AgentSession.call = call  # type: ignore[method-assign]


def stop_at_smoke(gate: Gate) -> None:
    """Stop when every host is healthy, before the smoke tests."""
    real = longshore.verify.run_checks

    def run_checks(*args: Any, **more: Any) -> Any:
        gate.stop("smoke")
        return real(*args, **more)

    longshore.verify.run_checks = run_checks


def shorten_lease(lease: float) -> None:
    """Hosts give a silent controller up after so many seconds."""
    real = Rollout.__init__

    def init(self: Rollout, story: Any, *args: Any, **more: Any) -> None:
        real(self, dataclasses.replace(story, lease=lease), *args, **more)

    Rollout.__init__ = init  # type: ignore[method-assign]


def main() -> None:
    """Put everything in, and be Longshore."""
    how = json.loads(os.environ["LONGSHORE_FAULTS"])
    gate = Gate(how["at"], Path(how["folder"]))
    send_gates()
    stop_in_calls(gate)
    stop_at_smoke(gate)
    shorten_lease(float(how["lease"]))
    from longshore.tasks import main as longshore_main

    longshore_main()


if __name__ == "__main__":
    main()
