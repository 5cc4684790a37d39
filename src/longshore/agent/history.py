"""The history of an app on this host: what was deployed when, by whom, and how it ended. And its audit.

Each line of ``history.jsonl`` carries its number and a hash over its own content and the hash of the line
before it, so that no line can be changed, removed or put in between without every later one saying so. The
first is the genesis: it covers what lines of an older Longshore, without hashes, come before it. How many
lines there are and the last one's hash are kept once more in ``history.head``, beside ``current``: so an end
that was cut off is noticed, too. Whoever is root here can write all of it anew; this finds what was changed
by hand or by a disk, not an attacker who knows the format.
"""

import json
import os
import time
from typing import Any, Dict, Iterator, List, Optional, Tuple

from longshore.agent.journal import Lines
from longshore.agent.store import read_json, write

GENESIS = "genesis"
_CHAIN, _NUMBER = "chain", "n"


class History(Lines):
    """The history of the app in this folder. Written only by who holds the app's lock."""

    def __init__(self, root: str) -> None:
        super().__init__(os.path.join(root, "history.jsonl"))
        self.head_path = os.path.join(root, "history.head")

    def append(self, value: Dict[str, Any]) -> None:
        """Add a line to the chain, and sync it. Raises ``OSError``; the next line then goes on from what is
        there."""
        number, chain = self._end()
        if number == 0:
            before = [line for line in self._raw() if line]
            genesis = {
                GENESIS: os.path.basename(os.path.dirname(self.path)),
                "lines": len(before),
                "sha256": _sha256(b"".join(line + b"\n" for line in before)),
            }
            number, chain = self._add(genesis, 0, "")
        self._add(value, number, chain)

    def _add(self, value: Dict[str, Any], number: int, chain: str) -> Tuple[int, str]:
        body = {"at": time.time(), **value, _NUMBER: number + 1}
        linked = _link(chain, body)
        super().append({**body, _CHAIN: linked})
        write(self.head_path, json.dumps({"lines": number + 1, _CHAIN: linked}).encode())
        return number + 1, linked

    def _end(self) -> Tuple[int, str]:
        """The number and hash of the last line of the chain; 0 when there is none.

        The head's, where it knows more: a line that was cut off is missed by every later audit.
        """
        number, chain = 0, ""
        for raw in self._raw():
            value = _parse(raw)
            if value is not None and _chained(value):
                number, chain = int(value[_NUMBER]), str(value[_CHAIN])
        head = self._head()
        if head is not None and head[0] > number:
            return head
        return number, chain

    def _head(self) -> Optional[Tuple[int, str]]:
        found = read_json(self.head_path)
        if isinstance(found, dict) and isinstance(found.get("lines"), int):
            return found["lines"], str(found.get(_CHAIN))
        return None

    def _read(self) -> Iterator[Dict[str, Any]]:
        """The lines that people wrote: not the genesis."""
        return (line for line in super()._read() if GENESIS not in line)

    def _raw(self) -> List[bytes]:
        """Every line as it is, without its end; what follows the last end counts, too, unless empty."""
        try:
            with open(self.path, "rb") as file:
                lines = file.read().split(b"\n")
        except FileNotFoundError:
            return []
        return lines[:-1] if lines[-1] == b"" else lines

    def audit(self, expected: bool = False) -> Dict[str, Any]:
        """``lines`` (each with its ``line``, from 1), ``problems`` and ``notes``: ``line`` and ``message``.

        ``expected``: the host has releases, so it must have a history.
        """
        found = _Audit(self._raw(), self._head())
        problems = found.problems
        if expected and not found.lines and not problems:
            problems = [_at(0, "the history is gone, though the host has releases")]
        return {"lines": found.lines, "problems": problems, "notes": found.notes}


