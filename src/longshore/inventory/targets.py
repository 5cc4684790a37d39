"""One app on one host: settings checked for that host, its env with sources, its services placed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field, replace
from pathlib import Path
from typing import Any

from longshore.errors import InventoryError, LongshoreError
from longshore.inventory import patterns
from longshore.inventory.apps import build_app, prepared
from longshore.inventory.envfiles import EnvFiles
from longshore.inventory.hidden import looks_secret
from longshore.inventory.kinds import Reading
from longshore.inventory.levels import Levels
from longshore.inventory.model import App, EnvValue, Group, Host, Source, Target
from longshore.inventory.nodes import MappingNode, Node, Scalar, is_null
from longshore.inventory.proxying import ProxySettings, proxy_settings
from longshore.inventory.referring import TextOrReference
from longshore.inventory.settings import ROOT
from longshore.inventory.variables import SETTINGS, Context, Said, TemplateVariables
from longshore.records import dataclass
from longshore.secrets.references import Reference

_LEVELS = {"role": 0, "all": 1, "group": 2, "host": 3, "command line": 4}
_TEXT = TextOrReference()
_Stacks = dict[str, list["EnvValue | Said"]]
"""Variable to everything that was said about it, weakest first."""


@dataclass(eq=False)
class TargetBuilder:
    """Builds targets; what has no template is checked once and shared by all hosts that hear the same."""

    environment: str
    root: Path
    levels: Levels
    groups: Mapping[str, Group]
    env_files: EnvFiles
    report: Callable[[InventoryError], None]
    _apps: dict[tuple[str, int], App | None] = field(default_factory=dict)
    _prepared: dict[int, MappingNode] = field(default_factory=dict)
    _memo: dict[tuple[int, int], tuple[Node, Any]] = field(default_factory=dict)
    _env: dict[tuple[object, ...], tuple[dict[str, EnvValue], _Stacks]] = field(default_factory=dict)
    _state_dirs: dict[int, str] = field(default_factory=dict)
    _proxies: dict[int, ProxySettings] = field(default_factory=dict)

    def build(
        self, apps: Mapping[str, tuple[str, ...]], hosts: Mapping[str, Host]
    ) -> dict[tuple[str, str], Target]:
        """(app, host) to target. What is wrong goes to the report, and its target is left out."""
        targets: dict[tuple[str, str], Target] = {}
        for name, members in apps.items():
            self._check_env_levels(name)
            placed: dict[str, tuple[str, ...]] | None = None
            for host in members:
                context = self.levels.settle(host)
                app = self._app(name, context)
                if app is None:
                    continue
                if placed is None:
                    placed = self._placed(name, app, members)
                    self._check_canary(name, app, members)
                targets[name, host] = Target(
                    environment=self.environment,
                    root=self.root,
                    app=app,
                    host=hosts[host],
                    env=self._env_of(name, context),
                    vars=TemplateVariables(context, {"app": name}),
                    placed=placed,
                    state_dir=self._state_dir(context),
                    recover_at_boot=self._recovers(context),
                    roles=self.levels.roles_of(context),
                    proxy=self._proxy(context),
                )
        return targets

    def proxy_of(self, host: str) -> ProxySettings:
        """The settings of a host's own Traefik, whatever runs there."""
        return self._proxy(self.levels.settle(host))

    def _reading(self, context: Context) -> Reading:
        return Reading(self.report, resolve=context.resolve, memo=self._memo)

    def _app(self, name: str, context: Context) -> App | None:
        section = context.settings.get("apps") if isinstance(context.settings, MappingNode) else None
        node = section.get(name) if isinstance(section, MappingNode) else None
        if not isinstance(node, MappingNode):
            node = self.levels.declared_apps()[name]
        key = (name, id(node))
        if key in self._apps:
            return self._apps[key]
        if id(node) not in self._prepared:
            self._prepared[id(node)] = prepared(node)
        reading = self._reading(context)
        app = build_app(name, self._prepared[id(node)], self.root, reading)
        if not reading.templated:
            self._apps[key] = app
        return app

    def _placed(self, name: str, app: App, members: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
        placed = {}
        for service, policy in app.services.items():
            if policy.hosts is None:
                continue
            said = self._said(name, "services", service, "hosts")
            where = said.where if said is not None else app.where
            try:
                hosts = patterns.match(policy.hosts, hosts=members, groups=self.groups, where=where)
            except LongshoreError as error:
                self.report(InventoryError(error.message, where=error.where, hint=error.hint))
                continue
            if not hosts:
                message = (
                    f"The service {service} of {name} has no host: {policy.hosts} matches none of the app's."
                )
                self.report(
                    InventoryError(message, where=where, hint=f"They are: {', '.join(members[:12])}.")
                )
            placed[service] = hosts
        return placed

    def _check_canary(self, name: str, app: App, members: tuple[str, ...]) -> None:
        if app.rollout.canary is None:
            return
        said = self._said(name, "rollout", "canary")
        where = said.where if said is not None else app.where
        try:
            found = patterns.match(app.rollout.canary, hosts=members, groups=self.groups, where=where)
        except LongshoreError as error:
            self.report(InventoryError(error.message, where=error.where, hint=error.hint))
            return
        if not found:
            message = f"{app.rollout.canary} (rollout.canary of {name}) matches none of the app's hosts."
            self.report(InventoryError(message, where=where, hint=f"They are: {', '.join(members[:12])}."))

    def _said(self, app: str, *path: str) -> Node | None:
        node: Node | None = self.levels.declared_apps()[app]
        for part in path:
            node = node.get(part) if isinstance(node, MappingNode) else None
        return node

    def _state_dir(self, context: Context) -> str:
        node = context.settings.get("state_dir") if isinstance(context.settings, MappingNode) else None
        setting = ROOT.setting("state_dir")
        if node is None or is_null(node) or setting is None:
            return "/var/lib/longshore"
        if id(node) not in self._state_dirs:
            reading = self._reading(context)
            found = setting.kind.check(node, f"{SETTINGS}.state_dir", reading)
            if reading.templated:
                return str(found)
            self._state_dirs[id(node)] = str(found)
        return self._state_dirs[id(node)]

    def _recovers(self, context: Context) -> bool:
        node = context.settings.get("recover_at_boot") if isinstance(context.settings, MappingNode) else None
        setting = ROOT.setting("recover_at_boot")
        if node is None or is_null(node) or setting is None:
            return True
        return setting.kind.check(node, f"{SETTINGS}.recover_at_boot", self._reading(context)) is not False

    def _proxy(self, context: Context) -> ProxySettings:
        node = context.settings.get("proxy") if isinstance(context.settings, MappingNode) else None
        setting = ROOT.setting("proxy")
        if node is None or is_null(node) or setting is None:
            return ProxySettings()
        if id(node) not in self._proxies:
            reading = self._reading(context)
            found = setting.kind.check(node, f"{SETTINGS}.proxy", reading)
            made = proxy_settings(found if isinstance(found, Mapping) else None, reading)
            if reading.templated:
                return made
            self._proxies[id(node)] = made
        return self._proxies[id(node)]

    def _check_env_levels(self, app: str) -> None:
        """A variable that an env file and the inventory both say for all hosts: which one is meant?"""
        from_files = self.env_files.apps.get(app, {})
        for said in self.levels.environment_context().layers.groups.get(SETTINGS, ()):
            for key, node in _env_entries(said.node, app):
                if key in from_files:
                    self.report(
                        InventoryError(
                            f"{key} of {app} is also given in {from_files[key][0].where}.",
                            where=node.where,
                            hint="Keep one of them; a group, a host or --set may override it.",
                        )
                    )

    def _env_of(self, app: str, context: Context) -> Mapping[str, EnvValue]:
        layers = context.layers
        said = layers.said(SETTINGS)
        key = (app, *(id(entry.node) for entry in said))
        if key not in self._env:
            self._env[key] = self._shared_env(app, said, context)
        shared, own = self._env[key]
        if not own:
            return shared
        reading = self._reading(context)
        env = dict(shared)
        for name, stack in own.items():
            value = self._env_value(app, name, stack, reading)
            if value is not None:
                env[name] = value
        return dict(sorted(env.items()))

    def _shared_env(
        self, app: str, said: tuple[Said, ...], context: Context
    ) -> tuple[dict[str, EnvValue], _Stacks]:
        """The variables that have no template, and what is said about those that have one."""
        stacks: _Stacks = {}
        entries = sorted(said, key=lambda entry: _LEVELS[entry.source.level])
        for entry in entries:
            if entry.source.level == "role":
                self._stack_env(stacks, entry, app)
        for name, found in self.env_files.apps.get(app, {}).items():
            for value in reversed(found):
                source = Source("all", "all", value.where)
                stacks.setdefault(name, []).append(
                    EnvValue(
                        value.value,
                        source,
                        secret=True,
                        parts=value.parts,
                        sealed=value.sealed,
                        known=not value.parts,
                    )
                )
        for entry in entries:
            if entry.source.level != "role":
                self._stack_env(stacks, entry, app)
        shared: dict[str, EnvValue] = {}
        own: _Stacks = {}
        for name, stack in sorted(stacks.items()):
            top = stack[-1]
            reading = self._reading(context)
            if isinstance(top, Said) and isinstance(top.node, Scalar) and top.node.is_template:
                own[name] = stack
                continue
            checked = self._env_value(app, name, stack, reading)
            if reading.templated:  # inside a mapping
                own[name] = stack
            elif checked is not None:
                shared[name] = checked
        return shared, own

    def _stack_env(self, stacks: _Stacks, entry: Said, app: str) -> None:
        for name, node in _env_entries(entry.node, app):
            source = Source(entry.source.level, entry.source.name, node.where)
            stacks.setdefault(name, []).append(Said(node, source))

    def _env_value(
        self, app: str, name: str, stack: list[EnvValue | Said], reading: Reading
    ) -> EnvValue | None:
        overrode = tuple(_weaker(name, entry) for entry in reversed(stack[:-1]))
        top = stack[-1]
        if isinstance(top, EnvValue):
            return replace(top, secret=True, overrode=overrode)
        text = _TEXT.check(top.node, f"longshore.apps.{app}.env.{name}", reading)
        if isinstance(text, Reference):
            written = str(text)
            return EnvValue(written, top.source, True, overrode, (text,), sealed=True, known=False)
        if not isinstance(text, str):
            return None
        written = top.node.raw if isinstance(top.node, Scalar) else ""
        secret = looks_secret(name, text) or "lookup" in written or any(s.secret for s in overrode)
        return EnvValue(text, top.source, secret=secret, overrode=overrode)


def _weaker(name: str, entry: EnvValue | Said) -> EnvValue:
    """A value that lost, as it is written."""
    if isinstance(entry, EnvValue):
        return entry
    raw = entry.node.raw if isinstance(entry.node, Scalar) else ""
    return EnvValue(raw, entry.source, secret=looks_secret(name, raw))


def _env_entries(settings: Node, app: str) -> list[tuple[str, Node]]:
    node: Node | None = settings
    for part in ("apps", app, "env"):
        node = node.get(part) if isinstance(node, MappingNode) else None
    return [(key.name, value) for key, value in node] if isinstance(node, MappingNode) else []
