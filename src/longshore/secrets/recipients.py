"""Who can open the encrypted files: a list of public keys in a plain file, as ``age -R`` reads it.

``env/recipients.txt`` is for all environments; ``env/<env>.recipients.txt``, where there is one, for that
environment instead.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from longshore.errors import LongshoreError, Problems, Where
from longshore.records import dataclass
from longshore.secrets.files import write_private

HEADER = (
    "# Who can open this project's encrypted env files. One public key a line: age1… or ssh-ed25519 …\n\n"
)
_KEY = re.compile(r"(age1[0-9a-z]+|(?:ssh-ed25519|ssh-rsa) [A-Za-z0-9+/=]+)(?:\s+(.*))?")


@dataclass(frozen=True)
class Recipient:
    """One public key; ``comment`` says whose it is."""

    key: str
    comment: str = ""
    line: int = 0

    def __str__(self) -> str:
        short = self.key if len(self.key) < 40 else f"{self.key[:20]}…{self.key[-8:]}"
        return f"{self.comment} ({short})" if self.comment else short


def recipients_file(root: Path, environment: str) -> Path:
    """The file that counts for ``environment``; it need not exist."""
    own = root / "env" / f"{environment}.recipients.txt"
    return own if environment and own.is_file() else root / "env" / "recipients.txt"


def parse_recipient(text: str) -> Recipient:
    """A public key with an optional comment. Raises ``ValueError`` with a sentence."""
    import pyrage

    text = text.strip()
    if text.startswith("AGE-SECRET-KEY-") or "PRIVATE KEY" in text:
        raise ValueError("this is a private key, and it must not be here; its public half starts with age1")
    match = _KEY.fullmatch(text)
    if match is None:
        if text.startswith(("ecdsa-", "sk-", "ssh-dss")):
            raise ValueError("age knows ssh-ed25519 and ssh-rsa keys, not this kind")
        raise ValueError("this is no public key; one starts with age1 or ssh-ed25519")
    recipient = Recipient(match[1], (match[2] or "").strip())
    try:
        _made(pyrage, recipient)
    except pyrage.RecipientError:
        raise ValueError("this public key is damaged, or not whole") from None
    return recipient


def _made(pyrage: Any, recipient: Recipient) -> Any:
    kind = pyrage.x25519.Recipient if recipient.key.startswith("age1") else pyrage.ssh.Recipient
    return kind.from_str(recipient.key)


def read_recipients(path: Path, name: str) -> tuple[Recipient, ...]:
    """The list, in the order of the file. Raises ``LongshoreError`` when it is missing or empty, and
    ``Problems`` with the place of every line that is no public key."""
    hint = "Add yours: `invoke secrets.recipients --add ~/.ssh/id_ed25519.pub`."
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise LongshoreError(
            f"There is no {name}, so nobody could open what is encrypted.", hint=hint
        ) from None
    except (OSError, UnicodeDecodeError):
        raise LongshoreError("This file can't be read as text.", where=name) from None
    found: dict[str, Recipient] = {}
    problems = []
    comment = ""
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            comment = line.lstrip("# ")  # of the line right below it
            continue
        try:
            one = parse_recipient(line)
        except ValueError as error:
            problems.append(LongshoreError(f"{error}.", where=Where(name, number)))
            continue
        found.setdefault(one.key, Recipient(one.key, one.comment or comment, number))
        comment = ""
    if problems:
        raise Problems(problems)
    if not found:
        raise LongshoreError("There is no public key in it.", where=name, hint=hint)
    return tuple(found.values())


def encrypt(data: bytes, recipients: Sequence[Recipient]) -> bytes:
    """An armored age file that each of the recipients can open."""
    import pyrage

    return bytes(pyrage.encrypt(data, [_made(pyrage, one) for one in recipients], armored=True))


def given(text: str) -> Recipient:
    """What ``--add`` was given: a public key, or the path of a file with one. Raises ``LongshoreError``."""
    if not text.startswith(("age1", "ssh-")) and _is_file(text):
        try:
            lines = Path(text).expanduser().read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError as error:
            raise LongshoreError(f"The key can't be read: {error.strerror}.", where=text) from None
        told = [line for line in lines if line.strip() and not line.startswith("#")]
        public = re.search(r"public key: (age1[0-9a-z]+)", "\n".join(lines))
        text = public[1] if public else (told[0] if told else "")
    try:
        return parse_recipient(text)
    except ValueError as error:
        raise LongshoreError(
            f"{error}.", where="--add", hint="Give a public key, or the path of a .pub file."
        ) from None


def _is_file(text: str) -> bool:
    """Whether this names a file; not for what can't be a path, such as a whole key."""
    # Not Path's: is_file() raises with the text for one that is too long, expanduser() for an unknown user.
    return os.path.isfile(os.path.expanduser(text))  # noqa: PTH111, PTH113


def with_added(text: str, recipient: Recipient) -> str:
    """The file's text with one more recipient at its end."""
    text = text or HEADER
    if not text.endswith("\n"):
        text += "\n"
    if recipient.key.startswith("age1"):
        comment = f"# {recipient.comment}\n" if recipient.comment else ""
        return f"{text}{comment}{recipient.key}\n"
    return f"{text}{recipient.key}{' ' + recipient.comment if recipient.comment else ''}\n"


def find(recipients: Sequence[Recipient], word: str) -> Recipient:
    """The recipient that ``word`` means: its key, the start or end of it, or its comment."""
    word = word.strip()
    if _is_file(word):
        word = given(word).key
    exact = [one for one in recipients if word in (one.key, one.comment, f"{one.key} {one.comment}")]
    close = [
        one for one in recipients if len(word) >= 6 and (one.key.startswith(word) or one.key.endswith(word))
    ]
    found = exact or close
    if len(found) != 1:
        what = "is several recipients" if found else "is no recipient"
        listed = "; ".join(map(str, recipients))
        raise LongshoreError(f"{word!r} {what}.", where="--remove", hint=f"There are: {listed}.")
    return found[0]


def without(text: str, recipient: Recipient) -> str:
    """The file's text without a recipient, wherever it has its key, and without the comment lines that named
    it."""
    kept: list[str] = []
    above = ""
    for line in text.splitlines(keepends=True):
        match = _KEY.fullmatch(line.strip())
        if match is None or match[1] != recipient.key:
            kept.append(line)
        elif above.startswith("#") and (match[2] or "").strip() in ("", above.lstrip("# ")):
            kept.pop()
        above = line.strip()
    return "".join(kept)


def write_recipients(path: Path, text: str) -> None:
    """Write the list; it is public."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_private(path, text.encode(), mode=0o644)
