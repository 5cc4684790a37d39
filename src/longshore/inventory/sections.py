"""Settings that hold others: lists, maps with free names, and sections with known ones; how levels merge.

The single values are in :mod:`longshore.inventory.kinds`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any, Literal

from longshore.inventory.kinds import LATER, Kind, Reading, Text
from longshore.inventory.nearest import did_you_mean
from longshore.inventory.nodes import MappingNode, Node, Scalar, SequenceNode, is_null
from longshore.records import dataclass

Scope = Literal["environment", "host"]
"""Where a setting may be said: for the whole environment only, or at every level."""


@dataclass(frozen=True)
class ListOf(Kind):
    """A list; with ``single``, one value is a list of one."""

    item: Kind = field(default_factory=Text)
    single: bool = False
    label: str = "a list"

    def read(self, node: Node, name: str, reading: Reading) -> tuple[Any, ...] | None:
        nodes: Sequence[Node]
        if isinstance(node, SequenceNode):
            nodes = node.items
        elif self.single and isinstance(node, Scalar) and node.value is not None:
            nodes = (node,)
        else:
            self.wrong(node, name, reading)
            return None
        found = [self.item.check(entry, name, reading) for entry in nodes]
        return tuple(value for value in found if value is not None and value is not LATER)

    def schema(self) -> dict[str, Any]:
        whole = {"type": "array", "items": templated(self.item.schema())}
        return {"anyOf": [whole, self.item.schema()]} if self.single else whole


@dataclass(frozen=True)
class MapOf(Kind):
    """A mapping whose keys the person chooses. ``key`` bounds them, ``key_rule`` says so in words."""

    item: Kind = field(default_factory=Text)
    key: str = r".+"
    key_rule: str = ""
    label: str = "a mapping"

    def read(self, node: Node, name: str, reading: Reading) -> Mapping[str, Any] | None:
        if is_null(node):
            return {}
        if not isinstance(node, MappingNode):
            self.wrong(node, name, reading)
            return None
        found: dict[str, Any] = {}
        for key, value in node:
            if not re.fullmatch(self.key, key.name):
                reading.problem(f"{name}: {key.name!r} is not {self.key_rule}.", key.where)
                continue
            checked = self.item.check(value, f"{name}.{key.name}", reading)
            if checked is not None and checked is not LATER:
                found[key.name] = checked
        return found

    def schema(self) -> dict[str, Any]:
        return {"type": ["object", "null"], "additionalProperties": templated(self.item.schema())}


@dataclass(frozen=True)
class Setting:
    """One key of ours: its kind, its default as a person would write it, and one sentence."""

    name: str
    kind: Kind
    summary: str
    default: str = ""
    scope: Scope = "host"
    required: bool = False


@dataclass(frozen=True)
class Section(Kind):
    """A mapping with known keys. Of the keys in ``one_of`` a value can have only one."""

    settings: tuple[Setting, ...] = ()
    one_of: tuple[str, ...] = ()
    label: str = "a mapping"

    def setting(self, name: str) -> Setting | None:
        """The setting of that name, or ``None``."""
        return next((setting for setting in self.settings if setting.name == name), None)

    def read(self, node: Node, name: str, reading: Reading) -> Mapping[str, Any] | None:
        if is_null(node):
            return {}
        if not isinstance(node, MappingNode):
            self.wrong(node, name, reading)
            return None
        known = {setting.name: setting for setting in self.settings}
        found: dict[str, Any] = {"": node.where}
        for key, value in node:
            setting = known.get(key.name)
            if setting is None:
                hint = did_you_mean(key.name, known, list_all="It has")
                reading.problem(f"{name} has no setting {key.name!r}.", key.where, hint)
                continue
            if setting.scope == "environment" and not reading.environment_wide:
                hint = "Say it at all.vars, in group_vars/all.yml, or with --set."
                reading.problem(f"{name}.{key.name} is the same for all hosts.", key.where, hint)
                continue
            if is_null(value) and not isinstance(setting.kind, (Section, MapOf)):
                continue  # back to the default
            checked = setting.kind.check(value, f"{name}.{key.name}", reading)
            if checked is not None and checked is not LATER:
                found[key.name] = checked
        self._check_whole(node, name, found, reading)
        return found

    def _check_whole(self, node: MappingNode, name: str, found: Mapping[str, Any], reading: Reading) -> None:
        given = [key for key in self.one_of if not is_null(node.get(key)) and found.get(key) is not False]
        if len(given) > 1:
            reading.problem(f"{name} has {' and '.join(given)}.", node.where, "Keep one of them.")
        if reading.resolve is None:
            return  # what is missing here may be said at another level
        for setting in self.settings:
            if setting.required and is_null(node.get(setting.name)):
                example = setting.kind.example
                hint = f"Write {setting.name}: {example}" if example else ""
                reading.problem(f"{name} needs {setting.name}.", node.where, hint)

    def schema(self) -> dict[str, Any]:
        properties = {}
        for setting in self.settings:
            shape = templated(setting.kind.schema())
            shape["description"] = setting.summary + (
                f" Default: {setting.default}." if setting.default else ""
            )
            properties[setting.name] = shape
        return {"type": ["object", "null"], "properties": properties, "additionalProperties": False}


def own(found: Mapping[str, Any] | None) -> dict[str, Any]:
    """A section's checked values without the note of its place."""
    return {name: value for name, value in (found or {}).items() if name}


def headers(example: str) -> MapOf:
    """HTTP headers by name."""
    # RFC 9110, 5.6.2 (token) and 5.5: no line end can come in.
    value = Text("a header's value", example, pattern=r"[^\x00-\x08\x0a-\x1f\x7f]*", rule="one line")
    return MapOf(item=value, key=r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", key_rule="the name of an HTTP header")


def templated(shape: dict[str, Any]) -> dict[str, Any]:
    """The shape, or a text that holds a template."""
    types = shape.get("type")
    if not shape or (types == "string" and "pattern" not in shape) or "object" in (types or ()):
        return dict(shape)
    return {"anyOf": [shape, {"type": "string", "pattern": r"\{[{%]"}]}


def merge(weak: Node | None, strong: Node, kind: Kind) -> Node:
    """Lay ``strong`` over ``weak`` key by key, as far as the kinds are mappings; else ``strong`` replaces.

    A key of ``one_of`` in ``strong`` takes the others of ``weak`` away: a host that says
    ``health: {none: true}`` has no HTTP check from its group.
    """
    if weak is None or is_null(weak):
        return strong
    if not isinstance(kind, (Section, MapOf)):
        return strong
    if is_null(strong):
        return weak
    if not isinstance(weak, MappingNode) or not isinstance(strong, MappingNode):
        return strong
    items = dict(weak.items)
    if isinstance(kind, Section) and kind.one_of and any(name in strong.items for name in kind.one_of):
        for name in kind.one_of:
            items.pop(name, None)
    for name, (key, value) in strong.items.items():
        earlier = items.get(name)
        inner: Kind | None = kind.item if isinstance(kind, MapOf) else None
        if isinstance(kind, Section):
            setting = kind.setting(name)
            inner = setting.kind if setting else None
        if earlier is not None and inner is not None:
            value = merge(earlier[1], value, inner)
        items[name] = (key, value)
    return MappingNode(items, strong.where)
