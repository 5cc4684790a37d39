"""Which files an environment is made of, and what to say when they aren't there."""

from __future__ import annotations

import re
from pathlib import Path

from longshore.errors import InventoryError
from longshore.inventory.nearest import did_you_mean
from longshore.records import dataclass

_YAML = (".yml", ".yaml")
_VARIABLES = (*_YAML, ".json", "")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_KEPT_BESIDE = ("group_vars", "host_vars")


def find_root(start: Path) -> Path:
    """Return the nearest folder from ``start`` upwards that has an ``inventory/`` folder.

    Raises ``InventoryError`` when there is none.
    """
    start = start.resolve()
    for folder in (start, *start.parents):
        if (folder / "inventory").is_dir():
            return folder
    raise InventoryError(
        f"There is no inventory/ folder in {start} or above it.",
        hint="A project begins with inventory/<environment>.yml: see docs/inventory.md.",
    )


def environments(root: Path) -> tuple[str, ...]:
    """The names of the project's environments, sorted: ``inventory/<name>.yml`` or ``inventory/<name>/``."""
    folder = root / "inventory"
    if not folder.is_dir():
        return ()
    names = set()
    for path in folder.iterdir():
        name = path.stem if path.suffix in _YAML and path.is_file() else path.name
        if path.name in _KEPT_BESIDE or not _NAME.fullmatch(name):
            continue
        if (path.suffix in _YAML and path.is_file()) or (path.is_dir() and _documents_in(path)):
            names.add(name)
    return tuple(sorted(names))


@dataclass(frozen=True)
class VariableFolder:
    """The folders ``group_vars`` and ``host_vars`` of one place. ``shared``: by all environments."""

    path: Path
    shared: bool


@dataclass(frozen=True)
class InventoryFiles:
    """What an environment is read from. ``weaker`` folders lose to the documents, ``stronger`` ones win."""

    documents: tuple[Path, ...]
    weaker: tuple[VariableFolder, ...]
    stronger: tuple[VariableFolder, ...]


def inventory_files(root: Path, environment: str) -> InventoryFiles:
    """Find the inventory of ``environment``. Raises ``InventoryError`` with what to do when there is none."""
    folder = root / "inventory"
    if not folder.is_dir():
        raise InventoryError(
            f"There is no inventory/ folder in {root}.",
            hint=f"Begin with inventory/{environment or 'prod'}.yml: see docs/inventory.md.",
        )
    known = environments(root)
    if environment not in known:
        raise _unknown(folder, environment, known)
    own = folder / environment
    inside = _documents_in(own) if own.is_dir() else ()
    beside = tuple(path for suffix in _YAML if (path := folder / f"{environment}{suffix}").is_file())
    if len(beside) > 1 or (beside and inside):
        both = " and ".join(str(path.relative_to(root)) for path in (*beside, *inside[:1]))
        raise InventoryError(f"The environment {environment} is defined by {both}.", hint="Keep one of them.")
    return InventoryFiles(
        documents=beside or inside,
        weaker=(VariableFolder(root, True), VariableFolder(folder, True)),
        stronger=(VariableFolder(own, False),),
    )


def _documents_in(folder: Path) -> tuple[Path, ...]:
    return tuple(
        path
        for path in sorted(folder.iterdir())
        if path.is_file() and path.suffix in _YAML and not path.name.startswith(".")
    )


def _unknown(folder: Path, environment: str, known: tuple[str, ...]) -> InventoryError:
    meant = Path(environment).stem if Path(environment).suffix in _YAML else ""
    if meant in known:
        message = f"{environment} is a file; its environment's name is {meant}."
        return InventoryError(message, hint=f"Say --env {meant}.")
    if _NAME.fullmatch(environment):
        own = folder / environment
        names = (own, folder / f"{environment}.ini", own / "hosts", own / "hosts.ini", own / "inventory")
        for path in names:
            if path.is_file():
                shown = path.relative_to(folder.parent)
                return InventoryError(
                    f"{shown} is an INI inventory; Longshore reads Ansible's YAML format only.",
                    hint=f"Convert it: ansible-inventory -i {shown} --list --yaml"
                    f" --output inventory/{environment}.yml",
                )
    if not environment:
        message = "No environment is given. Say --env NAME."
    else:
        message = f"There is no environment named {environment!r}."
    if not known:
        hint = f"Begin with inventory/{environment or 'prod'}.yml: see docs/inventory.md."
        return InventoryError(message, where=None, hint=hint)
    return InventoryError(message, hint=did_you_mean(environment, known, list_all="There are"))


def variable_files(folder: VariableFolder, kind: str) -> dict[str, list[Path]]:
    """Group or host name to its files in ``folder``'s ``group_vars`` or ``host_vars`` (``kind``), sorted.

    ``web.yml``, ``web.yaml``, ``web.json``, ``web`` and everything in ``web/`` belong to ``web``.
    """
    place = folder.path / kind
    if not place.is_dir():
        return {}
    found: dict[str, list[Path]] = {}
    for path in sorted(place.iterdir(), key=lambda path: (path.is_dir(), path.name)):
        if _ignored(path):
            continue
        if path.is_dir():
            inside = [
                file
                for file in sorted(path.rglob("*"))
                if file.is_file() and file.suffix in _VARIABLES and not _ignored(file)
            ]
            found.setdefault(path.name, []).extend(inside)
        elif path.suffix in (*_YAML, ".json"):
            found.setdefault(path.stem, []).append(path)
        else:
            found.setdefault(path.name, []).append(path)  # a host's name has dots, too
    return found


def _ignored(path: Path) -> bool:
    return path.name.startswith(".") or path.name.endswith(("~", ".bak", ".orig", ".swp", ".retry", ".md"))
