"""What is to be built: a service's ``build`` in the compose file, with the inventory's policy over it.

Source of the keys: compose-spec, ``build.md``.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import field, replace
from pathlib import Path
from typing import Any

from longshore.errors import LongshoreError, Problems, RenderError, Where
from longshore.images.check import fits
from longshore.images.keys import (
    cache_of,
    contexts_of,
    options_of,
    pairs,
    secrets_of,
    services_of,
    ssh_of,
)
from longshore.images.reference import parse
from longshore.inventory.building import BuildPolicy, BuildSettings
from longshore.inventory.model import Target
from longshore.records import dataclass
from longshore.render import Renderer
from longshore.render.merge import as_items
from longshore.render.parts import LocalFile
from longshore.render.renderer import BuiltService

_KNOWN = {
    "context", "dockerfile", "dockerfile_inline", "args", "target", "secrets", "platforms", "labels",
    "network", "extra_hosts", "shm_size", "no_cache", "pull", "tags", "cache_from", "cache_to",
    "additional_contexts", "ssh", "entitlements", "privileged", "ulimits", "isolation",
}  # fmt: skip
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


@dataclass(frozen=True)
class BuildSpec:
    """One image to build. ``services`` are those that run it; ``tags`` its references, the deployed first."""

    app: str
    services: tuple[str, ...]
    image: str
    """The reference as the compose file or inventory has it; may be empty where it is only a context."""
    tags: tuple[str, ...]
    context: Path
    dockerfile: Path | None
    """``None`` for ``dockerfile_inline``; its text is in ``text``."""
    text: str = field(repr=False)
    target: str | None = None
    args: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    platforms: tuple[str, ...] = ()
    builder: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    """What :func:`longshore.images.keys.options_of` gives: as the agent takes it."""
    cache_from: tuple[str, ...] = ()
    contexts: Mapping[str, Path | str] = field(default_factory=dict)
    """Further contexts by name: folders of this machine, or what BuildKit fetches itself."""
    images: Mapping[str, BuildSpec] = field(default_factory=dict)
    """Contexts that are images of other services, by name: those are built first."""
    ssh: tuple[str, ...] = ()
    """Agents and keys of this machine that steps may use: ``ID`` or ``ID=PATH``."""
    where: Where | None = field(default=None, compare=False)
    """The place of its ``build``."""

    @property
    def name(self) -> str:
        """What it is called in the output."""
        return ", ".join(self.services)

    @property
    def repository(self) -> str:
        """The image's name without a tag; empty without an image."""
        return parse(self.image).name if self.image else ""

    @property
    def whole(self) -> tuple[BuildSpec, ...]:
        """It and all that it is built from, each before what is built from it."""
        below = [one for image in self.images.values() for one in image.whole]
        return (*below, self)

    def is_same_build(self, other: BuildSpec) -> bool:
        """Whether the same is made of the same, whoever runs it, under whatever name."""
        return self._bare() == other._bare()

    def _bare(self) -> BuildSpec:
        images = {name: image._bare() for name, image in self.images.items()}
        return replace(self, app="", services=(), image="", tags=(), builder=None, images=images)


@dataclass(frozen=True)
class Git:
    """Where the project stands. All empty without git."""

    commit: str = ""
    """Short, with ``-dirty`` when something is not committed."""
    branch: str = ""
    main: str = ""

    @property
    def dirty(self) -> bool:
        return self.commit.endswith("-dirty")


def read_git(root: Path) -> Git:
    """Look at the project's repository. On a detached head, the branch is what CI says it is."""
    commit = _git(root, "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*")
    if not commit:
        return Git()
    branch = _git(root, "symbolic-ref", "--quiet", "--short", "HEAD")
    for name in ("GITHUB_HEAD_REF", "GITHUB_REF_NAME", "CI_COMMIT_REF_NAME", "BRANCH_NAME"):
        branch = branch or os.environ.get(name, "")
    main = _git(root, "symbolic-ref", "--quiet", "--short", "refs/remotes/origin/HEAD")
    return Git(commit, branch, main.removeprefix("origin/") or "main")


