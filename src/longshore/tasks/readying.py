"""Whether hosts can take what a deploy brings: preflight, and without a registry moving images to them.

Apart from :mod:`longshore.tasks.pinning`, as a run that finds nothing to do needs nothing of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from typing import Any

from longshore.agent import wire
from longshore.errors import Problems
from longshore.images.build import Built
from longshore.images.builders import HERE, engine_here, link_here, names_of
from longshore.images.check import Checked, Present, Want, check
from longshore.images.login import logins
from longshore.images.moving import Moved, Moving, Stored, stored
from longshore.images.pulling import Pulls
from longshore.images.reference import parse
from longshore.images.registry import Clients
from longshore.images.spec import BuildSpec, read_git
from longshore.records import dataclass
from longshore.render import Renderer
from longshore.render.bundle import Bundle
from longshore.tasks.building import specs_of
from longshore.tasks.fleet import Fleet


def built_here(fleet: Fleet, app: str) -> dict[str, str]:
    """Without a registry: what the builders have of an app's images, by reference as written."""
    if fleet.environment.registry != "none":
        return {}
    return {
        spec.image: parse(spec.image).pinned(image.digest)
        for spec, image, _ in _stored(fleet, app)
        if spec.image not in fleet.built
    } | dict(fleet.built)


def _stored(fleet: Fleet, app: str, only: Iterable[str] | None = None) -> list[tuple[BuildSpec, Stored, str]]:
    """Every built image of an app, as its builder has it, and the builder's name."""
    specs = specs_of(fleet, read_git(fleet.environment.root), apps=[app])
    if only is not None:
        wanted = frozenset(only)
        specs = tuple(spec for spec in specs if spec.image in wanted)
    found = []
    for spec in specs:
        name = names_of(fleet.environment, spec, here=engine_here)[0]
        if name == HERE:
            with link_here() as link:
                found.append((spec, stored(link, [spec.tags[0]])[spec.tags[0]], name))
        else:
            link = fleet.links.link(name)
            found.append((spec, stored(link, [spec.tags[0]])[spec.tags[0]], name))
    return found


@dataclass
class Ready:
    """The hosts can take the release: in which turns they pull, and the logins they need for it."""

    pulls: Pulls = field(default_factory=Pulls)
    auth: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


def make_ready(
    fleet: Fleet, app: str, bundles: Mapping[str, Bundle], seen: Mapping[str, Mapping[str, Any]]
) -> Ready:
    """Look whether every host can have its images, before anything of it is touched. ``seen``: what the hosts
    have said of themselves (``wire.InspectValue``).

    Without a registry, what was built is brought to the hosts now; nothing runs it yet. Raises
    ``LongshoreError`` or ``Problems``: wrong architecture, not in the registry, no room.
    """
    environment = fleet.environment
    wants = {host: _wants(bundle) for host, bundle in bundles.items()}
    if environment.registry == "none":
        move(fleet, app, ask_present(fleet, wants, layers=True))
        seen = {}
    said = {host: Present.of(seen[host]["present"]) for host in wants if seen.get(host, {}).get("present")}
    present = said | ask_present(fleet, {host: some for host, some in wants.items() if host not in said})
    clients = Clients(environment.registries)
    checked = check(wants, present, clients)
    if any(getattr(problem, "code", "") == wire.NO_SPACE for problem in checked.problems):
        # What a host has of the layers need not be pulled: that is asked where it matters, for it is slow.
        checked = check(wants, ask_present(fleet, wants, layers=True), clients)
    _raise(checked)
    for note in checked.notes:
        fleet.output.say(f"note: {note}")
    registries = {parse(want.ref).registry for some in wants.values() for want in some}
    mirrored = any(name in registries and one.mirror for name, one in environment.registries.items())
    needing = [host for host, some in wants.items() if not all(present[host].refs[one.ref] for one in some)]
    return Ready(
        pulls=Pulls(needing, at_once=environment.pulls, one_first=mirrored),
        auth={
            name: login.engine(name)
            for name, login in logins(registries if needing else [], environment.registries).items()
        },
    )


def _raise(checked: Checked) -> None:
    if len(checked.problems) == 1:
        raise checked.problems[0]
    if checked.problems:
        raise Problems(checked.problems)


def _wants(bundle: Bundle) -> list[Want]:
    return [
        Want(name, facts.image, facts.platform)
        for name, facts in sorted(bundle.services.items())
        if facts.image
    ]


def ask_present(
    fleet: Fleet, wants: Mapping[str, Sequence[Want]], *, layers: bool = False
) -> dict[str, Present]:
    """What the hosts have of these images; with ``layers``, of what is in them, too. Raises their errors."""

    def one(host: str) -> Present:
        refs = list(dict.fromkeys(want.ref for want in wants[host]))
        return Present.of(
            fleet.session(host).call(wire.PRESENT, {"refs": refs, "layers": layers}, timeout=120)
        )

    values, errors = fleet.each(wants, one)
    if errors:
        raise Problems(errors.values())
    return values


def move(
    fleet: Fleet, app: str, present: Mapping[str, Present], *, only: Iterable[str] | None = None
) -> list[Moved]:
    """Bring an app's built images (or ``only`` these) from their builders to the hosts that lack them."""
    moved: list[Moved] = []
    renderer = Renderer()
    for spec, image, name in _stored(fleet, app, only):
        ref = parse(spec.image).pinned(image.digest)
        hosts = {
            host: one
            for host, one in present.items()
            if spec.image in renderer.images(fleet.target(app, host)) and not one.refs.get(ref, False)
        }
        if not hosts:
            continue
        if name == HERE:
            with link_here() as link:
                moving = Moving(image, link, fleet.output, at_once=fleet.environment.pulls)
                moved += moving.run(hosts, fleet.links.link)
        else:
            moving = Moving(image, fleet.links.link(name), fleet.output, at_once=fleet.environment.pulls)
            moved += moving.run(hosts, fleet.links.link)
    return moved


def bring_built(fleet: Fleet, built: Sequence[Built]) -> None:
    """Without a registry: bring what was just built to the hosts that run it."""
    for app in dict.fromkeys(one.spec.app for one in built):
        wants = {
            host: [Want(one.spec.name, one.pinned) for one in built if one.spec.app == app]
            for host in fleet.chosen[app]
        }
        move(fleet, app, ask_present(fleet, wants, layers=True), only={one.spec.image for one in built})
