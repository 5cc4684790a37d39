"""Where on the host each mount, config and secret of one target is, and what has to be sent for it."""

from __future__ import annotations

import hashlib
import os.path
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Any, Literal

from longshore.errors import RenderError, Where
from longshore.inventory.model import MountRule, Target
from longshore.records import dataclass
from longshore.render import content
from longshore.render.bundle import BundleFile, Note
from longshore.render.content import Shipped
from longshore.render.document import Map
from longshore.render.files import GitView, ProjectFiles, boundary
from longshore.render.parts import LocalFile, Mount

_SEARCHED = 1024 * 1024
"""Bytes: larger files are not searched for secrets."""


@dataclass
class Snapshot:
    """What was decided and read in this run: the same for all hosts."""

    content: dict[tuple[Path, bool], Shipped] = field(default_factory=dict)
    """By path and whether what git ignores was taken, too."""
    decided: dict[tuple[str, Path, str], Literal["ship", "state"]] = field(default_factory=dict)
    """By source as written, path, and target in the container."""


class Placing:
    """Collects the content, the state folders and the notes of one target."""

    def __init__(
        self, target: Target, files: ProjectFiles, env_text: str, git: GitView, snapshot: Snapshot
    ) -> None:
        self.target = target
        self.files = files
        self.git = git
        self.snapshot = snapshot
        self.env_file = files.project / ".env"
        self.env_text = env_text
        self.inside = boundary(files.project, target.root)
        home = f"{target.state_dir}/{target.app.name}"
        self.content_root, self.state_root = f"{home}/content", f"{home}/state"
        self.rules: dict[str, MountRule] = {
            os.path.normpath(key): rule for key, rule in target.app.mounts.items()
        }
        self.rules_used: set[str] = set()
        self.content: dict[str, BundleFile] = {}
        self.size = 0
        self.ships_env = False
        self.state_dirs: set[str] = set()
        self.notes: list[Note] = []

    def mount(self, mount: Mount, service: str) -> dict[str, Any] | None:
        """Return the mount in long form as the host shall have it, or ``None`` when it is dropped."""
        key = os.path.normpath(mount.written) if mount.written else ""
        rule = self.rules.get(key)
        if rule is not None:
            self.rules_used.add(key)
        if rule == "drop":
            return None
        if mount.path is None:
            return mount.long()
        rule = rule or self._decide(mount, mount.path)
        if rule == "state":
            return self._state(mount, mount.path, service)
        shipped = self._ship(mount, mount.path, everything=self.rules.get(key) == "ship")
        if shipped.left_out:
            self.notes.append(
                Note(
                    "note",
                    f"{mount.written}: what git ignores in it is not sent ({shipped.left_out} entries); "
                    f"mounts: {{{mount.written}: ship}} sends everything.",
                    mount.where,
                    service,
                )
            )
        return mount.long(
            f"{self.content_root}/{shipped.root}",
            bind={**mount.options.get("bind", {}), "create_host_path": False},
        )

    def _decide(self, mount: Mount, path: Path) -> Literal["ship", "state"]:
        if self.files.extra:
            return content.decide(mount, path, self.files, self.git)
        key = (mount.written, path, mount.target)
        if key not in self.snapshot.decided:
            self.snapshot.decided[key] = content.decide(mount, path, self.files, self.git)
        return self.snapshot.decided[key]

    def unused_rules(self) -> list[str]:
        """The keys of ``mounts:`` that no service of this target mounts."""
        return sorted(set(self.rules) - self.rules_used)

    def file(self, entry: LocalFile, *, secret: bool) -> Shipped:
        """Ship the file of a config or secret."""
        assert entry.path is not None
        if self.files.source(entry.path) is None and not entry.path.is_dir():
            raise RenderError(
                f"{self.files.name(entry.path)} doesn't exist.",
                where=entry.where,
                hint="Add the file, or list it under files: in the inventory.",
            )
        mount = Mount("bind", entry.written, "", entry.where, entry.path, entry.written)
        return self._ship(mount, entry.path, everything=True, secret=secret)

    def _ship(self, mount: Mount, path: Path, *, everything: bool, secret: bool = False) -> Shipped:
        if path == self.env_file:
            self.ships_env = True
            # A container that mounts .env gets the one that was rendered, readable for its own user: the
            # folders above it are closed to everybody else on the host.
            shipped = content.shipped(".env", {"": (self.env_text.encode(), False)}, secret=True)
        elif (known := self.snapshot.content.get((path, everything))) is not None:
            shipped = known
        else:
            git = None if everything else self.git
            shipped = content.collect(mount, path, self.files, git, self.inside)
            if not any(extra.is_relative_to(path) for extra in self.files.extra):
                self.snapshot.content[path, everything] = shipped
        for file in shipped.files:
            if file.path not in self.content:
                self.size += len(file.data)
            known_file = self.content.get(file.path)
            mine = secret or file.secret or (known_file is not None and known_file.secret)
            # What a template made of a secret must be masked, too; media files needn't be searched.
            mine = mine or (len(file.data) < _SEARCHED and holds_secret(self.target, file.data))
            self.content[file.path] = (
                file if file.secret == mine else BundleFile(file.path, file.data, file.mode, file.kind, mine)
            )
        if self.size > content.MAX_CONTENT:
            raise content.too_much(self.size, "The mounts up to this one hold", mount)
        return shipped

    def _state(self, mount: Mount, path: Path, service: str) -> dict[str, Any]:
        state = content.state(mount, path, self.files)
        source = f"{self.state_root}/{state.path}"
        self.state_dirs.add(source.rpartition("/")[0] if state.is_file else source)
        bind = mount.options.get("bind", {})
        if state.is_file:
            # Docker would make a folder of it: rather an error that says which file is missing.
            bind = {**bind, "create_host_path": False}
            message = f"{mount.written} is state: put the file on each host, at {source}, once."
        else:
            message = (
                f"{mount.written} is state: it lives on each host in {source}, and nothing of it is sent."
            )
        self.notes.append(Note("note", message, mount.where, service))
        return mount.long(source, bind=bind)

    # configs and secrets

    def section(
        self, kind: str, entries: Mapping[str, Any], env: Mapping[str, str]
    ) -> tuple[dict[str, Any], dict[str, str]]:
        """Return what overrides the top-level ``configs`` or ``secrets``, and a fingerprint of each entry."""
        overrides: dict[str, Any] = {}
        prints: dict[str, str] = {}
        for name, entry in sorted(entries.items()):
            if not isinstance(entry, Map):
                continue
            file, variable = entry.get("file"), entry.get("environment")
            if isinstance(file, LocalFile) and file.path is not None:
                shipped = self.file(file, secret=kind == "secrets")
                overrides[name] = {"file": f"{self.content_root}/{shipped.root}"}
                prints[name] = shipped.hash
            elif variable is not None:
                prints[name] = _print(
                    self._variable(kind, name, str(variable), env, entry.where_of("environment"))
                )
            elif entry.get("content") is not None:
                prints[name] = _print(str(entry["content"]))
        return overrides, prints

    def _variable(self, kind: str, name: str, variable: str, env: Mapping[str, str], where: Where) -> str:
        if variable not in env:
            raise RenderError(
                f"{kind}.{name} takes its content from {variable}, which is not set.",
                where=where,
                hint="Add it to the environment's env file.",
            )
        return env[variable]


def holds_secret(target: Target, data: bytes) -> bool:
    """Whether a secret of the environment is in a file; four characters are too common to tell."""
    return any(
        item.value.encode() in data for item in target.env.values() if item.secret and len(item.value) > 4
    )


def _print(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def combined_print(prints: Mapping[str, str]) -> str:
    """One fingerprint for everything that a service uses, short enough for a label."""
    joined = "\n".join(f"{name}={value}" for name, value in sorted(prints.items()))
    return hashlib.sha256(joined.encode()).hexdigest()[:12]
