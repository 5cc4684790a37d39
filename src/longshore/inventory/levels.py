"""The five levels put together: what each host hears, with the work of its groups shared between hosts."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import field
from pathlib import Path
from typing import Any

from longshore.errors import InventoryError, Where
from longshore.inventory.hidden import looks_secret
from longshore.inventory.kinds import Reading
from longshore.inventory.model import Source
from longshore.inventory.nearest import did_you_mean
from longshore.inventory.nodes import Key, MappingNode, Node, Scalar, describe, from_plain, is_null
from longshore.inventory.sections import merge
from longshore.inventory.settings import APP, ROOT
from longshore.inventory.sources import Sources
from longshore.inventory.tree import Tree
from longshore.inventory.variables import (
    SETTINGS,
    Context,
    Fallbacks,
    Layers,
    Peers,
    Said,
    Stacks,
    stacked,
)
from longshore.records import dataclass
from longshore.roles import BUILTIN, Role, find_role, known_roles

Report = Callable[[InventoryError], None]
_EMPTY: Stacks = {}


def read_levels(
    sources: Sources, command: list[tuple[str, Said]], root: Path, environment: str, report: Report
) -> Levels:
    """Make every host's context. Cheap: nothing is resolved yet."""
    levels = Levels(sources, stacked(command), root, environment, report)
    levels.make_contexts()
    return levels


@dataclass(eq=False)
class Levels:
    """The levels of one environment. ``contexts`` are the hosts' variables, in the inventory's order."""

    sources: Sources
    command: Stacks
    root: Path
    environment: str
    report: Report
    contexts: dict[str, Context] = field(default_factory=dict)
    members: dict[str, tuple[str, ...]] = field(default_factory=dict)
    _chains: dict[tuple[str, ...], Stacks] = field(default_factory=dict)
    _merged: dict[tuple[object, ...], Node | None] = field(default_factory=dict)
    _roles: dict[str, Role | None] = field(default_factory=dict)
    _role_layers: dict[tuple[object, ...], Stacks] = field(default_factory=dict)
    warnings: dict[str, None] = field(default_factory=dict)
    """Numbers that a setting's template uses and that YAML reads otherwise than they are written."""
    _top: Context | None = None

    @property
    def tree(self) -> Tree:
        return self.sources.tree

    def make_contexts(self) -> None:
        self.members = self.tree.members()
        fallbacks = {"environment": self.environment}
        inventory_dir = str(self.root / "inventory")
        shared: dict[str, Any] = {
            "groups": {name: list(hosts) for name, hosts in self.members.items()},
            "hostvars": Peers(self.contexts),
            "inventory_dir": inventory_dir,
            "playbook_dir": str(self.root),
            "ansible_playbook_python": sys.executable,
        }
        self._top = Context(
            Layers(_EMPTY, self._chain(("all",)), _EMPTY, self.command),
            shared,
            Fallbacks(fallbacks),
            notice=self._notice,
        )
        for name, draft in self.tree.hosts.items():
            chain = self.tree.ancestors(name)
            own = self.sources.hosts.get(name)
            layers = Layers(_EMPTY, self._chain(chain), stacked(own) if own else _EMPTY, self.command)
            magic = {
                **shared,
                "inventory_hostname": name,
                "inventory_hostname_short": name.split(".")[0],
                "group_names": sorted(group for group in chain if group != "all"),
            }
            self.contexts[draft.name] = Context(
                layers, magic, Fallbacks({**fallbacks, "ansible_host": name}), notice=self._notice
            )

    def _notice(self, name: str, node: Scalar) -> None:
        said = f"{name}: {node.raw} is {describe(node)} to YAML."
        if looks_secret(name):
            said = f"{name} is a number to YAML."
        self.warnings.setdefault(f"{node.where}: {said} Write it in quotes for a text.")

    def _chain(self, chain: tuple[str, ...]) -> Stacks:
        stacks = self._chains.get(chain)
        if stacks is None:
            below = self._chain(chain[:-1]) if len(chain) > 1 else _EMPTY
            stacks = stacked(self.sources.groups.get(chain[-1], ()), below)
            self._chains[chain] = stacks
        return stacks

    def all_settings(self) -> Iterator[tuple[Said, bool]]:
        """Every ``longshore:`` of files and command line, and whether it is said for all hosts."""
        for group, spoken in self.sources.groups.items():
            for name, said in spoken:
                if name == SETTINGS:
                    yield said, group == "all"
        for spoken in self.sources.hosts.values():
            for name, said in spoken:
                if name == SETTINGS:
                    yield said, False
        for said in self.command.get(SETTINGS, ()):
            yield said, True

    def environment_context(self) -> Context:
        """The variables that are the same for all hosts: those of ``all`` and of the command line."""
        top = self._top
        assert top is not None
        if top.settings is None:
            self._settle(top)
        return top

    def declared_apps(self) -> dict[str, MappingNode]:
        """The apps of the environment: those that ``all``, a role of ``all``, or the command line names."""
        apps = _section(self.environment_context().settings, "apps")
        return {
            key.name: node if isinstance(node, MappingNode) else MappingNode({}, key.where)
            for key, node in apps or ()
        }

    def settle(self, host: str) -> Context:
        """The host's context with its roles and its merged settings in place."""
        context = self.contexts[host]
        if context.settings is None:
            self._settle(context)
        return context

    def _settle(self, context: Context) -> None:
        layers = context.layers
        merged = self._merge(layers)
        context.settings = merged if merged is not None else MappingNode({}, Where(""))
        roles = self._role_names(context)
        key = (roles, id(merged))
        role = self._role_layers.get(key)
        if role is None:
            role = self._role_layers[key] = self._role_stacks(roles, context.settings)
        layers.role = role
        if SETTINGS in role:
            whole = self._merged.get(key)
            if whole is None:
                for said in role[SETTINGS]:
                    whole = merge(whole, said.node, ROOT)
                whole = self._merged[key] = merge(whole, context.settings, ROOT)
            context.settings = whole

    def _merge(self, layers: Layers) -> Node | None:
        """Our settings of all levels above the roles; shared between hosts that say nothing themselves."""
        groups, own = layers.groups.get(SETTINGS, ()), layers.own.get(SETTINGS, ())
        key: tuple[object, ...] = (id(layers.groups), id(own) if own else 0)
        if key not in self._merged:
            merged: Node | None = None
            for said in (*groups, *own, *layers.command.get(SETTINGS, ())):
                merged = merge(merged, said.node, ROOT)
            self._merged[key] = merged
        return self._merged[key]

    def roles_of(self, context: Context) -> tuple[Role, ...]:
        """The roles of a settled host, in the order in which the inventory names them."""
        found = ((name, self._roles.get(name)) for name in self._role_names(context))
        return tuple(role for _, role in found if role is not None)

    def _role_names(self, context: Context) -> tuple[str, ...]:
        section = context.settings.get("roles") if isinstance(context.settings, MappingNode) else None
        if section is None or is_null(section):
            return ()
        reading = Reading(self.report, resolve=context.resolve)
        setting = ROOT.setting("roles")
        assert setting is not None
        names = setting.kind.check(section, f"{SETTINGS}.roles", reading)
        if not isinstance(names, tuple):
            return ()
        for name in names:
            if name not in self._roles:
                self._roles[name] = self._find_role(name, section.where)
        return tuple(dict.fromkeys(names))

    def _find_role(self, name: str, where: Where) -> Role | None:
        try:
            role = find_role(name, self.root)
        except InventoryError as error:
            self.report(error)
            return None
        if role is None:
            hint = did_you_mean(name, known_roles(self.root), list_all="There are")
            self.report(InventoryError(f"There is no role named {name!r}.", where=where, hint=hint))
        return role

    def _role_stacks(self, names: tuple[str, ...], settings: Node) -> Stacks:
        spoken: list[tuple[str, Said]] = []
        for name in names:
            role = self._roles.get(name) or (BUILTIN.get(name) if name not in self._roles else None)
            if role is None:
                continue
            own = (self.root / "roles" / f"{name}.py").is_file()
            where = Where(f"roles/{name}.py" if own else f"the built-in role {name}")
            source = Source("role", name, where)
            for variable, value in role.defaults.items():
                node = from_plain(value, where)
                if variable == SETTINGS:
                    node = _for_every_app(node, settings)
                    ROOT.check(node, SETTINGS, Reading(self.report))
                spoken.append((variable, Said(node, source)))
            if role.database is not None:
                node = _for_databases(role.database, from_plain(role.service, where), settings, where)
                ROOT.check(node, SETTINGS, Reading(self.report))
                spoken.append((SETTINGS, Said(node, source)))
        return stacked(spoken)


