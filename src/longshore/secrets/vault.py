"""The project's encrypted env files: reading, changing, and who can open them. Stories for ``secrets.*``."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from longshore import dotenv
from longshore.errors import LongshoreError, Problems, Where
from longshore.records import dataclass
from longshore.secrets import recipients as people
from longshore.secrets.files import age_file, age_files, clear_file, in_git, write_private
from longshore.secrets.keyring import Keyring, stanzas
from longshore.secrets.recipients import Recipient

NEW_FILE = "# KEY=value lines, read as Docker Compose reads them: a value in single quotes stands as it is.\n"


@dataclass
class Vault:
    """The encrypted files below ``root``, with the person's keys."""

    root: Path
    keyring: Keyring

    def name(self, path: Path) -> str:
        """The path as people know it."""
        return str(path.relative_to(self.root))

    def read(self, path: Path) -> str:
        """The text of an encrypted file. Raises ``LongshoreError``."""
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            raise LongshoreError(
                f"There is no {self.name(path)}.",
                hint="`invoke secrets.edit` makes one, `invoke secrets.encrypt` makes it of the clear one.",
            ) from None
        try:
            return self.keyring.open(data, self.name(path)).decode("utf-8-sig")
        except UnicodeDecodeError:
            raise LongshoreError(
                "What is encrypted in it is not UTF-8 text.", where=self.name(path)
            ) from None

    def write(self, path: Path, text: str, to: Sequence[Recipient]) -> None:
        """Encrypt a text to these recipients, and write it as a whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_private(path, people.encrypt(text.encode(), to))

    def recipients(self, environment: str) -> tuple[Recipient, ...]:
        """Who can open the files of an environment. Raises ``LongshoreError`` when nobody could."""
        path = people.recipients_file(self.root, environment)
        return people.read_recipients(path, self.name(path))

    def checked(self, text: str, name: str) -> None:
        """Raises ``LongshoreError`` or ``Problems`` for a text that can't be an env file."""
        parsed = dotenv.parse(text, name)
        problems: list[LongshoreError] = list(parsed.problems)
        for key, line in parsed.inherited:
            message = f"{key} has no =, so nothing here gives it a value."
            problems.append(LongshoreError(message, where=Where(name, line), hint="Write KEY=value."))
        first: dict[str, int] = {}
        for entry in parsed.entries:
            if entry.key in first:
                message = f"{entry.key} is given twice, first in line {first[entry.key]}."
                problems.append(LongshoreError(message, where=Where(name, entry.line)))
            first.setdefault(entry.key, entry.line)
        if problems:
            raise problems[0] if len(problems) == 1 else Problems(problems)

    def edit(self, environment: str, app: str, change: Callable[[str, str], str]) -> str:
        """Let ``change`` (text, file name → text) change a file. Returns what happened, in a sentence."""
        path = age_file(self.root, environment, app)
        to = self.recipients(environment)
        name = self.name(path)
        before = self.read(path) if path.is_file() else ""
        after = change(before or NEW_FILE, path.name.removesuffix(".age"))
        if after == (before or NEW_FILE):
            return f"{name} is unchanged." if before else "Nothing was written."
        self.checked(after, name)
        self._still_same(path, before)
        self.write(path, after, to)
        return f"{name} is written, for {len(to)} {'key' if len(to) == 1 else 'keys'}."

    def _still_same(self, path: Path, before: str) -> None:
        """Somebody else's change in the meantime must not be lost."""
        now = self.read(path) if path.is_file() else ""
        if now != before:
            raise LongshoreError(
                f"{self.name(path)} has changed while it was edited; your change was not written.",
                hint="Edit it again.",
            )

    def encrypt(self, environment: str, app: str, *, keep: bool) -> str:
        """Make the encrypted file of the one in clear, which is removed then. Returns a sentence."""
        clear, path = clear_file(self.root, environment, app), age_file(self.root, environment, app)
        try:
            text = clear.read_text(encoding="utf-8-sig")
        except FileNotFoundError:
            raise LongshoreError(f"There is no {self.name(clear)}.") from None
        except (OSError, UnicodeDecodeError):
            raise LongshoreError("This file can't be read as text.", where=self.name(clear)) from None
        if path.exists():
            raise LongshoreError(
                f"{self.name(path)} is there already.",
                hint=f"Move the lines of {self.name(clear)} there with `invoke secrets.edit`.",
            )
        self.checked(text, self.name(clear))
        to = self.recipients(environment)
        tracked = in_git(clear)
        self.write(path, text, to)
        said = f"{self.name(path)} is written, for {len(to)} {'key' if len(to) == 1 else 'keys'}."
        if keep:
            return f"{said} {self.name(clear)} is still there, and both give the same variables: remove it."
        clear.unlink()
        said += f" {self.name(clear)} is removed."
        if tracked:
            said += " It is in git, and its values stay in the history: change them."
        return said

    def decrypt(self, path: Path) -> Mapping[str, tuple[str, int]]:
        """Variable to its value and line, of an encrypted file."""
        found = dotenv.read(self.read(path), self.name(path))
        return {entry.key: (entry.value, entry.line) for entry in found}

    def files(self, environment: str = "") -> tuple[Path, ...]:
        """The encrypted files that the environment's list of recipients counts for, or the common list."""
        if environment and people.recipients_file(self.root, environment).name != "recipients.txt":
            return age_files(self.root, environment)
        return tuple(path for path in age_files(self.root) if self._shares(path))

    def _shares(self, path: Path) -> bool:
        return people.recipients_file(self.root, self.environment_of(path)).name == "recipients.txt"

    def environment_of(self, path: Path) -> str:
        """The environment that an encrypted file belongs to."""
        inside = path.relative_to(self.root / "env")
        return inside.parts[0] if len(inside.parts) > 1 else inside.name.removesuffix(".env.age")

    def again(self, paths: Sequence[Path], to: Sequence[Recipient]) -> None:
        """Encrypt files anew. All are opened before one is written."""
        texts = {path: self.read(path) for path in paths}
        for path, text in texts.items():
            self.write(path, text, to)

    def new_values(self, path: Path, keys: Sequence[str], length: int, to: Sequence[Recipient]) -> None:
        """Give variables new random values, and encrypt the file anew.

        Raises ``LongshoreError`` for a variable that it doesn't have.
        """
        text = self.read(path)
        name = self.name(path)
        entries = {entry.key: entry for entry in dotenv.read(text, name)}
        for key in keys:
            if key not in entries:
                known = ", ".join(entries) or "none"
                raise LongshoreError(f"{name} has no {key}.", where="--key", hint=f"It has: {known}.")
        lines = text.split("\n")  # as entries count them: splitlines() knows other ends of lines, too
        # From below, so that the lines above keep their numbers.
        for key in sorted(dict.fromkeys(keys), key=lambda key: -entries[key].line):
            entry = entries[key]
            lines[entry.line - 1 : entry.last_line] = [f"{key}={secrets.token_urlsafe(length)[:length]}"]
        after = "\n".join(lines)
        self.checked(after, name)
        self.write(path, after, to)

    def outdated(self, path: Path, to: Sequence[Recipient]) -> str:
        """Why a file should be encrypted anew; empty when it needn't."""
        found = len(stanzas(path.read_bytes()))
        if found != len(to):
            return f"is encrypted to {found} keys, and the list has {len(to)}"
        return ""
