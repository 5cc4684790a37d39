"""The agent's side of the conversation with the controller: requests in, events and results out, as lines of
JSON on the connection (:mod:`longshore.agent.wire`). :mod:`longshore.agent.main` carries them out.
"""

import json
import queue
import sys
import threading
import time
from typing import IO, Any, Dict, Optional, Tuple

from longshore.agent import wire
from longshore.agent.engine import EngineError
from longshore.agent.fail import Refusal, from_os_error

_TICK = 1.0
_PROGRESS = ("compose", "pull")
_STATES = ("stage", "verify", "health")
"""What is progress, too, where there are many hosts; that a step is over is told in any case."""
_WRITTEN = ("line", "lines", "message", "output")
"""The facts of an event that programs wrote, and not the agent."""
PROGRESS_PAUSE = 0.2
_OF_MANY = 1.0
"""Seconds between two lines of one host from which on there are so many hosts that only a step which takes
longer has any."""


class Talking:
    """One session. Requests are read by a thread of their own, so that the end of the connection is noticed
    while a step is under way."""

    def __init__(self, version: str, stdin: IO[bytes], stdout: IO[bytes]) -> None:
        self.version = version
        self.stdin = stdin
        self.stdout = stdout
        self.answering = 0
        self.asked = 0.0
        """When the request came that is being answered (monotonic, s)."""
        self.told: Dict[str, float] = {}
        self.pause = PROGRESS_PAUSE
        self.lease = 0.0
        self.heard = time.monotonic()
        self.app = ""
        """The app of the request that is being answered."""
        self.gone = threading.Event()
        """Set when the controller has hung up."""
        self.requests: queue.Queue[Optional[Tuple[Dict[str, Any], bytes]]] = queue.Queue(maxsize=4)

    # What is done about it

    def handle(self, op: str, args: Dict[str, Any], payload: bytes) -> Any:
        """Carry out one request and return its value. Raises ``Refusal``."""
        raise NotImplementedError

    def beat(self) -> None:
        """The controller has given a sign of life; from another thread."""
        raise NotImplementedError

    def is_bound(self) -> bool:
        """Whether there is something that a silent controller must not keep."""
        raise NotImplementedError

    def answered(self, op: str) -> None:
        """A request has had its result."""
        raise NotImplementedError

    def masked(self, told: Dict[str, Any]) -> Dict[str, Any]:
        """These facts of the request's app, with its secrets masked."""
        raise NotImplementedError

    # The conversation

    def talk(self) -> None:
        """Answer requests until the controller hangs up."""
        self.say({"type": "hello", "protocol": wire.PROTOCOL, "agent": self.version,
                  "python": ".".join(map(str, sys.version_info[:3]))})  # fmt: skip
        threading.Thread(target=self._listen, daemon=True).start()
        while not self._lease_is_over():
            try:
                received = self.requests.get(timeout=_TICK)
            except queue.Empty:
                continue
            if received is None:
                break
            self.answer(*received)

    def _lease_is_over(self) -> bool:
        """Nothing was heard for too long: a connection that was cut ends without an end of file."""
        return self.is_bound() and 0 < self.lease < time.monotonic() - self.heard

    def given_up(self) -> bool:
        """Whether nobody waits for an answer any more."""
        return self.gone.is_set() or self._lease_is_over()

    def _listen(self) -> None:
        try:
            while True:
                line = self.stdin.readline()
                if not line.endswith(b"\n"):
                    break
                request = json.loads(line)
                self.heard = time.monotonic()
                if request.get("op") == wire.BEAT:
                    self.beat()
                    continue
                payload = self.stdin.read(int(request.get("payload") or 0))
                self.requests.put((request, payload))
        except (OSError, ValueError):
            pass
        self.gone.set()
        self.requests.put(None)

    def say(self, value: Dict[str, Any]) -> None:
        """Write a line. A controller that has gone is no reason to stop in the middle of a step."""
        try:
            self.stdout.write(json.dumps(value, separators=(",", ":")).encode() + b"\n")
            self.stdout.flush()
        except (OSError, ValueError):
            pass

    def emit(self, kind: str, **facts: Any) -> None:
        """An event of the request that is being answered.

        Progress is for the eye: of what comes faster than it can be read, the rest is left out. Each line
        costs the controller a third of a millisecond, and there may be fifty hosts.
        """
        many = self.pause > _OF_MANY
        if kind in _PROGRESS or (many and kind in _STATES):
            now = time.monotonic()
            if now - max(self.told.get(kind, 0.0), self.asked if many else 0.0) < self.pause:
                return
            self.told[kind] = now
        self.say({"id": self.answering, "type": "event", "kind": kind, **self._safe(facts)})

    def answer(self, request: Dict[str, Any], payload: bytes) -> None:
        self.answering = int(request.get("id", 0))
        self.asked = time.monotonic()
        self.app = ""
        try:
            value = self.handle(str(request.get("op")), dict(request.get("args") or {}), payload)
        except Refusal as refusal:
            self._say_error(refusal)
        except EngineError as error:
            self._say_error(Refusal(wire.INTERNAL, f"the Docker engine refused: {error.message}"))
        except OSError as error:
            self._say_error(from_os_error(error))
        except Exception as error:
            import traceback

            detail = {"traceback": traceback.format_exc()}
            self._say_error(
                Refusal(wire.INTERNAL, f"the agent failed: {error!r}", "Please report it.", detail)
            )
        else:
            self.say({"id": self.answering, "type": "result", "value": value})
            self.answered(str(request.get("op")))

    def _say_error(self, refusal: Refusal) -> None:
        told = {"message": refusal.message, "hint": refusal.hint, "detail": refusal.detail}
        if self.app:
            told = self.masked(told)
        self.say({"id": self.answering, "type": "error", "code": refusal.code, **told})

    def _safe(self, facts: Dict[str, Any]) -> Dict[str, Any]:
        """An event's facts, with secrets masked in what programs wrote; the rest is the agent's own words."""
        if not self.app or not any(name in facts for name in _WRITTEN):
            return facts
        return {**facts, **self.masked({name: facts[name] for name in _WRITTEN if name in facts})}
