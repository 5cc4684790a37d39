"""The story of rendering one app on one host: what was read becomes a bundle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from longshore import dotenv
from longshore.errors import LongshoreError, RenderError, Where
from longshore.inventory.hidden import is_telling
from longshore.inventory.model import Target
from longshore.render import notes, proxy
from longshore.render.bundle import Bundle, BundleFile, Note
from longshore.render.consistency import inconsistencies
from longshore.render.emit import emit, override
from longshore.render.files import GitView, ProjectFiles, common_folder, written_path
from longshore.render.keys import Keys
from longshore.render.merge import as_items
from longshore.render.parts import LocalFile, unset_error, unset_variables
from longshore.render.placing import Placing, Snapshot, holds_secret
from longshore.render.policy import policy_of
from longshore.render.reader import Model, raised
from longshore.render.selection import ELSEWHERE, Selection, depends_on, select, waited_for
from longshore.render.services import Service, ServiceRenderer, settle_twins, used_sources

OURS = "longshore.yml"
NO_PROFILE = "longshore-none"
"""A flag for Compose where there is no profile, so that it doesn't look for ``COMPOSE_PROFILES``."""


def active_profiles(target: Target, model: Model, env: Mapping[str, str]) -> tuple[str, ...]:
    """The app's, else ``COMPOSE_PROFILES`` of ``.env``, which Compose reads when no flag is given.

    ``*`` is spelled out: on the host it would also activate what is to run elsewhere.
    """
    said = (name.strip() for name in env.get("COMPOSE_PROFILES", "").split(","))
    wanted = target.app.profiles or tuple(name for name in said if name)
    if "*" not in wanted:
        return wanted
    known = {str(name) for service in model.services.values() for name in as_items(service.get("profiles"))}
    return tuple(sorted(known)) or (NO_PROFILE,)


def selection_of(target: Target, model: Model, env: Mapping[str, str]) -> Selection:
    """The services that run on the target's host."""
    return select(
        model.services,
        profiles=active_profiles(target, model, env),
        placed=target.placed,
        host=target.host.name,
    )


def env_text(env: Mapping[str, str]) -> str:
    """The text of ``.env``."""
    return dotenv.render(dict(sorted(env.items())))


def env_file(path: str, text: str) -> BundleFile:
    """``.env`` as a file of the bundle."""
    return BundleFile(path, text.encode(), secret=True)


def secret_names(target: Target) -> tuple[str, ...]:
    """The variables of ``.env`` whose values are masked wherever they would be shown."""
    return tuple(
        name
        for name, item in sorted(target.env.items())
        if item.secret and (item.sealed or is_telling(name, item.value))
    )


