"""The files of an app on the controller: real ones, templates (``*.j2``) and the inventory's extra files.

Read only. A path here is absolute and normal (no ``.`` or ``..``); ``name`` is what people see of it.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from longshore.errors import RenderError, Where

SUFFIX = ".j2"
"""What a template's name ends with."""


class ProjectFiles:
    """What can be read for one target: ``extra`` maps a path to the source that stands in for it."""

    def __init__(
        self, *, root: Path, project: Path, extra: Mapping[Path, Path], variables: Mapping[str, Any]
    ) -> None:
        self.root = root
        self.project = project
        self.extra = extra
        self.variables = variables

    def name(self, path: Path) -> str:
        """The path as people know it: relative to the Longshore project, where it is inside."""
        return str(path.relative_to(self.root)) if path.is_relative_to(self.root) else str(path)

    def source(self, path: Path) -> Path | None:
        """The file that gives ``path`` its content: itself, an extra file's source, or its template."""
        if path in self.extra:
            return self.extra[path]
        if path.is_file():
            return path
        template = path.with_name(path.name + SUFFIX)
        return template if template.is_file() else None

    def text(self, path: Path) -> str:
        """The content of ``path``, rendered when it comes from a template.

        Raises ``RenderError`` when it is missing, unreadable or not UTF-8.
        """
        source = self.source(path)
        name = self.name(source or path)
        if source is None:
            raise RenderError("This file doesn't exist.", where=name)
        data = read_bytes(source, name)
        try:
            text = data.decode()
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            raise RenderError(
                f"This file is not UTF-8 (byte {error.start}).",
                where=Where(name, line),
                hint="Save it as UTF-8.",
            ) from None
        if source.suffix == SUFFIX and path.suffix != SUFFIX:
            from longshore.render.templates import render_template  # and Jinja2 with it

            return render_template(text, name, self.variables)
        return text

    def data(self, path: Path) -> bytes:
        """Like ``text``, for any content."""
        source = self.source(path)
        if source is not None and (source.suffix != SUFFIX or path.suffix == SUFFIX):
            return read_bytes(source, self.name(source))
        return self.text(path).encode()


def without_suffix(path: Path) -> Path:
    """The name that a rendered template has: ``compose.yml.j2`` is ``compose.yml``."""
    return path.with_suffix("") if path.suffix == SUFFIX else path


def read_bytes(path: Path, name: str) -> bytes:
    """Read a file; raises ``RenderError`` with the reason."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise RenderError(f"This file can't be read: {error.strerror}.", where=name) from None


def written_path(path: Path) -> Path:
    """Where a file of ``App.compose`` or ``App.files`` lies once rendered: without ``.j2``, normal."""
    return without_suffix(Path(os.path.normpath(path)))


def common_folder(paths: Iterable[Path]) -> Path:
    """The deepest folder that holds all of ``paths``."""
    return Path(os.path.commonpath([str(path) for path in paths]))


@lru_cache(maxsize=64)
def boundary(project: Path, root: Path) -> Path:
    """The folder that shipped content may not point out of: the git work tree, else the project."""
    for folder in (project, *project.parents):
        if (folder / ".git").exists():
            return folder.resolve()
    return (root if project.is_relative_to(root) else project).resolve()


class GitView:
    """What git would take of a folder: what it tracks, and what is neither tracked nor ignored."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.known: dict[Path, frozenset[Path] | None] = {}

    def files(self, path: Path) -> frozenset[Path] | None:
        """The files at or below ``path`` that git doesn't ignore; ``None`` without git or a work tree."""
        if path not in self.known:
            self.known[path] = _list_files(self.folder, path)
        return self.known[path]

    def ignores(self, path: Path) -> bool:
        """Whether git ignores all that is at ``path``."""
        return self.files(path) == frozenset()


def _list_files(folder: Path, path: Path) -> frozenset[Path] | None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    try:
        done = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", str(path)],
            cwd=folder,
            capture_output=True,
            check=False,
            timeout=60,
            env={**environment, "GIT_OPTIONAL_LOCKS": "0"},
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode:
        return None
    names = done.stdout.rstrip(b"\0").split(b"\0") if done.stdout else []
    return frozenset(Path(os.path.normpath(folder / os.fsdecode(name))) for name in names)


def where_of(files: ProjectFiles, path: Path) -> Where:
    """A whole file as a place."""
    return Where(files.name(path))
