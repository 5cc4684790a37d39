"""What images are built from on this host: folders that were sent, and images that were built for it."""

import json
import os
import shutil
import stat
import tarfile
from typing import List, Tuple

from longshore.agent import wire
from longshore.agent.fail import Refusal
from longshore.agent.work import Work


def image_in(folder: str) -> str:
    """What buildx calls the one image of an OCI layout, as a context (docs.docker.com, "docker buildx build",
    ``--build-context``)."""
    with open(os.path.join(folder, "index.json"), encoding="utf-8") as file:
        (top,) = json.load(file)["manifests"]
    return f"oci-layout://{folder}@{top['digest']}"


def unpack(work: Work, name: str) -> str:
    """Unpack a context that was put, and remove its tar. Nothing can land outside its folder."""
    folder = os.path.join(work.folder, f"context-{name}")
    os.mkdir(folder, 0o700)
    links: List[tarfile.TarInfo] = []
    folders: List[Tuple[str, int, int]] = []
    with tarfile.open(work.path(name)) as archive:
        for member in archive:
            parts = member.name.split("/")
            if member.name.startswith("/") or ".." in parts:
                raise Refusal(wire.BAD_REQUEST, f"the context holds {member.name!r}")
            path = os.path.join(folder, member.name)
            if member.isdir():
                os.makedirs(path, exist_ok=True)
                folders.append((path, stat.S_IMODE(member.mode), int(member.mtime)))
            elif member.issym():
                links.append(member)
            elif member.isreg():
                source = archive.extractfile(member)
                assert source is not None
                with open(path, "xb") as file:
                    shutil.copyfileobj(source, file, 1 << 20)
                os.chmod(path, stat.S_IMODE(member.mode))
                os.utime(path, (member.mtime, member.mtime))
    for member in links:  # last: nothing is written through one
        os.symlink(member.linkname, os.path.join(folder, member.name))
    for path, mode, mtime in reversed(folders):  # last, too: one may not be written to
        os.chmod(path, mode)
        os.utime(path, (mtime, mtime))
    os.unlink(work.path(name))
    return folder
