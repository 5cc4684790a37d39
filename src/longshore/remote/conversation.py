"""The conversation with the agent, over any pair of byte streams: SSH and local links share it.

What goes over the wire is in :mod:`longshore.agent.wire`; how the agent gets onto the host in
:mod:`longshore.remote.starter`.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from longshore.agent import wire
from longshore.errors import AgentError, ConnectionLostError, HostError, LongshoreError
from longshore.remote.become import Password
from longshore.remote.program import Program
from longshore.remote.session import Event

ERRORS_KEPT = 8 * 1024
_BEAT = json.dumps({"op": wire.BEAT}).encode() + b"\n"
_SMALL = 16 * 1024
"""Bytes of a payload that go with their request."""
START_TIMEOUT = 60.0
"""Seconds that a host has to start python3; a busy small one takes several."""


class Stream(Protocol):
    """Bytes to and from one command on a host."""

    def send(self, data: bytes | memoryview) -> None:
        """Send all of ``data``. Raises ``OSError`` when the other side is gone."""

    def receive(self, timeout: float | None) -> bytes:
        """Some bytes of standard output, b"" at its end. ``TimeoutError`` after that many silent seconds."""

    def split_errors(self) -> None:
        """From now on, standard error is kept apart. Before, it comes with standard output."""

    def errors(self) -> bytes:
        """What has come on standard error since the last call."""

    def exit_code(self) -> int | None:
        """The command's exit code, once it is known."""

    def ended(self) -> bool:
        """Whether the other side has ended it, as far as is known without waiting."""

    def close(self) -> None:
        """End the command's input, and the stream."""


