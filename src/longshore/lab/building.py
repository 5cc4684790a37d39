"""Building an application's image on a practice host, into the practice registry.

For the demo and the tests: what they deploy has to come from somewhere, and no engine may run here.
"""

from __future__ import annotations

import io
import re
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

from longshore.images.context import context_of, names
from longshore.lab.commands import LabError

if TYPE_CHECKING:
    from longshore.lab.lab import Lab

_LINES = 25


def build(lab: Lab, folder: Path, image: str, *, host: str = "h1", platform: str = "") -> str:
    """Build ``folder`` on ``host`` and push it to the lab's registry as ``image`` (``name:tag``).

    The context honours ``.dockerignore``. Returns the whole reference. Raises ``LabError`` with the end of
    the build's output.
    """
    if not (folder / "Dockerfile").is_file():
        raise LabError(
            f"{folder} has no Dockerfile.", hint="Name the folder of an application with --folder."
        )
    if not re.fullmatch(r"[a-z0-9][a-z0-9._/-]*:[A-Za-z0-9_][A-Za-z0-9._-]*", image):
        raise LabError(f"'{image}' isn't NAME:TAG.", hint="Write it as excel2doc:1.0.0.")
    reference = f"{lab.registry}/{image}"
    command = ["docker", "buildx", "build", "--progress", "plain", "--provenance=false", "--push"]
    command += ["--platform", platform] if platform else []
    done = lab.ssh(
        host, [*command, "--tag", reference, "-"], stdin=context(folder), check=False, timeout=1800
    )
    if done.returncode != 0:
        said = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        raise LabError(f"building {folder} failed:\n" + "\n".join(f"  | {line}" for line in said[-_LINES:]))
    return reference


def context(folder: Path) -> bytes:
    """The build's context as a tar, without what ``.dockerignore`` names, and with the Dockerfile."""
    buffer = io.BytesIO()
    found = [name for name, _ in names(context_of(folder, folder / "Dockerfile"))]
    # Docker takes a stream that begins with a header of PAX for a Dockerfile.
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name in sorted({*found, "Dockerfile"}):
            archive.add(folder / name, arcname=name, recursive=False)
    return buffer.getvalue()
