"""What the settings' declarations become for people and editors: the reference table and the JSON Schema."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from longshore.inventory.kinds import Choice, Kind
from longshore.inventory.sections import ListOf, MapOf, Section, Setting
from longshore.inventory.services import SERVICE
from longshore.inventory.settings import APP, ROOT
from longshore.inventory.variables import SETTINGS

BEGIN = "<!-- settings: written by `invoke schema --docs` -->"
END = "<!-- /settings -->"

_SCHEMA = "https://json-schema.org/draft/2020-12/schema"
_CONNECTION: dict[str, dict[str, Any]] = {
    "ansible_host": {"type": "string", "description": "The address to connect to."},
    "ansible_user": {"type": "string", "description": "The user to log in as."},
    "ansible_port": {"type": ["integer", "string"], "description": "The SSH port."},
    "ansible_ssh_private_key_file": {"type": "string", "description": "The key to log in with."},
    "ansible_connection": {"enum": ["ssh", "local", "paramiko", "smart"]},
    "ansible_python_interpreter": {"type": "string"},
    "ansible_become": {"type": ["boolean", "string"], "description": "Whether sudo is used."},
    "ansible_become_user": {"type": "string"},
    "ansible_ssh_common_args": {"type": "string", "description": "Options of ssh: -o, -J."},
}


def json_schema(*, variables_file: bool = False) -> dict[str, Any]:
    """The JSON Schema of an inventory, or of a file in ``group_vars/`` or ``host_vars/``."""
    definitions: dict[str, Any] = {
        "variables": {
            "type": ["object", "null"],
            "properties": {**_CONNECTION, SETTINGS: _deep(ROOT)},
        },
        "service": _deep(SERVICE),
        "app": _deep(APP),
        "hosts": {
            "type": ["object", "string", "null"],
            "additionalProperties": {"$ref": "#/$defs/variables"},
        },
        "group": {
            "type": ["object", "null"],
            "properties": {
                "hosts": {"$ref": "#/$defs/hosts"},
                "children": {
                    "type": ["object", "string", "null"],
                    "additionalProperties": {"$ref": "#/$defs/group"},
                },
                "vars": {"$ref": "#/$defs/variables"},
            },
            "additionalProperties": False,
        },
    }
    shape: dict[str, Any] = {"$schema": _SCHEMA, "$defs": definitions}
    if variables_file:
        return {**shape, "title": "Longshore variables", "$ref": "#/$defs/variables"}
    return {
        **shape,
        "title": "Longshore inventory",
        "type": "object",
        "additionalProperties": {"$ref": "#/$defs/group"},
    }


def _deep(kind: Section) -> dict[str, Any]:
    """The schema of a section, with apps and services referred to instead of repeated."""
    shape = kind.schema()
    for setting in kind.settings:
        reference = "service" if _item(setting) is SERVICE else "app" if _item(setting) is APP else ""
        if reference:
            target: dict[str, Any] = {"$ref": f"#/$defs/{reference}"}
            if isinstance(setting.kind, MapOf):
                target = {"type": ["object", "null"], "additionalProperties": target}
            shape["properties"][setting.name] = {**target, "description": setting.summary}
    return shape


def _item(setting: Setting) -> Kind:
    return setting.kind.item if isinstance(setting.kind, MapOf) else setting.kind


def markdown() -> str:
    """The reference tables of docs/inventory.md, between its two marks."""
    parts = [BEGIN]
    for title, prefix, section in (
        ("The whole environment, or a host", "longshore.", ROOT),
        ("An app", "longshore.apps.APP.", APP),
        ("A service", "longshore.apps.APP.services.SERVICE.", SERVICE),
    ):
        parts.append(f"\n### {title}\n\nBelow `{prefix[:-1]}`.\n")
        parts.append("| setting | what it is | example | default | what for |\n|---|---|---|---|---|")
        parts.extend(_rows("", section))
    parts.append(f"\n{END}")
    return "\n".join(parts)


def _rows(prefix: str, section: Section) -> Iterator[str]:
    for setting in section.settings:
        name, inner = _inner(prefix + setting.name, setting.kind)
        label = setting.kind.label
        if isinstance(setting.kind, Choice):
            label = ", ".join(f"`{choice}`" for choice in setting.kind.choices)
        default = "**required**" if setting.required else setting.default
        example = setting.kind.example
        if isinstance(setting.kind, MapOf) and setting.kind.item.example:
            example = f"{{NAME: {setting.kind.item.example}}}"
        elif isinstance(setting.kind, ListOf) and not example:
            example = f"[{setting.kind.item.example}]"
        if isinstance(setting.kind, ListOf) and setting.kind.single:
            label = f"{setting.kind.item.label}, or a list"
        summary = setting.summary
        if setting.scope == "environment":
            summary += " The same for all hosts."
        cells = (
            f"`{name}`",
            label,
            f"`{example}`" if example and inner is None else "",
            default,
            summary,
        )
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
        if inner is not None:
            yield from _rows(f"{name}.", inner)


def _inner(name: str, kind: Kind) -> tuple[str, Section | None]:
    """The row's name, and the section whose settings follow it; apps and services have their own tables."""
    if kind is SERVICE or (isinstance(kind, MapOf) and kind.item in (APP, SERVICE)):
        return name, None
    if isinstance(kind, Section):
        return name, kind
    if isinstance(kind, (MapOf, ListOf)) and isinstance(kind.item, Section):
        return f"{name}.NAME" if isinstance(kind, MapOf) else f"{name}[]", kind.item
    return name, None
