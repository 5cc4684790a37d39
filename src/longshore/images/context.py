"""A build's context: a folder without what ``.dockerignore`` names, as a tar that is streamed."""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

from longshore.errors import LongshoreError
from longshore.images.ignore import Ignore, parse
from longshore.records import dataclass

CHUNK = 4 << 20
"""Bytes in one piece on its way to the builder."""


@dataclass(frozen=True)
class Context:
    """``folder`` is absolute; ``ignore`` what is left out of it."""

    folder: Path
    ignore: Ignore


def context_of(folder: Path, dockerfile: Path | None) -> Context:
    """The context of a folder. Beside the Dockerfile, ``NAME.dockerignore`` wins over the folder's own.

    Source: docs.docker.com/build/concepts/context, "Filename and location".
    """
    own = [dockerfile.with_name(f"{dockerfile.name}.dockerignore")] if dockerfile else []
    for path in (*own, folder / ".dockerignore"):
        try:
            text = path.read_text(encoding="utf-8", errors="surrogateescape")
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise LongshoreError(f"can't be read: {error.strerror}", where=str(path)) from None
        return Context(folder, parse(text, str(path)))
    return Context(folder, Ignore())


def names(context: Context) -> Iterator[tuple[str, os.stat_result]]:
    """What is in the context: relative names with ``/``, folders before what is in them, sorted."""
    yield from _walk(context, "")


def _walk(context: Context, folder: str) -> Iterator[tuple[str, os.stat_result]]:
    try:
        entries = sorted(os.scandir(context.folder / folder), key=lambda entry: entry.name)
    except OSError as error:
        raise LongshoreError(
            f"can't be read: {error.strerror}",
            where=str(context.folder / folder),
            hint="Name it in .dockerignore if the image doesn't need it.",
        ) from None
    for entry in entries:
        name = f"{folder}/{entry.name}" if folder else entry.name
        status = entry.stat(follow_symlinks=False)
        ignored = context.ignore.matches(name)
        if not stat.S_ISDIR(status.st_mode):
            # As BuildKit does: sockets, pipes and devices are no content.
            if not ignored and (stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode)):
                yield name, status
            continue
        if not ignored:
            yield name, status
            yield from _walk(context, name)
        elif context.ignore.has_exceptions:
            inner = list(_walk(context, name))
            if inner:
                yield name, status
                yield from inner


def stream(context: Context, send: Callable[[bytes], None]) -> int:
    """Write the context as a tar, in pieces of at most 4 MiB, and return its size in bytes.

    Owner and group are root's, as in every context of Docker. Raises ``LongshoreError`` for a file that
    can't be read or changes its size meanwhile.
    """
    pieces = _Pieces(send)
    with tarfile.open(fileobj=pieces, mode="w|", format=tarfile.GNU_FORMAT, bufsize=CHUNK) as archive:  # type: ignore[call-overload]
        for name, status in names(context):
            _add(archive, context.folder / name, name, status)
    pieces.flush()
    return pieces.size


def _add(archive: tarfile.TarFile, path: Path, name: str, status: os.stat_result) -> None:
    member = tarfile.TarInfo(name)
    member.mode = stat.S_IMODE(status.st_mode)
    member.mtime = int(status.st_mtime)
    try:
        if stat.S_ISDIR(status.st_mode):
            member.type = tarfile.DIRTYPE
            archive.addfile(member)
        elif stat.S_ISLNK(status.st_mode):
            member.type = tarfile.SYMTYPE
            member.linkname = os.readlink(path)  # noqa: PTH115 - as it is written, not as a Path
            archive.addfile(member)
        else:
            with path.open("rb") as file:
                member.size = os.fstat(file.fileno()).st_size
                archive.addfile(member, file)
    except OSError as error:
        # tarfile says "unexpected end of data" for a file that got shorter.
        raise LongshoreError(
            f"can't be read: {error.strerror or error}",
            where=str(path),
            hint="Name it in .dockerignore if the image doesn't need it.",
        ) from None


class _Pieces:
    """A file for ``tarfile`` that hands on what is written, in pieces."""

    def __init__(self, send: Callable[[bytes], None]) -> None:
        self.send = send
        self.size = 0
        self._buffer = bytearray()

    def write(self, data: bytes) -> int:
        self._buffer += data
        self.size += len(data)
        if len(self._buffer) >= CHUNK:
            self.flush()
        return len(data)

    def flush(self) -> None:
        if self._buffer:
            self.send(bytes(self._buffer))
            self._buffer.clear()
