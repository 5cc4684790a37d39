"""A setting that may be a reference to a store of secrets: ``op://…``, ``ref+…``, a mapping with ``from``."""

from __future__ import annotations

from typing import Any

from longshore import values
from longshore.inventory.kinds import Command, Later, Reading, Text, as_text
from longshore.inventory.nodes import MappingNode, Node, is_null
from longshore.records import dataclass
from longshore.secrets.adapters import ADAPTERS
from longshore.secrets.references import DEFAULT_TIMEOUT, Reference, checked, parse_reference

_OWN = ("from", "ref", "field", "command", "timeout")


@dataclass(frozen=True)
class TextOrReference(Text):
    """A text that stands for itself, or a :class:`Reference`."""

    label: str = "a text, or where a secret is kept"
    example: str = "info"

    def read(self, node: Node, name: str, reading: Reading) -> Any:
        if isinstance(node, MappingNode):
            return self._reference(node, name, reading)
        text = super().read(node, name, reading)
        if text is None:
            return None
        try:
            return parse_reference(text) or text
        except ValueError as error:
            reading.problem(f"{name}: {error}", node.where)
            return None

    def _reference(self, node: MappingNode, name: str, reading: Reading) -> Reference | None:
        texts: dict[str, str] = {}
        command: tuple[str, ...] = ()
        for key, value in node:
            if is_null(value):
                reading.problem(f"{name}.{key.name} has no value.", key.where)
                return None
            if key.name == "command":
                found = Command().check(value, f"{name}.command", reading)
                if not isinstance(found, tuple):
                    return None
                command = found
                continue
            opened = reading.open(value)
            text = None if isinstance(opened, Later) else as_text(opened, f"{name}.{key.name}", reading)
            if text is None:
                return None
            texts[key.name] = text
        if "from" not in texts:
            reading.problem(
                f"{name} is a mapping that doesn't say which store.",
                node.where,
                "Write it as {from: vault, ref: secret/shop, field: password}.",
            )
            return None
        try:
            timeout = values.parse_duration(texts["timeout"]) if "timeout" in texts else DEFAULT_TIMEOUT
            options = {key: text for key, text in texts.items() if key not in _OWN}
            return checked(
                texts["from"],
                texts.get("ref", "").removeprefix("op://"),
                texts.get("field", ""),
                options,
                command=command,
                timeout=max(timeout, 0.1),
            )
        except ValueError as error:
            reading.problem(f"{name}: {error}", node.where)
            return None

    def schema(self) -> dict[str, Any]:
        names = sorted(ADAPTERS)
        mapping = {
            "type": "object",
            "required": ["from"],
            "properties": {
                "from": {"enum": names},
                "command": {"type": ["string", "array"]},
                "timeout": {"type": "string"},
            },
            "additionalProperties": {"type": ["string", "number"]},
        }
        return {"anyOf": [super().schema(), mapping]}