class Rendering:
    """One target being rendered. ``run`` is the story; what it collects is in the attributes."""

    def __init__(
        self,
        target: Target,
        files: ProjectFiles,
        model: Model,
        env: dict[str, str],
        digests: Mapping[str, str],
        git: GitView,
        snapshot: Snapshot,
    ) -> None:
        self.target = target
        self.files = files
        self.model = model
        self.env = env
        self.env_text = env_text(env)
        self.digests = digests
        self.placing = Placing(target, files, self.env_text, git, snapshot)
        self.git = git
        self.problems: list[LongshoreError] = list(model.problems)
        self.notes: list[Note] = []
        self.release: dict[Path, tuple[bytes, bool]] = {}

    def run(self) -> Bundle:
        target, model = self.target, self.model
        selection = selection_of(target, model, self.env)
        self.check(selection)
        tops, prints = self.configs_and_secrets(selection)
        services = self.services(selection, prints)
        self.release_files(selection)
        if self.problems:
            raise raised(self.problems)
        used = notes.used_names(model.services, selection.here)
        self.notes.extend(notes.project_notes(model.networks, model.volumes, used))
        ours = self.longshore_yml(services, selection, tops)
        base = common_folder([self.files.project, *(path.parent for path in self.release)])
        compose = tuple(written_path(path) for path in target.app.compose)
        relative = self.files.project.relative_to(base).as_posix()
        folder = "" if relative == "." else f"{relative}/"
        return Bundle(
            app=target.app.name,
            host=target.host.name,
            project=target.app.project,
            files=self.bundle_files(base, folder, ours, self.proxy_file(services)),
            compose_files=(*(path.relative_to(base).as_posix() for path in compose), f"{folder}{OURS}"),
            project_directory=relative,
            profiles=active_profiles(target, model, self.env),
            services={service.name: service.facts for service in services},
            state_dirs=tuple(sorted(self.placing.state_dirs)),
            notes=tuple(self.all_notes(services)),
            secrets=secret_names(target),
            settings={
                "keep": target.app.keep,
                "health_timeout": target.app.health_timeout,
                "stability": 3.0 if target.app.stability is None else target.app.stability,
                "steady": target.app.stability or 0.0,
            },
        )

    def check(self, selection: Selection) -> None:
        """What Compose would refuse, what the inventory says of services that don't exist, and variables that
        nobody set."""
        target, services = self.target, self.model.services
        for name in dict.fromkeys((*target.app.services, *target.placed)):
            if name not in services:
                self.problems.append(
                    RenderError(
                        f"The inventory has a policy for {name}, and the compose file has no such service "
                        f"(it has {', '.join(services)}).",
                        where=target.app.where,
                    )
                )
        if not selection.here:
            self.problems.append(
                RenderError(
                    f"No service of {target.app.name} runs on {target.host.name}.",
                    where=target.app.where,
                    hint="Take the host out of the app's hosts, or activate a profile.",
                )
            )
        keys = Keys()
        keys.top(self.model.tree)
        for name, service in services.items():
            keys.service(service, name)
        self.notes.extend(keys.notes)
        self.problems.extend([*keys.problems, *inconsistencies(self.model, selection, target.app)])
        places: dict[tuple[str, Where], None] = {}
        for name in selection.here:
            for found in unset_variables(services[name], skip=("build", "develop")):
                places[found] = None
        for section in (self.model.networks, self.model.volumes, self.model.configs, self.model.secrets):
            for found in unset_variables(section):
                places[found] = None
        self.problems.extend(unset_error(name, where) for name, where in places)

    def configs_and_secrets(self, selection: Selection) -> tuple[dict[str, Any], dict[str, str]]:
        tops: dict[str, Any] = {}
        prints: dict[str, str] = {}
        for kind, entries in (("configs", self.model.configs), ("secrets", self.model.secrets)):
            names = {
                source for name in selection.here for source in used_sources(self.model.services[name], kind)
            }
            wanted = {name: entry for name, entry in entries.items() if name in names}
            try:
                overrides, found = self.placing.section(kind, wanted, self.env)
            except LongshoreError as error:
                self.problems.append(error)
                continue
            if overrides:
                tops[kind] = overrides
            prints |= {f"{kind}/{name}": value for name, value in found.items()}
        return tops, prints

    def services(self, selection: Selection, prints: Mapping[str, str]) -> list[Service]:
        renderer = ServiceRenderer(
            self.target,
            digests=self.digests,
            placing=self.placing,
            prints=prints,
            waited_for=waited_for(self.model.services, selection),
            problems=self.problems,
        )
        result = []
        for name in sorted(selection.here):
            try:
                depends, change = depends_on(name, self.model.services, selection, self.problems)
                result.append(renderer.render(name, self.model.services[name], depends, change))
            except LongshoreError as error:
                self.problems.append(error)
        self.check_ports(result)
        return settle_twins(result)

    def check_ports(self, services: list[Service]) -> None:
        """Two services with one port of the host: the engine would refuse the second, halfway through."""
        taken: dict[str, list[tuple[str, str]]] = {}
        told: set[tuple[str, str]] = set()
        for service in services:
            written = self.model.services[service.name]
            if not service.facts.replicas or written.get("network_mode"):
                continue
            for port in dict.fromkeys(service.facts.ports):
                ip, _, number = port.rpartition(":")
                for other_ip, other in taken.setdefault(number, []):
                    same = not ip or not other_ip or ip == other_ip  # an empty one is all addresses
                    if not same or other == service.name or (service.name, other) in told:
                        continue
                    told.add((service.name, other))  # a range is one sentence
                    self.problems.append(
                        RenderError(
                            f"{service.name} and {other} both publish port {number.removesuffix('/tcp')}.",
                            where=written.where_of("ports"),
                        )
                    )
                taken[number].append((ip, service.name))

    def proxy_file(self, services: list[Service]) -> bytes | None:
        """``proxy.json``, where the proxy serves something here."""
        served = {
            service.name: chosen.proxy
            for service in services
            if (chosen := policy_of(self.target.app, service.name)).proxy is not None
        }
        if not served:
            return None
        for service in services:
            for port in service.facts.ports:
                number = port.rpartition(":")[2].partition("/")[0]
                if port.endswith("/tcp") and number.isdigit() and int(number) in self.target.proxy.ports:
                    raise RenderError(
                        f"{service.name} publishes port {number}, which the host's proxy takes.",
                        where=self.target.app.where,
                        hint="Take ports: out of it, or choose others with longshore: proxy: http and https.",
                    )
        image = self.digests.get(self.target.proxy.image, self.target.proxy.image)
        content = proxy.proxy_file(self.target, {name: one for name, one in served.items() if one}, image)
        return json.dumps(content, indent=1, sort_keys=True).encode()

    def longshore_yml(self, services: list[Service], selection: Selection, tops: Mapping[str, Any]) -> str:
        target = self.target
        overrides: dict[str, Any] = {service.name: service.override for service in services}
        for name in selection.elsewhere:
            overrides[name] = {"profiles": override([ELSEWHERE])}
        document: dict[str, Any] = {"services": dict(sorted(overrides.items()))}
        added = {
            entry["source"]
            for service in services
            for entry in _entries(service.override.get("volumes"))
            if entry["type"] == "volume" and "source" in entry and entry["source"] not in self.model.volumes
        }
        if added:
            document["volumes"] = {name: {} for name in sorted(added)}
        document |= tops
        header = (
            f"# Written by Longshore for {target.app.name} in {target.environment}: what the inventory\n"
            "# says, laid over the compose files before it. Not to be edited: every release brings its own.\n"
        )
        return header + emit(document)

    def release_files(self, selection: Selection) -> None:
        """Compose files, env files and the inventory's extra files, by their path on the controller."""
        for path in (*self.model.files, *self.files.extra):
            self.add_release(path)
        for name in selection.here:
            for entry in as_items(self.model.services[name].get("env_file")):
                if isinstance(entry, LocalFile) and entry.path is not None:
                    self.env_file(entry, entry.path, name)

    def env_file(self, entry: LocalFile, path: Path, service: str) -> None:
        if path == self.files.project / ".env":
            return
        source = self.files.source(path)
        if source is None:
            if entry.required:
                self.problems.append(
                    RenderError(
                        f"{self.files.name(path)}, an env_file of {service}, doesn't exist.",
                        where=entry.where,
                        hint="Add it, list it under files: in the inventory, or say required: false.",
                    )
                )
            return
        if path not in self.files.extra and source == path and self.git.ignores(path):
            self.notes.append(
                Note(
                    "warning",
                    f"{self.files.name(path)} is ignored by git, and is sent as it is on this machine. What "
                    "differs between environments belongs into the environment's env file.",
                    entry.where,
                    service,
                )
            )
        self.add_release(path, secret=True)

    def add_release(self, path: Path, *, secret: bool = False) -> None:
        try:
            data = self.files.data(path)
        except LongshoreError as error:
            self.problems.append(error)
            return
        self.release[path] = (data, secret or self.release.get(path, (b"", False))[1])

    def bundle_files(
        self, base: Path, folder: str, ours: str, routes: bytes | None
    ) -> tuple[BundleFile, ...]:
        found = {
            path.relative_to(base).as_posix(): BundleFile(
                path=path.relative_to(base).as_posix(),
                data=data,
                secret=secret or holds_secret(self.target, data),
            )
            for path, (data, secret) in self.release.items()
        }
        if f"{folder}{OURS}" in found:
            raise RenderError(
                f"The name {OURS} is ours.",
                where=self.files.name(self.files.project / OURS),
                hint="Rename it.",
            )
        if routes is not None:
            if proxy.FILE in found:
                raise RenderError(f"The name {proxy.FILE} is ours.", where=proxy.FILE, hint="Rename it.")
            found[proxy.FILE] = BundleFile(proxy.FILE, routes, secret=True)
        data = ours.encode()
        found[f"{folder}{OURS}"] = BundleFile(f"{folder}{OURS}", data, secret=holds_secret(self.target, data))
        found[f"{folder}.env"] = env_file(f"{folder}.env", self.env_text)
        content = self.placing.content
        return (
            *(found[path] for path in sorted(found)),
            *(content[path] for path in sorted(content)),
        )

    def all_notes(self, services: list[Service]) -> list[Note]:
        found = [*self.notes, *self.placing.notes, *(note for service in services for note in service.notes)]
        for key in self.placing.unused_rules():
            found.append(
                Note(
                    "warning",
                    f"mounts: names {key}, which no service here mounts.",
                    self.target.app.where,
                )
            )
        return list(dict.fromkeys(found))


def _entries(volumes: Any) -> list[dict[str, Any]]:
    value = getattr(volumes, "value", volumes)
    return list(value) if isinstance(value, list) else []
