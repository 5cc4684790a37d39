"""What is to be said of hosts that build, or get images without a registry."""

from __future__ import annotations

from collections.abc import Iterator

from longshore.doctor.finding import Finding, Seen, Wanted

_STORE_HINT = (
    "`invoke bootstrap` turns it on where the engine has no images yet; else set `features:"
    " {containerd-snapshotter: true}` in its daemon.json (it then doesn't see the images that it has)."
)


def store(wanted: Wanted, seen: Seen) -> Iterator[Finding]:
    """The containerd image store, or a BuildKit instead, where one of them is needed."""
    engine, builder = seen.of("engine"), seen.of("builder")
    if wanted.buildx and wanted.builds and builder:
        if builder["named"]:
            yield Finding("good", "buildx", f"buildx has the builder {wanted.buildx}")
        else:
            hint = f"`docker buildx create --name {wanted.buildx} …` on the host, as the user we come as."
            yield Finding("error", "buildx", f"buildx has no builder {wanted.buildx}", hint)
    if not engine or not (wanted.moved or wanted.builds):
        return
    if engine["store"]:
        yield Finding("good", "image-store", "it has the containerd image store")
    elif wanted.moved:
        text = "it has no containerd image store, which images without a registry need"
        yield Finding("error", "image-store", text, _STORE_HINT)
    elif wanted.buildx:
        return
    elif builder.get("buildkit"):
        text = "it has the older image store; a BuildKit container builds instead"
        yield Finding("good", "image-store", text)
    else:
        what = "a build cache in the registry takes"
        if wanted.several:
            what = "builds for several platforms take"
        elif wanted.stacked:
            what = "an image that is built from another service's takes"
        text = f"it has the older image store, and {what} a BuildKit container, which the first build fetches"
        yield Finding("warning", "image-store", text, _STORE_HINT)


def emulation(wanted: Wanted, seen: Seen) -> Iterator[Finding]:
    """Whether what it builds for others' architectures can run there."""
    facts = seen.of("builder")
    if not facts or not seen.of("engine"):
        return
    have = {_plain(one) for one in facts["platforms"]} | {f"linux/{seen.of('engine')['architecture']}"}
    lacking = [one for one in wanted.platforms if _plain(one) not in have]
    if lacking:
        text = f"{', '.join(wanted.builds)} can't be built for {', '.join(lacking)} there"
        hint = "`invoke bootstrap` installs QEMU for it; or add a host of that architecture to the builders."
        yield Finding("error", "emulation", text, hint)
    elif wanted.platforms:
        yield Finding("good", "emulation", f"it runs {', '.join(wanted.platforms)} under QEMU")


def _plain(platform: str) -> str:
    """arm64's variant v8 is what every arm64 is."""
    return platform.removesuffix("/v8")
