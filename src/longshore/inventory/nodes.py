"""Values that know where they were written: what a YAML file says, before anything is made of it.

Only shapes and their conversions; reading a file is :mod:`longshore.inventory.yamlfile`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Union

from longshore.errors import InventoryError, Where
from longshore.records import dataclass

MAX_DEPTH = 100
"""Levels of lists and mappings within each other; nobody writes a tenth of it."""


@dataclass(frozen=True, eq=False)
class Scalar:
    """A text, number, boolean or null. ``raw`` is what was written, ``value`` what YAML makes of it."""

    value: str | int | float | bool | None
    raw: str
    where: Where
    unsafe: bool = False
    """It was tagged ``!unsafe``: never a template."""
    closed: bool = False
    """It is encrypted with Ansible Vault: an error for whoever needs it, and for nobody else."""

    @property
    def is_template(self) -> bool:
        """Whether Jinja2 has something to do in it."""
        return isinstance(self.value, str) and not self.unsafe and has_template(self.value)

    @property
    def surprising(self) -> bool:
        """Whether YAML 1.1 reads it as something else than what is written: ``0644``, ``22:22``, ``1.10``."""
        if isinstance(self.value, bool):
            return self.raw.lower() not in ("true", "false")
        if isinstance(self.value, (int, float)):
            return str(self.value) != self.raw
        return False


@dataclass(frozen=True, eq=False)
class Key:
    """A key of a mapping and its place."""

    name: str
    where: Where


@dataclass(frozen=True, eq=False)
class MappingNode:
    """A mapping in the order of the file; keys are unique."""

    items: Mapping[str, tuple[Key, Node]]
    where: Where

    def get(self, name: str) -> Node | None:
        """The value of ``name``, or ``None`` when it isn't said."""
        found = self.items.get(name)
        return found[1] if found else None

    def __iter__(self) -> Iterator[tuple[Key, Node]]:
        return iter(self.items.values())


@dataclass(frozen=True, eq=False)
class SequenceNode:
    """A list."""

    items: Sequence[Node]
    where: Where


Node = Union[Scalar, MappingNode, SequenceNode]  # noqa: UP007 - `X | Y` fails on 3.10 for forward references


def has_template(text: str) -> bool:
    """Whether ``text`` holds a Jinja2 expression, statement or comment."""
    return "{" in text and ("{{" in text or "{%" in text or "{#" in text)


def is_null(node: Node | None) -> bool:
    """Whether nothing is said: no node, or YAML's null."""
    return node is None or (isinstance(node, Scalar) and node.value is None and not node.closed)


def closed_error(where: Where) -> InventoryError:
    """The sentence for a value that only Ansible could open."""
    return InventoryError(
        "This value is encrypted with Ansible Vault, which Longshore doesn't read.",
        where=where,
        hint="Move it to env/<environment>.env.",
    )


def plain(node: Node) -> Any:
    """The node as Python values, templates left as they are written."""
    if isinstance(node, Scalar):
        return node.value
    if isinstance(node, MappingNode):
        return {key.name: plain(value) for key, value in node}
    return [plain(item) for item in node.items]


def from_plain(value: Any, where: Where, depth: int = 0) -> Node:
    """Turn Python data (a role's defaults, what a template comes to) into a node at one place.

    Raises ``InventoryError`` for what never ends: ``hostvars`` holds itself in each of its hosts.
    """
    if depth > MAX_DEPTH:
        raise InventoryError(
            f"This value goes more than {MAX_DEPTH} levels deep; does it hold itself, as hostvars does?",
            where=where,
        )
    if isinstance(value, Mapping):
        items = {
            str(name): (Key(str(name), where), from_plain(item, where, depth + 1))
            for name, item in value.items()
        }
        return MappingNode(items, where)
    if isinstance(value, (list, tuple)):
        return SequenceNode([from_plain(item, where, depth + 1) for item in value], where)
    if isinstance(value, bool):
        return Scalar(value, "true" if value else "false", where)
    if value is None or isinstance(value, (str, int, float)):
        return Scalar(value, "" if value is None else str(value), where)
    return Scalar(str(value), str(value), where)


def describe(node: Node) -> str:
    """What kind of thing it is, for an error: ``a list``, ``a mapping``, ``the number 5``."""
    if isinstance(node, MappingNode):
        return "a mapping"
    if isinstance(node, SequenceNode):
        return "a list"
    if node.closed:
        return "encrypted with Ansible Vault"
    if node.value is None:
        return "nothing"
    if isinstance(node.value, bool):
        return f"the boolean {str(node.value).lower()}"
    if isinstance(node.value, (int, float)):
        return f"the number {node.value}"
    # A short word at the most: a longer text may be a secret in the wrong place.
    return f"the text {node.value!r}" if re.fullmatch(r"[a-z_-]{0,11}", node.value) else "a text"