def _section(node: Node | None, name: str) -> MappingNode | None:
    found = node.get(name) if isinstance(node, MappingNode) else None
    return found if isinstance(found, MappingNode) else None


def _for_every_app(node: Node, settings: Node) -> Node:
    """Put what a role says of the app ``*`` in the place of every app that the host's settings name."""
    apps = _section(node, "apps")
    if not isinstance(node, MappingNode) or apps is None or "*" not in apps.items:
        return node
    star = apps.items["*"]
    expanded = {name: pair for name, pair in apps.items.items() if name != "*"}
    for key, _ in _section(settings, "apps") or ():
        own = expanded.get(key.name)
        app = star[1] if own is None else merge(star[1], own[1], APP)
        expanded[key.name] = (Key(key.name, star[0].where), app)
    items = dict(node.items)
    items["apps"] = (items["apps"][0], MappingNode(expanded, apps.where))
    return MappingNode(items, node.where)


def _for_databases(kind: str, policy: Node, settings: Node, where: Where) -> Node:
    """A role's policy for the services that run a database of its kind."""
    apps: dict[str, Any] = {}
    for key, app in _section(settings, "apps") or ():
        for name, database in _section(app, "databases") or ():
            said = database.get("kind") if isinstance(database, MappingNode) else None
            if not isinstance(said, Scalar) or said.value != kind:
                continue
            service = database.get("service") if isinstance(database, MappingNode) else None
            title = str(service.value) if isinstance(service, Scalar) and service.value else name.name
            apps.setdefault(key.name, {})[title] = (Key(title, where), policy)
    items = {}
    for app_name, services in apps.items():
        node = MappingNode({"services": (Key("services", where), MappingNode(services, where))}, where)
        items[app_name] = (Key(app_name, where), node)
    return MappingNode({"apps": (Key("apps", where), MappingNode(items, where))}, where)
