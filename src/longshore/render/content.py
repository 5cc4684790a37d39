"""What a compose file mounts from beside itself: shipped as content, kept as state, or dropped.

With plain Compose such a mount becomes an empty folder on the host. Here, a file or folder with content
travels, under a path made of its hash; what is missing, empty or ignored by git is state, and lives on the
host for all releases; the inventory's ``mounts:`` has the last word.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Literal

from longshore.errors import RenderError
from longshore.records import dataclass
from longshore.render.bundle import BundleFile
from longshore.render.files import GitView, ProjectFiles, read_bytes
from longshore.render.parts import Mount

MAX_CONTENT = 64 * 1024 * 1024
"""Bytes of mounted content in one bundle. More belongs into an image or a volume."""

_KEEPERS = {".gitkeep", ".gitignore", ".keep", ".dockerignore"}
_FILE_SUFFIXES = frozenset((
    ".cfg", ".cnf", ".conf", ".crt", ".csv", ".env", ".hcl", ".htpasswd", ".ini", ".js", ".json", ".key",
    ".lua", ".pem", ".php", ".properties", ".py", ".sh", ".sql", ".tmpl", ".toml", ".ts", ".txt", ".vcl",
    ".xml", ".yaml", ".yml",
))  # fmt: skip
_DATA_FOLDERS = (
    "/var/lib/postgresql",
    "/var/lib/mysql",
    "/var/lib/mariadb",
    "/var/lib/mongodb",
    "/data/db",
    "/var/lib/redis",
    "/var/lib/rabbitmq",
    "/var/lib/clickhouse",
    "/var/lib/elasticsearch",
    "/usr/share/elasticsearch/data",
    "/qdrant/storage",
    "/bitnami",
)


@dataclass(frozen=True)
class Shipped:
    """Content under its hash: ``root`` is ``<hash>/<name>``."""

    root: str
    files: tuple[BundleFile, ...]
    left_out: int = 0
    """How many entries were not taken because git ignores them."""

    @property
    def hash(self) -> str:
        """The first part of ``root``."""
        return self.root.partition("/")[0]

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(len(file.data) for file in self.files)


@dataclass(frozen=True)
class State:
    """A folder (or a file that a person puts there) that outlives releases: relative to ``state/``."""

    path: str
    is_file: bool


def shipped(name: str, entries: dict[str, tuple[bytes, bool]], *, secret: bool = False) -> Shipped:
    """Return content of ``entries`` (path below ``name``, or "" for a single file) under its hash."""
    digest = hashlib.sha256()
    for path, (data, executable) in sorted(entries.items()):
        digest.update(f"{path}\0{'x' if executable else '-'}\0{len(data)}\0".encode())
        digest.update(data)
    root = f"{digest.hexdigest()[:16]}/{name}"
    files = tuple(
        BundleFile(
            path=f"{root}/{path}" if path else root,
            data=data,
            mode=0o755 if executable else 0o644,
            kind="content",
            secret=secret,
        )
        for path, (data, executable) in sorted(entries.items())
    )
    return Shipped(root, files)


def decide(mount: Mount, path: Path, files: ProjectFiles, git: GitView) -> Literal["ship", "state"]:
    """Say what a relative bind mount is, where the inventory's ``mounts:`` doesn't.

    Raises ``RenderError`` where only a person can know.
    """
    name = files.name(path)
    if path == files.project / ".env" or files.source(path) is not None:
        if path not in files.extra and path.is_file() and path.name != ".env" and git.ignores(path):
            raise RenderError(
                f"{mount.written} is a file that git ignores: it can't be known whether it is configuration "
                "or state.",
                where=mount.where,
                hint=f"Say so in the inventory: mounts: {{{mount.written}: ship}}, or state, or drop.",
            )
        return "ship"
    if any(extra.is_relative_to(path) for extra in files.extra):
        return "ship"
    try:
        mode = path.stat().st_mode
    except PermissionError:
        raise _unreadable(name, mount) from None
    except OSError:
        if path.suffix.lower() in _FILE_SUFFIXES:
            raise RenderError(
                f"{name}, which is mounted here, doesn't exist, and Docker would make it an empty folder.",
                where=mount.where,
                hint="Add the file, list it under files: in the inventory, or say "
                f"mounts: {{{mount.written}: state}} where the host keeps it (an acme.json).",
            ) from None
        return "state"
    if not stat.S_ISDIR(mode):
        raise _special(name, mount)
    if mount.target.rstrip("/").startswith(_DATA_FOLDERS):
        return "state"
    if not os.access(path, os.R_OK | os.X_OK):
        raise _unreadable(name, mount)
    listed = git.files(path)
    names = {entry.name for entry in (path.iterdir() if listed is None else listed)}
    return "ship" if names - _KEEPERS else "state"


def state(mount: Mount, path: Path, files: ProjectFiles) -> State:
    """Where a mount's state lies, by its path alone: it must never move between releases."""
    relative = PurePosixPath(os.path.relpath(path, files.project))
    steps = ["_up" if step == ".." else step for step in relative.parts]
    is_file = path.is_file() or (not path.exists() and path.suffix.lower() in _FILE_SUFFIXES)
    return State("/".join(steps) or "_project", is_file)


