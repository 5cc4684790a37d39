"""Without a registry: images go from the builder to the hosts over SSH, only the layers that a host lacks."""

from __future__ import annotations

import hashlib
import json
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from longshore.agent import wire
from longshore.console import Output, bytes_text
from longshore.errors import AgentError, HostError, LongshoreError, Problems
from longshore.images.check import Content, Present, fits, platform_text
from longshore.images.context import CHUNK
from longshore.records import dataclass
from longshore.remote.fleet import each
from longshore.remote.session import Link


@dataclass(frozen=True)
class Stored:
    """An image in the builder's folder (:class:`longshore.agent.images.Layout`)."""

    name: str
    """Repository and tag."""
    digest: str
    descriptor: Mapping[str, Any]
    documents: Mapping[str, str]
    """Indexes, manifests and configs by digest."""
    folder: str

    @classmethod
    def of(cls, name: str, value: Mapping[str, Any]) -> Stored:
        """Of the agent's answer."""
        return cls(name, value["digest"], value["descriptor"], value["documents"], value["folder"])

    def for_platform(self, platform: str) -> tuple[Content, dict[str, str]] | None:
        """The image's content for a platform, and the documents that a host needs of it; ``None`` when it
        wasn't built for that."""
        top = json.loads(self.documents[self.digest])
        chosen = {self.digest: self.documents[self.digest]}
        manifest = top
        if "manifests" in top:
            entry = next(
                (one for one in top["manifests"] if fits(platform_text(one.get("platform") or {}), platform)),
                None,
            )
            if entry is None:
                return None
            manifest = json.loads(self.documents[entry["digest"]])
            chosen[entry["digest"]] = self.documents[entry["digest"]]
        config = manifest["config"]["digest"]
        chosen[config] = self.documents[config]
        described = json.loads(self.documents[config])
        if not fits(platform_text(described), platform):
            return None
        layers = tuple((str(one["digest"]), int(one["size"])) for one in manifest["layers"])
        return Content(layers, tuple(described["rootfs"]["diff_ids"])), chosen

    @property
    def platforms(self) -> tuple[str, ...]:
        """What it was built for."""
        top = json.loads(self.documents[self.digest])
        if "manifests" in top:
            found = (platform_text(one.get("platform") or {}) for one in top["manifests"])
            return tuple(one for one in found if one != "unknown/unknown")  # an attestation
        return (platform_text(json.loads(self.documents[top["config"]["digest"]])),)


@dataclass(frozen=True)
class Moved:
    """What a host was sent of an image, in bytes of layers, and how much the image has of them."""

    host: str
    image: str
    sent: int
    size: int


