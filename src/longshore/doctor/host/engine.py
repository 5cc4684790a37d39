"""The engine: its programs, what it says of itself, its settings, and what it can build."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from longshore.agent.building import platforms_in
from longshore.agent.dockerconfig import theirs_of_buildx
from longshore.agent.engine import Engine
from longshore.agent.preflight import architecture
from longshore.agent.present import has_containerd_store
from longshore.bootstrap.host import daemon, found
from longshore.bootstrap.host.service import Service
from longshore.bootstrap.host.system import run
from longshore.bootstrap.host.versions import version_text


def programs(wish: Mapping[str, Any]) -> dict[str, Any]:
    """``versions`` by part, empty where one isn't there; ``needed`` by part."""
    seen = found.look()
    return {
        "versions": {part: version_text(version) for part, version in seen.versions.items()},
        "needed": {part: version_text(version) for part, version in found.OLDEST.items()},
        "missing": list(seen.missing),
    }


def running(wish: Mapping[str, Any]) -> dict[str, Any]:
    """What the engine says of itself. Raises the agent's ``Refusal`` when it can't be asked."""
    engine = Engine(timeout=20)
    info = engine.info()
    version = engine.version()
    return {
        "version": version.get("Version", ""),
        "architecture": version.get("Arch") or architecture(info.get("Architecture", "")),
        "store": has_containerd_store(info),
        "images": int(info.get("Images") or 0),
        "mirrors": list((info.get("RegistryConfig") or {}).get("Mirrors") or []),
    }


def settings(wish: Mapping[str, Any]) -> dict[str, Any]:
    """daemon.json, as bootstrap would leave it: ``lacking``, ``kept`` (what someone set otherwise), and
    ``pending``: the engine hasn't read all of it yet. Raises ``Refusal`` for a file that isn't valid."""
    swarm = (Engine(timeout=20).info().get("Swarm") or {}).get("LocalNodeState")
    merge = daemon.merge(
        daemon.read(),
        wish["daemon"],
        flags=daemon.flags_in(Service().command_line()),
        swarm=swarm not in (None, "", "inactive"),
    )
    pending = Path(wish["state_dir"], "engine.pending").exists()
    return {"lacking": list(merge.changes), "kept": list(merge.kept), "pending": pending}


def builder(wish: Mapping[str, Any]) -> dict[str, Any]:
    """Of a host that builds: ``platforms``, natively or under QEMU; ``buildkit``: whether a BuildKit of ours
    runs or its image is here; ``named``: whether buildx has the builder that the inventory names."""
    if not wish["builds"]:
        return {}
    name = str(wish["buildx"])
    with tempfile.TemporaryDirectory(prefix="longshore-") as folder:
        # buildx notes who was asked last; not in anybody's own folder.
        os.environ["BUILDX_CONFIG"] = theirs_of_buildx() if name else folder
        code, told = run(["docker", "buildx", "inspect", *([name] if name else [])])
        del os.environ["BUILDX_CONFIG"]
    engine = Engine(timeout=20)
    names = {name for one in engine.containers() for name in one.get("Names") or []}
    return {
        "platforms": sorted(platforms_in(told)) if code == 0 else [],
        "named": code == 0 if name else None,
        "buildkit": "/buildx_buildkit_longshore0" in names or engine.image(wish["buildkit"]) is not None,
    }