class AgentSession:
    """A :class:`longshore.remote.session.Session` over a stream. One thread at a time."""

    def __init__(self, host: str, stream: Stream) -> None:
        self.host = host
        self.agent: Mapping[str, Any] = {}
        """The agent's greeting: ``protocol``, ``agent``, ``python``."""
        self._stream = stream
        self._buffer = bytearray()
        self._scanned = 0
        self._errors = bytearray()
        self._last_id = 0
        self._broken = ""
        self._sending = threading.Lock()

    @classmethod
    def started(
        cls, host: str, stream: Stream, program: Program, *, password: Password | None
    ) -> AgentSession:
        """A session whose agent is up; the stream is closed where that fails. Raises as :meth:`start`."""
        session = cls(host, stream)
        try:
            session.start(program, password=password)
        except BaseException:
            session.close()
            raise
        return session

    def start(self, program: Program, *, password: Password | None = None) -> None:
        """Bring the agent up: give sudo its password if it asks, send the agent if the host lacks it."""
        # Until the greeting, anything may come: a login script's chatter, sudo's prompt, "not found".
        while True:
            line = self._line(START_TIMEOUT, password)
            if line is None:
                raise self._start_failed(password)
            message = _parse(line)
            kind = message.get("type")
            if kind == "need":
                self._send(b"%d\n" % len(program.compressed))
                self._send(program.compressed)
            elif kind == "refused":
                raise AgentError(
                    str(message.get("message")),
                    code=str(message.get("code")),
                    where=self.host,
                    hint=str(message.get("hint") or ""),
                )
            elif kind == "hello":
                break
            else:
                self._note_errors(line + b"\n")
        self._stream.split_errors()
        self._errors.clear()
        self.agent = message
        if message.get("protocol") != wire.PROTOCOL:
            raise HostError(
                f"the agent speaks protocol {message.get('protocol')}, this Longshore {wire.PROTOCOL}.",
                where=self.host,
                hint="Use the same version of Longshore everywhere.",
            )

    def call(
        self,
        op: str,
        args: Mapping[str, Any] | None = None,
        *,
        payload: bytes | memoryview = b"",
        on_event: Callable[[Event], None] | None = None,
        timeout: float | None = None,
    ) -> Any:
        """See :class:`longshore.remote.session.Session`."""
        if self._broken:
            raise ConnectionLostError(self._broken, where=self.host)
        self._last_id += 1
        number = self._last_id
        request = wire.Request(id=number, op=op, args=dict(args or {}), payload=len(payload))
        try:
            with self._sending:  # a heartbeat must not come between a request and its payload
                asked = json.dumps(request, separators=(",", ":")).encode() + b"\n"
                if len(payload) <= _SMALL:  # one packet instead of two, each with its cipher and its wake-ups
                    self._send(asked + payload)
                else:
                    self._send(asked)
                    self._send(memoryview(payload))
            while True:
                line = self._line(timeout)
                if line is None:
                    raise self._lost(f"the agent ended while it worked on `{op}`")
                message = _parse(line)
                if not message:
                    self._note_errors(line + b"\n")
                elif message.get("id") != number:
                    continue  # left over from a call that an exception of ``on_event`` ended
                elif message.get("type") == "event":
                    if on_event is not None:
                        on_event(message)
                elif message.get("type") == "result":
                    return message.get("value")
                else:
                    raise _agent_error(self.host, message)
        except TimeoutError as error:
            raise self._lost(f"the agent said nothing for {timeout:g} s while it worked on `{op}`") from error
        except OSError as error:
            raise self._lost(f"the connection broke while the agent worked on `{op}`") from error

    def beat(self) -> None:
        """See :class:`longshore.remote.session.Session`."""
        if self._broken or not self._sending.acquire(blocking=False):
            return  # a request is being sent: that is a sign of life, too
        try:
            self._stream.send(_BEAT)
        except OSError:
            pass  # the call that waits for an answer says that the connection broke
        finally:
            self._sending.release()

    def alive(self) -> bool:
        """See :class:`longshore.remote.session.Session`."""
        return not self._broken and not self._stream.ended()

    def close(self) -> None:
        """End the session. The agent then finishes or undoes what it had begun."""
        self._broken = self._broken or "the session is closed."
        with contextlib.suppress(OSError):
            self._stream.close()

    def _send(self, data: bytes | memoryview) -> None:
        try:
            self._stream.send(data)
        except OSError:
            # The agent may have said why before it went; that is worth more than "broken pipe".
            if not self._read_rest():
                raise

    def _read_rest(self) -> bool:
        with contextlib.suppress(OSError):
            while chunk := self._stream.receive(2.0):
                self._buffer += chunk
        return bool(self._buffer)

    def _line(self, timeout: float | None, password: Password | None = None) -> bytes | None:
        """The next line without its end, or None at the end of the output."""
        while (end := self._buffer.find(b"\n", self._scanned)) < 0:
            self._scanned = len(self._buffer)
            if password is not None and password.prompted(self._buffer):
                self._buffer.clear()
                self._scanned = 0
                self._stream.send(password.answer(self.host))
                continue
            chunk = self._stream.receive(timeout)
            self._note_errors(self._stream.errors())
            if not chunk:
                self._note_errors(bytes(self._buffer))
                self._buffer.clear()
                self._scanned = 0
                return None
            self._buffer += chunk
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        self._scanned = 0
        return line

    def _note_errors(self, data: bytes) -> None:
        self._errors += data
        del self._errors[:-ERRORS_KEPT]

    def _said(self) -> str:
        lines = self._errors.decode(errors="replace").strip().splitlines()
        return lines[-1].strip() if lines else ""

    def _lost(self, what: str) -> ConnectionLostError:
        self._note_errors(self._stream.errors())
        code = self._stream.exit_code()
        said = self._said()
        if code is not None:
            what += f" (exit code {code})"
        self._broken = f"{what}: {said}" if said else f"{what}."
        return ConnectionLostError(
            self._broken,
            where=self.host,
            hint="What it had begun it finishes or undoes by itself; `invoke status` shows the outcome.",
        )

    def _start_failed(self, password: Password | None) -> LongshoreError:
        code = self._stream.exit_code()
        said = self._said()
        if password is not None and (sudo := password.explain(self._errors.decode(errors="replace"))):
            return HostError(sudo[0], where=self.host, hint=sudo[1])
        if code == 127 or "not found" in said:
            return HostError(
                f"no python3 on the host ({said})." if said else "no python3 on the host.",
                where=self.host,
                hint="Install it (`apt-get install python3`) or run `invoke bootstrap`.",
            )
        detail = f" (exit code {code}): {said}" if said else f" (exit code {code})."
        return HostError(f"the agent did not start{detail}", where=self.host)


def _parse(line: bytes) -> dict[str, Any]:
    """A message of the agent, or {} for anything else that was written to its output."""
    if not line.startswith(b"{"):
        return {}
    try:
        message = json.loads(line)
    except ValueError:
        return {}
    return message if isinstance(message, dict) else {}


def _agent_error(host: str, message: Mapping[str, Any]) -> AgentError:
    detail = message.get("detail")
    return AgentError(
        str(message.get("message") or "the agent failed without saying why."),
        code=str(message.get("code") or wire.INTERNAL),
        where=host,
        hint=str(message.get("hint") or ""),
        detail=detail if isinstance(detail, dict) else {},
    )
