"""The environment's env files: ``env/<env>.env`` for every app, ``env/<env>/<app>.env`` for one.

Each in clear, encrypted with age (``.env.age``), or by SOPS (``.sops.env``, ``.sops.yaml``, ``.sops.json``).
"""

from __future__ import annotations

import re
import stat
import subprocess
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from longshore import dotenv
from longshore.errors import InventoryError, LongshoreError, Where
from longshore.inventory.hidden import looks_secret
from longshore.inventory.nearest import did_you_mean
from longshore.inventory.nodes import MappingNode, Scalar
from longshore.inventory.yamlfile import parse_yaml, read_text
from longshore.records import dataclass
from longshore.secrets.files import SOPS, age_file, clear_file, sops_files
from longshore.secrets.keyring import Keyring
from longshore.secrets.references import Reference, checked, parse_reference

Report = Callable[[InventoryError], None]
_MARK = "\ue000longshore:{}\ue001"
_MARKS = re.compile("\ue000longshore:([0-9]+)\ue001")
"""Stands for a reference's value while the variables that use it are read. Private characters of Unicode."""


@dataclass(frozen=True)
class EnvEntry:
    """A variable of an env file; ``shared`` when the file is the environment's, not the app's own.

    ``parts``: what the value is made of, when a reference to a store is in it.
    """

    value: str
    where: Where
    shared: bool
    parts: tuple[str | Reference, ...] = ()
    sealed: bool = False
    """It is kept encrypted or in a store."""


@dataclass(frozen=True)
class EnvFiles:
    """App name to its variables, strongest first for a key that both files have."""

    apps: dict[str, dict[str, tuple[EnvEntry, ...]]]
    files: tuple[Path, ...]
    warnings: tuple[str, ...]
    locked: tuple[str, ...] = ()
    """The encrypted files that were not opened."""


def read_env_files(
    root: Path, environment: str, apps: Iterable[str], report: Report, keyring: Keyring | None = None
) -> EnvFiles:
    """Read the env files of ``environment``. An app's own file wins over the environment's.

    Without a ``keyring`` files that age has encrypted are not opened. Of SOPS files the names are read, which
    are in clear; their values are references, like those to any other store.
    """
    reader = _Reader(root, report, keyring)
    names = list(apps)
    common = reader.entries(environment, "", shared=True)
    result: dict[str, dict[str, tuple[EnvEntry, ...]]] = {}
    for app in names:
        own = reader.entries(environment, app, shared=False)
        keys = dict.fromkeys((*common, *own))
        result[app] = {
            key: tuple(entry for entry in (own.get(key), common.get(key)) if entry is not None)
            for key in keys
        }
    folder = root / "env" / environment
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        app = _app_of(path)
        if app and app not in names:
            report(
                InventoryError(
                    f"There is no app named {app!r} in {environment}.",
                    where=Where(str(path.relative_to(root))),
                    hint=did_you_mean(app, names, list_all="Its apps"),
                )
            )
    return EnvFiles(result, tuple(reader.files), tuple(reader.warnings), tuple(reader.locked))


def _app_of(path: Path) -> str:
    """The app whose env file this is, by its name; empty when it is none."""
    for suffix in (*SOPS, ".env.age", ".env"):
        if path.name.endswith(suffix) and not path.name.startswith("."):
            return path.name.removesuffix(suffix)
    return ""


