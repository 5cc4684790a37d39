"""Finding roles: the built-in ones, and those of a project's ``roles/*.py``, which come first."""

from __future__ import annotations

import importlib.util
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path

from longshore import bytecode
from longshore.errors import InventoryError, Where
from longshore.roles.builtin import BUILTIN
from longshore.roles.model import HOOKS, Role

_MODULES = "longshore_project_roles"


def known_roles(root: Path) -> tuple[str, ...]:
    """The names of all roles that a project can use."""
    own = (path.stem for path in sorted((root / "roles").glob("*.py")) if not path.name.startswith("_"))
    return tuple(dict.fromkeys((*own, *BUILTIN)))


def find_role(name: str, root: Path) -> Role | None:
    """The role of that name, or ``None``. A project's own role is executed to be read.

    Raises ``InventoryError`` with file and line when ``roles/<name>.py`` fails or defines no role.
    """
    path = root / "roles" / f"{name}.py"
    return load_file(path, name) if path.is_file() else BUILTIN.get(name)


def file_of(role: Role) -> Path | None:
    """The project's file that this role was read from; ``None`` for one that is in none."""
    module = sys.modules.get(f"{_MODULES}.{role.name}")
    found = getattr(module, "__file__", None) if getattr(module, "role", None) is role else None
    return Path(found) if found else None


def load_file(path: Path, name: str) -> Role:
    """The role that a file of a project defines. Raises ``InventoryError`` as ``find_role``."""
    file = f"roles/{path.name}"
    module_name = f"{_MODULES}.{name}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise InventoryError("The role can't be read as Python.", where=Where(file))
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # dataclasses look their module up there
    try:
        with bytecode.not_kept():
            spec.loader.exec_module(module)
    except SyntaxError as error:
        raise InventoryError(
            f"The role is not valid Python: {error.msg}.", where=Where(file, error.lineno or 0)
        ) from None
    except (Exception, SystemExit) as error:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        line = frames[-1].lineno if frames else 0
        raise InventoryError(
            f"The role fails when it is loaded: {type(error).__name__}: {error}.",
            where=Where(file, line or 0),
        ) from None
    role = getattr(module, "role", None)
    if not isinstance(role, Role):
        raise InventoryError(
            "The file defines no role.",
            where=Where(file),
            hint=f'Write: from longshore.roles import Role; role = Role(name="{name}", summary="…").',
        )
    _check(role, name, file)
    return role


def _check(role: Role, name: str, file: str) -> None:
    def wrong(message: str, hint: str = "") -> InventoryError:
        return InventoryError(message, where=Where(file), hint=hint)

    if role.name != name:
        raise wrong(f"The role calls itself {role.name!r}.", f"Name it {name!r}, as its file.")
    if bool(role.service) != bool(role.database):
        raise wrong("The role has only one of database and service.", "They go together.")
    for part, what in ((role.defaults, "defaults"), (role.service, "service")):
        if not isinstance(part, Mapping):
            raise wrong(f"The role's {what} must be a dict.")
    for hook, function in role.hooks.items():
        if hook not in HOOKS:
            raise wrong(f"The role has a hook {hook!r}.", f"It is one of: {', '.join(HOOKS)}.")
        if not callable(function):
            raise wrong(f"The role's hook {hook} is not a function.")
    for check, test in role.checks.items():
        if not callable(test):
            raise wrong(f"The role's check {check} is not a function.")