class _Audit:
    """Follows the chain from the first line to the last."""

    def __init__(self, raw: List[bytes], head: Optional[Tuple[int, str]]) -> None:
        self.lines: List[Dict[str, Any]] = []
        self.problems: List[Dict[str, Any]] = []
        self.notes: List[Dict[str, Any]] = []
        self._number, self._chain, self._before = 0, "", ""
        self._begun = False
        self._broken: List[int] = []
        """Lines that can't be read, since the last one of the chain."""
        prefix: List[bytes] = []
        for at, line in enumerate(raw, 1):
            value = _parse(line)
            if value is not None and GENESIS not in value:
                self.lines.append({"line": at, **value})
            if value is not None and _chained(value):
                known = len(self.problems)
                self._follow(at, line, value, prefix)
                self._settle(good=len(self.problems) == known)
            elif line and not self._begun:
                prefix.append(line)
            elif line and value is not None:
                self._wrong(at, "is not part of the chain: it was put there or changed by hand")
            elif line:
                self._broken.append(at)
        known = len(self.problems)
        self._ending(len(raw), head, bool(prefix))
        self._settle(good=len(self.problems) == known)
        self.problems.sort(key=lambda problem: int(problem["line"]))

    def _settle(self, good: bool) -> None:
        """What can't be read is half a line when the chain goes on past it as if it were not there."""
        for at in self._broken:
            if good:
                self.notes.append(_at(at, "is half a line: the host lost its power while it was written"))
            else:
                self._wrong(at, "can't be read: it was changed")
        self._broken = []

    def _follow(self, at: int, line: bytes, value: Dict[str, Any], prefix: List[bytes]) -> None:
        body = {name: item for name, item in value.items() if name != _CHAIN}
        number = int(value[_NUMBER])
        if not self._begun:
            self._begun = True
            if GENESIS not in value:
                self._wrong(at, "what came before this line was removed")
                self._number, self._chain = number - 1, ""
                self._go_on(number, str(value[_CHAIN]))
                return
            self._check_prefix(at, value, prefix)
        if number > self._number + 1:
            gone = number - self._number - 1
            self._wrong(at, f"{gone} {'line' if gone == 1 else 'lines'} before this one {_was(gone)} removed")
        elif number <= self._number:
            self._wrong(at, "was put in between, or is there twice")
            return
        elif _link(self._chain, body) != value[_CHAIN]:
            self._wrong(at, "was changed, or the line before it was put there by hand")
        elif json.dumps(value, sort_keys=True).encode() != line:
            self._wrong(at, "was written anew, though it says the same")
        self._go_on(number, str(value[_CHAIN]))

    def _go_on(self, number: int, chain: str) -> None:
        self._number, self._before, self._chain = number, self._chain, chain

    def _check_prefix(self, at: int, genesis: Dict[str, Any], prefix: List[bytes]) -> None:
        have = _sha256(b"".join(line + b"\n" for line in prefix))
        if have != genesis.get("sha256"):
            wanted, found = genesis.get("lines"), len(prefix)
            counted = f"; there were {wanted} lines, and there are {found}" if wanted != found else ""
            self._wrong(at - 1, f"the lines before the chain began were changed{counted}")
        elif prefix:
            many = f"{len(prefix)} lines are" if len(prefix) > 1 else "one line is"
            self.notes.append(_at(1, f"{many} older than the chain, and held by its first line"))

    def _ending(self, last: int, head: Optional[Tuple[int, str]], has_prefix: bool) -> None:
        if head is None:
            if self._number > 1:
                self._wrong(last, "history.head, which says how many lines there are, is gone")
            elif has_prefix and not self._begun:
                self.notes.append(_at(1, "these lines are older than the chain: the next run begins it"))
            return
        lines, chain = head
        if lines > self._number:
            gone = lines - self._number
            self._wrong(
                last, f"{gone} {'line' if gone == 1 else 'lines'} after this one {_was(gone)} removed"
            )
        elif lines == self._number - 1 and chain == self._before:
            self.notes.append(
                _at(last, "was added after history.head: the host lost its power, or a hand did")
            )
        elif (lines != self._number or chain != self._chain) and not self.problems:
            self._wrong(last, "is not the line that history.head knows as the last one")

    def _wrong(self, at: int, message: str) -> None:
        self.problems.append(_at(at, message))


def _at(line: int, message: str) -> Dict[str, Any]:
    return {"line": line, "message": message}


def _was(count: int) -> str:
    return "was" if count == 1 else "were"


def _link(before: str, body: Dict[str, Any]) -> str:
    return _sha256(before.encode() + b"\n" + json.dumps(body, sort_keys=True).encode())


def _sha256(data: bytes) -> str:
    import hashlib  # late: a look at a host needs none, and it is slow to load

    return hashlib.sha256(data).hexdigest()


def _parse(raw: bytes) -> Optional[Dict[str, Any]]:
    try:
        value = json.loads(raw.decode("utf-8"))
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _chained(value: Dict[str, Any]) -> bool:
    return isinstance(value.get(_CHAIN), str) and isinstance(value.get(_NUMBER), int)
