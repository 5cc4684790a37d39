"""Where a value comes from: the winner, its place and level, and what it overrode."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from longshore.errors import InventoryError, Where
from longshore.inventory.choose import one_host
from longshore.inventory.hidden import looks_secret, secret_header
from longshore.inventory.kinds import Kind
from longshore.inventory.model import Environment, EnvValue, Host, Source, Variable
from longshore.inventory.nearest import did_you_mean
from longshore.inventory.nodes import MappingNode, Node, SequenceNode, is_null, plain
from longshore.inventory.sections import MapOf, Section
from longshore.inventory.settings import ROOT
from longshore.inventory.variables import SETTINGS, Context, HostVariables

DEFAULT = Where("Longshore's default")
HIDDEN = "***"


def explain(
    environment: Environment, name: str, *, host: str, app: str | None = None, reveal: bool = False
) -> Variable:
    """Return what ``host`` hears about ``name``: a variable, a dotted setting, or ``env.KEY`` of ``app``.

    ``longshore.apps.shop.keep`` is looked for below ``longshore`` level by level; a setting that nobody says
    has its default as the value (``None`` when it has none). Secrets are ``***`` unless ``reveal``. Raises
    ``InventoryError`` for an unknown host, app or name.
    """
    found = one_host(environment, host)
    first, _, rest = name.partition(".")
    if first == "env" and rest:
        return _env(environment, found, rest, app, reveal=reveal)
    variables = found.vars
    context = variables.context if isinstance(variables, HostVariables) else None
    if first == SETTINGS and context is not None:
        _check_app(environment, rest)
        variable = _setting(context, name, rest.split(".") if rest else [])
    elif name in variables:
        variable = variables[name]
    elif context is not None and name in context.magic:
        variable = Variable(name, context[name], Source("host", host, Where("given by Ansible's rules")))
    elif context is not None and name == "ansible_host":
        variable = Variable(name, context[name], Source("host", host, Where("the host's own name")))
    else:
        raise InventoryError(
            f"{host} has no variable named {name!r}.",
            hint=did_you_mean(name, variables) or "Settings of ours start with longshore.",
        )
    return variable if reveal else _masked(variable)


def _check_app(environment: Environment, path: str) -> None:
    """Raises ``InventoryError`` for a setting of an app that there isn't: it would have all the defaults."""
    section, _, rest = path.partition(".")
    if section == "apps" and rest and not any(f"{rest}.".startswith(f"{app}.") for app in environment.apps):
        app = rest.partition(".")[0]
        raise InventoryError(
            f"There is no app named {app!r} in {environment.name}.",
            hint=did_you_mean(app, environment.apps, list_all="There are"),
        )


def _env(environment: Environment, host: Host, key: str, app: str | None, *, reveal: bool) -> Variable:
    apps = [name for name, hosts in environment.apps.items() if host.name in hosts]
    if app is None:
        if len(apps) != 1:
            hint = f"Add --app: {', '.join(apps)}." if apps else ""
            count = "several apps" if apps else "no app"
            raise InventoryError(f"{host.name} runs {count}.", hint=hint)
        app = apps[0]
    target = environment.targets.get((app, host.name))
    if target is None:
        raise InventoryError(
            f"{host.name} doesn't run {app!r}.", hint=did_you_mean(app, apps, list_all="It runs")
        )
    value = target.env.get(key)
    if value is None:
        raise InventoryError(
            f"{app} has no variable {key!r} in its .env on {host.name}.",
            hint=did_you_mean(key, target.env, list_all="It has"),
        )

    def shown(said: EnvValue) -> str:
        if said.parts and not said.known:
            return said.value  # where it is kept; no store is asked to explain
        return HIDDEN if said.secret and not reveal else said.value

    overrode = tuple((shown(weaker), weaker.source) for weaker in value.overrode)
    return Variable(f"env.{key}", shown(value), value.source, overrode)


def _setting(context: Context, name: str, parts: list[str]) -> Variable:
    """A setting by its path. Names with dots (a service ``a.b``) are found, too."""
    said = context.layers.said(SETTINGS)
    found: list[tuple[Node, Source]] = []
    for entry in said:
        node = _at(entry.node, parts)
        if node is not None:
            source = entry.source
            found.append((node, Source(source.level, source.name, node.where)))
    kind, default = _kind(parts, name)
    merged = _at(context.settings, parts) if context.settings is not None else None
    if is_null(merged):
        value: Any = default or None
    else:
        assert merged is not None
        value = context.resolve(merged)
    if not found or is_null(merged):
        overrode = tuple((plain(node), source) for node, source in reversed(found))
        return Variable(name, value, Source("role", "longshore", DEFAULT), overrode)
    losers = tuple((plain(node), source) for node, source in reversed(found[:-1]))
    if isinstance(kind, (Section, MapOf)):
        losers = tuple((value, source) for value, source in losers if value)
    return Variable(name, value, found[-1][1], losers)


def _at(node: Node | None, parts: list[str]) -> Node | None:
    if not parts:
        return node
    if isinstance(node, SequenceNode) and parts[0].isdigit() and int(parts[0]) < len(node.items):
        return _at(node.items[int(parts[0])], parts[1:])
    if not isinstance(node, MappingNode):
        return None
    for count in range(1, len(parts) + 1):
        inner = node.get(".".join(parts[:count]))
        if inner is not None:
            return _at(inner, parts[count:])
    return None


def _kind(parts: list[str], name: str) -> tuple[Kind | None, str]:
    """The kind and default that the schema has for a path. Raises ``InventoryError`` for an unknown one."""
    kind: Kind | None = ROOT
    default = ""
    for part in parts:
        if isinstance(kind, Section):
            setting = kind.setting(part)
            if setting is None:
                hint = did_you_mean(part, (known.name for known in kind.settings), list_all="There are")
                raise InventoryError(f"There is no setting {name}.", hint=hint)
            kind, default = setting.kind, setting.default
        elif isinstance(kind, MapOf):
            kind, default = kind.item, ""
        else:
            kind, default = None, ""
    return kind, default


def _masked(variable: Variable) -> Variable:
    name = variable.name.rpartition(".")[2]
    overrode = tuple((mask(name, value), source) for value, source in variable.overrode)
    return Variable(variable.name, mask(name, variable.value), variable.source, overrode)


def mask(name: str, value: Any) -> Any:
    """The value with everything in it that looks like a secret, by name or as a URL, replaced by ``***``."""
    if isinstance(value, Mapping) and looks_secret(name):  # a build's `secrets`
        return dict.fromkeys(map(str, value), HIDDEN)
    if isinstance(value, Mapping):
        if name.endswith("headers"):  # of a check, a webhook or a proxy
            return {
                str(key): HIDDEN if secret_header(str(key)) else mask(str(key), item)
                for key, item in value.items()
            }
        shown = {str(key): mask(str(key), item) for key, item in value.items()}
        if "webhook" in value and isinstance(value.get("headers"), dict):
            shown["headers"] = dict.fromkeys(map(str, value["headers"]), HIDDEN)
        return shown
    if isinstance(value, (list, tuple)):
        return [mask(name, item) for item in value]
    if isinstance(value, str) and value and looks_secret(name, value):
        return HIDDEN
    if isinstance(value, (int, float)) and not isinstance(value, bool) and looks_secret(name):
        return HIDDEN
    return value
