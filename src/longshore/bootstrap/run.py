"""The story of one host, as the controller sees it: run the program there, and tell what it says."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import field
from typing import Any

from longshore.bootstrap import program
from longshore.bootstrap.host.apt import explain
from longshore.errors import AgentError, ConnectionLostError, HostError
from longshore.records import dataclass
from longshore.remote.session import Link

TIMEOUT = 3600.0
"""Seconds for a whole host; every step on it has a shorter time of its own."""
KEPT = 16 * 1024

Tell = Callable[[str, str], None]
"""Gets what a host does now, and a detail of it (``34 %``)."""


@dataclass(frozen=True)
class Outcome:
    """What was changed on a host, or would be. Empty ``changes``: there was nothing to do."""

    host: str
    changes: tuple[str, ...]
    notes: tuple[str, ...] = ()
    engine: str = ""
    """The running engine's version."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """By part: ``engine``, ``cli``, ``compose``, ``buildx``; empty where one isn't there (yet)."""


def bootstrap_host(link: Link, wish: Mapping[str, Any], *, python: str, tell: Tell) -> Outcome:
    """Bring one host to what ``wish`` (:func:`longshore.bootstrap.settings.wish`) says.

    ``python`` is the host's interpreter. Raises ``AgentError`` with the host's own reason and a stable code,
    ``HostError`` when it can't be reached or has no sudo.
    """
    heard = _Heard(link.host, tell)
    argv = program.command(python)
    code = heard.listen(link, argv, program.payload(wish))
    if code == 127 and not heard.ended:
        heard.missing_python()
        mode = "check" if wish["check"] else "do"
        seconds = str(int(wish["lock_timeout"]))
        heard.listen(link, ["sh", "-s", mode, seconds], program.INSTALL_PYTHON.encode())
        if wish["check"] and heard.changes:
            return heard.outcome()
        if not heard.changes:
            raise heard.no_python(python)
        code = heard.listen(link, argv, program.payload(wish))
    if heard.result is None:
        raise heard.silent(code)
    return heard.outcome()


class _Heard:
    """What a host has said so far."""

    def __init__(self, host: str, tell: Tell) -> None:
        self.changes: list[str] = []
        self.result: Mapping[str, Any] | None = None
        self.ended = False
        self._host, self._tell = host, tell
        self._notes: list[str] = []
        self._buffer = b""
        self._other = ""

    def listen(self, link: Link, argv: list[str], stdin: bytes) -> int:
        """Run a command and hear it to its end; raises what it reports as an error."""
        self._errors: list[AgentError] = []
        code = link.run(argv, stdin=stdin, on_output=self._feed, timeout=TIMEOUT)
        self._feed(b"\n")
        if self._errors:
            raise self._errors[0]
        return code

    def outcome(self) -> Outcome:
        result = self.result or {}
        return Outcome(
            host=self._host,
            changes=tuple(self.changes),
            notes=tuple(self._notes),
            engine=str(result.get("engine", "")),
            versions=dict(result.get("versions", {})),
        )

    def missing_python(self) -> None:
        """What was said so far is the shell not finding python3: no longer of interest."""
        self._other = ""

    def no_python(self, python: str) -> AgentError:
        refusal = explain(self._other, "installing python3")
        return AgentError(
            refusal.message,
            code=refusal.code,
            where=self._host,
            hint=refusal.hint,
            detail={"service": "apt-get", "log": list(refusal.log)},
        )

    def silent(self, code: int) -> HostError:
        """The program ended without a result."""
        said = self._other.strip().splitlines()
        if code == 127:
            return HostError(
                f"there is no interpreter as the inventory names it: {said[-1] if said else ''}",
                where=self._host,
                hint="Correct `ansible_python_interpreter`, or leave it out.",
            )
        if "SyntaxError" in self._other or "ImportError" in self._other or "ModuleNotFound" in self._other:
            return HostError(
                f"the host's python is too old, or not whole: {said[-1]}",
                where=self._host,
                hint="python3 3.9 or newer is needed.",
            )
        done = f" It had done: {'; '.join(self.changes)}." if self.changes else ""
        return ConnectionLostError(
            f"bootstrap ended early (exit code {code}): {said[-1] if said else 'it said nothing'}.",
            where=self._host,
            hint=f"Run it again: it goes on where it stopped.{done}",
        )

    def _feed(self, chunk: bytes) -> None:
        *lines, self._buffer = (self._buffer + chunk).split(b"\n")
        for line in lines:
            self._hear(line.decode(errors="replace"))

    def _hear(self, line: str) -> None:
        message = _parse(line)
        kind = message.get("type")
        if kind == "step":
            self._tell(str(message.get("text")), str(message.get("detail") or ""))
        elif kind == "change":
            self.changes.append(str(message.get("text")))
        elif kind == "note":
            self._notes.append(str(message.get("text")))
        elif kind == "result":
            self.ended, self.result = True, message
        elif kind == "error":
            self.ended = True
            self._errors.append(self._error(message))
        elif line.strip():
            self._other = (self._other + line + "\n")[-KEPT:]

    def _error(self, message: Mapping[str, Any]) -> AgentError:
        done = f"Done before that: {'; '.join(self.changes)}." if self.changes else ""
        hint = str(message.get("hint") or "")
        detail: dict[str, object] = {"changes": list(self.changes)}
        if message.get("log"):
            detail |= {"service": _speaker(str(message.get("code"))), "log": list(message["log"])}
        return AgentError(
            str(message.get("message")),
            code=str(message.get("code")),
            where=self._host,
            hint=" ".join(text for text in (hint, done) if text),
            detail=detail,
        )


def _speaker(code: str) -> str:
    """Whose last lines come with an error of this code."""
    return {"engine_down": "the engine's log", "internal": "the program"}.get(code, "apt-get")


def _parse(line: str) -> dict[str, Any]:
    if not line.startswith("{"):
        return {}
    try:
        message = json.loads(line)
    except ValueError:
        return {}
    return message if isinstance(message, dict) else {}
