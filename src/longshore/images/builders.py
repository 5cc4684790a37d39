"""Where images are built: this machine's engine, or hosts of the inventory, and which of them builds what."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from longshore.agent import wire
from longshore.agent.shorten import first
from longshore.errors import LongshoreError, Where
from longshore.images.spec import BuildSpec
from longshore.inventory import patterns
from longshore.inventory.model import Environment, Host, SshSettings
from longshore.records import dataclass
from longshore.remote.session import Link

HERE = "this machine"
GROUP = "builders"
_SECONDS = 20


@dataclass(frozen=True)
class Builder:
    """One place that builds. ``platforms`` it can run, natively or under QEMU; ``native`` is its own."""

    name: str
    link: Link
    native: str
    platforms: tuple[str, ...]
    cores: int
    containerd: bool
    """Its engine has the containerd image store."""
    buildx: str = ""
    """The builder of buildx that is used instead of the engine's own."""

    @property
    def complete(self) -> bool:
        """Whether it does several platforms in one build, and exports its cache to a registry."""
        return self.containerd or bool(self.buildx)


@dataclass(frozen=True)
class Part:
    """What one builder builds of one image."""

    spec: BuildSpec
    builder: str
    platforms: tuple[str, ...]


def engine_here() -> bool:
    """Whether this machine has an engine that answers, and buildx."""
    return not trouble_here()


def trouble_here() -> str:
    """Why this machine can't build, as the end of a sentence; empty when it can."""
    for words, what in (
        (["version", "--format", "{{.Server.Version}}"], "its Docker engine doesn't answer"),
        (["buildx", "version"], "it has no docker buildx"),
    ):
        try:
            done = subprocess.run(
                ["docker", *words],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_SECONDS,
                check=False,
            )
        except OSError:
            return "it has no docker"
        except subprocess.TimeoutExpired:
            return what
        if done.returncode != 0:
            said = done.stderr.strip().splitlines()
            return f"{what}: {first(said[-1], 200)}" if said else what
    return ""


def names_of(environment: Environment, spec: BuildSpec, *, here: Callable[[], bool]) -> tuple[str, ...]:
    """Which builders may build an image: the policy's, the environment's, this machine, or the group.

    Raises ``LongshoreError`` when there is none.
    """
    pattern = spec.builder or environment.build.builders
    if pattern is None and here():
        return (HERE,)
    wanted = pattern or GROUP
    if pattern is None and GROUP not in environment.groups:
        raise LongshoreError(
            f"there is nowhere to build: this machine can't ({trouble_here()}), and the inventory has no"
            f" group {GROUP}.",
            hint=f"Add a group {GROUP} with a host, or say longshore: build: builders: HOST.",
        )
    found = patterns.match(wanted, hosts=environment.hosts, groups=environment.groups)
    if not found:
        raise LongshoreError(f"there is nowhere to build: {wanted} matches no host.")
    return found


@contextlib.contextmanager
def link_here() -> Iterator[Link]:
    """This machine as a builder. Its agent lives in the user's cache folder."""
    from longshore.remote.become import PasswordSource, ask_person
    from longshore.remote.local import LocalLink

    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "longshore"
    settings = SshSettings(address="localhost", connection="local")
    host = Host(name=HERE, ssh=settings, groups=(), vars={}, where=Where(""))
    endpoint = _endpoint()
    link = LocalLink(
        host,
        PasswordSource(ask_person),
        state_dir=str(cache),
        environment={"DOCKER_HOST": endpoint} if endpoint.startswith("unix://") else {},
    )
    try:
        yield link
    finally:
        link.close()