def _git(root: Path, *words: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *words], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def specs(
    targets: Iterable[Target], renderer: Renderer, settings: BuildSettings, git: Git
) -> tuple[BuildSpec, ...]:
    """Every image of these targets that is built, once. Raises ``LongshoreError`` or ``Problems``."""
    found: dict[str, BuildSpec] = {}
    problems: dict[str, LongshoreError] = {}
    for target in targets:
        reader = _Reader(target, renderer, settings, git)
        for service in reader.here:
            try:
                spec = reader.spec(service)
            except LongshoreError as error:
                problems.setdefault(str(error), error)
                continue
            known = found.get(spec.image)
            if known is None:
                found[spec.image] = spec
            elif (known.tags, known.builder) != (spec.tags, spec.builder) or not known.is_same_build(spec):
                both = f"{known.name} and {service.name}" if known.name != service.name else service.name
                message = f"{spec.image} would be built in two ways: {both} differ between services or hosts."
                differ = RenderError(
                    message, where=service.service.where, hint="Give them images of their own."
                )
                problems.setdefault(str(differ), differ)
            elif service.name not in known.services:
                services_of = tuple(sorted({*known.services, service.name}))
                found[spec.image] = replace(known, services=services_of)
    if problems:
        raise Problems(problems.values()) if len(problems) > 1 else next(iter(problems.values()))
    return tuple(found.values())


def deployed(image: str, policy: BuildPolicy | None, git: Git) -> str:
    """The reference that is deployed for an image as written: itself, or by the commit's tag.

    Raises ``LongshoreError`` when the commit is wanted and there is none.
    """
    if policy is None or policy.tag == "written":
        return image
    if not git.commit:
        raise LongshoreError(
            f"{image} is tagged with the commit (`tag: git`), and the project has none.",
            hint="Commit it to git, or say `tag: written`.",
        )
    return f"{parse(image).name}:{git.commit}"


class _Reader:
    """Reads what a target's services are built from."""

    def __init__(self, target: Target, renderer: Renderer, settings: BuildSettings, git: Git) -> None:
        self.target = target
        self.renderer = renderer
        self.settings = settings
        self.git = git
        self.here, self.secrets = renderer.built(target)

    def spec(self, service: BuiltService, users: tuple[str, ...] = ()) -> BuildSpec:
        """What a service's image is built from. ``users`` are the services that are built from it, the last
        one directly: then it needs no name of its own. Raises ``RenderError``."""
        target = self.target
        section = service.section
        where = section.where if section is not None else target.app.where
        said: Mapping[str, Any] = section if section is not None else {}
        policy = service.policy.build or BuildPolicy()
        for key in said:
            if key not in _KNOWN and not str(key).startswith("x-"):
                raise RenderError(
                    f"build.{key} of {service.name} is not understood, and would be lost.",
                    where=section.where_of(key) if section is not None else where,
                    hint="Take it out: the inventory has build: provenance and sbom. A Compose that doesn't"
                    " know them refuses the file on the host."
                    if key in ("provenance", "sbom")
                    else "Take it out, or build this image yourself and say `image:` only.",
                )
        tags = () if users else self._tags(service, said, policy)
        context = _context(target, service, said, policy)
        dockerfile, text = _dockerfile(target, service, said, policy, context)
        platform = service.policy.platform or service.service.get("platform")
        asked = (
            policy.platforms or tuple(map(str, as_items(said.get("platforms")))) or self.settings.platforms
        )
        platforms = asked or ((str(platform),) if platform else ())
        _isolation(service, said, where)
        return BuildSpec(
            app=target.app.name,
            services=(service.name,),
            image=service.image or "",
            tags=tags,
            context=context,
            dockerfile=dockerfile,
            text=text,
            target=policy.target or (str(said["target"]) if said.get("target") else None),
            args={**pairs(said.get("args"), {k: v.value for k, v in target.env.items()}), **policy.args},
            secrets={**secrets_of(target, service, said, self.secrets), **policy.secrets},
            platforms=platforms,
            builder=policy.builder,
            labels=pairs(said.get("labels"), {}),
            options=options_of(said, where),
            cache_from=tuple(map(cache_of, as_items(said.get("cache_from")))),
            contexts=contexts_of(service, said),
            images={
                name: self._image(other, place, platforms, (*users, service.name))
                for name, (other, place) in services_of(service, said).items()
            },
            ssh=ssh_of(target, service, said),
            where=where,
        )

    def _tags(self, service: BuiltService, said: Mapping[str, Any], policy: BuildPolicy) -> tuple[str, ...]:
        """The references that an image gets, the deployed one first."""
        if not service.image:
            raise RenderError(
                f"{service.name} is built, and has no image: to push and pull.",
                where=service.service.where,
                hint=f"Add image: to it, or longshore: services: {service.name}: image: in the inventory.",
            )
        reference = parse(service.image)
        if reference.digest:
            raise RenderError(
                f"{service.image} is pinned, so there is nothing to build.",
                where=service.service.where,
                hint="Name it by a tag.",
            )
        tags = [deployed(f"{reference.name}:{reference.tag}", policy, self.git)]
        if self.git.commit:
            tags.append(f"{reference.name}:{self.git.commit}")
        tags += [str(tag) for tag in as_items(said.get("tags"))]
        return tuple(dict.fromkeys(tags))

    def _image(
        self, name: str, where: Where, platforms: tuple[str, ...], users: tuple[str, ...]
    ) -> BuildSpec:
        """The image of another service, as the context of the last of ``users``.

        It is taken from all services of the files: one that is only built from runs nowhere.
        """
        user = users[-1]
        if name in users:
            first, second, *rest = (*users[users.index(name) :], name)
            said = "".join(f", that from {one}" for one in rest)
            raise RenderError(
                f"{first} is built from {second}{said}: none of them can be built first.",
                where=where,
                hint="Take one of these `service:` contexts out.",
            )
        built = {one.name: one for one in self.renderer.built(self.target, everywhere=True)[0]}
        if name not in built:
            known = name in self.renderer.services(self.target)
            raise RenderError(
                f"{user} is built from the image of {name or 'no service'}, which has no build."
                if known
                else f"{user} is built from the image of {name!r}, and there is no such service.",
                where=where,
                hint="Name its image instead: `docker-image://IMAGE`."
                if known
                else f"Built are: {', '.join(sorted(built))}.",
            )
        image = self.spec(built[name], users)
        lacking = [one for one in platforms if not any(fits(have, one) for have in image.platforms)]
        if image.platforms and lacking:
            raise RenderError(
                f"{user} is built for {', '.join(lacking)}, and {name}, which it is built from, only for"
                f" {', '.join(image.platforms)}.",
                where=where,
                hint=f"Build {name} for the same platforms.",
            )
        return image


