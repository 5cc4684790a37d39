"""Where images are built: this machine's engine, or hosts of the inventory, and which of them builds what."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from longshore.agent import wire
from longshore.errors import HostError, LongshoreError, Where
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
    """Its engine has the containerd image store: several platforms in one build, cache in the registry."""


@dataclass(frozen=True)
class Part:
    """What one builder builds of one image."""

    spec: BuildSpec
    builder: str
    platforms: tuple[str, ...]


def engine_here() -> bool:
    """Whether this machine has an engine that answers, and buildx."""
    try:
        for words in (["version", "--format", "{{.Server.Version}}"], ["buildx", "version"]):
            done = subprocess.run(
                ["docker", *words],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_SECONDS,
                check=False,
            )
            if done.returncode != 0:
                return False
    except (OSError, subprocess.TimeoutExpired):
        return False
    return True


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
            "there is nowhere to build: this machine has no Docker engine with buildx, and the inventory no"
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
    link = LocalLink(host, PasswordSource(ask_person), state_dir=str(cache))
    try:
        yield link
    finally:
        link.close()


def look(name: str, link: Link) -> Builder:
    """Ask a builder what it can. Raises ``HostError``, also without an engine or buildx."""
    facts = link.session().call(wire.BUILDER, timeout=120)
    return Builder(
        name=name,
        link=link,
        native=f"linux/{facts['architecture']}",
        platforms=tuple(facts["platforms"]),
        cores=int(facts["cores"]),
        containerd=bool(facts["containerd"]),
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
    among equals. With ``whole`` an image isn't divided. Raises ``LongshoreError``.
    """
    parts: list[Part] = []
    for turn, spec in enumerate(specs):
        mine = [builders[name] for name in allowed[spec.image]]
        mine = mine[turn % len(mine) :] + mine[: turn % len(mine)]
        # Without a word about platforms, one image for the first builder's own: not one for each of them.
        platforms = spec.platforms or (builders[allowed[spec.image][0]].native,)
        shares: dict[str, list[str]] = {}
        for platform in platforms:
            shares.setdefault(_who(platform, platforms, mine, spec, whole=whole).name, []).append(platform)
        for name, share in shares.items():
            _check(builders[name], spec, share)
            parts.append(Part(spec, name, tuple(share)))
    return tuple(parts)


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


def _check(builder: Builder, spec: BuildSpec, platforms: Sequence[str]) -> None:
    if len(platforms) > 1 and not builder.containerd:
        raise HostError(
            f"its engine keeps images in the older image store, which holds one platform each; {spec.name} is"
            f" built for {', '.join(platforms)}.",
            where=builder.name,
            hint="`invoke bootstrap` turns the containerd image store on where the engine has no images yet;"
            " else set `features: {containerd-snapshotter: true}` in its daemon.json.",
        )
