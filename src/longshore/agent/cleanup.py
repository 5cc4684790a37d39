"""Removing images that no release needs, and old builder cache. Volumes are none of its business.

Images are kept by reference, not by age: the age of an image is when it was built, not when it was pulled.
"""

import json
import os
import time
from typing import Any, Dict, Iterator, List, Optional, Set

from longshore.agent.daily import Daily
from longshore.agent.engine import Engine, EngineError, moment
from longshore.agent.stage import staged_images
from longshore.agent.store import RELEASE, AppStore


def cleanup(daily: Daily, args: Dict[str, Any]) -> Dict[str, Any]:
    """Remove images of this app's repositories that no container and no release on this host uses.

    A release counts as soon as it is staged, of whatever app: what is being deployed, and what can be gone
    back to, stays. Images of other repositories are left alone. ``preview`` only tells. ``cache_hours``:
    builder cache that was not used for so long goes, too.

    Gives ``images``, ``bytes`` (of them; up to, in a preview, as images share layers) and ``cache_bytes``.
    """
    preview = bool(args.get("preview"))
    if not preview:
        from longshore.agent.relayed import left_behind

        left_behind(daily.engine)
    old = superfluous(daily)
    before = 0 if preview or not old else _layers(daily.engine)
    removed = []
    for image in old:
        names = _names(image)
        if not preview:
            try:
                _remove(daily.engine, names)
            except EngineError as error:
                daily.emit("note", message=f"{names[0]} stays: {error.message}")
                continue
        removed.append({"image": names[0], "id": image["Id"], "size": image["Size"]})
    freed = max(0, before - _layers(daily.engine)) if before else 0
    cache = _cache(daily.engine, args.get("cache_hours"), preview)
    size = sum(int(one["size"]) for one in removed)
    return {"images": removed, "bytes": freed if before else size, "cache_bytes": cache}


def superfluous(daily: Daily) -> List[Dict[str, Any]]:
    """The engine's images (as its list has them) that may go."""
    repositories: Set[str] = set()
    keep: Set[str] = {raw["ImageID"] for raw in daily.engine.containers()}
    for store in stores(os.path.dirname(daily.store.root)):
        for release in releases(store):
            for ref in staged_images(store, release).values():
                if store.app == daily.store.app:
                    repositories.add(repository(ref))
                image = daily.engine.image(ref) if ref else None
                if image:
                    keep.add(image["Id"])
    found = []
    for image in daily.engine.images():
        names = {repository(name) for name in _names(image)}
        if names and names <= repositories and image["Id"] not in keep:
            found.append(image)
    return found


def stores(state_dir: str) -> Iterator[AppStore]:
    """Every app's folder on this host."""
    for name in sorted(os.listdir(state_dir)):
        if os.path.isdir(os.path.join(state_dir, name, "releases")):
            yield AppStore(state_dir, name)


def releases(store: AppStore) -> List[str]:
    """Every release that is on the host, committed or only staged."""
    return [
        name for name in sorted(os.listdir(store.releases)) if RELEASE.fullmatch(name) and store.has(name)
    ]


def repository(ref: str) -> str:
    """An image reference without tag and digest, and without what Docker leaves out when it shows one."""
    name = ref.split("@", 1)[0]
    name = name.rsplit(":", 1)[0] if ":" in name.rsplit("/", 1)[-1] else name
    for prefix in ("docker.io/library/", "docker.io/"):
        if name.startswith(prefix):
            return name[len(prefix) :]
    return name


def _names(image: Dict[str, Any]) -> List[str]:
    names = [*(image.get("RepoTags") or []), *(image.get("RepoDigests") or [])]
    return [name for name in names if "<none>" not in name]


def _remove(engine: Engine, names: List[str]) -> None:
    """By its names, without force: the last name takes the image with it, unless something uses it."""
    for name in names:
        try:
            engine.request("DELETE", f"/images/{name}")
        except EngineError as error:
            if error.status != 404:
                raise


def _layers(engine: Engine) -> int:
    """Bytes that all images take on the disk, shared layers counted once."""
    return int((engine.request("GET", "/system/df", {"type": "image"}) or {}).get("LayersSize") or 0)


def _cache(engine: Engine, hours: Optional[float], preview: bool) -> int:
    """Bytes of builder cache that was not used for ``hours``, removed or (``preview``) counted."""
    if hours is None:
        return 0
    if not preview:
        # `unused-for` is the engine's other name for `until`, which counts from the last use here.
        filters = json.dumps({"until": {f"{float(hours):g}h": True}})
        answer = engine.request("POST", "/build/prune", {"filters": filters, "all": "true"}) or {}
        return int(answer.get("SpaceReclaimed") or 0)
    known = (engine.request("GET", "/system/df", {"type": "build-cache"}) or {}).get("BuildCache") or []
    oldest = time.time() - float(hours) * 3600
    return sum(
        int(one.get("Size") or 0)
        for one in known
        if not one.get("InUse") and moment(one.get("LastUsedAt") or one.get("CreatedAt")) < oldest
    )