def _endpoint() -> str:
    """Where ``docker`` finds this machine's engine: its current context may not name the usual socket."""
    words = ["docker", "context", "inspect", "--format", "{{.Endpoints.docker.Host}}"]
    try:
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def look(name: str, link: Link, buildx: str = "") -> Builder:
    """Ask a builder what it can, or what the builder of that name does that ``buildx`` has there.

    Raises ``HostError``, also without an engine or buildx, or without that builder.
    """
    facts = link.session().call(wire.BUILDER, {"buildx": buildx}, timeout=120)
    return Builder(
        name=name,
        link=link,
        native=f"linux/{facts['architecture']}",
        platforms=tuple(facts["platforms"]),
        cores=int(facts["cores"]),
        containerd=bool(facts["containerd"]),
        buildx=buildx if facts["driver"] != "docker" else "",
    )


def share_out(
    specs: Sequence[BuildSpec],
    allowed: Mapping[str, Sequence[str]],
    builders: Mapping[str, Builder],
    *,
    whole: bool = False,
) -> tuple[Part, ...]:
    """Which builder builds what. ``allowed``: image to the names of its builders.

    Every platform goes to a builder whose own it is, else to one that emulates it; images take turns
    among equals. With ``whole`` an image isn't divided. Raises ``LongshoreError`` where nobody can build it.
    """
    parts: list[Part] = []
    for turn, spec in zip(_turns(specs), specs, strict=True):
        mine = [builders[name] for name in allowed[spec.image]]
        mine = mine[turn % len(mine) :] + mine[: turn % len(mine)]
        # Without a word about platforms, one image for the first builder's own: not one for each of them.
        platforms = spec.platforms or (builders[allowed[spec.image][0]].native,)
        shares: dict[str, list[str]] = {}
        for platform in platforms:
            shares.setdefault(_who(platform, platforms, mine, spec, whole=whole).name, []).append(platform)
        for name, share in shares.items():
            _check(builders[name], spec)
            parts.append(Part(spec, name, tuple(share)))
    return tuple(parts)


def _turns(specs: Sequence[BuildSpec]) -> list[int]:
    """Whose turn it is for each image. Images that are built from each other have the same, so that what they
    share is built once."""
    known: list[tuple[BuildSpec, bool, int]] = []
    turns: list[int] = []
    for spec in specs:
        mine = [(one, one is not spec) for one in spec.whole]
        same = [
            turn
            for one, is_context in mine
            for other, was_context, turn in known
            if (is_context or was_context) and one.is_same_build(other)
        ]
        turns.append(same[0] if same else max(turns, default=-1) + 1)
        known += [(one, is_context, turns[-1]) for one, is_context in mine]
    return turns


def _who(
    platform: str, platforms: Sequence[str], mine: Sequence[Builder], spec: BuildSpec, *, whole: bool
) -> Builder:
    if whole:
        for builder in mine:
            if all(_can(builder, one) for one in platforms):
                return builder
    else:
        # Docker says linux/arm64 of itself, and takes linux/arm64/v8 for the same.
        native = [builder for builder in mine if _same(builder.native, platform)]
        able = native or [builder for builder in mine if _can(builder, platform)]
        if able:
            return able[0]
    have = "; ".join(f"{builder.name} has {', '.join(builder.platforms)}" for builder in mine)
    raise LongshoreError(
        f"{spec.name} is to be built for {platform}, and no builder can do that: {have}.",
        hint="Install qemu-user-static and binfmt-support there, or add a host of that architecture to"
        f" {GROUP}.",
    )


def _same(native: str, platform: str) -> bool:
    return platform == native or (native == "linux/arm64" and platform == "linux/arm64/v8")


def _can(builder: Builder, platform: str) -> bool:
    return _same(builder.native, platform) or platform in builder.platforms


def _check(builder: Builder, spec: BuildSpec) -> None:
    for one in spec.whole:
        if one.ssh and builder.name != HERE:
            raise LongshoreError(
                f"{one.name} is built with keys of this machine (build.ssh), which don't travel to"
                f" {builder.name}.",
                where=one.where,
                hint="Build it on this machine's own engine, or give the step a key as a secret"
                " (RUN --mount=type=secret).",
            )
