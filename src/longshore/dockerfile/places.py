"""Where the Dockerfiles of a project are: those that its services are built from, and those in a folder."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from longshore.dockerfile.lint import Source
from longshore.errors import LongshoreError, RenderError, Where
from longshore.inventory.dockerfiles import DockerfilePolicy
from longshore.inventory.model import Environment, Target
from longshore.records import dataclass
from longshore.render import Renderer
from longshore.render.document import Map
from longshore.render.parts import LocalFile
from longshore.render.policy import policy_of

_NAME = re.compile(r"(?:(?:Docker|Container)file(?:[._-].+)?|.+\.(?:Docker|Container)file)", re.IGNORECASE)
_NO_NAME = re.compile(r".*\.(?:dockerignore|j2|md|txt|rst|py|ya?ml|json|swp|orig|bak)|.*~", re.IGNORECASE)
_NO_FOLDER = frozenset(("node_modules", "site-packages", "__pycache__", "rendered"))


@dataclass(frozen=True)
class Place:
    """What a service is built from. ``context`` is ``None`` where that isn't a folder of this machine."""

    app: str
    service: str
    context: Path | None
    dockerfile: Path | None
    target: str = ""
    inline: str = ""
    """The text of ``dockerfile_inline``."""
    contexts: frozenset[str] = frozenset()
    """The names of its further contexts."""
    built: bool = False
    """Whether the compose file or the inventory says how it is built."""
    policy: DockerfilePolicy | None = None
    where: Where | None = None

    def source(self, root: Path) -> Source | None:
        """What the linter takes; ``None`` where there is no file to look at."""
        if self.context is None or self.dockerfile is None:
            return None
        name = name_of(self.dockerfile, root)
        return Source(self.dockerfile, self.context, name, self.target, self.contexts)


def name_of(path: Path, root: Path) -> str:
    """A path as people know it: relative to the project, where it is inside."""
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)


def places(environment: Environment, chosen: Mapping[str, tuple[str, ...]]) -> tuple[Place, ...]:
    """The services of the chosen apps, as each is built, in the compose files' order.

    Raises ``RenderError`` where hosts would render different Dockerfiles for one service, and whatever is
    wrong with a compose file.
    """
    renderer = Renderer()
    found: dict[tuple[str, str], tuple[str, Place]] = {}
    for app, hosts in chosen.items():
        for host in hosts:
            target = environment.targets[(app, host)]
            for name, service in renderer.services(target).items():
                place = _place(target, name, service)
                first, known = found.setdefault((app, name), (host, place))
                if known.policy != place.policy:
                    raise RenderError(
                        f"{app}: the Dockerfile of {name} would be another for {host} than for {first}",
                        where=target.app.where,
                        hint=f"Say services.{name}.dockerfile for all hosts, or choose with --limit.",
                    )
    return tuple(place for _, place in found.values())


def _place(target: Target, name: str, service: Map) -> Place:
    policy = policy_of(target.app, name)
    build = service.get("build")
    said = build if isinstance(build, Map) else {}
    context = _context(said.get("context"), target.app.compose[0].parent)
    if policy.build is not None and policy.build.context is not None:
        context = target.root / policy.build.context
    file = str(policy.build.dockerfile if policy.build and policy.build.dockerfile else "")
    file = file or str(said.get("dockerfile") or "Dockerfile")
    stage = (policy.build.target if policy.build else None) or said.get("target") or ""
    normal = Path(os.path.normpath(context)) if context is not None else None
    return Place(
        app=target.app.name,
        service=name,
        context=normal,
        dockerfile=Path(os.path.normpath(normal / file)) if normal is not None else None,
        target=str(stage),
        inline=str(said.get("dockerfile_inline") or ""),
        contexts=frozenset(map(str, said.get("additional_contexts") or ())),
        built=bool(said) or bool(policy.build and policy.build.context is not None),
        policy=policy.dockerfile,
        where=target.app.where,
    )


def _context(written: object, default: Path) -> Path | None:
    """The folder of a build; ``None`` for a repository or an archive somewhere else."""
    if written is None:
        return default
    if isinstance(written, LocalFile):
        return written.path
    text = str(written)
    return Path(text) if text.startswith("/") else None


def walk(folder: Path, root: Path) -> tuple[Source, ...]:
    """Every Dockerfile in a folder and below, by its name; each with its own folder as context.

    Hidden folders, virtual environments, and what belongs to tools (``node_modules``) are left out.
    """
    return tuple(
        Source(path, path.parent, name_of(path, root)) for path in _walk(folder) if _is_dockerfile(path.name)
    )


def _is_dockerfile(name: str) -> bool:
    return bool(_NAME.fullmatch(name)) and not _NO_NAME.fullmatch(name)


def _walk(folder: Path) -> Iterator[Path]:
    for here, folders, names in os.walk(folder):
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".")
            and name not in _NO_FOLDER
            and not Path(here, name, "pyvenv.cfg").exists()
        )
        yield from (Path(here, name) for name in sorted(names))


def given(path: str, root: Path) -> tuple[Source, ...]:
    """The Dockerfile that a person named, or those in the folder.

    Raises ``LongshoreError`` when there is no such thing.
    """
    found = Path(path).absolute()
    if found.is_dir():
        inside = walk(found, root)
        if not inside:
            raise LongshoreError("There is no Dockerfile in this folder", where=path)
        return inside
    if not found.exists():
        raise LongshoreError("There is no such file", where=path, hint="Name a Dockerfile, or a folder.")
    return (Source(found, found.parent, path),)
