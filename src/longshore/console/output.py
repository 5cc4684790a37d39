"""Where everything that is shown goes through: one object a run, of one of three kinds.

On a terminal, rows that change in place; elsewhere, plain lines; with ``--json``, JSON lines on standard
output and nothing else there. Every string is masked on its way out.
"""

from __future__ import annotations

import io
import json
import os
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TextIO

from longshore.console.masks import Masks, remember
from longshore.errors import AgentError, HookError, LongshoreError, Problems

_PAUSES = {"pulling": 5.0, "canary": 10.0, "mirror": 10.0}


class Output(Protocol):
    """What tasks and rollouts say things to. Safe to call from several threads."""

    masks: Masks
    deserted: bool
    """Nobody reads any more (``… | head``), or the disk is full. What is said then goes nowhere, and nothing
    stops for it."""

    def say(self, text: str) -> None:
        """A sentence for a person. Programs don't get it."""

    def step(self, host: str, state: str, detail: str = "", **facts: Any) -> None:
        """What a host is doing now. ``facts`` are for programs."""

    def log(self, host: str, service: str, text: str, **facts: Any) -> None:
        """A line that a container has written. ``facts`` are for programs."""

    def expect_logs(self, names: Iterable[tuple[str, str]]) -> None:
        """The hosts and services whose lines will come, so that they stand below each other."""

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]], title: str = "") -> None:
        """Rows for a person. Programs get :meth:`result`."""

    def result(self, value: Any) -> None:
        """The run's outcome as JSON, for programs."""

    def error(self, error: LongshoreError) -> None:
        """What was wrong, where, and what to do; for a failed container its last log lines."""

    def close(self) -> None:
        """Leave the terminal as it was."""


def make_output(*, as_json: bool = False, stream: TextIO | None = None) -> Output:
    """The kind that fits: JSON when asked, live rows on a terminal, plain lines elsewhere."""
    # Python has no standard output where it was closed (`>&-`).
    out = stream or sys.stdout or Path(os.devnull).open("w")  # noqa: SIM115 - until the process ends
    # A terminal that isn't UTF-8 shows a ? for what it hasn't; it doesn't end a deploy.
    if isinstance(out, io.TextIOWrapper):
        out.reconfigure(errors="replace")
    if as_json:
        return JsonOutput(out)
    if out.isatty():
        return LiveOutput(out)
    return PlainOutput(out)


class _Base:
    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self._masks = Masks()
        self.deserted = False
        self._lock = threading.Lock()

    @property
    def masks(self) -> Masks:
        """The secrets that this run knows."""
        return self._masks

    @masks.setter
    def masks(self, masks: Masks) -> None:
        self._masks = masks
        remember(masks)

    def _line(self, text: str) -> None:
        self._raw(self.masks.text(text))

    def _raw(self, text: str) -> None:
        with self._lock:
            try:
                self.stream.write(text + "\n")
                self.stream.flush()
            except OSError as error:
                if not isinstance(error, BrokenPipeError):  # a full disk under a log
                    sys.stderr.write(f"error: what is said can't be written: {error.strerror}.\n")
                self.deserted = True
                # Python's own last flush must not complain, either.
                os.dup2(os.open(os.devnull, os.O_WRONLY), self.stream.fileno())

    def close(self) -> None:
        """Nothing to put back."""


class JsonOutput(_Base):
    """JSON lines: ``{"event": "step" | "log" | "result" | "error", …}``."""

    def say(self, text: str) -> None:
        """People's words are not for programs."""

    def step(self, host: str, state: str, detail: str = "", **facts: Any) -> None:
        self._json({"event": "step", "host": host, "state": state, "detail": detail, **facts})

    def log(self, host: str, service: str, text: str, **facts: Any) -> None:
        self._json({"event": "log", "host": host, "service": service, "line": text, **facts})

    def expect_logs(self, names: Iterable[tuple[str, str]]) -> None:
        """Only people look at columns."""

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]], title: str = "") -> None:
        """Tables are for people."""

    def result(self, value: Any) -> None:
        self._json({"event": "result", "value": value})

    def error(self, error: LongshoreError) -> None:
        for one in error.problems if isinstance(error, Problems) else (error,):
            self._json({"event": "error", **error_json(one)})

    def _json(self, value: Mapping[str, Any]) -> None:
        # Masked before it is encoded: a quote in a secret would be written as \" and not be found.
        self._raw(json.dumps(self.masks.value(value), default=str))


