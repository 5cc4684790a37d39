"""Staging: the release's files and images are brought to the host. Nothing visible happens yet."""

import json
import os
from typing import IO, Any, Callable, Dict, List, Optional, Tuple

from longshore.agent import bluegreen, compose, edited, preflight
from longshore.agent.engine import Engine
from longshore.agent.health import Emit
from longshore.agent.pulling import bring, registry_of
from longshore.agent.store import AppStore, make_open, write


def stage(
    engine: Engine,
    store: AppStore,
    args: Dict[str, Any],
    tar: Optional[IO[bytes]],
    emit: Emit,
    given_up: Optional[Callable[[], bool]] = None,
) -> Dict[str, Any]:
    """``manifest``; ``auth`` (registry to user name and password). The payload is the bundle's tar.
    ``given_up``: nobody waits for it any more.

    Gives ``pulled`` (references) and ``compose`` (version). Raises ``Refusal``; then nothing has changed
    but images and folders that no release uses.
    """
    manifest: Dict[str, Any] = args["manifest"]
    version = compose.version(os.path.join(store.root, "compose.json"))
    info = engine.info()
    preflight.check_space(os.path.dirname(store.root), info.get("DockerRootDir", "/var/lib/docker"))
    preflight.check_ports(engine, manifest["project"], manifest["services"])
    release = manifest["id"]
    if tar is not None and not store.has(release):
        emit("stage", release=release, files=len(manifest["files"]))
        store.receive(release, manifest, tar)
    if tar is not None:
        edited.put_right(engine, store, manifest, tar)
    store.manifest(release)  # staged now, or refuse
    wanted = preflight.architecture(info.get("Architecture", ""))
    pulled = _images(engine, store, manifest, wanted, args.get("auth") or {}, emit, given_up)
    for folder in manifest["state_dirs"]:
        make_open(folder)
    return {"pulled": pulled, "compose": ".".join(map(str, version))}


def _images(
    engine: Engine,
    store: AppStore,
    manifest: Dict[str, Any],
    wanted: str,
    auth: Dict[str, Any],
    emit: Emit,
    given_up: Optional[Callable[[], bool]],
) -> List[str]:
    """Pull what is missing, check that it is for the architecture ``wanted``, and pin what the bundle
    could not."""
    pins: Dict[str, str] = {}
    pulled: Dict[Tuple[str, Optional[str]], Dict[str, Any]] = {}
    for service, facts in sorted(manifest["services"].items()):
        ref, platform = facts["image"], facts["platform"]
        if not ref:
            continue
        key = (ref, platform)
        if key not in pulled:
            pulled[key] = bring(engine, ref, platform, auth.get(registry_of(ref)), emit, given_up)
        image = pulled[key]
        preflight.check_architecture(image, ref, service, wanted, bool(platform))
        if "@" not in ref:
            pins[service] = _pin(ref, image)
    proxy = (bluegreen.routes_of(store, manifest["id"]) or {}).get("host", {}).get("image")
    if proxy:
        pulled[proxy, None] = bring(engine, proxy, None, auth.get(registry_of(proxy)), emit, given_up)
    if pins:
        path = os.path.join(store.release_dir(manifest["id"]), "pins.json")
        if not os.path.exists(path):  # a release is pinned once: going back to it is exact
            write(path, compose.pins(pins).encode())
    return [ref for ref, _ in pulled]


def _pin(ref: str, image: Dict[str, Any]) -> str:
    """The image's digest in its repository, or its id where it never was in one."""
    repository = ref.rsplit(":", 1)[0] if ":" in ref.rsplit("/", 1)[-1] else ref
    for digest in image.get("RepoDigests") or []:
        name = digest.split("@", 1)[0]
        if name in (repository, f"docker.io/{repository}", f"docker.io/library/{repository}"):
            return str(digest)
    return str(image["Id"])


def staged_images(store: AppStore, release: str) -> Dict[str, str]:
    """Service to the image that a staged release runs, pins included."""
    manifest = store.manifest(release)
    images = {name: facts["image"] or "" for name, facts in manifest["services"].items()}
    path = os.path.join(store.release_dir(release), "pins.json")
    if os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            for name, pinned in json.load(file)["services"].items():
                images[name] = pinned["image"]
    return images
