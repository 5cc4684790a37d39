"""Before any host is touched: is every image there for every host's architecture, and is there room for it?

Asked are the registries, from here, and only for images that a host lacks. Docker Hub counts a manifest
that is read as a pull; the host's own pull comes right after.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import field
from typing import Any

from longshore.agent import wire
from longshore.console import bytes_text
from longshore.errors import AgentError, LongshoreError
from longshore.images.reference import parse
from longshore.images.registry import LISTS, UNREACHED, Clients, NotThereError, RefusedError, why
from longshore.records import dataclass

UNPACKED = 2.5
"""What a layer's files take on the disk, against what is pulled. Measured: 2.3 to 2.9 for images of Python
services; their text and machine code compress to about 40 %."""
SPARE = 200 * 1000 * 1000
"""Bytes that must stay free; the agent asks for the same."""


@dataclass(frozen=True)
class Want:
    """An image that a host's release needs."""

    service: str
    ref: str
    platform: str | None = None
    """As the service says; else the host's own."""


@dataclass(frozen=True)
class Present:
    """What a host says of its images (:func:`longshore.agent.present.present`)."""

    architecture: str
    containerd: bool
    root: str
    free: int
    refs: Mapping[str, bool]
    chains: frozenset[tuple[str, ...]]

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> Present:
        """Of the agent's answer."""
        return cls(
            architecture=str(value["architecture"]),
            containerd=bool(value["containerd"]),
            root=str(value["root"]),
            free=int(value["free"]),
            refs=dict(value["refs"]),
            chains=frozenset(tuple(chain) for chain in value["chains"]),
        )

    def has(self, diff_ids: Sequence[str], count: int) -> bool:
        """Whether the host has the lowest ``count`` of these layers, on top of each other."""
        return any(chain[:count] == tuple(diff_ids[:count]) for chain in self.chains)


@dataclass(frozen=True)
class Content:
    """An image for one platform: its layers, lowest first, and the digests of what is in them."""

    layers: tuple[tuple[str, int], ...]
    """Digest and size in bytes, as they are pulled."""
    diff_ids: tuple[str, ...]

    def missing(self, present: Present) -> dict[str, int]:
        """The layers that a host lacks: digest to bytes."""
        return {
            digest: size
            for at, (digest, size) in enumerate(self.layers, start=1)
            if not present.has(self.diff_ids, at)
        }


@dataclass
class Checked:
    """What came of it. ``pulls``: host to bytes that it will pull; ``notes``: what could not be told."""

    problems: list[LongshoreError] = field(default_factory=list)
    pulls: dict[str, int] = field(default_factory=dict)
    notes: dict[str, None] = field(default_factory=dict)


def check(wants: Mapping[str, Sequence[Want]], present: Mapping[str, Present], clients: Clients) -> Checked:
    """Look at what every host lacks. Raises nothing: what is wrong is in the result."""
    result = Checked()
    lacking = {
        host: [want for want in some if not present[host].refs.get(want.ref, False)]
        for host, some in wants.items()
    }
    keys = {
        (want.ref, want.platform or f"linux/{present[host].architecture}")
        for host, some in lacking.items()
        for want in some
    }
    found = _contents(keys, clients)
    for host, some in lacking.items():
        layers: dict[str, int] = {}
        for want in some:
            answer = found[want.ref, want.platform or f"linux/{present[host].architecture}"]
            if isinstance(answer, Content):
                layers |= answer.missing(present[host])
            elif isinstance(answer, _NoPlatform):
                result.problems.append(_wrong(host, want, answer, present[host]))
            elif isinstance(answer, NotThereError):
                result.problems.append(_gone(host, want))
            else:
                base = clients.of(parse(want.ref)).base
                result.notes[f"{want.ref} can't be looked at from here ({why(answer, base)})"] = None
        if some:
            result.pulls[host] = sum(layers.values())
        problem = _room(host, some, sum(layers.values()), present[host])
        if problem is not None:
            result.problems.append(problem)
    return result


