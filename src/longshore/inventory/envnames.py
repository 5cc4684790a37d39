"""Files in ``env/`` that look as if they were read, and aren't: misspelt names, folders, dangling links."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from longshore.errors import InventoryError, Where
from longshore.inventory.files import environments
from longshore.inventory.nearest import did_you_mean

_READ = (".env", ".env.age", ".sops.env", ".sops.yaml", ".sops.yml", ".sops.json")
_OTHER = (".example", ".sample", ".template", ".dist", ".md", ".txt", ".bak", ".orig", ".swp", "~")
_SLIPS = (".evn", ".en", ".nev", ".envs", ".env.yml", ".env.txt", ".ENV", ".Env", ".env.age.txt")


def misplaced(
    root: Path, environment: str, apps: Iterable[str] = ()
) -> tuple[list[InventoryError], list[str]]:
    """What is wrong in ``env/`` for this environment (errors), and what no environment reads (warnings)."""
    folder = root / "env"
    errors: list[InventoryError] = []
    warnings: list[str] = []
    if not folder.is_dir():
        if folder.exists():
            errors.append(
                InventoryError("This is a file; env/ is a folder of env files.", where=Where("env"))
            )
        return errors, warnings
    known = (*environments(root), environment)
    for path in sorted(folder.iterdir()):
        _look(path, known, environment, "environment", errors, warnings, root)
    own = folder / environment
    for path in sorted(own.iterdir()) if own.is_dir() else ():
        _look(path, tuple(apps), None, f"app of {environment}", errors, warnings, root)
    return errors, warnings


def _look(
    path: Path,
    known: tuple[str, ...],
    environment: str | None,
    what: str,
    errors: list[InventoryError],
    warnings: list[str],
    root: Path,
) -> None:
    """One entry of ``env/``, or of ``env/<environment>/`` (then ``environment`` is ``None``)."""
    name = str(path.relative_to(root))
    if path.name.startswith(".") or path.name.endswith(_OTHER):
        return
    slip = next((end for end in _SLIPS if path.name.endswith(end)), "")
    if slip:
        stem = path.name[: -len(slip)]
        warnings.append(f"{name} is not read: did you mean {Path(name).with_name(stem + '.env')}?")
        return
    end = next((end for end in sorted(_READ, key=len, reverse=True) if path.name.endswith(end)), "")
    stem = path.name[: -len(end)] if end else path.name
    ours = environment is None or stem == environment
    if end and path.is_dir():
        if ours:
            errors.append(
                InventoryError(
                    "This is a folder, not a file.",
                    where=Where(name),
                    hint=f"Apps' own env files go in env/{stem}/." if environment else "Make it a file.",
                )
            )
    elif end and path.is_symlink() and not path.exists():
        if ours:
            errors.append(InventoryError("This is a link to a file that doesn't exist.", where=Where(name)))
    elif (end or _has_env_files(path)) and stem not in known:
        # An app's own file of an unknown app is an error that the reading itself reports.
        if environment is not None:
            near = did_you_mean(stem, known)
            hint = f" {near}" if near else ""
            warnings.append(f"{name} is not read: there is no {what} named {stem!r}.{hint}")
    elif not end and path.is_file() and stem in known:
        warnings.append(f"{name} is not read: did you mean {name}.env?")


def _has_env_files(path: Path) -> bool:
    """A folder of anything else (certificates, say) is nobody's slip."""
    return path.is_dir() and any(one.name.endswith(_READ) for one in path.iterdir())
