"""What an inventory says about building images: the values, and the settings that they are read from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any, Literal

from longshore.inventory.kinds import Choice, Flag, Text, Whole
from longshore.inventory.sections import ListOf, MapOf, Section, Setting, own
from longshore.records import dataclass

PLATFORM = r"[a-z0-9]+/[a-z0-9_]+(/[a-z0-9]+)?"
_NAME = r"[A-Za-z_][A-Za-z0-9_.-]*"


@dataclass(frozen=True)
class BuildPolicy:
    """What the inventory lays over a service's ``build:``. ``None`` or empty: as the compose file has it."""

    context: str | None = None
    """A folder, relative to the project's root."""
    dockerfile: str | None = None
    """Relative to the context."""
    target: str | None = None
    args: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Id to value."""
    platforms: tuple[str, ...] = ()
    builder: str | None = None
    tag: Literal["written", "git"] = "written"


@dataclass(frozen=True)
class BuildSettings:
    """How images are built in an environment."""

    builders: str | None = None
    """A host pattern; ``None``: the local engine, else the group ``builders``."""
    platforms: tuple[str, ...] = ()
    parallel: int | None = None
    """How many images are built at once on a builder; ``None``: as many as it has cores, at most 8."""
    cache: bool = True
    dirty: bool | None = None
    """Whether an image may be made of changes that are not committed; ``None``: unless in production."""
    provenance: bool = False
    sbom: bool = False
    buildx: str | None = None
    """The name of a builder that ``docker buildx`` knows; ``None``: the engine, or a BuildKit of ours."""
    buildkit: str = "moby/buildkit:buildx-stable-1"
    """The image of a BuildKit of ours, which is started where the engine's own can't do what is asked."""


_PLATFORMS = ListOf(
    item=Text("a platform", "linux/arm64", pattern=PLATFORM, rule="a platform as linux/arm64"),
    single=True,
    example="[linux/amd64, linux/arm64]",
)
_PATH = Text("a path in the project", "backend", pattern=r"(?!/)[^\x00]+", rule="a path without a leading /")
_HOSTS = Text("a host pattern", "builders", pattern=r".*\S.*", rule="a host pattern")

POLICY = Section(
    settings=(
        Setting("context", _PATH, "The folder that is built, from the project's root."),
        Setting("dockerfile", _PATH, "Its Dockerfile, from the context.", "Dockerfile"),
        Setting("target", Text("a stage", "runner"), "The stage that is built.", "the last one"),
        Setting(
            "args",
            MapOf(item=Text(example="3.12"), key=_NAME, key_rule="the name of a build argument"),
            "Build arguments, added to the file's. They end up in the image: no place for a secret.",
        ),
        Setting(
            "secrets",
            MapOf(
                item=Text(example="\"{{ lookup('env', 'PIP_TOKEN') }}\""),
                key=_NAME,
                key_rule="the id of a secret",
            ),
            "Values for RUN --mount=type=secret,id=…; never in the image, best taken from the environment.",
        ),
        Setting("platforms", _PLATFORMS, "What it is built for.", "the builder's own"),
        Setting("builder", _HOSTS, "Which hosts may build it.", "build.builders"),
        Setting(
            "tag",
            Choice("written or git", "git", ("written", "git")),
            "Deployed is the tag that the image is written with, or the commit's.",
            "written",
        ),
    )
)

BUILD = Section(
    settings=(
        Setting(
            "builders",
            _HOSTS,
            "Which hosts build images.",
            "the engine of this machine, else the group builders",
        ),
        Setting("platforms", _PLATFORMS, "What images are built for.", "the builder's own"),
        Setting(
            "parallel",
            Whole("a whole number", "2", minimum=1, maximum=64),
            "How many images are built at once.",
            "the builder's cores, at most 8",
        ),
        Setting("cache", Flag(), "Whether the build cache is kept in the registry, by branch.", "true"),
        Setting(
            "dirty",
            Flag(),
            "Whether changes that are not committed may be built and pushed.",
            "not in production",
        ),
        Setting("provenance", Flag(), "Whether images carry a provenance attestation.", "false"),
        Setting("sbom", Flag(), "Whether images carry a list of what is in them.", "false"),
        Setting(
            "buildx",
            Text("a builder's name", "shared", pattern=_NAME, rule="the name of a builder"),
            "A builder that `docker buildx` knows on the builders: of the driver docker-container, remote or"
            " kubernetes.",
            "the engine's own",
        ),
        Setting(
            "buildkit",
            Text("an image", "registry.example.org/buildkit:v0.19", pattern=r"\S+", rule="an image"),
            "What a BuildKit of ours is started from, where the engine has the older image store.",
            "moby/buildkit:buildx-stable-1",
        ),
    )
)


def build_policy(found: Mapping[str, Any] | None) -> BuildPolicy | None:
    """The policy of its checked settings."""
    values = own(found)
    return BuildPolicy(**values) if values else None


def build_settings(found: Mapping[str, Any] | None) -> BuildSettings:
    """The environment's of its checked settings."""
    return BuildSettings(**own(found))
