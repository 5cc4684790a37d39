"""A hook of the project on this host: a script that came with the request, run once and removed."""

import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
from typing import Any, Callable, Dict, List, Optional

from longshore.agent import wire
from longshore.agent.compose import clean_environment
from longshore.agent.fail import Refusal
from longshore.agent.health import Emit
from longshore.agent.shorten import CUT, first
from longshore.agent.store import AppStore

_PREFIX = ".hook-"
_TAIL = 20
_LONGEST_LINE = 4000
_CUT = CUT.encode()
_LOOK = 0.2
"""Seconds between two looks at whether the controller is still there."""
_LEFT_OPEN = 1.0
"""Seconds that output is waited for once the hook has ended: what it left running may hold it open."""


def run_hook(
    store: AppStore, args: Dict[str, Any], script: bytes, emit: Emit, given_up: Callable[[], bool]
) -> Dict[str, Any]:
    """``hook`` (its path in the project), ``env`` (``LONGSHORE_…``), ``timeout`` (s); the payload is it.

    It runs in the app's folder, in a process group of its own, without input; its lines are events. When it
    is out of time, or the controller has gone (``given_up``), the group is killed. Gives ``seconds``. Raises
    ``Refusal`` when it fails.
    """
    hook = str(args["hook"])
    store.make()
    _sweep(store.root)
    folder = tempfile.mkdtemp(prefix=_PREFIX, dir=store.root)
    try:
        path = os.path.join(folder, os.path.basename(hook) or "hook")
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o700)
        with os.fdopen(handle, "wb") as out:
            out.write(script)
        started = time.monotonic()
        process = _start(path, hook, script, store.root, dict(args.get("env") or {}))
        told = _Lines(emit)
        timeout = float(args["timeout"])
        try:
            how = _wait(process, told, started + timeout, timeout, given_up)
        finally:
            _kill(process)
        told.end()
        if how:
            raise Refusal(wire.HOOK_FAILED, f"the hook {hook} {how}", "", {"log": told.tail, "service": hook})
        return {"seconds": round(time.monotonic() - started, 3)}
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _sweep(root: str) -> None:
    """What a hook left here when the host lost its power."""
    for name in os.listdir(root):
        if name.startswith(_PREFIX):
            shutil.rmtree(os.path.join(root, name), ignore_errors=True)


def _start(path: str, hook: str, script: bytes, cwd: str, env: Dict[str, Any]) -> "subprocess.Popen[bytes]":
    told = {name: str(value) for name, value in env.items() if name.startswith("LONGSHORE_")}
    try:
        return subprocess.Popen(
            [path],
            cwd=cwd,
            env={**clean_environment(), **told},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except PermissionError:
        raise Refusal(
            wire.HOOK_FAILED,
            f"the hook {hook} may not be executed in {cwd}",
            "Is that file system mounted with noexec? Set longshore.state_dir to another one.",
        ) from None
    except OSError as error:
        program = script.split(b"\n", 1)[0][2:].decode("utf-8", "replace").strip()
        missing = isinstance(error, FileNotFoundError)
        why = f"its interpreter is not on this host ({program})" if missing else str(error.strerror or error)
        raise Refusal(wire.HOOK_FAILED, f"the hook {hook} can't be started: {why}") from None


class _Lines:
    """Hands on whole lines as they come, and keeps the last ones."""

    def __init__(self, emit: Emit) -> None:
        self.emit = emit
        self.tail: List[str] = []
        self.rest = b""

    def add(self, data: bytes) -> None:
        *whole, self.rest = (self.rest + data).split(b"\n")
        for line in whole:
            self._line(line)
        while len(self.rest) > _LONGEST_LINE:
            at = _LONGEST_LINE - len(_CUT)
            while self.rest[at] & 0xC0 == 0x80:  # not in the middle of a character
                at -= 1
            self._line(self.rest[:at] + _CUT)
            self.rest = _CUT + self.rest[at:]

    def end(self) -> None:
        if self.rest:
            self._line(self.rest)
            self.rest = b""

    def _line(self, line: bytes) -> None:
        text = first(line.decode("utf-8", "replace").rstrip("\r"), _LONGEST_LINE)
        self.tail.append(text)
        del self.tail[:-_TAIL]
        self.emit("hook", line=text)


def _wait(
    process: "subprocess.Popen[bytes]",
    told: _Lines,
    until: float,
    timeout: float,
    given_up: Callable[[], bool],
) -> str:
    """Read what it says until it has ended. Gives what was wrong, empty when it exited with 0."""
    assert process.stdout is not None
    stream = process.stdout.fileno()
    ended: Optional[float] = None
    is_open = True
    while True:
        if is_open and select.select([stream], [], [], _LOOK)[0]:
            data = os.read(stream, 1 << 16)
            is_open = bool(data)
            told.add(data)
        elif not is_open and process.poll() is None:
            time.sleep(_LOOK / 4)
        now = time.monotonic()
        if ended is None and process.poll() is not None:
            ended = now
        if ended is not None and (not is_open or now - ended > _LEFT_OPEN):
            break
        if ended is None and now > until:
            return f"took longer than {timeout:g} s and was killed"
        if ended is None and given_up():
            return "was killed: the controller has gone"
    code = process.returncode
    if code < 0:
        return f"was ended by {_signal_name(-code)}"
    return f"exited with code {code}" if code else ""


def _kill(process: "subprocess.Popen[bytes]") -> None:
    """End all of its group; after a good end that is nobody, or what it left running on purpose."""
    if process.poll() is None:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
