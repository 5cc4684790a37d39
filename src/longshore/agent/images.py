"""Images, apart from an app's releases: what is here, what was built here, and what is brought in pieces.

Without a registry, images lie as an OCI layout in ``<state_dir>/images`` of the builder: ``blobs/sha256/…``,
and ``built.json`` for which tag is which digest (OCI image specification, "image layout").
"""

import hashlib
import json
import os
import shutil
import subprocess
import tarfile
import time
from io import BytesIO
from typing import Any, Callable, Dict, Iterator, List, Set, Tuple

from longshore.agent import wire
from longshore.agent.building import build, builder, buildkit
from longshore.agent.compose import clean_environment
from longshore.agent.engine import Engine
from longshore.agent.fail import Refusal
from longshore.agent.health import Emit
from longshore.agent.lock import alone
from longshore.agent.present import has_containerd_store
from longshore.agent.store import write
from longshore.agent.work import Work

_KEPT = 10
"""How many builds of one image stay on the builder."""


def handle(
    op: str,
    args: Dict[str, Any],
    payload: bytes,
    *,
    engine: Engine,
    state_dir: str,
    work: Callable[[], Work],
    emit: Emit,
    gone: Callable[[], bool],
) -> Any:
    """Answer a request about images. Raises ``Refusal``."""
    if op == wire.PUT:
        return work().put(args["name"], payload, bool(args.get("append")))
    if op == wire.BUILDER:
        if args.get("make"):
            return buildkit(args["make"], work(), state_dir)
        return builder(engine, state_dir, str(args.get("buildx") or ""))
    if op == wire.BUILD:
        results = build(args, work(), state_dir, emit, gone)
        for one in args["builds"]:
            result = results.get(one["name"])
            if result and result["code"] == 0 and one.get("output") == "oci":
                result["digest"] = _keep(Layout(state_dir), result["folder"], one["tags"])
        return results
    if op == wire.BUILT:
        return Layout(state_dir).describe(args["refs"])
    if op == wire.LOAD:
        return load(engine, work(), args)
    raise Refusal(wire.BAD_REQUEST, f"unknown request {op!r}")


class Layout:
    """The builder's images, where there is no registry."""

    def __init__(self, state_dir: str) -> None:
        self.folder = os.path.join(state_dir, "images")
        self.blobs = os.path.join(self.folder, "blobs", "sha256")
        self.index = os.path.join(self.folder, "built.json")

    def path(self, digest: str) -> str:
        return os.path.join(self.blobs, digest.split(":", 1)[1])

    def read(self, digest: str) -> Dict[str, Any]:
        with open(self.path(digest), "rb") as file:
            value: Dict[str, Any] = json.load(file)
        return value

    def built(self) -> Dict[str, List[Dict[str, Any]]]:
        """Reference to its builds, newest last: the index's descriptor and ``at`` (seconds)."""
        try:
            with open(self.index, encoding="utf-8") as file:
                value: Dict[str, List[Dict[str, Any]]] = json.load(file)
        except FileNotFoundError:
            return {}
        return value

    def describe(self, refs: List[str]) -> Dict[str, Any]:
        """By reference, for those that were built here: ``digest``, ``descriptor``, ``documents`` (the
        small JSON files by digest: indexes, manifests, configs) and ``folder``."""
        built = self.built()
        answer = {}
        for ref in refs:
            if not built.get(ref):
                continue
            descriptor = built[ref][-1]["descriptor"]
            documents = dict(self._documents(descriptor["digest"]))
            answer[ref] = {
                "digest": descriptor["digest"],
                "descriptor": descriptor,
                "documents": documents,
                "folder": self.blobs,
            }
        return answer

    def _documents(self, digest: str) -> Iterator[Tuple[str, str]]:
        with open(self.path(digest), encoding="utf-8") as file:
            text = file.read()
        yield digest, text
        value = json.loads(text)
        for child in value.get("manifests") or []:
            yield from self._documents(child["digest"])
        if "config" in value:
            with open(self.path(value["config"]["digest"]), encoding="utf-8") as file:
                yield value["config"]["digest"], file.read()

    def needed(self, digest: str) -> Set[str]:
        """Every blob of an image."""
        value = self.read(digest)
        found = {digest}
        for child in value.get("manifests") or []:
            found |= self.needed(child["digest"])
        for part in [*(value.get("layers") or []), *([value["config"]] if "config" in value else [])]:
            found.add(part["digest"])
        return found

    def prune(self, built: Dict[str, List[Dict[str, Any]]]) -> None:
        """Remove blobs that no kept build needs."""
        wanted: Set[str] = set()
        for builds in built.values():
            for one in builds:
                wanted |= self.needed(one["descriptor"]["digest"])
        for name in os.listdir(self.blobs):
            if f"sha256:{name}" not in wanted:
                os.unlink(os.path.join(self.blobs, name))


