"""The command line's ``--set name=value``, the strongest level."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from longshore.errors import InventoryError, Where
from longshore.inventory.model import Source
from longshore.inventory.nodes import Key, MappingNode, Node, Scalar
from longshore.inventory.sections import merge
from longshore.inventory.settings import ROOT
from longshore.inventory.variables import SETTINGS, Said
from longshore.inventory.yamlfile import parse_yaml

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def read_overrides(texts: Sequence[str], report: Callable[[InventoryError], None]) -> list[tuple[str, Said]]:
    """Return variable name and value of each override; those below ``longshore`` become one value.

    The value is read as YAML, so ``keep=3`` is a number and ``tag="3"`` a text. A value is never part of an
    error, since it may be a secret.
    """
    found: dict[str, Node] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        name = name.strip()
        where = Where(f"--set {name}")
        if not equals:
            report(InventoryError("--set takes name=value.", where=where, hint="As --set domain=example.org"))
            continue
        parts = name.split(".")
        if not _NAME.fullmatch(parts[0]) or not all(parts):
            report(InventoryError(f"{name!r} can't be the name of a variable.", where=where))
            continue
        if len(parts) > 1 and parts[0] != SETTINGS:
            hint = f"Only names below {SETTINGS} have dots; other variables are set as a whole."
            report(InventoryError(f"A part of {parts[0]} can't be set.", where=where, hint=hint))
            continue
        told: list[InventoryError] = []
        try:
            node = parse_yaml(value, f"--set {name}", told.append)
            if told:  # a tag or a key twice: it is quoted there
                raise told[0]
        except InventoryError as error:
            hint = "Put the value in quotes if it is a text."
            if value.startswith("{{"):
                hint = 'A value that starts with {{ must be in quotes: "{{ name }}".'
            report(InventoryError("The value is not YAML.", where=error.where, hint=hint))
            continue
        node = _placed(node, where)
        for part in reversed(parts[1:]):
            node = MappingNode({part: (Key(part, where), node)}, where)
        found[parts[0]] = merge(found.get(SETTINGS), node, ROOT) if parts[0] == SETTINGS else node
    return [(name, Said(node, Source("command line", "--set", node.where))) for name, node in found.items()]


def _placed(node: Node | None, where: Where) -> Node:
    """An empty value is an empty text; a value's place is the option, without a line."""
    if node is None:
        return Scalar("", "", where)
    if isinstance(node, Scalar):
        return Scalar(node.value, node.raw, where, node.unsafe)
    return node
