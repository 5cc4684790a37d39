"""A release as a plan reads it: its compose files merged, of today's bundle or of what a host has stored."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import field
from functools import cached_property
from pathlib import Path
from typing import Any

from longshore import dotenv
from longshore.console.masks import MASK
from longshore.errors import LongshoreError, RenderError
from longshore.plan.veil import Veil
from longshore.records import dataclass
from longshore.render import proxy
from longshore.render.bundle import Bundle
from longshore.render.files import ProjectFiles
from longshore.render.reader import Model, read

_ROOT = Path("/bundle")
_KEPT = 16
"""Projects that are kept, as read: each host's are compared with them."""


class Models:
    """Compose projects as they were read. What many hosts have in common is read once: a project is the same
    when the files that were read for it are, and the variables that were asked for."""

    def __init__(self) -> None:
        self._read: deque[tuple[tuple[Path, ...], Path, Mapping[Path, str], Model]] = deque(maxlen=_KEPT)

    def read(
        self, names: tuple[Path, ...], folder: Path, texts: Mapping[Path, str], env: Mapping[str, str]
    ) -> Model:
        """The project in ``folder`` (absolute) made of these compose files. Raises ``LongshoreError``."""
        for its_names, its_folder, its_texts, model in self._read:
            if (
                (its_names, its_folder) == (names, folder)
                and all(texts.get(path) == text for path, text in its_texts.items())
                and all(env.get(name) == value for name, value in model.variables.items())
            ):
                return model
        model = read(_StoredFiles(texts, folder), names, env)
        self._read.append((names, folder, {path: texts[path] for path in model.files}, model))
        return model


@dataclass(frozen=True)
class Release:
    """``texts`` are its files by path, as far as they are known; ``env`` its ``.env``, where a value that is
    only known by its fingerprint is the mark of it; ``env_files`` the other env files."""

    manifest: Mapping[str, Any]
    texts: Mapping[str, str]
    env: Mapping[str, str]
    env_files: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    pins: Mapping[str, str] = field(default_factory=dict)
    hidden: Mapping[str, str] = field(default_factory=dict)
    """Why a file's text is not here, as the end of a sentence."""
    edited: Mapping[str, str] = field(default_factory=dict)
    """The texts on the host of files that were edited there, where ``texts`` has what they should be."""
    edited_env: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    gaps: Mapping[str, str] = field(default_factory=dict)
    """Service to what keeps old and new from running side by side, where the proxy serves it."""
    models: Models = field(default_factory=Models, repr=False)
    """What was read for other releases of the same plan."""

    @property
    def images(self) -> dict[str, str]:
        """Service to the image that runs, as far as it is pinned."""
        services = self.manifest["services"]
        return {name: self.pins.get(name) or str(one["image"] or "") for name, one in services.items()}

    @cached_property
    def model(self) -> Model | None:
        """The compose project with our policy laid over it; ``None`` where it can't be read."""
        return self._read(tuple(self.manifest["compose_files"]))

    @cached_property
    def written(self) -> dict[str, str]:
        """Service to the image as the project's own files have it, with the tag that a pin takes away."""
        model = self._read(tuple(self.manifest["compose_files"][:-1]))
        return {name: str(one.get("image") or "") for name, one in model.services.items()} if model else {}

    def _read(self, names: tuple[str, ...]) -> Model | None:
        texts = {_ROOT / path: text for path, text in self.texts.items()}
        folder = _ROOT / self.manifest["project_directory"]
        env = {"COMPOSE_PROJECT_NAME": str(self.manifest["project"]), **self.env}
        paths = tuple(_ROOT / name for name in names)
        try:
            return self.models.read(paths, folder, texts, env) if names else None
        except LongshoreError:
            return None

    def folder_of(self, path: str) -> Path:
        """Where a release's file lies for its model's paths."""
        return _ROOT / path


class _StoredFiles(ProjectFiles):
    """Files in memory, for the reader of compose files."""

    def __init__(self, texts: Mapping[Path, str], project: Path) -> None:
        super().__init__(root=_ROOT, project=project, extra={}, variables={})
        self.texts = texts

    def source(self, path: Path) -> Path | None:
        return path if path in self.texts else None

    def text(self, path: Path) -> str:
        if path not in self.texts:
            raise RenderError("This file isn't known here.", where=self.name(path))
        return self.texts[path]

    def data(self, path: Path) -> bytes:
        return self.text(path).encode()


def of_bundle(bundle: Bundle, models: Models) -> Release:
    """The release that would be deployed."""
    manifest = bundle.manifest_body()
    compose = set(manifest["compose_files"])
    texts, env_files, hidden = {}, {}, {}
    for file in bundle.files:
        text = _text(file.data)
        if text is None:
            hidden[file.path] = f"{len(file.data)} bytes"
        elif file.secret and (file.kind == "content" or file.path == proxy.FILE):
            hidden[file.path] = "a secret"
        else:
            texts[file.path] = text
            if file.kind == "release" and file.path not in compose and file.secret:
                env_files[file.path] = _variables(text, file.path)
    env = env_files.pop(env_path(manifest), {})
    gaps = {name: facts.gap for name, facts in bundle.services.items() if facts.gap}
    return Release(manifest, texts, env, env_files, hidden=hidden, gaps=gaps, models=models)


def of_host(
    manifest: Mapping[str, Any],
    stored: Mapping[str, Any],
    new: Release,
    digests: Mapping[str, str],
    veil: Veil,
) -> Release:
    """The release that a host has: what it sent, and what is the same as in ``new`` (path to SHA-256 in
    ``digests``) and wasn't sent. It shares ``new``'s models."""
    texts: dict[str, str] = {}
    env_files: dict[str, dict[str, str]] = {}
    hidden: dict[str, str] = {}
    edited: dict[str, str] = {}
    edited_env: dict[str, dict[str, str]] = {}
    for path, facts in manifest["files"].items():
        sent = stored["files"].get(path)
        # What was edited on the host never took effect: what it should be is what counts.
        known = digests.get(path) == facts["sha256"]
        if known:
            if path in new.texts:
                texts[path] = new.texts[path]
            if path in new.hidden:
                hidden[path] = new.hidden[path]
            if path in new.env_files:
                env_files[path] = dict(new.env_files[path])
            elif path == env_path(manifest):
                env_files[path] = dict(new.env)
        if sent is None:
            continue
        if "text" in sent:
            (edited if known else texts)[path] = veil.restore(sent["text"])
        elif "env" in sent:
            values = new.env if path == env_path(manifest) else new.env_files.get(path, {})
            old = Veil(veil.salt, values).old_env(sent["env"])
            (edited_env if known else env_files)[path] = old
        else:
            hidden[path] = _why_hidden(sent)
    env = env_files.pop(env_path(manifest), {})
    pins = stored.get("pins") or {}
    return Release(manifest, texts, env, env_files, pins, hidden, edited, edited_env, models=new.models)


def _why_hidden(sent: Mapping[str, Any]) -> str:
    if "size" in sent:
        return f"{sent['size']} bytes"
    return "missing on the host" if sent.get("missing") else "a secret"


def env_path(manifest: Mapping[str, Any]) -> str:
    """The path of ``.env`` in a bundle."""
    folder = manifest["project_directory"]
    return ".env" if folder == "." else f"{folder}/.env"


def _variables(text: str, path: str) -> dict[str, str]:
    try:
        return {entry.key: entry.value for entry in dotenv.read(text, path)}
    except LongshoreError:
        return {}


def _text(data: bytes) -> str | None:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else text


def is_mark(value: str) -> bool:
    """Whether a value is only known by its fingerprint."""
    return value.startswith(MASK)