def error_json(error: LongshoreError) -> dict[str, Any]:
    """An error's parts: ``message``, ``where``, ``hint``, and an agent's ``code`` and ``detail``."""
    value: dict[str, Any] = {
        "message": error.message,
        "where": str(error.where) if error.where else None,
        "hint": error.hint,
    }
    if isinstance(error, AgentError):
        value |= {"code": error.code, "detail": error.detail}
    if isinstance(error, HookError):
        value |= {"code": "hook-failed", "detail": {"hook": error.hook, "log": list(error.log)}}
    return value


class PlainOutput(_Base):
    """A line for each thing that happens; no colours, nothing that moves."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._width = 0
        self._told: dict[tuple[str, str], float] = {}

    def say(self, text: str) -> None:
        self._line(text)

    def _is_due(self, host: str, state: str) -> bool:
        """Progress in bytes or requests is for those who watch; a log gets a line each few seconds."""
        pause, now = _PAUSES.get(state, 0.0), time.monotonic()
        due = now - self._told.get((host, state), -pause) >= pause
        if due and pause:
            self._told[(host, state)] = now
        return due

    def step(self, host: str, state: str, detail: str = "", **facts: Any) -> None:
        if not self._is_due(host, state):
            return
        self._width = max(self._width, len(host))
        self._line(f"{host:<{self._width}}  {state}{'  ' + detail if detail else ''}")

    def log(self, host: str, service: str, text: str, **facts: Any) -> None:
        self._line(f"{self._prefix(host, service)} {text}")

    def expect_logs(self, names: Iterable[tuple[str, str]]) -> None:
        for host, service in names:
            self._prefix(host, service)

    def _prefix(self, host: str, service: str) -> str:
        """``host service |``, as wide as the widest so far."""
        name = f"{host} {service}".rstrip()
        self._width = max(self._width, len(name))
        return f"{name:<{self._width}} |"

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]], title: str = "") -> None:
        widths = [max(len(str(row[at])) for row in [columns, *rows]) for at in range(len(columns))]
        if title:
            self._line(title)
        for row in [columns, *rows]:
            self._line(
                "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
            )

    def result(self, value: Any) -> None:
        """Programs ask with ``--json``."""

    def error(self, error: LongshoreError) -> None:
        for line in error_lines(error):
            with self._lock:
                sys.stderr.write(self.masks.text(line) + "\n")
        sys.stderr.flush()


def error_lines(error: LongshoreError) -> list[str]:
    """An error as lines: the sentence, and under it what a failed container said last."""
    if isinstance(error, Problems):
        return [line for one in error.problems for line in error_lines(one)]
    lines = [f"error: {error}"]
    if isinstance(error, HookError) and error.log:
        lines += [f"  the last lines of {error.hook}:", *(f"  | {line}" for line in error.log)]
    if isinstance(error, AgentError):
        log = error.detail.get("log")
        if isinstance(log, list) and log:
            lines.append(
                f"  the last lines of {error.detail.get('container') or error.detail.get('service')}:"
            )
            lines += [f"  | {line}" for line in log]
        output = error.detail.get("health_output")
        if output:
            lines.append(f"  its health check said: {output}")
    return lines


class LiveOutput(PlainOutput):
    """A row per host that changes in place, and everything else above it. Uses Rich."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        from rich.console import Console

        self._console = Console(file=stream, highlight=False)
        self._rows: dict[str, tuple[str, str, float]] = {}
        self._live: Any = None

    def say(self, text: str) -> None:
        with self._lock:
            self._console.print(self.masks.text(text), markup=False)

    def step(self, host: str, state: str, detail: str = "", **facts: Any) -> None:
        from rich.live import Live

        with self._lock:
            started = self._rows[host][2] if host in self._rows else time.monotonic()
            self._rows[host] = (self.masks.text(state), self.masks.text(detail), started)
            if self._live is None:
                # What is printed past this object is handed to it already (longshore.roles.calling).
                self._live = Live(
                    console=self._console,
                    refresh_per_second=8,
                    get_renderable=self._render,
                    redirect_stdout=False,
                    redirect_stderr=False,
                )
                self._live.start()

    def log(self, host: str, service: str, text: str, **facts: Any) -> None:
        if self._live is not None:  # the rows below must not be torn
            self.say(f"{self._prefix(host, service)} {text}")
            return
        # Written as it is: the container may have its own colours, and Rich would wrap long lines.
        if "NO_COLOR" in os.environ:
            super().log(host, service, text)
        else:
            colour = _COLOURS[zlib.crc32(f"{host} {service}".encode()) % len(_COLOURS)]
            self._line(f"\033[{colour}m{self._prefix(host, service)}\033[0m {text}\033[0m")

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]], title: str = "") -> None:
        from rich import box
        from rich.table import Table
        from rich.text import Text

        table = Table(title=title or None, box=box.SIMPLE_HEAD, title_justify="left")
        for column in columns:
            # Nothing is left out where there is room for it; a narrow terminal gets an ellipsis.
            table.add_column(column, overflow="fold" if self._console.width >= 100 else "ellipsis")
        for row in rows:
            table.add_row(*(Text(self.masks.text(cell)) for cell in row))
        with self._lock:
            self._console.print(table)

    def error(self, error: LongshoreError) -> None:
        self._stop()
        super().error(error)

    def close(self) -> None:
        self._stop()

    def _stop(self) -> None:
        with self._lock:
            if self._live is not None:
                self._live.stop()
                self._live = None
                self._rows.clear()

    def _render(self) -> Any:
        from rich.spinner import Spinner
        from rich.table import Table
        from rich.text import Text

        grid = Table.grid(padding=(0, 2))
        for host, (state, detail, started) in sorted(self._rows.copy().items()):
            done = state in FINAL
            mark: Any = Text(FINAL[state][0], style=FINAL[state][1]) if done else Spinner("dots")
            spent = "" if done else f"{time.monotonic() - started:.0f} s"
            grid.add_row(
                mark,
                Text(host, style="bold"),
                Text(state),
                Text(detail, style="dim"),
                Text(spent, style="dim"),
            )
        return grid


FINAL: Mapping[str, tuple[str, str]] = {
    "deployed": ("✓", "green"),
    "rolled back": ("✓", "green"),
    "nothing to do": ("✓", "green"),
    "restarted": ("✓", "green"),
    "started": ("✓", "green"),
    "stopped": ("✓", "green"),
    "held": ("✓", "green"),
    "released": ("✓", "green"),
    "removed": ("✓", "green"),
    "cleaned": ("✓", "green"),
    "bootstrapped": ("✓", "green"),
    "built": ("✓", "green"),
    "loaded": ("✓", "green"),
    "pushed": ("✓", "green"),
    "would change": ("~", "yellow"),
    "taken back": ("↩", "yellow"),
    "closed": ("✗", "red"),
    "failed": ("✗", "red"),
    "unchanged": ("·", "dim"),
}
"""The states in which a host or an image has nothing more to do for now, and how they are marked."""

_COLOURS = (36, 33, 32, 35, 34, 96, 93, 92, 95, 94)
"""ANSI colours for the names before log lines; the same name has the same colour in every run."""

Say = Callable[[str], None]
