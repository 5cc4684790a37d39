"""Which bytes a deploy brings: the digests of what its targets run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from longshore.images.resolve import Resolved, resolve
from longshore.inventory.model import Environment, Target
from longshore.render import Renderer


def pin(
    environment: Environment,
    targets: Iterable[Target],
    renderer: Renderer,
    known: Mapping[str, str] | None = None,
) -> Resolved:
    """The digests of what the targets run. ``known``: those that were just built, by reference as written.

    Raises ``LongshoreError`` for an image that its registry doesn't have.
    """
    every = list(targets)
    ready = dict(known or {})
    written = sorted({ref for target in every for ref in renderer.images(target)} - set(ready))
    asked: dict[str, str] = {}
    if _wants_git(every):
        from longshore.images.spec import deployed, read_git

        git = read_git(environment.root)
        for target in every:
            for service in renderer.built(target)[0]:
                if service.image:
                    asked[service.image] = deployed(service.image, service.policy.build, git)
    resolved = resolve([asked.get(ref, ref) for ref in written], environment.registries)
    digests = {ref: resolved.digests[asked.get(ref, ref)] for ref in written if _in(resolved, asked, ref)}
    unpinned = {
        ref: resolved.unpinned[asked.get(ref, ref)]
        for ref in written
        if asked.get(ref, ref) in resolved.unpinned
    }
    return Resolved({**digests, **ready}, unpinned)


def _in(resolved: Resolved, asked: Mapping[str, str], ref: str) -> bool:
    return asked.get(ref, ref) in resolved.digests


def _wants_git(targets: Iterable[Target]) -> bool:
    """Whether any service says ``tag: git``: without need, nothing is asked of git."""
    return any(
        policy.build is not None and policy.build.tag == "git"
        for target in targets
        for policy in (target.app.defaults, *target.app.services.values())
    )
