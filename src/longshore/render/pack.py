"""A bundle as it travels: one tar in memory."""

from __future__ import annotations

import io
import tarfile

from longshore.render.bundle import Bundle


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
