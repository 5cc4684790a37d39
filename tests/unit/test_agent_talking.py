"""An agent's session: when it takes its controller for lost, and when it doesn't."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest

from longshore.agent.talking import Talking

Pipe = tuple[IO[bytes], IO[bytes]]


class Session(Talking):
    """One that answers each request with the size of its payload, and has something that must not stay."""

    beats = 0

    def handle(self, op: str, args: dict[str, Any], payload: bytes) -> Any:
        if op == "talkative":
            for _ in range(args["lines"]):
                self.emit("output", line="x" * 1000)
        return len(payload)

    def beat(self) -> None:
        self.beats += 1

    def is_bound(self) -> bool:
        return True

    def answered(self, op: str) -> None:
        """Nothing follows."""

    def masked(self, told: dict[str, Any]) -> dict[str, Any]:
        return told


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as theirs, os.fdopen(writing, "wb", buffering=0) as ours:
        yield theirs, ours


def test_a_payload_that_takes_longer_than_the_lease_is_a_sign_of_life(pipe: Pipe) -> None:
    stdin, controller = pipe
    out = io.BytesIO()
    session = Session("1", stdin, out)
    session.lease = 0.5
    thread = threading.Thread(target=session.talk)
    thread.start()
    controller.write(b'{"id": 1, "op": "stage", "payload": 131072}\n')
    for _ in range(8):
        time.sleep(0.2)
        controller.write(b"x" * 16384)
    deadline = time.monotonic() + 5
    while b"result" not in out.getvalue() and thread.is_alive() and time.monotonic() < deadline:
        time.sleep(0.01)
    controller.close()
    thread.join(5)
    assert json.loads(out.getvalue().splitlines()[-1]) == {"id": 1, "type": "result", "value": 131072}
    assert session.beats  # who waits for the lock is told that its owner lives


def test_a_request_whose_payload_was_cut_off_is_not_carried_out() -> None:
    out = io.BytesIO()
    session = Session("1", io.BytesIO(b'{"id": 1, "op": "hook", "payload": 100}\n#!/bin/sh\n'), out)
    session.talk()
    assert [json.loads(line)["type"] for line in out.getvalue().splitlines()] == ["hello"]


@pytest.mark.parametrize("sent", [b"[1]\n", b'{"id": 1, "op": "x", "payload": []}\n', b"\xff\n"])
def test_what_is_no_request_ends_the_session(sent: bytes) -> None:
    session = Session("1", io.BytesIO(sent), io.BytesIO())
    thread = threading.Thread(target=session.talk, daemon=True)
    thread.start()
    thread.join(5)
    assert session.gone.is_set() and not thread.is_alive()


def test_a_controller_that_reads_nothing_is_not_waited_for_when_its_lease_is_over(pipe: Pipe) -> None:
    nobody_reads, stdout = pipe
    request = b'{"id": 1, "op": "talkative", "args": {"lines": 500}}\n'
    reading, writing = os.pipe()
    session = Session("1", os.fdopen(reading, "rb"), stdout)
    session.lease = 0.5
    os.write(writing, request)
    thread = threading.Thread(target=session.talk, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    os.close(writing)
    assert nobody_reads.read(4) == b'{"ty'


def test_what_is_longer_than_a_pipe_holds_comes_as_a_whole(pipe: Pipe) -> None:
    theirs, stdout = pipe
    session = Session("1", io.BytesIO(), stdout)
    thread = threading.Thread(target=session.say, args=({"value": "x" * 300_000},), daemon=True)
    thread.start()
    assert json.loads(theirs.readline()) == {"value": "x" * 300_000}
    thread.join(5)


def test_an_agent_whose_lease_is_over_ends_in_order_though_the_connection_is_still_there(
    tmp_path: Path,
) -> None:
    program = "import sys; from longshore.agent.main import main; sys.exit(main(sys.argv[1:]))"
    agent = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path), "0" * 16],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert agent.stdin and agent.stdout and agent.stderr
    lock = {"id": 1, "op": "lock", "args": {"app": "shop", "run": "r1", "by": "ann", "lease": 0.2}}
    agent.stdin.write(json.dumps(lock).encode() + b"\n")
    agent.stdin.flush()
    said = agent.stdout.read().splitlines()
    assert json.loads(said[-1])["type"] == "result"
    # Not by SIGABRT, with which Python ends itself where a thread is in the middle of a read: a core dump has
    # all that the agent had in memory, and its parent would take it for killed.
    assert (agent.wait(10), agent.stderr.read()) == (0, b"")
    agent.stdin.close()
