"""From an environment to its images: what ``build``, ``push`` and ``deploy --build`` share."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from longshore.errors import LongshoreError, Problems
from longshore.images.build import Building, Built
from longshore.images.builders import (
    HERE,
    Builder,
    Part,
    engine_here,
    link_here,
    look,
    names_of,
    share_out,
)
from longshore.images.buildkit import equipped
from longshore.images.jobs import Way
from longshore.images.reference import parse
from longshore.images.spec import BuildSpec, Git, read_git, specs
from longshore.remote.fleet import each
from longshore.render import Renderer
from longshore.tasks.fleet import Fleet


def build_images(
    fleet: Fleet,
    way: Way,
    *,
    apps: Iterable[str] | None = None,
    service: str = "",
    dirty: bool = False,
    no_cache: bool = False,
    pull: bool = False,
) -> list[Built]:
    """Build the images of the chosen apps. ``dirty``: also of changes that are not committed.

    Raises ``LongshoreError`` when there is nothing to build, nowhere to build it, or something failed.
    """
    git = read_git(fleet.environment.root)
    wanted = specs_of(fleet, git, apps=apps, service=service)
    if not wanted:
        return []
    if way != "check":
        check_dirty(fleet, git, allowed=dirty)
    if way == "push" and fleet.environment.registry == "none":
        way = "keep"
    if way == "push":
        _check_registries(wanted)
    with contextlib.ExitStack() as stack:
        here: list[bool] = []

        def is_here() -> bool:
            if not here:
                here.append(engine_here())
            return here[0]

        allowed = {spec.image: names_of(fleet.environment, spec, here=is_here) for spec in wanted}
        builders = _builders(fleet, {name for names in allowed.values() for name in names}, stack)
        parts = share_out(wanted, allowed, builders, whole=way == "keep")
        builders = _equipped(fleet, builders, parts, way)
        building = Building(
            fleet.environment, builders, parts, fleet.output, git=git, no_cache=no_cache, pull=pull
        )
        return building.run(way)


def built_first(fleet: Fleet, *, dirty: bool = False) -> Fleet:
    """Build and push what the chosen apps need, and return the fleet that deploys just that."""
    built = build_images(fleet, "push", dirty=dirty)
    tell(fleet, built)
    return replace(fleet, built=digests_of(built))


def specs_of(
    fleet: Fleet, git: Git, *, apps: Iterable[str] | None = None, service: str = ""
) -> tuple[BuildSpec, ...]:
    """What is to be built for the chosen hosts. Raises ``LongshoreError`` for a service that isn't built."""
    renderer = Renderer()
    names = tuple(apps) if apps is not None else tuple(fleet.chosen)
    targets = [fleet.target(app, host) for app in names for host in fleet.chosen[app]]
    found = specs(targets, renderer, fleet.environment.build, git)
    if not service:
        return found
    chosen = tuple(spec for spec in found if service in spec.services)
    if not chosen:
        have = ", ".join(name for spec in found for name in spec.services) or "none"
        raise LongshoreError(
            f"there is no service {service!r} with a build on the chosen hosts", hint=f"Built are: {have}."
        )
    return chosen


def check_dirty(fleet: Fleet, git: Git, *, allowed: bool) -> None:
    """Raise ``LongshoreError`` for changes that are not committed, where those may not be built."""
    environment = fleet.environment
    may = environment.build.dirty
    if not git.dirty or allowed or (may if may is not None else not environment.production):
        return
    raise LongshoreError(
        f"there are changes that are not committed ({git.commit}), and {environment.name} takes none",
        hint="Commit them, or say --dirty (or longshore: build: dirty: true).",
    )


def _check_registries(wanted: Sequence[BuildSpec]) -> None:
    """Nobody pushes to Docker Hub's library: such a name was meant to be local."""
    problems = [
        LongshoreError(
            f"{spec.image} of {spec.name} names no registry to push to",
            hint="Write REGISTRY/NAME:TAG, or say longshore: registry: none to move images over SSH.",
        )
        for spec in wanted
        if parse(spec.image).registry == "docker.io" and "/" not in parse(spec.image).name
    ]
    if problems:
        raise problems[0] if len(problems) == 1 else Problems(problems)


def _builders(fleet: Fleet, names: Iterable[str], stack: contextlib.ExitStack) -> dict[str, Builder]:
    def one(name: str) -> Builder:
        if name == HERE:
            return look(name, stack.enter_context(link_here()), buildx)
        return look(name, fleet.links.link(name), buildx)

    buildx = fleet.environment.build.buildx or ""
    return _at_once(fleet, [name for name in (HERE, *fleet.environment.hosts) if name in set(names)], one)


def _equipped(
    fleet: Fleet, builders: Mapping[str, Builder], parts: Sequence[Part], way: Way
) -> dict[str, Builder]:
    """The builders that have something to build, each able to."""

    def one(name: str) -> Builder:
        mine = [part for part in parts if part.builder == name]
        return equipped(builders[name], mine, way, fleet.environment, fleet.output)

    return _at_once(fleet, list(dict.fromkeys(part.builder for part in parts)), one)


def _at_once(fleet: Fleet, names: Sequence[str], do: Callable[[str], Builder]) -> dict[str, Builder]:
    outcomes = each(names, do, parallel=fleet.environment.parallel)
    errors = [outcome.error for outcome in outcomes.values() if outcome.error is not None]
    if errors:
        raise errors[0] if len(errors) == 1 else Problems(errors)
    return {name: outcome.get() for name, outcome in outcomes.items()}


def tell(fleet: Fleet, built: Sequence[Built]) -> None:
    """Show what was built."""
    from longshore.console import seconds_text

    rows = []
    several = len({one.spec.app for one in built}) > 1
    for one in built:
        instructions = sum(record.instructions for record in one.records.values())
        cached = sum(record.cached for record in one.records.values())
        rows.append(
            (
                f"{one.spec.app}: {one.spec.name}" if several else one.spec.name,
                one.spec.tags[0],
                one.digest[:19] or "-",
                ", ".join(one.platforms),
                f"{cached} of {instructions}",
                seconds_text(one.seconds),
            )
        )
    fleet.output.close()
    fleet.output.table(("service", "image", "digest", "platforms", "cached", "took"), rows)
    fleet.output.result({"images": [one.as_json() for one in built]})


def digests_of(built: Iterable[Built]) -> dict[str, str]:
    """Reference as written to the reference by digest, as rendering takes them."""
    return {one.spec.image: one.pinned for one in built if one.digest}


def with_settings(fleet: Fleet, **changes: Any) -> Fleet:
    """The fleet with other settings for this run's builds."""
    environment = fleet.environment
    build = replace(environment.build, **changes)
    return replace(fleet, environment=replace(environment, build=build))
