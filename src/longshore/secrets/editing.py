"""A person's editor on a file in clear, which is in nobody else's reach and doesn't outlive the edit."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from longshore.errors import LongshoreError

_PREFIX = "longshore-secrets-"
_GUARD = """
import shutil, signal, sys
for name in ("SIGHUP", "SIGINT", "SIGTERM"):
    signal.signal(getattr(signal, name), signal.SIG_IGN)
sys.stdin.buffer.read()
shutil.rmtree(sys.argv[1], ignore_errors=True)
"""
"""Waits for the end of the process that edits, however it ends, and removes the folder."""


@contextmanager
def private_folder() -> Iterator[Path]:
    """A folder that only this user can open, in memory where there is such a place.

    It is gone afterwards, also when this process is killed: another one waits for that.
    """
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=_place()))
    try:
        guard = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _GUARD, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        assert guard.stdin is not None
        guard.stdin.close()
        guard.wait()


def _place() -> str | None:
    """A folder in memory, or ``None`` for the system's folder for temporary files."""
    for name in (os.environ.get("XDG_RUNTIME_DIR", ""), "/dev/shm"):  # noqa: S108 - mkdtemp makes a 0700 folder in it
        if name and os.access(name, os.W_OK | os.X_OK) and _in_memory(name):
            return name
    return None


def _in_memory(folder: str) -> bool:
    """Whether a file system that has no disk is mounted there (Linux)."""
    with contextlib.suppress(OSError):
        best, kind = "", ""
        for line in Path("/proc/self/mounts").read_text().splitlines():
            words = line.split()
            inside = folder == words[1] or folder.startswith(words[1].rstrip("/") + "/")
            if inside and len(words[1]) >= len(best):
                best, kind = words[1], words[2]
        return kind in ("tmpfs", "ramfs")
    return False


def edit(text: str, name: str, check: Callable[[str], None]) -> str:
    """Let the person change ``text`` and return what came of it. ``name`` is the file's name in the editor.

    ``check`` raises ``LongshoreError`` for a text that can't be; the person then is asked whether to go on
    editing. Raises ``LongshoreError`` when the editor fails or the person gives up.
    """
    command = editor()
    with private_folder() as folder:
        path = folder / name
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        while True:
            _run(command, path)
            try:
                changed = path.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError):
                raise LongshoreError("What the editor left is no text; nothing was changed.") from None
            try:
                check(changed)
            except LongshoreError as problem:
                if not again(problem):
                    raise LongshoreError(f"{problem} Nothing was changed.") from None
                continue
            return changed


def editor() -> list[str]:
    """The person's editor, as words. Raises ``LongshoreError`` when there is none."""
    for name in ("VISUAL", "EDITOR"):
        if said := os.environ.get(name, "").strip():
            try:
                words = shlex.split(said)
            except ValueError as error:
                raise LongshoreError(
                    f"it is no command: {error}.", where=name, hint="As in: EDITOR='code --wait'."
                ) from None
            if shutil.which(words[0]) is None:
                raise LongshoreError(f"the editor {words[0]} is not on PATH.", where=name)
            return words
    for known in ("sensible-editor", "nano", "vi"):
        if shutil.which(known):
            return [known]
    raise LongshoreError("there is no editor.", hint="Set EDITOR, as in: EDITOR=nano invoke secrets.edit …")


def _run(command: list[str], path: Path) -> None:
    # No swap, backup or undo file beside it, and none elsewhere.
    plain = len(command) == 1 and Path(command[0]).name in ("vi", "vim", "nvim")
    extra = ["-n", "-i", "NONE"] if plain else []
    code = subprocess.run([*command, *extra, str(path)], check=False).returncode
    if code:
        raise LongshoreError(
            f"the editor ended with code {code}; nothing was changed.",
            hint="An editor that returns at once needs its own flag to wait: EDITOR='code --wait'.",
        )


def again(problem: LongshoreError) -> bool:
    """Show what is wrong and ask whether to go back to the editor; no without a terminal."""
    if not sys.stdin.isatty():
        return False
    sys.stderr.write(f"error: {problem}\n")
    sys.stderr.write("Edit it again? [Y/n] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("", "y", "yes")
