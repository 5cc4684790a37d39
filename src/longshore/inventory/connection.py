"""Ansible's connection variables, as far as they say how a host is reached over SSH."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from longshore.errors import InventoryError, LongshoreError, Where
from longshore.inventory.model import SshSettings
from longshore.inventory.variables import Context

_SSH = ("ssh", "paramiko", "paramiko_ssh", "smart", "ansible.builtin.ssh", "ansible.builtin.paramiko_ssh")
_LOCAL = ("local", "ansible.builtin.local")
_AUTOMATIC_PYTHON = ("auto", "auto_silent", "auto_legacy", "auto_legacy_silent")
_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


def ssh_settings(
    name: str, context: Context, root: Path, report: Callable[[InventoryError], None]
) -> SshSettings:
    """How ``name`` is reached. Old names (``ansible_ssh_host``) are understood as in Ansible."""
    reader = _Reader(name, context, report)
    connection = reader.text("ansible_connection") or "ssh"
    if connection not in (*_SSH, *_LOCAL):
        reader.problem(
            f"ansible_connection: {connection} isn't supported.",
            "ansible_connection",
            f"Use ssh or local, or keep {name} out of the apps' hosts.",
        )
    python = reader.text("ansible_python_interpreter") or "python3"
    identity = reader.text("ansible_ssh_private_key_file", "ansible_private_key_file")
    if identity and not identity.startswith(("/", "~")):
        identity = str(root / identity)
    arguments = [reader.text("ansible_ssh_common_args"), reader.text("ansible_ssh_extra_args")]
    return SshSettings(
        address=reader.text("ansible_host", "ansible_ssh_host") or name,
        user=reader.text("ansible_user", "ansible_ssh_user"),
        port=reader.port("ansible_port", "ansible_ssh_port"),
        identity_file=identity,
        connection="local" if connection in _LOCAL else "ssh",
        python="python3" if python in _AUTOMATIC_PYTHON else python,
        become=reader.flag("ansible_become"),
        become_user=reader.text("ansible_become_user") or "root",
        common_args=" ".join(part for part in arguments if part),
    )


def foreign_connection(context: Context) -> str:
    """The connection of a host that nothing can be deployed to (``winrm``, ``network_cli``), or nothing."""
    try:
        said = context.get("ansible_connection")
    except LongshoreError:
        return ""
    return said.strip() if isinstance(said, str) and said.strip() not in ("", *_SSH, *_LOCAL) else ""


class _Reader:
    """Reads variables of one host and reports what they can't be."""

    def __init__(self, host: str, context: Context, report: Callable[[InventoryError], None]) -> None:
        self._host = host
        self._context = context
        self._report = report

    def problem(self, message: str, name: str, hint: str = "") -> None:
        said = self._context.layers.winner(name)
        where = said.node.where if said else Where("")
        self._report(InventoryError(message, where=where, hint=hint))

    def _value(self, names: tuple[str, ...]) -> tuple[str, Any]:
        for name in names:
            if self._context.layers.winner(name) is not None:
                try:
                    return name, self._context[name]
                except InventoryError as error:
                    self._report(error)
                except LongshoreError as error:
                    self.problem(error.message, name)
                return name, None
        return names[0], None

    def text(self, *names: str) -> str | None:
        name, value = self._value(names)
        if value is None or value == "":
            return None
        if isinstance(value, bool) or not isinstance(value, (str, int)):
            self.problem(f"{name} must be a text.", name, "Write it in quotes.")
            return None
        text = str(value)
        if any(ord(character) < 32 for character in text.rstrip("\n")):
            self.problem(f"{name} must be one line of text.", name)
            return None
        return text.strip()

    def port(self, *names: str) -> int | None:
        name, value = self._value(names)
        if value is None or value == "":
            return None
        text = str(value).strip()
        number = int(text) if re.fullmatch("[0-9]{1,6}", text) else 0
        if isinstance(value, bool) or not 0 < number < 65536:
            self.problem(f"{name} must be a port from 1 to 65535.", name, f"Write {name}: 22")
            return None
        return number

    def flag(self, name: str) -> bool:
        _, value = self._value((name,))
        if value is None or isinstance(value, bool):
            return bool(value)
        text = str(value).strip().lower()
        if text not in (*_TRUE, *_FALSE):
            self.problem(f"{name} must be true or false.", name)
        return text in _TRUE
