"""Staging: the release's files and images are brought to the host. Nothing visible happens yet."""

import json
import os
import re
from typing import IO, Any, Dict, List, Optional, Tuple

from longshore.agent import bluegreen, compose, edited, preflight, wire
from longshore.agent.engine import Engine, EngineError
from longshore.agent.fail import Refusal
from longshore.agent.health import Emit
from longshore.agent.store import AppStore, write

_UNREACHED = re.compile(
    r"connection refused|connection reset|no such host|timeout|timed out|deadline exceeded|unreachable"
    r"|no route to host|\beof\b|unexpected status|server error|service unavailable|bad gateway"
)
"""What the engine says of a registry that doesn't answer, or not as one does (Go's net, containerd)."""


def stage(
    engine: Engine, store: AppStore, args: Dict[str, Any], tar: Optional[IO[bytes]], emit: Emit
) -> Dict[str, Any]:
    """``manifest``; ``auth`` (registry to user name and password). The payload is the bundle's tar.

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
    pulled = _images(engine, store, manifest, wanted, args.get("auth") or {}, emit)
    for folder in manifest["state_dirs"]:
        os.makedirs(folder, mode=0o755, exist_ok=True)
    return {"pulled": pulled, "compose": ".".join(map(str, version))}


def _images(
    engine: Engine,
    store: AppStore,
    manifest: Dict[str, Any],
    wanted: str,
    auth: Dict[str, Any],
    emit: Emit,
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
            pulled[key] = _bring(engine, ref, platform, auth.get(registry_of(ref)), emit)
        image = pulled[key]
        preflight.check_architecture(image, ref, service, wanted, bool(platform))
        if "@" not in ref:
            pins[service] = _pin(ref, image)
    proxy = (bluegreen.routes_of(store, manifest["id"]) or {}).get("host", {}).get("image")
    if proxy:
        pulled[proxy, None] = _bring(engine, proxy, None, auth.get(registry_of(proxy)), emit)
    if pins:
        path = os.path.join(store.release_dir(manifest["id"]), "pins.json")
        if not os.path.exists(path):  # a release is pinned once: going back to it is exact
            write(path, compose.pins(pins).encode())
    return [ref for ref, _ in pulled]


def _bring(
    engine: Engine, ref: str, platform: Optional[str], auth: Optional[Dict[str, str]], emit: Emit
) -> Dict[str, Any]:
    have = engine.image(ref)
    if have is not None and "@" in ref:
        return have
    emit("pull", image=ref, done=0, total=0)
    layers: Dict[str, Tuple[int, int]] = {}
    try:
        _pull(engine, ref, platform, auth, emit, layers)
    except EngineError as error:
        # An image that exists only here (built or loaded on the host) can't be pulled, and need not be.
        if have is not None:
            emit("note", message=f"{ref} could not be pulled ({error.message}); the host's own is used")
            return have
        raise _no_image(ref, error.message, *_added(layers)) from error
    found = engine.image(ref)
    if found is None:
        raise Refusal(wire.NO_IMAGE, f"{ref} was pulled but is not there")
    return found


def _pull(
    engine: Engine,
    ref: str,
    platform: Optional[str],
    auth: Optional[Dict[str, str]],
    emit: Emit,
    layers: Dict[str, Tuple[int, int]],
) -> None:
    """``layers`` is filled: what has come of each that is pulled, and its size."""
    last = -1
    for line in engine.pull(ref, platform, auth):
        detail = line.get("progressDetail") or {}
        if line.get("id") and detail.get("total") and line.get("status") == "Downloading":
            layers[line["id"]] = (int(detail.get("current", 0)), int(detail["total"]))
        done, total = _added(layers)
        percent = done * 20 // total if total else 0  # a line each 5 %
        if percent != last:
            last = percent
            emit("pull", image=ref, done=done, total=total)


def _added(layers: Dict[str, Tuple[int, int]]) -> Tuple[int, int]:
    return sum(part[0] for part in layers.values()), sum(part[1] for part in layers.values())


def _no_image(ref: str, message: str, done: int, total: int) -> Refusal:
    """Why a pull ended badly, after ``done`` of ``total`` bytes."""
    low = message.lower()
    detail = {"engine": message}
    registry = registry_of(ref)
    if "no space left" in low:
        return Refusal(
            wire.NO_SPACE,
            f"no space left on the disk while pulling {ref}",
            "Free some with `invoke cleanup`.",
        )
    if "no match for platform" in low or "no matching manifest" in low:
        return Refusal(
            wire.WRONG_ARCHITECTURE,
            f"{ref} has no image for this host's architecture ({preflight.architecture()})",
            "Build it for that, too.",
        )
    if re.search("unauthorized|denied|authentication required|no basic auth|authorization failed", low):
        return Refusal(
            wire.REGISTRY_LOGIN,
            f"the registry refuses {ref}: the login is wrong or lacking, or there is no such image",
            f"Give username and password of {registry} under `longshore.registries`.",
            detail,
        )
    if "not found" in low or "manifest unknown" in low or "does not exist" in low:
        return Refusal(
            wire.NO_IMAGE,
            f"there is no image {ref} in the registry",
            "Build and push it, or correct its name.",
        )
    if "http response to https client" in low:
        return Refusal(
            wire.NO_IMAGE,
            f"{ref} can't be pulled: the registry {registry} speaks plain HTTP, and this host's engine takes"
            " that from no registry it isn't told of",
            "Say `insecure: true` for it under `longshore.registries`, and run `invoke bootstrap`.",
            detail,
        )
    if "x509" in low or "failed to verify certificate" in low:
        return Refusal(
            wire.NO_IMAGE,
            f"{ref} can't be pulled: the certificate of the registry {registry} is not trusted on this host",
            "Name its `ca` under `longshore.registries`, and run `invoke bootstrap`.",
            detail,
        )
    last = message.rstrip(".").rpartition(": ")[2]
    if done:
        return Refusal(
            wire.REGISTRY_DOWN,
            f"the pull of {ref} broke off after {_mb(done)} of {_mb(total)} ({last})",
            "Nothing of what runs has changed. Run it again when the registry answers.",
            {**detail, "done": done, "total": total},
        )
    if _UNREACHED.search(low):
        return Refusal(
            wire.REGISTRY_DOWN,
            f"{ref} can't be pulled: the registry can't be reached from this host, or fails ({last})",
            "Is it up, and reached from there? Nothing of what runs has changed; run it again then.",
            detail,
        )
    return Refusal(wire.NO_IMAGE, f"{ref} can't be pulled: {message}", "", detail)


def _mb(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


def _pin(ref: str, image: Dict[str, Any]) -> str:
    """The image's digest in its repository, or its id where it never was in one."""
    repository = ref.rsplit(":", 1)[0] if ":" in ref.rsplit("/", 1)[-1] else ref
    for digest in image.get("RepoDigests") or []:
        name = digest.split("@", 1)[0]
        if name in (repository, f"docker.io/{repository}", f"docker.io/library/{repository}"):
            return str(digest)
    return str(image["Id"])


def registry_of(ref: str) -> str:
    """The registry's name in an image reference, ``docker.io`` without one."""
    first, slash, _ = ref.partition("/")
    return first if slash and ("." in first or ":" in first or first == "localhost") else "docker.io"


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
