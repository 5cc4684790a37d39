"""What building and bringing images needs of an engine: its image store, and registries' certificates."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from longshore.bootstrap.host.say import Changes, note
from longshore.bootstrap.host.service import info
from longshore.bootstrap.host.system import write

CERTIFICATES = Path("/etc/docker/certs.d")
"""Where the engine looks for them, by registry, on every request (docs.docker.com, "certificates")."""
FEATURE = {"containerd-snapshotter": True}


def with_store(wanted: Mapping[str, Any]) -> dict[str, Any]:
    """The wanted settings with the containerd image store, where switching to it hides nothing.

    An engine that changes its store doesn't see the images and containers of the other one any more.
    """
    there = info()
    pairs = there.get("DriverStatus") or []
    if any("io.containerd.snapshotter" in str(pair[-1]) for pair in pairs):
        return dict(wanted)
    if there.get("Images") or there.get("Containers"):
        note(
            f"the containerd image store stays off: the engine has {there.get('Images') or 0} images and"
            f" {there.get('Containers') or 0} containers, which it would no longer see. Images for several"
            " platforms are built in a BuildKit container then, and none can be brought without a registry"
        )
        return dict(wanted)
    return {**wanted, "features": FEATURE}


def trust(changes: Changes, certificates: Mapping[str, str], folder: Path = CERTIFICATES) -> None:
    """Have the engine trust these registries' certificate authorities (registry to PEM text)."""
    for registry, text in sorted(certificates.items()):
        path = folder / registry / "ca.crt"
        try:
            there = path.read_text()
        except (OSError, UnicodeDecodeError):
            there = ""
        if there != text:
            changes.make(f"trust the certificate authority of {registry}", partial(_put, path, text))


def _put(path: Path, text: str) -> None:
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    write(path, text.encode())
