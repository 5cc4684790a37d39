"""What images run where: the hosts' answers put together, with what the registry says of them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

from longshore.console import bytes_text, seconds_text
from longshore.images.check import platform_text
from longshore.images.reference import DOCKER_HUB, Reference, parse
from longshore.images.registry import LISTS, UNREACHED, Client, Clients, RefusedError
from longshore.inventory.model import Registry
from longshore.records import dataclass

_TAGS = 60
"""So many tags of a repository are asked for their digest, the last ones."""


@dataclass(frozen=True)
class Known:
    """What a registry says of a digest: the tags that mean it now, its platforms, its size for each (bytes
    to pull)."""

    tags: tuple[str, ...]
    platforms: tuple[str, ...]
    sizes: Mapping[str, int]


@dataclass(frozen=True)
class Running:
    """One image of a service. ``size`` is what it takes on a host (bytes), ``created`` in seconds."""

    service: str
    ref: str
    digest: str
    hosts: tuple[str, ...]
    size: int
    created: float | None
    architectures: tuple[str, ...]
    absent: tuple[str, ...] = ()
    """Hosts whose release names it, and that don't have it any more."""

    def row(self, known: Known | None) -> tuple[str, ...]:
        """A row of ``images``. Its size is what is pulled, for each platform, where the registry says it."""
        own = tuple(f"linux/{one}" for one in self.architectures)
        hosts = [*self.hosts, *(f"{host} (not there)" for host in self.absent)]
        return (
            self.service,
            parse(self.ref).name if "@" in self.ref else self.ref,
            ", ".join(known.tags) if known else "",
            self.digest.removeprefix("sha256:")[:12] or "-",
            ", ".join(known.platforms if known else own),
            ", ".join(map(bytes_text, known.sizes.values())) if known else bytes_text(self.size),
            seconds_text(max(0.0, time.time() - self.created)) if self.created else "-",
            ", ".join(hosts),
        )

    def as_json(self, known: Known | None) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "service": self.service,
            "image": self.ref,
            "digest": self.digest,
            "tags": list(known.tags) if known else None,
            "platforms": list(known.platforms) if known else None,
            "sizes": dict(known.sizes) if known else None,
            "size": self.size,
            "created": self.created,
            "hosts": list(self.hosts),
            "absent": list(self.absent),
        }


def running(values: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[Running]:
    """The hosts' answers (``wire.IMAGES``) by service and image, in the services' order."""
    rows: dict[tuple[str, str], list[tuple[str, Mapping[str, Any]]]] = {}
    for host, images in values.items():
        for image in images:
            rows.setdefault((image["service"], image["image"]), []).append((host, image))
    found = []
    for (service, ref), some in sorted(rows.items()):
        there = [image for _, image in some if image["id"]]
        digest = ref.partition("@")[2] or (there[0]["id"] if there else "")
        found.append(
            Running(
                service=service,
                ref=ref,
                digest=digest,
                hosts=tuple(host for host, image in some if image["id"]),
                size=max((int(image["size"]) for image in there), default=0),
                created=_seconds(there[0]["created"]) if there else None,
                architectures=tuple(sorted({str(image["architecture"]) for image in there})),
                absent=tuple(host for host, image in some if not image["id"]),
            )
        )
    return found


def tags_and_platforms(images: Iterable[Running], registries: Mapping[str, Registry]) -> dict[str, Known]:
    """What the registries say of these images, by reference; without those that can't be asked from here."""
    clients = Clients(registries)
    wanted = {one.ref: parse(one.ref) for one in images if parse(one.ref).digest}
    if not wanted:
        return {}

    def one(reference: Reference) -> Known | None:
        client = clients.of(reference)
        try:
            return _known(client, reference)
        except (*UNREACHED, RefusedError):
            return None

    with ThreadPoolExecutor(max_workers=min(8, len(wanted))) as pool:
        answers = dict(zip(wanted, pool.map(one, wanted.values()), strict=True))
    return {ref: answer for ref, answer in answers.items() if answer is not None}


def _known(client: Client, reference: Reference) -> Known:
    assert reference.digest is not None
    top = client.manifest(reference.repository, reference.digest)
    sizes: dict[str, int] = {}
    if top["mediaType"] in LISTS:
        for entry in top.get("manifests") or []:
            platform = platform_text(entry.get("platform") or {})
            if platform == "unknown/unknown":
                continue  # an attestation
            sizes[platform] = _size(client.manifest(reference.repository, entry["digest"]))
    else:
        config = client.blob(reference.repository, top["config"]["digest"])
        sizes[platform_text(config)] = _size(top)
    tags: list[str] = []
    # Docker Hub's own images have hundreds of tags, and nobody here has made one of them.
    for tag in [] if reference.registry == DOCKER_HUB else client.tags(reference.repository)[-_TAGS:]:
        try:
            same = client.digest(Reference(reference.registry, reference.repository, tag, None, tag))
        except (*UNREACHED, RefusedError):
            continue
        if same == reference.digest:
            tags.append(tag)
    return Known(tuple(tags), tuple(sizes), sizes)


def _size(manifest: Mapping[str, Any]) -> int:
    return sum(int(layer["size"]) for layer in manifest.get("layers") or [])


def _seconds(text: str) -> float | None:
    """The engine's time (RFC 3339, with nanoseconds) in seconds since the epoch."""
    try:
        whole = text[:19]
        return datetime.fromisoformat(whole + "+00:00").timestamp() if whole[:4] > "0001" else None
    except ValueError:
        return None
