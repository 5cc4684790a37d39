"""One thing to say about an env file, and the names of all kinds of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Literal

from longshore.errors import Where
from longshore.records import dataclass

Level = Literal["error", "warning"]

CODES: Mapping[str, str] = {
    "file": "the file can't be read as an env file: missing, a folder, not UTF-8",
    "misplaced": "a file or folder in env/ that no environment or app reads",
    "syntax": "a line that Compose refuses; it then uses nothing of the file",
    "lost": "a part of the value is lost: Compose takes a $ for a variable that isn't set",
    "twice": "the same key twice",
    "too-long": "a value that no process can be started with",
    "unset": "a variable that the compose file needs and nobody sets",
    "placeholder": "the value is still the example's: change_this…, your-…, <…>, sk-xxxx",
    "default": "a secret with a value that everybody knows: postgres123456, admin, secret",
    "inventory": "the inventory or a compose file is wrong, so that less was looked at",
    "differs": "Compose, python-dotenv and the docker command line read it differently",
    "bare": "a key without =, which takes its value from a shell",
    "name": "a name that a shell can't hold",
    "text": "a byte order mark, CRLF line ends, typographic quotes, invisible characters",
    "missing": "a key of the example that isn't set",
    "unknown": "a key that the example doesn't have",
    "unused": "a key that no compose file and no template uses",
    "weak": "a secret that is short or easily guessed",
    "reused": "the same secret under two keys, or in two environments",
    "public": "secrets in a file that every user of this machine can read, or that is in git",
}
"""Code to what it is about. The first ten are errors: they break something, or let anybody in."""


@dataclass(frozen=True)
class Finding:
    """One sentence about one place. A secret's value is in none of its texts."""

    level: Level
    code: str
    message: str
    where: Where
    hint: str = ""
    key: str = ""
    readings: Mapping[str, str] = field(default_factory=dict)
    """For ``differs`` and ``lost``: reader to what it makes of the value, shown so that no secret is."""

    def __str__(self) -> str:
        return f"{self.where}: {self.message}{' ' + self.hint if self.hint else ''}"


def order(finding: Finding) -> tuple[str, int, int, int, str]:
    """The key to sort by: file, line, errors first."""
    where = finding.where
    return (where.file, where.line, int(finding.level != "error"), where.column, finding.code)
