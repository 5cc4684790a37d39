"""Who uses which variable: the compose files' ``${VAR}``, their services' environments, and templates."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import field
from pathlib import Path
from typing import Any

from longshore.errors import InventoryError, LongshoreError, Where
from longshore.inventory.model import Target
from longshore.records import dataclass
from longshore.render.document import Map
from longshore.render.files import SUFFIX, ProjectFiles, written_path
from longshore.render.merge import as_items, as_mapping
from longshore.render.parts import LocalFile, Mount, unset_variables
from longshore.render.reader import Model, read
from longshore.render.renderer import project_files

NAMES = ("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml")
"""Compose's own names, in its order; a ``compose.override.yml`` beside goes with it."""
_OVERRIDES = ("compose.override", "docker-compose.override")
# Read by Compose and the docker command line themselves.
_THEIRS = re.compile(r"(COMPOSE|DOCKER|BUILDKIT)_[A-Z_]+")
_IN_TEMPLATE = re.compile(
    r"""\benv(?:\.([A-Za-z_]\w*)|\[\s*['"]([^'"]+)['"]\s*\]|\.get\(\s*['"]([^'"]+)['"])"""
)


@dataclass(frozen=True)
class Usage:
    """What one reading of an app's compose files has asked for."""

    names: frozenset[str]
    """Every variable that is asked for by name, whether it is set or not."""
    everything: bool
    """All of ``.env`` goes into a container, or a template goes through all of it."""
    unset: tuple[tuple[str, Where], ...] = ()
    """Asked for without a default, and set by nobody."""
    problems: tuple[LongshoreError, ...] = field(default=())
    """Why the files can't be read, or not to the end; required variables that nobody set among them."""

    def uses(self, key: str) -> bool:
        """Whether somebody uses the variable."""
        return self.everything or key in self.names or bool(_THEIRS.fullmatch(key))


def usage_of_target(target: Target) -> Usage:
    """What an app on a host asks for."""
    compose = tuple(written_path(path) for path in target.app.compose)
    env = {key: entry.value for key, entry in target.env.items()}
    if not compose:
        return Usage(frozenset(), everything=True)
    files = project_files(target, compose, env)
    sources = [*target.app.compose, *target.app.files.values()]
    return _usage(files, compose, {"COMPOSE_PROJECT_NAME": target.app.project, **env}, sources)


def usage_beside(folder: Path, env: Mapping[str, str]) -> Usage | None:
    """What the compose files in ``folder`` ask for; ``None`` when there are none."""
    first = next((folder / name for name in NAMES if (folder / name).is_file()), None)
    if first is None:
        return None
    overrides = (folder / f"{name}{suffix}" for name in _OVERRIDES for suffix in (".yaml", ".yml"))
    compose = (first, *(path for path in overrides if path.is_file()))
    files = ProjectFiles(root=folder, project=folder, extra={}, variables={"env": dict(env)})
    return _usage(files, compose, {"COMPOSE_PROJECT_NAME": folder.name, **env}, [])


def _usage(
    files: ProjectFiles, compose: tuple[Path, ...], env: Mapping[str, str], sources: list[Path]
) -> Usage:
    try:
        model = read(files, compose, env)
    except LongshoreError as error:
        return Usage(frozenset(), everything=True, problems=tuple(getattr(error, "problems", (error,))))
    templates = _Templates(files, [*sources, *(path for path in map(files.source, model.files) if path)])
    names = {*model.variables, *_bare(model), *_by_environment(model), *templates.names}
    unset: dict[tuple[str, Where], None] = {}
    for service in model.services.values():
        unset |= dict.fromkeys(unset_variables(service, skip=("build", "develop")))
    for section in (model.networks, model.volumes, model.configs, model.secrets):
        unset |= dict.fromkeys(unset_variables(section))
    return Usage(
        frozenset(names),
        everything=templates.everything or _takes_all(model, files.project / ".env"),
        unset=tuple(unset),
        problems=model.problems,
    )


def _takes_all(model: Model, env_file: Path) -> bool:
    """Whether a service has ``env_file: .env``, or mounts it."""
    for service in model.services.values():
        named = [*as_items(service.get("env_file")), *as_items(service.get("volumes"))]
        if any(isinstance(one, LocalFile | Mount) and one.path == env_file for one in named):
            return True
    return False


def _bare(model: Model) -> Iterator[str]:
    """``environment: [NAME]``, which passes a variable on, and ``build.args`` of that kind."""
    for service in model.services.values():
        build = service.get("build")
        for value in (service.get("environment"), build.get("args") if isinstance(build, Map) else None):
            if value is not None:
                yield from (key for key, said in _mapping(value).items() if said is None)


def _mapping(value: Any) -> Mapping[str, Any]:
    found = as_mapping(value)
    return found if isinstance(found, Map) else {}


def _by_environment(model: Model) -> Iterator[str]:
    for section in (model.configs, model.secrets):
        for entry in section.values():
            if isinstance(entry, Map) and entry.get("environment"):
                yield str(entry["environment"])


class _Templates:
    """What templates say of ``env``: names, or all of it."""

    def __init__(self, files: ProjectFiles, sources: list[Path]) -> None:
        self.names: set[str] = set()
        self.everything = False
        for source in dict.fromkeys(sources):
            if source.suffix != SUFFIX:
                continue
            try:
                text = source.read_text()
            except (OSError, UnicodeDecodeError):
                continue  # rendering says so
            for match in _IN_TEMPLATE.finditer(text):
                self.names.add(next(name for name in match.groups() if name))
            if re.search(r"\benv\b(?!_file)", _IN_TEMPLATE.sub("", "".join(_tags(text)))):
                self.everything = True


def _tags(text: str) -> Iterator[str]:
    for match in re.finditer(r"\{\{.*?\}\}|\{%.*?%\}", text, re.DOTALL):
        yield match.group()


def as_error(problem: LongshoreError) -> InventoryError:
    """A problem with a place that is a file's."""
    where = problem.where if isinstance(problem.where, Where) else Where(str(problem.where or ""))
    return InventoryError(problem.message, where=where, hint=problem.hint)