class Moving:
    """Moves one image from its builder to hosts."""

    def __init__(self, stored: Stored, builder: Link, output: Output, *, at_once: int) -> None:
        self.stored = stored
        self.builder = builder
        self.output = output
        self.at_once = at_once
        self._folder = Path()
        self._fetching = threading.Lock()

    def run(self, hosts: Mapping[str, Present], link: Callable[[str], Link]) -> list[Moved]:
        """Bring it to every host. Raises ``LongshoreError`` or ``Problems``; a host that has it all stays."""
        plans = {host: self._plan(host, present) for host, present in hosts.items()}
        with tempfile.TemporaryDirectory(prefix="longshore-") as folder:
            self._folder = Path(folder)
            for digest in dict.fromkeys(digest for plan in plans.values() for digest in plan[2]):
                self._fetch(digest)

            def one(host: str) -> Moved:
                return self._bring(host, link(host), *plans[host])

            outcomes = each(plans, one, parallel=self.at_once)
        errors = [outcome.error for outcome in outcomes.values() if outcome.error is not None]
        if errors:
            raise errors[0] if len(errors) == 1 else Problems(errors)
        return [outcome.get() for outcome in outcomes.values()]

    def _plan(self, host: str, present: Present) -> tuple[Content, dict[str, str], dict[str, int]]:
        if not present.containerd:
            raise AgentError(
                "its engine doesn't have the containerd image store, which images without a registry need",
                code=wire.NO_IMAGE,
                where=host,
                hint="Run `invoke bootstrap`, or set `features: {containerd-snapshotter: true}` in its"
                " daemon.json.",
            )
        found = self.stored.for_platform(f"linux/{present.architecture}")
        if found is None:
            platforms = ", ".join(self.stored.platforms)
            raise AgentError(
                f"{self.stored.name} is built for {platforms}, and this host is linux/{present.architecture}",
                code=wire.WRONG_ARCHITECTURE,
                where=host,
                hint=f"Build it for linux/{present.architecture}, too (build: platforms).",
            )
        content, documents = found
        return content, documents, content.missing(present)

    def _fetch(self, digest: str) -> None:
        """Get a layer from the builder, once for all hosts."""
        with self._fetching:
            if not self._path(digest).exists():
                self._fetch_now(digest)

    def _fetch_now(self, digest: str) -> None:
        path = self._path(digest)
        digester = hashlib.sha256()
        with path.open("wb") as file:

            def take(data: bytes) -> None:
                digester.update(data)
                file.write(data)

            source = f"{self.stored.folder}/{digest.partition(':')[2]}"
            code = self.builder.run(["cat", source], on_output=take)
        if code != 0 or "sha256:" + digester.hexdigest() != digest:
            path.unlink()
            raise HostError(
                f"the layer {digest[:19]} of {self.stored.name} did not come whole from the builder.",
                where=self.builder.host,
                hint="Run it again; if that doesn't help, build it anew with --fresh.",
            )

    def _bring(
        self,
        host: str,
        link: Link,
        content: Content,
        documents: Mapping[str, str],
        missing: Mapping[str, int],
    ) -> Moved:
        sizes = dict(content.layers)
        sent = self._send(host, link, missing)
        try:
            self._load(link, documents, list(missing))
        except AgentError as error:
            rest = {digest: size for digest, size in sizes.items() if digest not in missing}
            if error.code != wire.NO_IMAGE or not rest:
                raise
            # The same files, packed by somebody else: the host has them under another name.
            for digest in rest:
                self._fetch(digest)
            sent += self._send(host, link, sizes)
            self._load(link, documents, list(sizes))
        size = sum(sizes.values())
        self.output.step(host, "loaded", f"{self.stored.name}: {bytes_text(sent)} of {bytes_text(size)} sent")
        return Moved(host, self.stored.name, sent, size)

    def _load(self, link: Link, documents: Mapping[str, str], layers: Sequence[str]) -> None:
        args = {
            "name": self.stored.name,
            "descriptor": dict(self.stored.descriptor),
            "documents": dict(documents),
            "layers": list(layers),
        }
        link.session().call(wire.LOAD, args, timeout=600)

    def _send(self, host: str, link: Link, layers: Mapping[str, int]) -> int:
        whole, sent = sum(layers.values()), 0
        session = link.session()
        for digest in layers:
            with self._path(digest).open("rb") as file:
                while piece := file.read(CHUNK):
                    args = {"name": digest.partition(":")[2], "append": file.tell() > len(piece)}
                    session.call(wire.PUT, args, payload=piece, timeout=300)
                    sent += len(piece)
                    words = f"{self.stored.name} {bytes_text(sent)} of {bytes_text(whole)}"
                    self.output.step(host, "pulling", words)
        return sent

    def _path(self, digest: str) -> Path:
        return self._folder / digest.partition(":")[2]


def stored(builder: Link, names: Sequence[str]) -> dict[str, Stored]:
    """What the builder has of these images. Raises ``LongshoreError`` for one that was not built there."""
    answer = builder.session().call(wire.BUILT, {"refs": list(names)}, timeout=120)
    lacking = [name for name in names if name not in answer]
    if lacking:
        raise LongshoreError(
            f"{' and '.join(lacking)} has not been built on {builder.host}.",
            hint="`invoke push` builds it and brings it to the hosts.",
        )
    return {name: Stored.of(name, answer[name]) for name in names}
