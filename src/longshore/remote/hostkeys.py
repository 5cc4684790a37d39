"""Host keys: what known_hosts files say about a host, as OpenSSH reads them, and adding to them.

Paramiko's own reader knows no ``@revoked``, no wildcards and keeps one key per type, so this is ours.
Format: sshd(8), SSH_KNOWN_HOSTS FILE FORMAT.
"""

from __future__ import annotations

import base64
import fcntl
import fnmatch
import hashlib
import hmac
import os
import secrets
import threading
from collections.abc import Iterable
from dataclasses import field
from pathlib import Path
from typing import Literal

from longshore.errors import Where
from longshore.records import dataclass

Verdict = Literal["known", "unknown", "changed", "revoked"]
_WILD = frozenset("*?!")


@dataclass(frozen=True)
class Entry:
    """A line of a known_hosts file. ``marker`` is "", "@revoked" or "@cert-authority"."""

    marker: str
    names: str
    kind: str
    blob: bytes = field(repr=False)
    where: Where

    def matches(self, name: str) -> bool:
        """Whether the line is about ``name`` (``host`` or ``[host]:port``)."""
        if self.names.startswith("|1|"):
            return _hash_matches(self.names, name)
        if not _WILD.intersection(self.names):  # nearly every line, of a file that has one for each host
            return name in self.names.lower().split(",")
        found = False
        for pattern in self.names.lower().split(","):
            negated = pattern.startswith("!")
            # fnmatch gives [..] a meaning that OpenSSH doesn't, and [host]:port needs the bracket.
            if fnmatch.fnmatchcase(name, pattern.lstrip("!").replace("[", "[[]")):
                if negated:
                    return False
                found = True
        return found


@dataclass(frozen=True)
class KnownKeys:
    """The lines about one host."""

    name: str
    plain: tuple[Entry, ...]
    revoked: tuple[Entry, ...]
    authorities: tuple[Entry, ...]
    other_port: tuple[Entry, ...] = ()
    """For a host that only its name without the port is known of: good to recognise a key by, as OpenSSH
    does, but a different key there says nothing, since it is another server's."""

    @property
    def kinds(self) -> tuple[str, ...]:
        """The key types that are known, in the files' order: what to ask the server for first."""
        return tuple(dict.fromkeys(entry.kind for entry in self.plain + self.other_port))

    def judge(self, kind: str, blob: bytes, authority: bytes = b"") -> tuple[Verdict, Entry | None]:
        """What a server that shows this key is, and the line that says so.

        ``authority`` is who vouches for it by a good certificate (:mod:`longshore.remote.hostcerts`).
        """
        for entry in self.revoked:
            if entry.blob in (blob, authority):
                return "revoked", entry
        for entry in self.authorities:
            if entry.blob == authority:
                return "known", entry
        for entry in self.plain + self.other_port:
            if entry.blob == blob:
                return "known", entry
        for entry in self.plain:
            if entry.kind == kind:
                return "changed", entry
        # Only other types are known, they were asked for first, and the server has none of them any more.
        return ("changed", self.plain[0]) if self.plain else ("unknown", None)


def read(path: Path) -> tuple[Entry, ...]:
    """The lines of a known_hosts file; none when it can't be read. As in OpenSSH, bad lines are skipped."""
    try:
        text = path.read_text(errors="replace")
    except OSError:
        return ()
    entries = []
    for number, line in enumerate(text.split("\n"), start=1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        marker = words.pop(0) if words[0].startswith("@") else ""
        if len(words) < 3:
            continue
        try:
            blob = base64.b64decode(words[2], validate=True)
        except ValueError:
            continue
        entries.append(Entry(marker, words[0], words[1], blob, Where(str(path), number)))
    return tuple(entries)


class KnownHosts:
    """The known_hosts files of a run: each is read once. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._files: dict[Path, tuple[Entry, ...]] = {}

    def lookup(self, files: Iterable[Path], name: str, *, without_port: str = "") -> KnownKeys:
        """The lines about ``name``; where there are none, those about the host ``without_port``."""
        with self._lock:
            for path in files:
                if path not in self._files:
                    self._files[path] = read(path)
            entries = [entry for path in files for entry in self._files[path]]
        name = name.lower()
        found = [entry for entry in entries if entry.matches(name)]
        plain = tuple(entry for entry in found if not entry.marker)
        other = [entry for entry in entries if without_port and entry.matches(without_port.lower())]
        return KnownKeys(
            name=name,
            plain=plain,
            revoked=tuple(entry for entry in [*found, *other] if entry.marker == "@revoked"),
            authorities=tuple(entry for entry in [*found, *other] if entry.marker == "@cert-authority"),
            other_port=() if plain else tuple(entry for entry in other if not entry.marker),
        )

    def add(self, path: Path, name: str, kind: str, blob: bytes, *, hashed: bool = False) -> None:
        """Append a line to ``path``, which is made (0600, in a 0700 folder) when missing."""
        with self._lock:
            append(path, name, kind, blob, hashed=hashed)
            self._files.pop(path, None)


def append(path: Path, name: str, kind: str, blob: bytes, *, hashed: bool = False) -> None:
    """Append one key to a known_hosts file. Nothing that is in it is changed."""
    name = name.lower()
    line = f"{hash_name(name) if hashed else name} {kind} {base64.b64encode(blob).decode()}\n"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
    with os.fdopen(descriptor, "rb+", buffering=0) as file:
        if path.is_file():  # not /dev/null
            fcntl.flock(file, fcntl.LOCK_EX)
            size = file.seek(0, os.SEEK_END)
            if size:
                file.seek(size - 1)
                if file.read(1) != b"\n":
                    line = "\n" + line
        file.write(line.encode())


def hash_name(name: str, salt: bytes | None = None) -> str:
    """``name`` as ``HashKnownHosts`` writes it: ``|1|salt|HMAC-SHA1``."""
    salt = salt or secrets.token_bytes(20)
    digest = hmac.new(salt, name.encode(), hashlib.sha1).digest()
    return f"|1|{base64.b64encode(salt).decode()}|{base64.b64encode(digest).decode()}"


def fingerprint(blob: bytes) -> str:
    """``SHA256:…`` as ``ssh-keygen -lf`` prints it."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


def entry_name(hostname: str, port: int) -> str:
    """How known_hosts names a host at a port."""
    return hostname if port == 22 else f"[{hostname}]:{port}"


def _hash_matches(hashed: str, name: str) -> bool:
    parts = hashed.split("|")
    if len(parts) != 4 or not hashed.isascii():
        return False
    try:
        salt = base64.b64decode(parts[2])
    except ValueError:
        return False
    return hmac.compare_digest(hash_name(name, salt), hashed)
