"""Which engines need a BuildKit of ours beside them for what is asked, and having it there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from longshore.agent import wire
from longshore.console import Output
from longshore.errors import AgentError, HostError, LongshoreError
from longshore.images.builders import Builder, Part
from longshore.images.login import auths, logins
from longshore.images.reference import parse
from longshore.inventory.model import Environment, Registry

_STORE_HINT = (
    "`invoke bootstrap` turns the containerd image store on where the engine has no images yet; else set"
    " `features: {containerd-snapshotter: true}` in its daemon.json."
)


def equipped(
    builder: Builder, parts: Sequence[Part], way: str, environment: Environment, output: Output
) -> Builder:
    """The builder, with a BuildKit of ours where its engine can't build these parts of images in this way.

    The older image store holds one platform of an image, neither exports nor reads an OCI layout, and writes
    no cache to a registry.
    Only the last can be done without: where no BuildKit can be had, it is said, and built without. Raises
    ``HostError``.
    """
    if builder.complete:
        return builder
    several = next((part.spec.name for part in parts if len(part.platforms) > 1), "")
    stacked = next((part.spec.name for part in parts if part.spec.images), "")
    needed = bool(several or stacked) or way == "keep"
    cached = environment.build.cache and way == "push"
    if not needed and not cached:
        return builder
    try:
        return _with_buildkit(builder, parts, environment)
    except AgentError as error:
        if error.code != wire.NO_BUILDKIT:
            raise
        if not needed:
            output.say(f"note: {builder.name}: no build cache is kept in the registry: {error.message}")
            return builder
        what = "images are kept without a registry"
        if several:
            what = f"{several} is built for several platforms"
        elif stacked:
            what = f"{stacked} is built from another service's image"
        raise HostError(
            f"its engine keeps images in the older image store, and {what}, which takes the containerd image"
            f" store or BuildKit; {error.message}",
            where=builder.name,
            hint=f"{_STORE_HINT} {error.hint}",
        ) from error


def _with_buildkit(builder: Builder, parts: Sequence[Part], environment: Environment) -> Builder:
    image = environment.build.buildkit
    registries = environment.registries
    asked = {
        "image": image,
        "registries": [_registry(one) for one in registries.values()],
        "allow": sorted(
            {one for part in parts for spec in part.spec.whole for one in spec.options.get("allow", ())}
        ),
        "auths": auths(logins([parse(image).registry], registries)),
    }
    made = builder.link.session().call(wire.BUILDER, {"make": asked}, timeout=900)
    return replace(builder, buildx=str(made["name"]), platforms=tuple(made["platforms"]) or builder.platforms)


def _registry(one: Registry) -> Mapping[str, object]:
    """What BuildKit must know of a registry: it doesn't see the engine's settings."""
    try:
        certificate = one.ca.read_text() if one.ca is not None else ""
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is no text"
        raise LongshoreError(f"can't be read: {why}", where=str(one.ca)) from None
    return {"name": one.name, "insecure": one.insecure, "mirror": one.mirror or "", "ca": certificate}