def _isolation(service: BuiltService, said: Mapping[str, Any], where: Where) -> None:
    if str(said.get("isolation") or "default") != "default":
        raise RenderError(
            f"build.isolation of {service.name} is for engines on Windows, and would be lost.",
            where=where,
            hint="Take it out.",
        )


def _context(target: Target, service: BuiltService, said: Mapping[str, Any], policy: BuildPolicy) -> Path:
    where = service.section.where if service.section is not None else target.app.where
    if policy.context:
        path = target.root / policy.context
    else:
        context = said.get("context")
        if not isinstance(context, LocalFile):
            raise RenderError(
                f"The context of {service.name} is {context}, which is not a folder of the project.",
                where=where,
                hint="Clone it beside the compose file, or name a folder under build: context: in the"
                " inventory.",
            )
        path = context.here
    if not path.is_dir():
        raise RenderError(
            f"The folder {path}, which {service.name} is built from, doesn't exist.", where=where
        )
    return path.resolve()


def _dockerfile(
    target: Target, service: BuiltService, said: Mapping[str, Any], policy: BuildPolicy, context: Path
) -> tuple[Path | None, str]:
    where = service.section.where if service.section is not None else target.app.where
    if said.get("dockerfile_inline") and not policy.dockerfile:
        return None, str(said["dockerfile_inline"])
    path = context / (policy.dockerfile or str(said.get("dockerfile") or "Dockerfile"))
    try:
        return path, path.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise RenderError(
            f"The Dockerfile of {service.name}, {path}, can't be read: {error.strerror}.",
            where=where,
            hint="`invoke dockerfile` writes one." if isinstance(error, FileNotFoundError) else "",
        ) from None


def cache_tag(branch: str, suffix: str = "") -> str:
    """The tag of a branch's build cache."""
    text = re.sub(r"[^A-Za-z0-9_.-]+", "-", branch).strip("-.") or "main"
    tag = f"cache-{text[:100]}{suffix}"
    return tag if _TAG.fullmatch(tag) else f"cache-main{suffix}"
