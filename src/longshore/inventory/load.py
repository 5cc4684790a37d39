"""The story of loading: files, tree, levels, settings, apps, targets. All problems are told at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from longshore.errors import InventoryError, LongshoreError, Problems, Where
from longshore.inventory import patterns
from longshore.inventory.apps import build_registry
from longshore.inventory.balancer import balancer_settings
from longshore.inventory.building import build_settings
from longshore.inventory.connection import foreign_connection, ssh_settings
from longshore.inventory.engine import engine_policy
from longshore.inventory.envfiles import read_env_files
from longshore.inventory.envnames import misplaced
from longshore.inventory.fronting import stand_before
from longshore.inventory.kinds import Reading
from longshore.inventory.levels import Levels, read_levels
from longshore.inventory.model import Environment, Group, Host
from longshore.inventory.nearest import did_you_mean
from longshore.inventory.nodes import MappingNode, Node, Scalar, is_null
from longshore.inventory.overrides import read_overrides
from longshore.inventory.routing import check_balanced, settle_routes
from longshore.inventory.sections import Section
from longshore.inventory.settings import ROOT
from longshore.inventory.sources import read_sources
from longshore.inventory.targets import TargetBuilder
from longshore.inventory.variables import SETTINGS, Context, HostVariables, Said
from longshore.roles.builtin import BALANCER
from longshore.secrets.keyring import Keyring


class Collector:
    """Takes problems as they are found; each is told once."""

    def __init__(self) -> None:
        self._found: dict[str, InventoryError] = {}

    def __call__(self, problem: InventoryError) -> None:
        self._found.setdefault(str(problem), problem)

    def __bool__(self) -> bool:
        return bool(self._found)

    def stop(self) -> None:
        """Raise what was found: the problem itself, or all of them in the order of the files."""
        if not self._found:
            return
        problems = sorted(self._found.values(), key=_place)
        raise problems[0] if len(problems) == 1 else Problems(problems)


def _place(problem: InventoryError) -> tuple[str, int, int]:
    where = problem.where
    return (where.file, where.line, where.column) if isinstance(where, Where) else (str(where or ""), 0, 0)


def load(
    root: Path, environment: str, *, overrides: Sequence[str] = (), keyring: Keyring | None = None
) -> Environment:
    """Read and check everything about ``environment`` in the project at ``root``.

    ``overrides`` are ``--set``'s ``name=value`` texts, the strongest level. Raises ``InventoryError`` for one
    problem and ``Problems`` for several; no file is written and no host is asked.

    ``keyring`` opens env files that are encrypted with age; without one they are left closed, and named in
    ``Environment.locked``. No store of secrets is asked: see :func:`~longshore.inventory.resolve_secrets`.
    """
    root = root.resolve()
    report = Collector()
    command = read_overrides(overrides, report)
    sources = read_sources(root, environment, report)
    levels = read_levels(sources, command, root, environment, report)
    whole = not report
    for said, everywhere in levels.all_settings():
        _check_settings(said, everywhere=everywhere, report=report)
    if not whole:
        report.stop()  # what a file that can't be read would have said is missed everywhere

    top = levels.environment_context()
    settings = _environment_settings(top, report)
    groups = {
        name: Group(name, levels.members.get(name, ()), tuple(draft.children))
        for name, draft in sources.tree.groups.items()
    }
    apps = _apps(levels, settings, groups, report)
    for name in levels.contexts:
        levels.settle(name)
    balancing = _balancers(levels, groups, report)
    used = {name for chosen in apps.values() for name in chosen}.union(balancing)
    foreign = {
        name: other
        for name, context in levels.contexts.items()
        if name not in used and (other := foreign_connection(context))
    }
    groups = {
        name: replace(group, hosts=tuple(host for host in group.hosts if host not in foreign))
        for name, group in groups.items()
    }
    hosts = {
        name: _host(name, context, levels, root, report)
        for name, context in levels.contexts.items()
        if name not in foreign
    }
    env = read_env_files(root, environment, apps, report, keyring)
    misplaced_files, unread = misplaced(root, environment, apps)
    for problem in misplaced_files:
        report(problem)
    _check_app_names(levels, report)
    report.stop()
    builder = TargetBuilder(
        environment=environment,
        root=root,
        levels=levels,
        groups=groups,
        env_files=env,
        report=report,
    )
    balancer, targets = stand_before(
        builder.build(apps, hosts),
        balancer_settings(settings.get("balancer")),
        on=balancing,
        hosts=hosts,
        proxy_of=builder.proxy_of,
        report=report,
    )
    targets = settle_routes(targets, report)
    check_balanced(targets, report)
    report.stop()
    return Environment(
        name=environment,
        root=root,
        hosts=hosts,
        groups=groups,
        apps=apps,
        targets=targets,
        registries={
            name: build_registry(name, found, root) for name, found in settings.get("registries", {}).items()
        },
        build=build_settings(settings.get("build")),
        engine=engine_policy(settings.get("engine")),
        balancer=balancer,
        registry=settings.get("registry", "named"),
        production=settings.get("production", environment in ("prod", "production"))
        or (settings.get("production") is None and environment.startswith("prod-")),
        pulls=settings.get("pulls", 10),
        parallel=settings.get("parallel", 20),
        connect_timeout=settings.get("connect_timeout", 10.0),
        state_dir=settings.get("state_dir", "/var/lib/longshore"),
        files=(*sources.files, *(str(path.relative_to(root)) for path in env.files)),
        warnings=(
            *sources.warnings,
            *env.warnings,
            *unread,
            *levels.warnings,
            *_left_out(foreign),
        ),
        locked=env.locked,
    )


def _left_out(foreign: Mapping[str, str]) -> Iterator[str]:
    """Devices or Windows hosts, in an inventory that others use, too: one sentence a connection."""
    for connection in dict.fromkeys(foreign.values()):
        names = [name for name, said in foreign.items() if said == connection]
        shown = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
        yield f"Left out, since nothing can be deployed over ansible_connection: {connection}: {shown}."


def _check_settings(said: Said, *, everywhere: bool, report: Collector) -> None:
    """The first pass: everything that can be seen without resolving a template."""
    reading = Reading(report, environment_wide=everywhere)
    ROOT.check(said.node, SETTINGS, reading)
    for name, node in _must_be_written(said.node):
        if isinstance(node, Scalar) and node.is_template:
            reading.problem(
                f"{name} can't be a template: which apps there are must be known before any variable is.",
                node.where,
                "Write its keys out here; their values may be templates.",
            )


def _must_be_written(settings: Node) -> Iterator[tuple[str, Node]]:
    """The parts of our settings whose keys the levels are merged by."""
    yield SETTINGS, settings
    apps = settings.get("apps") if isinstance(settings, MappingNode) else None
    if apps is None:
        return
    yield f"{SETTINGS}.apps", apps
    if isinstance(apps, MappingNode):
        for key, node in apps:
            yield f"{SETTINGS}.apps.{key.name}", node


def _environment_settings(top: Context, report: Collector) -> Mapping[str, Any]:
    """The settings that are the same for all hosts, apps aside."""
    node = top.settings
    if not isinstance(node, MappingNode):
        return {}
    reading = Reading(report, resolve=top.resolve)
    section = Section(settings=tuple(setting for setting in ROOT.settings if setting.name != "apps"))
    rest = {name: pair for name, pair in node.items.items() if name != "apps"}
    found = section.check(MappingNode(rest, node.where), SETTINGS, reading)
    return found if isinstance(found, Mapping) else {}


def _apps(
    levels: Levels, settings: Mapping[str, Any], groups: Mapping[str, Group], report: Collector
) -> dict[str, tuple[str, ...]]:
    """App name to its hosts. The pattern is the same for all hosts, so it is read once."""
    top = levels.environment_context()
    found: dict[str, tuple[str, ...]] = {}
    for name, node in levels.declared_apps().items():
        said = node.get("hosts")
        where = said.where if said is not None and not is_null(said) else node.where
        pattern: Any = "all"
        try:
            if said is not None and not is_null(said):
                pattern = top.resolve(said)
            hosts = patterns.match(str(pattern), hosts=levels.contexts, groups=groups, where=where)
        except LongshoreError as error:
            report(InventoryError(error.message, where=error.where, hint=error.hint))
            continue
        if not hosts:
            hint = (
                "Name a host or group that this environment has."
                if levels.contexts
                else ("The inventory has no hosts yet.")
            )
            report(
                InventoryError(f"The app {name} has no host: {pattern} matches none.", where=where, hint=hint)
            )
        found[name] = hosts
    return found


def _balancers(levels: Levels, groups: Mapping[str, Group], report: Collector) -> tuple[str, ...]:
    """The hosts of the balancer: those that its pattern stands for, and those with the role."""
    top = levels.environment_context()
    section = top.settings.get("balancer") if isinstance(top.settings, MappingNode) else None
    said = section.get("hosts") if isinstance(section, MappingNode) else None
    found: set[str] = {
        name for name, context in levels.contexts.items() if BALANCER in levels.roles_of(context)
    }
    if said is not None and not is_null(said):
        try:
            pattern = str(top.resolve(said))
            matched = patterns.match(pattern, hosts=levels.contexts, groups=groups, where=said.where)
            if not matched:
                message = f"The balancer has no host: {pattern} matches none."
                report(InventoryError(message, where=said.where, hint="Name a host or group of its own."))
            found.update(matched)
        except LongshoreError as error:
            report(InventoryError(error.message, where=error.where, hint=error.hint))
    elif isinstance(section, MappingNode) and not found:
        hint = "Write hosts: lb, or give a host the role balancer."
        report(InventoryError("The balancer has no host.", where=section.where, hint=hint))
    return tuple(name for name in levels.contexts if name in found)


def _host(name: str, context: Context, levels: Levels, root: Path, report: Collector) -> Host:
    chain = levels.tree.ancestors(name)
    return Host(
        name=name,
        ssh=ssh_settings(name, context, root, report),
        groups=tuple(group for group in reversed(chain) if group != "all"),
        vars=HostVariables(context),
        where=levels.tree.hosts[name].where,
    )


def _check_app_names(levels: Levels, report: Collector) -> None:
    """An app that only a group or a host speaks of is a typo: apps are declared for all."""
    apps = levels.declared_apps()
    for said, everywhere in levels.all_settings():
        section = said.node.get("apps") if isinstance(said.node, MappingNode) else None
        if everywhere or not isinstance(section, MappingNode):
            continue
        for key, _ in section:
            if key.name not in apps:
                hint = did_you_mean(key.name, apps) or "Declare it at all.vars or in group_vars/all.yml."
                report(
                    InventoryError(
                        f"The app {key.name!r} is not declared for this environment.",
                        where=key.where,
                        hint=hint,
                    )
                )
