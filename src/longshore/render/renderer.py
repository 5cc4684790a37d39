"""Renders the targets of a run, and keeps what they have in common.

Most hosts of an app differ in nothing but their name, or in a few variables of ``.env`` that no compose file
mentions: for those, everything but ``.env`` is the same bundle.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping
from dataclasses import field, replace
from pathlib import Path
from typing import Any

from longshore.errors import RenderError
from longshore.inventory.model import ServicePolicy, Target
from longshore.records import dataclass
from longshore.render.bundle import Bundle, BundleFile
from longshore.render.document import Map
from longshore.render.files import SUFFIX, GitView, ProjectFiles, written_path
from longshore.render.placing import Snapshot, holds_secret
from longshore.render.policy import policy_of
from longshore.render.reader import Model, raised, read
from longshore.render.rendering import Rendering, env_file, env_text, secret_names, selection_of
from longshore.render.services import image_of

Names = tuple[str, ...]


@dataclass(frozen=True)
class BuiltService:
    """A service with a ``build``: its own, or the inventory's. ``image`` is the reference as written."""

    name: str
    service: Map
    section: Map | None
    policy: ServicePolicy
    image: str | None


@dataclass
class _Rendered:
    """Bundles of one app: by the variables that went into them, then by those variables' values."""

    target: Target
    bundles: dict[Names, dict[tuple[Any, ...], Bundle]] = field(default_factory=dict)

    def fits(self, target: Target) -> bool:
        mine = self.target
        return (
            mine.app == target.app
            and mine.environment == target.environment
            and mine.root == target.root
            and mine.state_dir == target.state_dir
            and mine.proxy == target.proxy
        )


class Renderer:
    """Renders targets of one inventory. What it has read stays as it was for its lifetime."""

    def __init__(self) -> None:
        self._models: list[tuple[tuple[Any, ...], Model]] = []
        self._git: dict[Path, GitView] = {}
        self._content = Snapshot()
        self._rendered: list[_Rendered] = []

    def render(self, target: Target, *, digests: Mapping[str, str] | None = None) -> Bundle:
        """Return the bundle of a target. ``digests`` maps references as written to ``repo@sha256:…``.

        Raises ``RenderError``, or ``Problems`` when several things are wrong, each with file and line.
        """
        known = dict(digests or {})
        shared = frozenset(known.items()), _away(target)
        group = next((one for one in self._rendered if one.fits(target)), None)
        for names, bundles in group.bundles.items() if group else ():
            found = bundles.get((*shared, *_values(target, names)))
            if found is not None:
                return _for(target, found)
        files, model, env = self._read(target)
        git = self._git.setdefault(files.project, GitView(files.project))
        rendering = Rendering(target, files, model, env, known, git, self._content)
        bundle = rendering.run()
        if not rendering.placing.ships_env and not _has_templates(target, model, files):
            if group is None:
                group = _Rendered(target)
                self._rendered.append(group)
            names = _names(model)
            key = (*shared, *_values(target, names))
            group.bundles.setdefault(names, {})[key] = bundle
        return bundle

    def images(self, target: Target) -> tuple[str, ...]:
        """The references, as written, that the services of a target need, sorted."""
        _, model, env = self._read(target)
        if model.problems:
            raise raised(list(model.problems))
        here = selection_of(target, model, env).here
        found = {image_of(model.services[name], policy_of(target.app, name)) for name in here}
        if any(policy_of(target.app, name).proxy is not None for name in here):
            found.add(target.proxy.image)
        return tuple(sorted(image for image in found if image))

    def built(
        self, target: Target, *, everywhere: bool = False
    ) -> tuple[tuple[BuiltService, ...], Mapping[str, Any]]:
        """The services of a target that are built, with ``everywhere`` those of other hosts and profiles,
        too; and the compose files' top-level ``secrets``."""
        _, model, env = self._read(target)
        if model.problems:
            raise raised(list(model.problems))
        found = []
        for name in sorted(model.services if everywhere else selection_of(target, model, env).here):
            service, policy = model.services[name], policy_of(target.app, name)
            section = service.get("build")
            if isinstance(section, Map) or (policy.build is not None and policy.build.context):
                said = section if isinstance(section, Map) else None
                found.append(BuiltService(name, service, said, policy, image_of(service, policy)))
        return tuple(found), model.secrets

    def services(self, target: Target) -> Mapping[str, Map]:
        """The services of a target's compose files as read, those of other hosts and profiles, too.

        A ``build`` is in its long form, its ``context`` an absolute path or a URL.
        """
        return self._read(target)[1].services

    def _read(self, target: Target) -> tuple[ProjectFiles, Model, dict[str, str]]:
        compose = tuple(written_path(path) for path in target.app.compose)
        if not compose:
            raise RenderError(f"The app {target.app.name} has no compose file.", where=target.app.where)
        env = {key: item.value for key, item in target.env.items()}
        files = project_files(target, compose, env)
        for path, written in zip(target.app.compose, compose, strict=True):
            if files.source(written) is None:
                raise RenderError(f"There is no file {files.name(path)}.", where=target.app.where)
        asked = {"COMPOSE_PROJECT_NAME": target.app.project, **env}
        key = (compose, target.root, target.app.files)
        for known_key, model in self._models:
            if known_key == key and all(asked.get(name) == value for name, value in model.variables.items()):
                return files, model, env
        model = read(files, compose, asked)
        if not _has_templates(target, model, files):
            self._models = [*self._models[-7:], (key, model)]
        return files, model, env


