"""One image of a registry, read through a line that breaks: on from where it was, or after what is kept."""

import hashlib
import json
import queue
import re
import ssl
import threading
import time
from http.client import IncompleteRead, RemoteDisconnected
from typing import Any, Callable, Dict, Iterator, Optional, Tuple

from longshore.agent.kept import Kept, Part
from longshore.agent.registry import ACCEPT, INDEX, MANIFEST, UNREACHED, Answer, NoUseError, Repository

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/")
_DOCUMENT = 8 << 20
"""Bytes of a manifest at most; registries refuse more than 4 MiB."""
_PAUSES = (0.0, 0.5, 1.0, 2.0)
"""Seconds before the registry is asked again; the last for all that follow."""
_COMPARED = 64
"""Bytes by which a beginning is known again: packed, no two layers have the same ones at the same place."""
_TICK = 0.2


class OverError(Exception):
    """The registry stayed away for too long, or nobody waits for the image any more."""


def split(ref: str) -> Tuple[str, str, str]:
    """Registry, repository, and tag or digest of an image reference (distribution/reference)."""
    rest, _, digest = ref.partition("@")
    name, colon, tag = rest.rpartition(":")
    if not colon or "/" in tag:
        name, tag = rest, "latest"
    first, slash, repository = name.partition("/")
    if not (slash and ("." in first or ":" in first or first == "localhost")):
        first, repository = "docker.io", name
    return "docker.io" if first == "index.docker.io" else first, repository, digest or tag


