"""Which images a host has already: asked by every deploy that brings something.

Apart from what builds and moves images, which takes longer to load than this takes to answer.
"""

import os
from typing import Any, Dict, List, Set, Tuple

from longshore.agent import preflight
from longshore.agent.engine import Engine

_LOOKED_AT = 200


def present(engine: Engine, refs: List[str], layers: bool) -> Dict[str, Any]:
    """Which images are here, and what else matters before one is brought.

    ``architecture``; ``containerd``: whether the engine has that image store; ``free``: bytes on its disk;
    ``refs``: reference to whether it is here; ``chains``: the layers of the images here, each from its
    lowest on, by the digest of their content (only with ``layers``, and where something is missing: each
    image is a question to the engine, and with some twenty that is half a second of a small host's).
    """
    info = engine.info()
    found = {ref: engine.image(ref) is not None for ref in refs}
    root = info.get("DockerRootDir") or "/var/lib/docker"
    chains: Set[Tuple[str, ...]] = set()
    if layers and not all(found.values()):
        for image in engine.images()[:_LOOKED_AT]:
            full = engine.image(image["Id"]) or {}
            chain = (full.get("RootFS") or {}).get("Layers") or []
            if chain:
                chains.add(tuple(chain))
    return {
        "architecture": preflight.architecture(info.get("Architecture", "")),
        "containerd": has_containerd_store(info),
        "root": root,
        "free": preflight.free_bytes(root) if os.path.isdir(root) else 0,
        "refs": found,
        "chains": sorted(chains),
    }


def has_containerd_store(info: Dict[str, Any]) -> bool:
    """Whether the engine keeps images in containerd's store: several platforms, digests of its own."""
    return any("io.containerd.snapshotter" in str(pair[1]) for pair in info.get("DriverStatus") or [])
