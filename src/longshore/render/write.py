"""Writes a bundle to a folder of the controller, to be looked at: laid out as a host has it."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from longshore.errors import RenderError
from longshore.render.bundle import Bundle

MANIFEST = "manifest.json"


def write_bundle(bundle: Bundle, folder: Path) -> None:
    """Write ``bundle/…``, ``content/…`` and ``manifest.json`` below ``folder``, replacing an earlier one; and
    a ``.gitignore`` that has git leave them out.

    Folders are 0700 and files as on the host: the bundle holds secrets. Raises ``RenderError`` when the
    folder holds something else, or can't be written.
    """
    try:
        if folder.exists() and any(folder.iterdir()):
            if not (folder / MANIFEST).is_file():
                raise RenderError(
                    "This folder holds something that was not rendered; it is left as it is.",
                    where=str(folder),
                    hint="Choose another with --out.",
                )
            shutil.rmtree(folder)
        top = folder.parent.parent
        top.mkdir(mode=0o700, parents=True, exist_ok=True)
        # First, for what was broken off halfway is replaced by its mark, too.
        text = json.dumps(bundle.manifest(), indent=2, sort_keys=True) + "\n"
        _write(folder / MANIFEST, text.encode(), 0o600, top)
        # It holds secrets in clear, and may be made in a folder of the project.
        _write(folder / ".gitignore", b"*\n", 0o600, top)
        for file in bundle.files:
            kind = "bundle" if file.kind == "release" else "content"
            _write(folder / kind / file.path, file.data, file.mode, top)
    except OSError as error:
        raise RenderError(
            f"This can't be written: {error.strerror}.", where=error.filename or str(folder)
        ) from None


def _write(path: Path, data: bytes, mode: int, top: Path) -> None:
    missing = []
    parent = path.parent
    while not parent.exists() and parent != top.parent:
        missing.append(parent)
        parent = parent.parent
    for made in reversed(missing):
        made.mkdir(mode=0o700)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        os.fchmod(file.fileno(), mode)