class Image:
    """The image ``ref``. Safe to use from several threads.

    ``patience``: seconds without a byte of the registry's after which it is given up; ``given_up``: nobody
    waits for it any more; ``info``: the engine's. Raises ``NoUseError`` where the engine goes other ways.
    """

    def __init__(
        self,
        ref: str,
        auth: Optional[Dict[str, str]],
        info: Dict[str, Any],
        kept: Kept,
        patience: float,
        given_up: Optional[Callable[[], bool]] = None,
    ) -> None:
        registry, name, self._target = split(ref)
        self._upstream = Repository(registry, name, auth, info)
        self._kept = kept
        self._patience = patience
        self._given_up = given_up
        self.broken: queue.Queue[str] = queue.Queue()
        """What was said each time the line broke and wasn't back at once."""
        self.over = ""
        """Why it was given up, in the words of what broke the line."""
        self.digest = ""
        self.closed = threading.Event()
        """Set when it is read no more."""
        self._documents: Dict[str, Tuple[bytes, str]] = {}
        self._children: Dict[str, int] = {}
        self._blobs: Dict[str, int] = {}
        self._lock = threading.Lock()
        self._down_since: Optional[float] = None
        self._told = True  # that it broke at first is known to who asks for this

    def knows(self) -> None:
        """Ask the registry, once, whether it gives us the image. Raises ``NoUseError``, and what
        ``UNREACHED`` lists."""
        self._upstream.ask(f"manifests/{self._target}", {"Accept": ACCEPT}, "HEAD").close()

    def find(self) -> None:
        """Have the registry say which image it is. Raises ``OverError`` and ``NoUseError``."""
        self.digest, _ = self._document(self._target)

    def document(self, digest: str) -> Optional[Tuple[bytes, str]]:
        """A manifest or index that belongs to the image, and its media type. What it names belongs to the
        image, too, from then on. Raises ``OverError`` and ``NoUseError``."""
        if digest not in self._documents and digest not in self._children:
            return None
        return self._document(digest)[1]

    def size(self, digest: str) -> Optional[int]:
        """Bytes of a blob that belongs to the image. Raises ``OverError``."""
        # An engine that has a manifest already asks only for what it names.
        unread = [one for one in self._children if one not in self._documents]
        for child in sorted(unread, key=lambda one: one not in self._kept.documents):
            if digest in self._blobs:
                break
            try:
                self._document(child)
            except NoUseError:
                pass  # some registries lack the platforms that nobody has pushed
        return self._blobs.get(digest)

    def _wait(self, error: Exception, tries: int) -> None:
        """The line is broken: wait before the next try. Raises ``OverError``."""
        said = _said(error)
        with self._lock:
            now = time.monotonic()
            if self._down_since is None:
                self._down_since = now
            elif tries and not self._told:
                self._told = True
                self.broken.put(said)
            if now - self._down_since > self._patience:
                self.over = self.over or said
        until = now + _PAUSES[min(tries, len(_PAUSES) - 1)]
        while True:
            if self._given_up is not None and self._given_up():
                self.over = self.over or said
            if self.over or self.closed.is_set():
                raise OverError(said)
            left = until - time.monotonic()
            if left <= 0:
                return
            self.closed.wait(min(left, _TICK))

    def _came(self) -> None:
        self._down_since = None
        self._told = False

    def _document(self, target: str) -> Tuple[str, Tuple[bytes, str]]:
        """A manifest or index by tag or digest; what it names is given out from now on."""
        if target in self._documents:
            return target, self._documents[target]
        if target in self._kept.documents:
            data, kind = self._kept.documents[target], ""
        else:
            data, kind = self._fetch(target)
        digest = digest_of(data)
        if _DIGEST.fullmatch(target) and digest != target:
            raise NoUseError(f"the registry gives other content for {target}")
        try:
            value = json.loads(data)
            for child in value.get("manifests") or []:
                self._children[child["digest"]] = int(child["size"])
            for part in [*([value["config"]] if "config" in value else []), *(value.get("layers") or [])]:
                self._blobs[part["digest"]] = int(part["size"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise NoUseError(f"what the registry has as {target} is no image") from error
        # An OCI document need not say itself what it is.
        kind = (
            value.get("mediaType") or kind.partition(";")[0] or (INDEX if "manifests" in value else MANIFEST)
        )
        found = data, kind
        self._documents[digest] = found
        return digest, found

    def _fetch(self, target: str) -> Tuple[bytes, str]:
        tries = 0
        while True:
            try:
                answer = self._upstream.ask(f"manifests/{target}", {"Accept": ACCEPT})
                try:
                    found = answer.read(_DOCUMENT), answer.header("Content-Type")
                finally:
                    answer.close()
            except UNREACHED as error:
                self._wait(error, tries)
                tries += 1
            else:
                self._came()
                return found

    def content(self, digest: str, at: int, stop: int) -> Iterator[bytes]:
        """A blob's bytes from ``at`` up to ``stop``, through whatever befalls the line. Raises ``OverError``
        and ``NoUseError``."""
        size = self._blobs[digest]
        whole = self._kept.whole(digest, size)
        if whole is not None:
            for piece in whole.read(at, stop):
                at += len(piece)
                yield piece
        beginnings = self._kept.beginnings(digest, size)
        tries = 0
        while at < stop:
            try:
                part = next((one for one in beginnings if one.size > at), None)
                if part is not None:
                    beginnings.remove(part)
                    if part.digest or self._fits(digest, part):
                        for piece in part.read(at, min(stop, part.size)):
                            at += len(piece)
                            yield piece
                    continue
                for piece in self._from_upstream(digest, at):
                    self._came()
                    tries = 0
                    at += len(piece)
                    yield piece[: len(piece) - max(0, at - stop)]
                    if at >= stop:
                        return
                raise ConnectionResetError("unexpected EOF")
            except UNREACHED as error:
                if part is not None:
                    beginnings.insert(0, part)
                self._wait(error, tries)
                tries += 1

    def _fits(self, digest: str, part: Part) -> bool:
        """Whether it is the beginning of this blob: its last bytes are compared."""
        stop = part.size
        start = max(0, stop - _COMPARED)
        answer = self._upstream.ask(f"blobs/{digest}", {"Range": f"bytes={start}-{stop - 1}"})
        try:
            if answer.status != 206 or _first_of(answer) != start:
                return False
            return answer.read(stop - start) == b"".join(part.read(start, stop))
        finally:
            answer.close()

    def _from_upstream(self, digest: str, at: int) -> Iterator[bytes]:
        answer = self._upstream.ask(f"blobs/{digest}", {"Range": f"bytes={at}-"} if at else {})
        try:
            # Some give all of it, or from a place that suits them.
            first = _first_of(answer) if answer.status == 206 else 0
            if first > at:
                raise NoUseError(f"the registry goes on at {first} instead of {at}")
            while True:
                piece = answer.some()
                if not piece:
                    return
                skipped = min(len(piece), at - first)
                first += skipped
                if len(piece) > skipped:
                    at += len(piece) - skipped
                    first = at
                    yield piece[skipped:]
        finally:
            answer.close()


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def _said(error: Exception) -> str:
    if isinstance(error, (RemoteDisconnected, IncompleteRead)):
        return "unexpected EOF"
    if isinstance(error, OSError) and error.strerror and not isinstance(error, ssl.SSLError):
        return error.strerror.lower()
    return str(error) or type(error).__name__


def _first_of(answer: Answer) -> int:
    """Where a part begins. Raises ``NoUseError`` when it doesn't say."""
    found = _CONTENT_RANGE.match(answer.header("Content-Range"))
    if not found:
        raise NoUseError("the registry doesn't say where what it gives begins")
    return int(found[1])
