"""What has come of an image is kept when the engine drops it: by having the engine's own files of it open.

A file that is open lasts when its name is gone, so this copies nothing, and changes nothing of the engine's.
Where the files can't be read (not root, another place), nothing is kept, and all else goes its way.

Sources: containerd's content store (plugins/content/local: ``ingest/*/{ref,data}`` becomes
``blobs/sha256/…``, by renaming); moby's distribution/pull_v2.go (``GetImageBlob*`` in the engine's ``tmp``).
"""

import glob
import hashlib
import json
import os
import re
import time
from typing import Any, Dict, Iterable, Iterator, List, Optional

from longshore.agent.present import has_containerd_store

CONTAINERD = "/var/lib/containerd"
_CONTENT = "io.containerd.content.v1.content"
_REF = re.compile(r"layer-(sha256:[0-9a-f]{64})$")
_PAUSE = 0.5
"""Seconds from one look to the next."""
_PIECE = 1 << 18


class Part:
    """The beginning of a layer, or all of it. ``digest``: the layer's, where the engine says which it is."""

    def __init__(self, handle: int, digest: str = "") -> None:
        self._handle = handle
        self.digest = digest
        self._own: Optional[str] = None

    @property
    def size(self) -> int:
        return os.fstat(self._handle).st_size

    def read(self, start: int, stop: int) -> Iterator[bytes]:
        """Its bytes from ``start`` up to ``stop``, or as far as there are any."""
        while start < stop:
            piece = os.pread(self._handle, min(_PIECE, stop - start), start)
            if not piece:
                return
            start += len(piece)
            yield piece

    def is_all_of(self, digest: str) -> bool:
        if self.digest:
            return self.digest == digest  # whether the bytes are right is the engine's to find out
        if self._own is None:
            digester = hashlib.sha256()
            for piece in self.read(0, self.size):
                digester.update(piece)
            self._own = "sha256:" + digester.hexdigest()
        return self._own == digest

    def close(self) -> None:
        os.close(self._handle)


class Kept:
    """The files of one pull. ``info``: the engine's; ``digest``: the image's, where it is known."""

    def __init__(self, info: Dict[str, Any], digest: str = "") -> None:
        self.documents: Dict[str, bytes] = {}
        """Manifests and indexes by digest, as far as they have come."""
        self._wanted = {digest} if digest else set()
        root = str(info.get("DockerRootDir") or "/var/lib/docker")
        self._stores: List[str] = []
        if has_containerd_store(info):
            # The system's containerd, or one that the engine has started itself.
            folders = [os.path.join(one, _CONTENT) for one in (CONTAINERD, f"{root}/containerd/daemon")]
            self._stores = [one for one in folders if os.path.isdir(one)]
        self._tmp = os.path.join(root, "tmp")
        self.is_older = not has_containerd_store(info)
        """Whether the engine has the older image store."""
        self._parts: Dict[str, Part] = {}
        self._looked = 0.0

    def __bool__(self) -> bool:
        return bool(self._parts)

    def look(self, layers: Iterable[str], at_once: bool = False) -> None:
        """Take what is new of these ``layers`` (the first digits of their digests, as the engine tells
        progress); not more often than a few times a second, unless ``at_once``."""
        now = time.monotonic()
        if not at_once and now - self._looked < _PAUSE:
            return
        self._looked = now
        try:
            if self.is_older:
                for path in glob.glob(os.path.join(glob.escape(self._tmp), "GetImageBlob*")):
                    self._take(path, path)
                return
            missing = {one for one in layers if one not in self._parts}
            for store in self._stores:
                if missing:
                    self._look_for(missing, store)
                for digest in list(self._wanted):
                    self._look_up(digest, store)
        except OSError:
            pass

    def _look_for(self, missing: Iterable[str], store: str) -> None:
        for path in glob.glob(os.path.join(store, "ingest", "*", "ref")):
            try:
                with open(path, encoding="utf-8", errors="replace") as file:
                    found = _REF.search(file.read(4096).strip())
            except OSError:  # whole by now
                continue
            if found and found[1][7:19] in missing:
                self._take(found[1][7:19], os.path.join(os.path.dirname(path), "data"), found[1])
        for name in missing:
            if name not in self._parts:  # it came whole between two looks
                for path in glob.glob(os.path.join(store, "blobs", "sha256", glob.escape(name) + "*")):
                    self._take(name, path, "sha256:" + os.path.basename(path))

    def _look_up(self, digest: str, store: str) -> None:
        """Take a manifest or index, and what it names and isn't a layer; of an index, only some has come."""
        path = os.path.join(store, "blobs", "sha256", digest[7:])
        if not os.path.exists(path):
            return
        with open(path, "rb") as file:
            data = file.read()
        try:
            value = json.loads(data)
            config = value.get("config", {}).get("digest", "")
            children = {str(one["digest"]) for one in value.get("manifests") or []}
        except (ValueError, KeyError, TypeError, AttributeError):
            children, config = set(), ""
        self.documents[digest] = data
        self._wanted |= children
        if config:
            self._take(config[7:19], os.path.join(store, "blobs", "sha256", config[7:]), config)
        if not config or config[7:19] in self._parts:
            self._wanted.discard(digest)

    def _take(self, name: str, path: str, digest: str = "") -> None:
        if name in self._parts:
            return
        try:
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return
        self._parts[name] = Part(handle, digest)

    def whole(self, digest: str, size: int) -> Optional[Part]:
        """A layer that had come whole."""
        for part in list(self._parts.values()):
            if part.digest in ("", digest) and part.size == size and part.is_all_of(digest):
                return part
        return None

    def beginnings(self, digest: str, size: int) -> List[Part]:
        """What may be a layer's beginning, the longest first; certain where it has the ``digest``."""
        fit = [
            one for one in list(self._parts.values()) if one.digest in ("", digest) and 0 < one.size < size
        ]
        return sorted(fit, key=lambda one: -one.size)

    def close(self) -> None:
        for part in self._parts.values():
            part.close()
        self._parts = {}