class _NoPlatform(Exception):
    def __init__(self, platforms: Iterable[str]) -> None:
        super().__init__()
        self.platforms = tuple(platforms)


def _contents(keys: Iterable[tuple[str, str]], clients: Clients) -> dict[tuple[str, str], Any]:
    """The contents, or the exception, all asked at once."""

    def one(key: tuple[str, str]) -> Any:
        try:
            return content_of(key[0], key[1], clients)
        except (*UNREACHED, RefusedError, _NoPlatform) as error:
            return error

    wanted = list(keys)
    if not wanted:
        return {}
    with ThreadPoolExecutor(max_workers=min(8, len(wanted))) as pool:
        return dict(zip(wanted, pool.map(one, wanted), strict=True))


def content_of(ref: str, platform: str, clients: Clients) -> Content:
    """What an image is for a platform. Raises ``RefusedError``, what ``UNREACHED`` lists, or, for an image
    that has nothing for it, an error of this module's own."""
    reference = parse(ref)
    client = clients.of(reference)
    manifest = client.manifest(reference.repository, reference.digest or reference.tag or "latest")
    if manifest["mediaType"] in LISTS:
        entries = {platform_text(one.get("platform") or {}): one for one in manifest.get("manifests") or []}
        entries.pop("unknown/unknown", None)  # attestations
        entry = next((one for name, one in entries.items() if fits(name, platform)), None)
        if entry is None:
            raise _NoPlatform(entries)
        manifest = client.manifest(reference.repository, entry["digest"])
    config = client.blob(reference.repository, manifest["config"]["digest"])
    own = platform_text(config)
    if not fits(own, platform):
        raise _NoPlatform([own])
    return Content(
        layers=tuple((str(one["digest"]), int(one["size"])) for one in manifest["layers"]),
        diff_ids=tuple((config.get("rootfs") or {}).get("diff_ids") or ()),
    )


def platform_text(value: Mapping[str, Any]) -> str:
    """``os/architecture[/variant]``."""
    parts = (value.get("os") or "linux", value.get("architecture") or "", value.get("variant") or "")
    return "/".join(part for part in parts if part)


def fits(have: str, want: str) -> bool:
    """Whether an image for ``have`` is one for ``want``. A variant counts where both name one; arm64's
    only variant, v8, goes without saying (containerd, platforms)."""
    mine, asked = have.split("/"), want.split("/")
    if mine[:2] != asked[:2]:
        return False
    return len(mine) < 3 or len(asked) < 3 or mine[2] == asked[2]


def _wrong(host: str, want: Want, answer: _NoPlatform, present: Present) -> AgentError:
    built = ", ".join(answer.platforms) or "nothing"
    wanted = want.platform or f"linux/{present.architecture}"
    asks = f"{want.service} is to run as {wanted}" if want.platform else f"this host is {wanted}"
    return AgentError(
        f"{want.ref} ({want.service}) is built for {built}, and {asks}",
        code=wire.WRONG_ARCHITECTURE,
        where=host,
        hint=f"Build it for {wanted}, too: build: platforms: [{', '.join((*answer.platforms, wanted))}].",
    )


def _gone(host: str, want: Want) -> AgentError:
    return AgentError(
        f"{want.ref} ({want.service}) is not in the registry",
        code=wire.NO_IMAGE,
        where=host,
        hint="Build and push it with `invoke push`.",
    )


def _room(host: str, some: Sequence[Want], pulls: int, present: Present) -> AgentError | None:
    needs = int(pulls * (1 + UNPACKED))
    if not some or not present.free or needs + SPARE <= present.free:
        return None
    what = ", ".join(dict.fromkeys(want.service for want in some))
    return AgentError(
        f"{what} needs about {bytes_text(needs)} ({bytes_text(pulls)} to pull, and that unpacked) and"
        f" {bytes_text(SPARE)} to spare; {bytes_text(present.free)} are free on the disk of {present.root}",
        code=wire.NO_SPACE,
        where=host,
        hint="Free some, for example with `invoke cleanup`.",
        detail={"needs": needs, "pulls": pulls, "free": present.free},
    )