def collect(mount: Mount, path: Path, files: ProjectFiles, git: GitView | None, inside: Path) -> Shipped:
    """Read what ``path`` holds. With ``git``, what git ignores stays here.

    Links are followed as long as they stay in ``inside``. Raises ``RenderError`` for links that leave it,
    for sockets and devices, and for more than 64 MiB.
    """
    name = path.name if path != files.project and path.name else "_project"
    source = files.source(path)
    if source is not None:
        if path not in files.extra and source.is_symlink():
            _check_link(source, files.name(path), mount, inside)
        if source.stat().st_size > MAX_CONTENT:
            raise too_much(source.stat().st_size, f"{mount.written} holds", mount)
        return shipped(name, {"": (files.data(path), _executable(source))})
    walk = _Walk(mount, files, inside, git.files(path) if git is not None else None)
    found = dict(walk.folder(path, "", (path.resolve(),))) if path.is_dir() else {}
    size = sum(real.stat().st_size for real in found.values())
    if size > MAX_CONTENT:
        raise too_much(size, f"{mount.written} holds", mount)
    entries = {
        relative: (read_bytes(real, files.name(real)), _executable(real)) for relative, real in found.items()
    }
    for extra in files.extra:
        if extra.is_relative_to(path):
            entries[extra.relative_to(path).as_posix()] = (files.data(extra), False)
    content = shipped(name, entries)
    return Shipped(content.root, content.files, walk.left_out)


def _executable(path: Path) -> bool:
    return bool(path.stat().st_mode & stat.S_IXUSR)


def too_much(size: int, what: str, mount: Mount) -> RenderError:
    """The sentence for content over the bound."""
    return RenderError(
        f"{what} {size / 2**20:.0f} MiB; a release carries at most {MAX_CONTENT // 2**20} MiB of content.",
        where=mount.where,
        hint=f"Put it into an image or a named volume, or say mounts: {{{mount.source}: state}}.",
    )


class _Walk:
    """Lists a folder. ``listed`` are the files that git would take, ``None`` for everything."""

    def __init__(
        self, mount: Mount, files: ProjectFiles, inside: Path, listed: frozenset[Path] | None
    ) -> None:
        self.mount = mount
        self.files = files
        self.inside = inside
        self.listed = listed
        self.folders = {parent for path in listed or () for parent in path.parents}
        self.left_out = 0

    def wanted(self, path: Path) -> bool:
        """Whether a path is taken; what lies in a listed folder (a submodule, a link) is, too."""
        if self.listed is None or path in self.listed or path in self.folders:
            return True
        return any(parent in self.listed for parent in path.parents)

    def folder(self, path: Path, prefix: str, above: tuple[Path, ...]) -> Iterator[tuple[str, Path]]:
        try:
            entries = sorted(os.scandir(path), key=lambda entry: entry.name)
        except OSError as error:
            raise RenderError(
                f"This folder can't be read: {error.strerror}.", where=self.files.name(path)
            ) from None
        for entry in entries:
            child = path / entry.name
            if entry.name in (".git", "__pycache__") or child == self.files.project / ".env":
                continue
            if not self.wanted(child):
                self.left_out += 1
                continue
            relative = f"{prefix}{entry.name}"
            name = self.files.name(child)
            if not _is_utf8(relative):
                raise RenderError(
                    f"The name of {os.fsencode(name)!r} is not UTF-8.",
                    where=self.mount.where,
                    hint="Rename it: a release holds names in UTF-8 only.",
                )
            if entry.is_symlink():
                real = _check_link(child, name, self.mount, self.inside)
                if real in above:
                    raise RenderError(
                        f"The link {name} points to a folder that holds it.", where=self.mount.where
                    )
            if entry.is_dir():
                yield from self.folder(child, f"{relative}/", (*above, child.resolve()))
            elif entry.is_file():
                yield relative, child
            else:
                raise _special(name, self.mount)


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # a surrogate stands for a byte of the file system that isn't
        return False
    return True


def _check_link(path: Path, name: str, mount: Mount, inside: Path) -> Path:
    try:
        real = path.resolve(strict=True)
    except (OSError, RuntimeError):
        raise RenderError(f"The link {name} points to nothing.", where=mount.where) from None
    if not real.is_relative_to(inside):
        raise RenderError(
            f"The link {name} points out of the project.",
            where=mount.where,
            hint="Copy the file into the project: what a release holds may not depend on this machine.",
        )
    return real


def _unreadable(name: str, mount: Mount) -> RenderError:
    return RenderError(
        f"{name}, which is mounted here, can't be read, so it can't be known whether it is content or state.",
        where=mount.where,
        hint=f"Let this user read it, or say mounts: {{{mount.written}: state}}, or drop.",
    )


def _special(name: str, mount: Mount) -> RenderError:
    return RenderError(
        f"{name} is a socket, pipe or device, and can't be sent to a host.",
        where=mount.where,
        hint=f"Use an absolute path for one of the host's, or say mounts: {{{mount.written}: drop}}.",
    )
