"""A bundle as it travels: one tar in memory."""

from __future__ import annotations

import io
import tarfile
import threading

from longshore.render.bundle import Bundle


class Packer:
    """Packs bundles. What many hosts get alike is packed once: it costs a millisecond each time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._packed: dict[frozenset[tuple[str, int, str]], bytes] = {}

    def __call__(self, bundle: Bundle) -> bytes:
        key = frozenset((file.path, file.mode, file.sha256) for file in bundle.files)
        with self._lock:
            if key not in self._packed:
                self._packed[key] = pack(bundle)
            return self._packed[key]


def pack(bundle: Bundle) -> bytes:
    """The bundle's files as a tar: regular files only, no owner, no time, in the order of their paths."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for file in sorted(bundle.files, key=lambda file: file.path):
            member = tarfile.TarInfo(file.path)
            member.size = len(file.data)
            member.mode = file.mode
            archive.addfile(member, io.BytesIO(file.data))
    return buffer.getvalue()
