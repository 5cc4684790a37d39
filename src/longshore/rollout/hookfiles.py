"""The executables in a project's ``hooks/``: found and checked before any host is touched.

``hooks/<name>`` and ``hooks/<name>.d/*`` run on the controller, ``hooks/host/<name>`` and
``hooks/host/<name>.d/*`` on each host. Running them is in :mod:`longshore.rollout.hooks`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import field
from pathlib import Path

from longshore.errors import DeployError, LongshoreError, Problems
from longshore.inventory.nearest import did_you_mean
from longshore.records import dataclass
from longshore.roles import HOOKS, HookName

HOST = "host"
LIBRARY = "lib"
"""A folder that is left alone: for what the hooks on the controller share."""
_MOST = 1 << 20
"""Bytes of a hook that is sent to hosts."""


@dataclass(frozen=True)
class HookFile:
    """An executable. ``label`` is its path in the project; ``data`` what a host gets of it."""

    hook: HookName
    path: Path
    label: str
    on_host: bool
    data: bytes = field(default=b"", repr=False)


@dataclass(frozen=True)
class HookFiles:
    """All executables of a project, in the order in which they run."""

    root: Path = field(default_factory=Path)
    files: tuple[HookFile, ...] = ()

    def of(self, hook: HookName) -> tuple[HookFile, ...]:
        """Those of one hook: on the controller first, then on the host."""
        return tuple(file for file in self.files if file.hook == hook)


def find_hooks(root: Path) -> HookFiles:
    """Read ``hooks/`` of a project. Raises ``Problems`` with a sentence for each file that can't be run."""
    folder = root / "hooks"
    if not folder.exists():
        return HookFiles(root)
    if not folder.is_dir():
        raise DeployError("hooks is not a folder", where="hooks", hint="The project's hooks are files in it.")
    problems: list[LongshoreError] = []
    found = [*_files(root, folder, False, problems), *_files(root, folder / HOST, True, problems)]
    if problems:
        raise Problems(problems)
    return HookFiles(root, tuple(found))


def _files(root: Path, folder: Path, on_host: bool, problems: list[LongshoreError]) -> Iterator[HookFile]:
    if not folder.is_dir():
        return
    for path in _entries(folder):
        label = path.relative_to(root).as_posix()
        if not on_host and path.name in (HOST, LIBRARY) and path.is_dir():
            continue
        many = path.name.endswith(".d")
        hook = next((name for name in HOOKS if name == path.name.removesuffix(".d")), None)
        if hook is None:
            problems.append(_unknown(path, label))
        elif many != path.is_dir():
            is_what, should = ("file", "folder") if many else ("folder", "file")
            hint = f"Name it {hook}.d to run everything in it." if not many else f"Name it {hook}."
            problems.append(DeployError(f"is a {is_what}, and must be a {should}", where=label, hint=hint))
        else:
            for one in _entries(path) if many else [path]:
                file = _file(hook, one, one.relative_to(root).as_posix(), on_host)
                if isinstance(file, HookFile):
                    yield file
                else:
                    problems.append(file)


def _entries(folder: Path) -> list[Path]:
    """What counts in a folder, sorted by name: no hidden files, editors' backups, and notes for people."""
    return sorted(
        path
        for path in folder.iterdir()
        if not path.name.startswith(".")
        and not path.name.endswith(("~", ".md", ".txt", ".bak", ".orig", ".rej"))
        and not path.name.upper().startswith("README")
    )


def _unknown(path: Path, label: str) -> LongshoreError:
    stem = path.name.split(".")[0]
    if stem in HOOKS:
        return DeployError("has an ending, which no hook has", where=label, hint=f"Name it {stem}.")
    hint = did_you_mean(stem, HOOKS) or f"A hook is one of: {', '.join(HOOKS)}."
    if path.is_dir():
        hint += f" Folders of your own belong into hooks/{LIBRARY}."
    return DeployError(f"there is no hook {stem!r}", where=label, hint=hint)


def _file(hook: HookName, path: Path, label: str, on_host: bool) -> HookFile | LongshoreError:
    if not path.is_file():
        what = (
            "is a folder" if path.is_dir() else "is a link to nowhere" if path.is_symlink() else "is no file"
        )
        return DeployError(what, where=label, hint="A hook is an executable file.")
    try:
        data = path.read_bytes()
    except OSError as error:
        return DeployError(f"can't be read: {error.strerror}", where=label)
    if not os.access(path, os.X_OK):
        return DeployError("is not executable", where=label, hint=f"chmod +x {label}")
    first = data.split(b"\n", 1)[0]
    if not data.strip():
        return DeployError("is empty", where=label, hint="Remove it, or begin it with #!/bin/sh.")
    if first.startswith(b"#!") and first.endswith(b"\r"):
        return DeployError(
            "has the line ends of Windows, which no interpreter takes", where=label, hint=f"dos2unix {label}"
        )
    if not first.startswith(b"#!") and b"\0" not in data[:4096]:
        return DeployError(
            "doesn't say what runs it", where=label, hint="Begin it with a line like #!/bin/sh."
        )
    if on_host and len(data) > _MOST:
        return DeployError(
            f"is larger than {_MOST >> 20} MiB, too large to be sent to each host with every run",
            where=label,
            hint="Install the program on the hosts, and call it.",
        )
    return HookFile(hook, path, label, on_host, data if on_host else b"")
