"""The journal: what the agent is about to do, synced to the disk before it does it.

A line is a JSON object; one that a power cut left half-written is ignored. A switch that has begun and
has no end (``commit`` or ``reverted``) is unfinished, and the next one who takes the lock undoes it.
"""

import errno
import json
import os
import time
from typing import Any, Dict, Iterator, List, Optional

from longshore.agent.store import sync_folder

BEGIN = "switch"
SWITCHED = "switched"
COMMIT = "commit"
REVERTED = "reverted"


class Lines:
    """A file of JSON lines that is only ever appended to."""

    def __init__(self, path: str) -> None:
        self.path = path

    def append(self, value: Dict[str, Any]) -> None:
        """Write one line and sync it. Raises ``OSError``; then the file is as it was."""
        handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            size = os.fstat(handle).st_size
            line = json.dumps({"at": time.time(), **value}, sort_keys=True).encode() + b"\n"
            # A line that was cut off must not swallow this one.
            whole = line if size == 0 or _ends_whole(self.path) else b"\n" + line
            try:
                if os.write(handle, whole) < len(whole):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self.path)
                os.fsync(handle)
                if size == 0:  # the file's name has to last, too
                    sync_folder(os.path.dirname(self.path))
            except OSError:
                os.ftruncate(handle, size)
                raise
        finally:
            os.close(handle)

    def read(self) -> List[Dict[str, Any]]:
        """Every whole line, oldest first."""
        return list(self._read())

    def _read(self) -> Iterator[Dict[str, Any]]:
        try:
            with open(self.path, encoding="utf-8", errors="replace") as file:
                for line in file:
                    try:
                        value = json.loads(line)
                    except ValueError:
                        continue
                    if isinstance(value, dict):
                        yield value
        except FileNotFoundError:
            return


def _ends_whole(path: str) -> bool:
    with open(path, "rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


class Journal(Lines):
    """The journal of one app."""

    def __init__(self, root: str) -> None:
        super().__init__(os.path.join(root, "journal.jsonl"))

    def begin(
        self,
        origin: Optional[str],
        to: str,
        run: str,
        known: bool = False,
        keep: Optional[Dict[str, Any]] = None,
    ) -> None:
        """``known``: ``to`` was committed once before, and is kept whatever comes of this. ``keep``: what a
        host needs to commit ``to`` alone, if it is good (``keep``, ``by``, ``git``); else it goes back."""
        self.append({**(keep or {}), "step": BEGIN, "from": origin, "to": to, "run": run, "known": known})

    def switched(self, release: str, run: str) -> None:
        """All of the release runs: it may be kept, if it is good."""
        self.append({"step": SWITCHED, "release": release, "run": run})

    def end(self, step: str, release: Optional[str], run: str) -> None:
        self.append({"step": step, "release": release, "run": run})

    def unfinished(self) -> Optional[Dict[str, Any]]:
        """The switch that has begun and not ended, or ``None``; ``switched`` is true once all of it runs."""
        open_switch: Optional[Dict[str, Any]] = None
        for line in self._read():
            step = line.get("step")
            if step == BEGIN:
                open_switch = line
            elif step == SWITCHED and open_switch is not None:
                open_switch = {**open_switch, "switched": True}
            elif step in (COMMIT, REVERTED):
                open_switch = None
        return open_switch

    def compact(self) -> None:
        """Start afresh once all is finished; the history keeps what people want to know."""
        try:
            if os.path.getsize(self.path) > 1 << 20 and self.unfinished() is None:
                os.unlink(self.path)
        except FileNotFoundError:
            pass