def project_files(target: Target, compose: tuple[Path, ...], env: Mapping[str, str]) -> ProjectFiles:
    """The files of a target, with the variables that its templates see."""
    project = compose[0].parent
    # A template that the inventory names is meant, also where a file of the rendered name lies beside it.
    extra = {written_path(path): path for path in target.app.compose if path.suffix == SUFFIX}
    extra |= {written_path(project / path): source for path, source in target.app.files.items()}
    ours = {"env": dict(env), "app": target.app.name, "environment": target.environment}
    # Not copied: looking at all of a host's variables would resolve every template among them.
    variables = ChainMap(target.vars, ours)  # type: ignore[arg-type]  # only read
    return ProjectFiles(root=target.root, project=project, extra=extra, variables=variables)


def _has_templates(target: Target, model: Model, files: ProjectFiles) -> bool:
    sources = [*target.app.compose, *target.app.files.values(), *(files.source(path) for path in model.files)]
    return any(source is not None and source.suffix == SUFFIX for source in sources)


def _away(target: Target) -> frozenset[str]:
    return frozenset(name for name, hosts in target.placed.items() if target.host.name not in hosts)


def _names(model: Model) -> Names:
    """Every variable that has a say in a bundle besides being in its ``.env``."""
    asked = {"COMPOSE_PROFILES", *model.variables}
    for entries in (model.configs, model.secrets):
        for entry in entries.values():
            if isinstance(entry, Map) and entry.get("environment"):
                asked.add(str(entry["environment"]))
    return tuple(sorted(asked))


def _values(target: Target, names: Names) -> tuple[str | None, ...]:
    return tuple(target.env[name].value if name in target.env else None for name in names)


def _for(target: Target, bundle: Bundle) -> Bundle:
    """The bundle of a target that differs in nothing but its host and what only ``.env`` holds."""
    text = env_text({key: item.value for key, item in target.env.items()})
    return replace(
        bundle,
        host=target.host.name,
        secrets=secret_names(target),
        files=tuple(_file_for(target, file, text, bundle.project_directory) for file in bundle.files),
    )


def _file_for(target: Target, file: BundleFile, text: str, project: str) -> BundleFile:
    env_path = ".env" if project == "." else f"{project}/.env"
    if file.kind == "content":
        return file
    if file.path == env_path:
        mine = env_file(file.path, text)
        return file if file.data == mine.data else mine
    secret = file.secret or holds_secret(target, file.data)
    return file if secret == file.secret else replace(file, secret=secret)