class _Reader:
    def __init__(self, root: Path, report: Report, keyring: Keyring | None) -> None:
        self.root = root
        self.report = report
        self.keyring = keyring
        self.files: list[Path] = []
        self.warnings: list[str] = []
        self.locked: list[str] = []

    def entries(self, environment: str, app: str, *, shared: bool) -> dict[str, EnvEntry]:
        """The variables of all files of the environment, or of one app of it."""
        found: dict[str, EnvEntry] = {}
        clear, age = clear_file(self.root, environment, app), age_file(self.root, environment, app)
        if clear.is_file():
            self.add(found, self.clear(clear, shared=shared))
        if age.is_file():
            self.add(found, self.age(age, shared=shared))
        for path in sops_files(self.root, environment, app):
            self.add(found, self.sops(path, shared=shared))
        return found

    def add(self, found: dict[str, EnvEntry], more: Mapping[str, EnvEntry]) -> None:
        for key, entry in more.items():
            if key in found:
                self.report(
                    InventoryError(
                        f"{key} is also given in {found[key].where}.",
                        where=entry.where,
                        hint="Keep one of them.",
                    )
                )
            found[key] = entry

    def name(self, path: Path) -> str:
        self.files.append(path)
        return str(path.relative_to(self.root))

    def clear(self, path: Path, *, shared: bool) -> dict[str, EnvEntry]:
        name = self.name(path)
        try:
            text = read_text(path, name)
        except InventoryError as error:
            self.report(error)
            return {}
        found = self.parse(text, name, shared=shared)
        telling = any(not entry.parts and looks_secret(key, entry.value) for key, entry in found.items())
        if telling and _is_public(path, self.root):
            self.warnings.append(
                f"{name} holds secrets and every user of this machine can read it: chmod 600 it."
            )
        return found

    def age(self, path: Path, *, shared: bool) -> dict[str, EnvEntry]:
        name = self.name(path)
        if self.keyring is None:
            self.locked.append(name)
            return {}
        try:
            data = self.keyring.open(path.read_bytes(), name)
            text = data.decode("utf-8-sig")
        except LongshoreError as error:
            self.report(InventoryError(error.message, where=error.where, hint=error.hint))
            return {}
        except OSError as error:
            self.report(InventoryError(f"The file can't be read: {error.strerror}.", where=Where(name)))
            return {}
        except UnicodeDecodeError:
            self.report(InventoryError("What is encrypted in it is not UTF-8 text.", where=Where(name)))
            return {}
        found = self.parse(text, name, shared=shared)
        return {key: replace(entry, sealed=True) for key, entry in found.items()}

    def sops(self, path: Path, *, shared: bool) -> dict[str, EnvEntry]:
        name = self.name(path)
        try:
            text = read_text(path, name)
            places = _sops_names(text, name, self.report)
        except InventoryError as error:
            self.report(error)
            return {}
        references = {key: checked("sops", name, key) for key in places}
        return {
            key: EnvEntry(str(references[key]), where, shared, (references[key],), sealed=True)
            for key, where in places.items()
        }

    def parse(self, text: str, name: str, *, shared: bool) -> dict[str, EnvEntry]:
        """The variables of a text, with the places where each is."""
        parsed = dotenv.parse(text, name)
        references: list[Reference] = []
        tokens: dict[str, str] = {}
        for entry in parsed.entries:
            try:
                reference = parse_reference(entry.value)
            except ValueError as error:
                where = Where(name, entry.line)
                self.report(InventoryError(f"{entry.key}: {error}", where=where))
                continue
            if reference is not None:
                tokens[entry.key] = _MARK.format(len(references))
                references.append(reference)
        if tokens:
            # Read again, so that ${DB_PASSWORD} in another value is known as the reference that it is.
            again = dotenv.parse(text, name, lookup=tokens.get)
            values = {(entry.key, entry.line): entry.value for entry in again.entries}
        else:
            values = {}
        for problem in parsed.problems:
            self.report(problem)
        found: dict[str, EnvEntry] = {}
        for entry in parsed.entries:
            where = Where(name, entry.line)
            if entry.key in found:
                self.report(
                    InventoryError(
                        f"{entry.key} is given twice, first in line {found[entry.key].where.line}.",
                        where=where,
                        hint="Keep one of them.",
                    )
                )
            if entry.unset:
                # Not which name: it may be a part of a password.
                self.warnings.append(
                    f"{where}: {entry.key} has a $ and a name that is not set, which Compose reads as "
                    "nothing. In single quotes a $ stays."
                )
            parts: tuple[str | Reference, ...] = ()
            if entry.key in tokens:
                parts = _parts(tokens[entry.key], references)
            elif _MARKS.search(value := values.get((entry.key, entry.line), "")):
                parts = _parts(value, references)
            found[entry.key] = EnvEntry(entry.value, where, shared, parts, sealed=bool(parts))
        return found


def _parts(value: str, references: list[Reference]) -> tuple[str | Reference, ...]:
    """A value with tokens in it, cut at them."""
    pieces = _MARKS.split(value)  # every second one is a token's number
    parts = [references[int(piece)] if at % 2 else piece for at, piece in enumerate(pieces)]
    return tuple(part for part in parts if part != "")


def _sops_names(text: str, name: str, report: Report) -> dict[str, Where]:
    """The variables of a file that SOPS has encrypted: it leaves their names in clear."""
    if name.endswith(".env"):
        lines = text.splitlines()
        found = {
            line.partition("=")[0].strip(): Where(name, number)
            for number, line in enumerate(lines, 1)
            if "=" in line and not line.startswith("#")
        }
        encrypted = any(key.startswith("sops_") for key in found)
        found = {key: where for key, where in found.items() if not key.startswith("sops_")}
    else:
        node = parse_yaml(text, name, report)
        if not isinstance(node, MappingNode):
            raise InventoryError("This is no mapping of names to values.", where=Where(name))
        encrypted = isinstance(node.get("sops"), MappingNode)
        found = {}
        for key, value in node:
            if key.name == "sops":
                continue
            if not isinstance(value, Scalar):
                report(
                    InventoryError(
                        f"{key.name} is not a single value, and an environment variable is.",
                        where=key.where,
                        hint="Write the file as KEY: value, without anything inside.",
                    )
                )
                continue
            found[key.name] = key.where
    if not encrypted:
        raise InventoryError(
            "SOPS has not encrypted this file: its values are in clear.",
            where=Where(name),
            hint=f"Encrypt it: `sops --encrypt --in-place {name}`.",
        )
    return found


def _is_public(path: Path, root: Path) -> bool:
    """Whether every user of this machine can read it, and it isn't in git, where everybody can anyway."""
    if not path.stat().st_mode & stat.S_IROTH:
        return False
    command = ["git", "-C", str(root), "ls-files", "--error-unmatch", "--", str(path)]
    try:
        return subprocess.run(command, capture_output=True, check=False, timeout=10).returncode != 0
    except (OSError, subprocess.TimeoutExpired):
        return True
