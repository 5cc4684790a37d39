"""Roles: what a host is for. Built-in ones as data, and a project's own in ``roles/<name>.py``."""

from longshore.roles.builtin import BUILTIN
from longshore.roles.load import find_role, known_roles
from longshore.roles.model import HOOKS, Check, Hook, HookName, Role

__all__ = ["BUILTIN", "HOOKS", "Check", "Hook", "HookName", "Role", "find_role", "known_roles"]
