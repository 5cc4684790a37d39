"""The environment's ``.env`` files: ``env/<env>.env`` for every app, ``env/<env>/<app>.env`` for one."""

from __future__ import annotations

import stat
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from longshore import dotenv
from longshore.errors import InventoryError, LongshoreError, Where
from longshore.inventory.hidden import looks_secret
from longshore.inventory.nearest import did_you_mean
from longshore.inventory.yamlfile import read_text


@dataclass(frozen=True)
class EnvEntry:
    """A variable of an env file; ``shared`` when the file is the environment's, not the app's own."""

    value: str
    where: Where
    shared: bool


@dataclass(frozen=True)
class EnvFiles:
    """App name to its variables, strongest first for a key that both files have."""

    apps: dict[str, dict[str, tuple[EnvEntry, ...]]]
    files: tuple[Path, ...]
    warnings: tuple[str, ...]


def read_env_files(
    root: Path, environment: str, apps: Iterable[str], report: Callable[[InventoryError], None]
) -> EnvFiles:
    """Read the env files of ``environment``. An app's own file wins over the environment's."""
    names = list(apps)
    folder = root / "env"
    files: list[Path] = []
    warnings: list[str] = []

    def entries(path: Path, *, shared: bool) -> dict[str, EnvEntry]:
        if not path.is_file():
            return {}
        files.append(path)
        name = str(path.relative_to(root))
        found = _read(path, name, report, warnings, shared=shared)
        if any(looks_secret(key, entry.value) for key, entry in found.items()) and _is_public(path, root):
            warnings.append(f"{name} holds secrets and every user of this machine can read it: chmod 600 it.")
        return found

    common = entries(folder / f"{environment}.env", shared=True)
    result: dict[str, dict[str, tuple[EnvEntry, ...]]] = {}
    for app in names:
        own = entries(folder / environment / f"{app}.env", shared=False)
        keys = dict.fromkeys((*common, *own))
        result[app] = {
            key: tuple(entry for entry in (own.get(key), common.get(key)) if entry is not None)
            for key in keys
        }
    for path in sorted((folder / environment).glob("*.env")) if (folder / environment).is_dir() else ():
        if path.stem not in names and not path.name.startswith("."):
            report(
                InventoryError(
                    f"There is no app named {path.stem!r} in {environment}.",
                    where=Where(str(path.relative_to(root))),
                    hint=did_you_mean(path.stem, names, list_all="Its apps"),
                )
            )
    return EnvFiles(result, tuple(files), tuple(warnings))


def _read(
    path: Path, name: str, report: Callable[[InventoryError], None], warnings: list[str], *, shared: bool
) -> dict[str, EnvEntry]:
    found: dict[str, EnvEntry] = {}
    try:
        parsed = dotenv.read(read_text(path, name), name)
    except InventoryError as error:
        report(error)
        return found
    except LongshoreError as error:
        report(InventoryError(error.message, where=error.where or Where(name), hint=error.hint))
        return found
    for entry in parsed:
        where = Where(name, entry.line)
        if entry.key in found:
            report(
                InventoryError(
                    f"{entry.key} is given twice, first in line {found[entry.key].where.line}.",
                    where=where,
                    hint="Keep one of them.",
                )
            )
        if entry.unset:
            # Not which name: it may be a part of a password.
            warnings.append(
                f"{where}: {entry.key} has a $ and a name that is not set, which Compose reads as nothing. "
                "In single quotes a $ stays."
            )
        found[entry.key] = EnvEntry(entry.value, where, shared)
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