def _keep(layout: Layout, folder: str, tags: List[str]) -> str:
    """Take an OCI layout that a build wrote into the builder's, and return the image's digest."""
    os.makedirs(layout.blobs, mode=0o700, exist_ok=True)
    # Blobs that no index names are removed: another build's must not be looked at before it has said so.
    with alone(layout.folder):
        return _take_in(layout, folder, tags)


def _take_in(layout: Layout, folder: str, tags: List[str]) -> str:
    with open(os.path.join(folder, "index.json"), encoding="utf-8") as file:
        (top,) = json.load(file)["manifests"]
    descriptor = {key: top[key] for key in ("mediaType", "digest", "size")}
    source = os.path.join(folder, "blobs", "sha256")
    for name in os.listdir(source):
        os.replace(os.path.join(source, name), os.path.join(layout.blobs, name))
    shutil.rmtree(folder, ignore_errors=True)
    built = layout.built()
    for tag in tags:
        rest = [one for one in built.get(tag, []) if one["descriptor"]["digest"] != descriptor["digest"]]
        built[tag] = [*rest, {"descriptor": descriptor, "at": time.time()}][-_KEPT:]
    write(layout.index, json.dumps(built, indent=1).encode())
    layout.prune(built)
    return str(descriptor["digest"])


def load(engine: Engine, work: Work, args: Dict[str, Any]) -> Dict[str, Any]:
    """Give the engine an image whose missing blobs were put: ``name`` (``repository:tag``), ``descriptor``
    of its index, ``documents`` (digest to text) and ``layers`` (digests of blobs that were put).

    Raises ``Refusal``; ``no-image`` when the engine lacks a layer that was not sent.
    """
    info = engine.info()
    if not has_containerd_store(info):
        raise no_store()
    descriptor = {
        **args["descriptor"],
        "annotations": {
            "io.containerd.image.name": args["name"],
            "org.opencontainers.image.ref.name": args["name"].rpartition(":")[2],
        },
    }
    for digest in args["layers"]:
        _check(work.path(digest.split(":", 1)[1]), digest)
    process = subprocess.Popen(
        ["docker", "load", "--quiet"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        env=clean_environment(),
    )  # fmt: skip
    assert process.stdin is not None
    broken = False
    try:
        with tarfile.open(fileobj=process.stdin, mode="w|", format=tarfile.GNU_FORMAT) as archive:
            _add(archive, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
            index = {"schemaVersion": 2, "manifests": [descriptor]}
            _add(archive, "index.json", json.dumps(index).encode())
            for digest, text in args["documents"].items():
                _add(archive, _blob(digest), text.encode())
            for digest in args["layers"]:
                archive.add(work.path(digest.split(":", 1)[1]), arcname=_blob(digest), recursive=False)
    except (BrokenPipeError, OSError):
        broken = True  # the engine says why
    output, _ = process.communicate()
    said = output.decode("utf-8", "replace").strip()
    repository = args["name"].rpartition(":")[0]
    ref = f"{repository}@{descriptor['digest']}"
    if process.returncode == 0 and not broken and engine.image(ref) is not None:
        for digest in args["layers"]:
            os.unlink(work.path(digest.split(":", 1)[1]))
        return {"ref": ref}
    if "no space left" in said.lower():
        raise Refusal(
            wire.NO_SPACE,
            f"no space left on the disk while loading {args['name']}",
            "Free some with `invoke cleanup`.",
        )
    raise Refusal(wire.NO_IMAGE, f"{args['name']} can't be loaded: {said or 'docker load said nothing'}")


def no_store() -> Refusal:
    """What an engine with the older image store can't do."""
    return Refusal(
        wire.NO_IMAGE,
        "the engine doesn't have the containerd image store, which images without a registry need",
        "Run `invoke bootstrap`, or set `features: {containerd-snapshotter: true}` in its daemon.json.",
    )


def _blob(digest: str) -> str:
    return "blobs/sha256/" + digest.split(":", 1)[1]


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, BytesIO(data))


def _check(path: str, digest: str) -> None:
    digester = hashlib.sha256()
    with open(path, "rb") as file:
        while True:
            piece = file.read(1 << 20)
            if not piece:
                break
            digester.update(piece)
    if "sha256:" + digester.hexdigest() != digest:
        raise Refusal(wire.NO_IMAGE, f"the layer {digest[:19]} arrived damaged", "Run it again.")
