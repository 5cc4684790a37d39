"""Running the machine's own programs, and remembering which processes are ours.

A process is remembered by id *and* start time, since an id may be given to another process later.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from longshore.errors import LongshoreError
from longshore.records import dataclass


class LabError(LongshoreError):
    """A practice host can't be made, used or removed."""


def run(
    argv: Sequence[str | Path],
    *,
    stdin: str | bytes | None = None,
    check: bool = True,
    timeout: float | None = None,
    env: Mapping[str, str] | None = None,
    log: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a program and return it when it is done; its output is text.

    With ``log`` the output goes to that file instead (appended). ``timeout`` is in seconds; ``env`` is
    added to the environment. Raises ``LabError`` with the end of its output when it fails and ``check``
    is set, and always when it isn't installed or takes longer than ``timeout``.
    """
    words = [str(word) for word in argv]
    environment = {**os.environ, **env} if env else None
    try:
        if log is None:
            raw = subprocess.run(
                words,
                input=stdin.encode() if isinstance(stdin, str) else stdin,
                capture_output=True,
                timeout=timeout,
                env=environment,
                stdin=None if stdin is not None else subprocess.DEVNULL,
            )
            out, err = (part.decode(errors="replace") for part in (raw.stdout, raw.stderr))
            done = subprocess.CompletedProcess(words, raw.returncode, out, err)
        else:
            with log.open("a") as output:
                done = subprocess.run(
                    words,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    text=True,
                    timeout=timeout,
                    env=environment,
                )
    except FileNotFoundError as missing:
        raise LabError(f"The program '{words[0]}' isn't installed on this machine.") from missing
    except subprocess.TimeoutExpired as slow:
        raise LabError(f"'{words[0]}' was not done after {timeout:g} s.") from slow
    if check and done.returncode != 0:
        said = log.read_text(errors="replace") if log else f"{done.stdout}\n{done.stderr}"
        tail = " / ".join(line.strip() for line in said.strip().splitlines()[-4:])
        hint = f"All of its output is in {log}." if log else ""
        raise LabError(f"'{' '.join(words[:4])}' failed ({done.returncode}): {tail}", hint=hint)
    return done


@dataclass(frozen=True)
class Process:
    """A process of this machine: its id, and when it started in clock ticks since the machine did."""

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> Process | None:
        """The process that has this id now; ``None`` when there is none or it is a zombie."""
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            return None
        # The second field is the program's name in brackets and may hold spaces and brackets itself.
        fields = stat.rpartition(")")[2].split()
        return None if fields[0] in "ZX" else cls(pid, int(fields[19]))

    def alive(self) -> bool:
        """Whether this very process still runs."""
        return Process.of(self.pid) == self

    def kill(self, *, timeout: float = 10.0) -> None:
        """End it with SIGKILL and wait until it is gone; one that is gone already is left alone.

        Raises ``LabError`` when it is still there after ``timeout`` seconds.
        """
        if self.alive():
            try:
                os.kill(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                return
        if not wait_until(lambda: not self.alive(), timeout=timeout):
            raise LabError(f"Process {self.pid} is still there {timeout:g} s after SIGKILL.")


def wait_until(true: Callable[[], bool], *, timeout: float, pause: float = 0.05) -> bool:
    """Ask until the answer is yes, for ``timeout`` seconds; returns whether it ever was."""
    end = time.monotonic() + timeout
    while not true():
        if time.monotonic() >= end:
            return False
        time.sleep(pause)
    return True
