"""What each host of an environment is for, out of the inventory and the compose files: :class:`Wanted`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from longshore.bootstrap.settings import HUB, daemon_defaults
from longshore.doctor.finding import Finding, Wanted
from longshore.errors import LongshoreError
from longshore.images.builders import names_of
from longshore.images.login import logins
from longshore.images.reference import parse
from longshore.images.spec import BuildSpec, read_git, specs
from longshore.inventory.model import Environment, Target
from longshore.inventory.proxying import ProxySettings
from longshore.render import Renderer


class Wishes:
    """What the chosen hosts are for. ``findings`` are what of the project couldn't be read."""

    def __init__(
        self, environment: Environment, chosen: Mapping[str, Sequence[str]], *, here: Callable[[], bool]
    ) -> None:
        self.environment = environment
        self.findings: list[Finding] = []
        self.images: dict[str, tuple[str, ...]] = {}
        """Host to the images that it runs, as written."""
        self.builders: dict[str, tuple[BuildSpec, ...]] = {}
        """Builder to what it may build; :data:`~longshore.images.builders.HERE` is one, too."""
        targets = {
            host: [environment.targets[app, host] for app, hosts in chosen.items() if host in hosts]
            for host in environment.hosts
        }
        self._targets = targets
        renderer = Renderer()
        for host, some in targets.items():
            found = [self._read(partial(renderer.images, one)) for one in some]
            images = {image for some in found for image in some or ()}
            self.images[host] = tuple(sorted({*images, *(one.image for one in self._balancing(host))}))
        every = [one for some in targets.values() for one in some]
        git = read_git(environment.root)
        self.specs: tuple[BuildSpec, ...] = (
            self._read(partial(specs, every, renderer, environment.build, git)) or ()
        )
        for spec in self.specs:
            for name in self._read(partial(names_of, environment, spec, here=here)) or ():
                self.builders[name] = (*self.builders.get(name, ()), spec)

    def _read(self, read: Callable[[], Any]) -> Any:
        """What was read; ``None`` and a finding when it can't be."""
        try:
            return read()
        except LongshoreError as error:
            where = f"{error.where}: " if error.where else ""
            finding = Finding("error", "project", f"{where}{error.message}", error.hint)
            if finding not in self.findings:
                self.findings.append(finding)
            return None

    @property
    def hosts(self) -> tuple[str, ...]:
        """Every host that an app is chosen for, that builds for one, or that stands before them."""
        balancers = self.environment.balancer.hosts if self.environment.balancer else ()
        return tuple(
            host
            for host in self.environment.hosts
            if self._targets[host] or host in self.builders or host in balancers
        )

    def of(self, host: str) -> Wanted:
        """What this host is for. Raises ``LongshoreError`` when a login can't be had."""
        environment, targets = self.environment, self._targets[host]
        state_dir = next((one.state_dir for one in targets), environment.state_dir)
        mine = self.builders.get(host, ())
        proxies = [one.proxy for one in targets if _has_proxy(one)] + self._balancing(host)
        return Wanted(
            host=host,
            state_dir=state_dir,
            apps=tuple(one.app.name for one in targets),
            daemon=daemon_defaults(environment.engine, environment.registries.values()),
            ports=tuple(dict.fromkeys(port for one in proxies for port in one.ports)),
            registries=tuple(self._registries(self.images[host], mine)),
            mirrors=tuple(_mirrors(environment)) if targets or mine or proxies else (),
            builds=tuple(dict.fromkeys(spec.name for spec in mine)),
            platforms=tuple(dict.fromkeys(one for spec in mine for one in spec.platforms)),
            several=any(len(spec.platforms) > 1 for spec in mine),
            stacked=any(spec.images for spec in mine),
            moved=environment.registry == "none" and bool(self.specs) and bool(targets),
            buildx=environment.build.buildx or "",
            buildkit=environment.build.buildkit,
        )

    def _balancing(self, host: str) -> list[ProxySettings]:
        """The Traefik of a host of the balancer."""
        balancer = self.environment.balancer
        return [balancer.proxies[host]] if balancer and host in balancer.proxies else []

    def _registries(self, images: Iterable[str], mine: Iterable[BuildSpec]) -> list[Mapping[str, Any]]:
        """Each registry with the first image of it: one question is enough."""
        first: dict[str, str] = {}
        built = {spec.image for spec in self.specs}
        pushed = [spec.image for spec in mine]
        for image in [*images, *pushed]:
            if self.environment.registry == "none" and image in built:
                continue  # it is in none
            first.setdefault(parse(image).registry, image)
        known = logins(first, self.environment.registries)
        return [
            {
                "name": name,
                "image": image,
                "auth": known[name].engine(name) if name in known else None,
                "pushed": image in pushed,
            }
            for name, image in first.items()
        ]


def _has_proxy(target: Target) -> bool:
    return any(one.proxy is not None for one in (target.app.defaults, *target.app.services.values()))


def _mirrors(environment: Environment) -> list[str]:
    urls = []
    for one in environment.registries.values():
        if one.mirror and one.name in HUB:
            scheme = "" if "://" in one.mirror else "http://" if one.insecure else "https://"
            urls.append(scheme + one.mirror)
    return urls


def only_emulated(wanted: Mapping[str, Wanted], native: Mapping[str, str]) -> dict[str, Wanted]:
    """Builders, each with the platforms that no builder has for its own: those take an emulation.

    ``native``: host to its own platform, of those that could be asked.
    """
    own = {native[name] for name, one in wanted.items() if one.builds and name in native}
    plain = own | {f"{one}/v8" for one in own}
    return {
        name: replace(one, platforms=tuple(each for each in one.platforms if each not in plain))
        for name, one in wanted.items()
    }
