"""The public keys that let people in as a user: read from one authorized_keys file, added to another.

A user can change their own ``~/.ssh`` at any moment, and this program is root: what is written there goes
through open folders, and never through a link.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import secrets
import stat
from collections.abc import Iterable
from dataclasses import dataclass

from longshore.bootstrap.host.say import Refusal

FOLDER, FILE = ".ssh", "authorized_keys"
# The options before a key: words and quoted texts, up to the first blank outside of quotes (sshd(8)).
_OPTIONS = re.compile(r'((?:[^\s"]|"(?:\\.|[^"\\])*")+)[ \t]+(.*)')
_KEY = re.compile(r"([a-z][a-z0-9@.-]*)[ \t]+([A-Za-z0-9+/]+={0,2})(?:[ \t]|$)")


@dataclass(frozen=True)
class Key:
    """One line of an authorized_keys file that holds a key; two are the same key when ``ident`` is."""

    line: str
    ident: tuple[str, str]
    options: str = ""

    @property
    def forced(self) -> bool:
        """Whether it may run one command only, as a backup's key does."""
        return re.search(r'(?:^|,)command="', self.options, re.IGNORECASE) is not None


def parse(text: str) -> list[Key]:
    """The keys in the text of an authorized_keys file. Lines that sshd would skip are skipped."""
    found = []
    # As sshd does: what Python takes for the end of a line as well may be in a key's comment.
    for line in (line.strip() for line in text.split("\n")):
        if not line or line.startswith("#"):
            continue
        ident = _ident(line)
        if ident:
            found.append(Key(line, ident))
            continue
        match = _OPTIONS.match(line)
        ident = _ident(match[2]) if match else None
        if match and ident:
            found.append(Key(line, ident, match[1]))
    return found


def _ident(text: str) -> tuple[str, str] | None:
    """Kind and key, where the text begins with both: a key repeats its kind inside (RFC 4253, 6.6)."""
    match = _KEY.match(text)
    if not match:
        return None
    try:
        raw = base64.b64decode(match[2], validate=True)
    except binascii.Error:
        return None
    kind = match[1].encode()
    return (match[1], match[2]) if raw[: 4 + len(kind)] == len(kind).to_bytes(4, "big") + kind else None


def lacking(wanted: Iterable[Key], there: Iterable[Key]) -> list[Key]:
    """The keys of ``wanted`` that are not ``there``, each once, whatever options they have there."""
    known = {key.ident for key in there}
    missing = []
    for key in wanted:
        if key.ident not in known and not key.forced:
            known.add(key.ident)
            missing.append(key)
    return missing


def with_keys(text: str, added: Iterable[Key]) -> str:
    """The file's text with these keys at its end; nothing of it is lost."""
    if text and not text.endswith("\n"):
        text += "\n"
    return text + "".join(f"{key.line}\n" for key in added)


@dataclass(frozen=True)
class Place:
    """What a home has of keys now. ``text`` is None where there is no file."""

    text: str | None
    wrong: tuple[str, ...]
    """What sshd would refuse about owners and modes (StrictModes), as paths."""


def look(home: str, uid: int) -> Place:
    """Look at the keys in ``home``, which belongs to ``uid``. Raises ``Refusal`` for what is no home."""
    folder = os.path.join(home, FOLDER)  # noqa: PTH118 - joined for people only
    at_home = _open_home(home)
    try:
        owner = os.fstat(at_home)
        if owner.st_uid not in (0, uid):
            raise Refusal(
                "user",
                f"{home} belongs to another user (id {owner.st_uid}), so sshd lets nobody in there",
                f"Run `chown -R {uid} {home}` on the host if it is meant for this one.",
            )
        wrong = [home] if owner.st_mode & 0o022 else []
        inside = _open_folder(at_home, folder)
        if inside is None:
            return Place(None, tuple(wrong))
        try:
            status = os.fstat(inside)
            if status.st_uid != uid or stat.S_IMODE(status.st_mode) != 0o700:
                wrong.append(folder)
            text, fine = _read(inside, uid, f"{folder}/{FILE}")
        finally:
            os.close(inside)
    finally:
        os.close(at_home)
    return Place(text, (*wrong, *([] if fine else [f"{folder}/{FILE}"])))


def put(home: str, uid: int, gid: int, added: Iterable[Key]) -> None:
    """Add keys to the file in ``home``, and give folder and file the owner and modes that sshd wants."""
    folder = os.path.join(home, FOLDER)  # noqa: PTH118
    at_home = _open_home(home)
    try:
        mode = stat.S_IMODE(os.fstat(at_home).st_mode)
        if mode & 0o022:
            os.fchmod(at_home, mode & ~0o022)
        try:
            os.mkdir(FOLDER, 0o700, dir_fd=at_home)
        except FileExistsError:
            pass
        inside = _open_folder(at_home, folder)
        assert inside is not None
        try:
            text, fine = _read(inside, uid, f"{folder}/{FILE}")
            wanted = with_keys(text or "", added)
            if not fine or wanted != (text or ""):
                _write(inside, uid, gid, wanted.encode(errors="surrogateescape"))
            os.fchown(inside, uid, gid)
            os.fchmod(inside, 0o700)
        finally:
            os.close(inside)
    finally:
        os.close(at_home)


def _open_home(home: str) -> int:
    try:
        return os.open(home, os.O_RDONLY | os.O_DIRECTORY)
    except (FileNotFoundError, NotADirectoryError):
        raise Refusal("user", f"the home of this user, {home}, isn't there", "Make it, and again.") from None


def _open_folder(at_home: int, path: str) -> int | None:
    try:
        return os.open(FOLDER, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=at_home)
    except FileNotFoundError:
        return None
    except OSError:
        raise Refusal("user", f"{path} is no folder of its own", "Move it away: it is made anew.") from None


def _read(inside: int, uid: int, path: str) -> tuple[str | None, bool]:
    """The file's text, and whether its owner and mode are right (a file that isn't there is fine)."""
    try:
        # Not blocking: it could be a pipe.
        handle = os.open(FILE, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=inside)
    except FileNotFoundError:
        return None, True
    except OSError:
        raise Refusal("user", f"{path} is a link", "Put the keys themselves there.") from None
    with os.fdopen(handle, "rb") as file:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise Refusal("user", f"{path} is no file", "Move it away: it is made anew.")
        text = file.read().decode(errors="surrogateescape")
    return text, status.st_uid == uid and stat.S_IMODE(status.st_mode) == 0o600


def _write(inside: int, uid: int, gid: int, data: bytes) -> None:
    name = f".{FILE}.{secrets.token_hex(8)}"
    handle = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=inside)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fchown(handle, uid, gid)
            os.fsync(handle)
        os.rename(name, FILE, src_dir_fd=inside, dst_dir_fd=inside)
    except BaseException:
        os.unlink(name, dir_fd=inside)
        raise
