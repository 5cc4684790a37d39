"""The inventory: Ansible's YAML format read, checked and turned into an ``Environment``.

This is the façade; everything else in the package is private to it, but for
:mod:`~longshore.inventory.model` (the shapes) and :mod:`~longshore.inventory.patterns`.
"""

from longshore.inventory.choose import Selection, one_host, select
from longshore.inventory.explaining import explain, mask
from longshore.inventory.files import environments, find_root
from longshore.inventory.hidden import looks_secret, masked_values, public_names
from longshore.inventory.load import load
from longshore.inventory.model import (
    App,
    Database,
    Environment,
    EnvValue,
    Group,
    Health,
    Host,
    Level,
    Logging,
    Migrate,
    MountRule,
    Registry,
    ServicePolicy,
    SmokeCheck,
    Source,
    SshSettings,
    Target,
    Variable,
)
from longshore.inventory.resolving import resolve_secrets

__all__ = [
    "App",
    "Database",
    "EnvValue",
    "Environment",
    "Group",
    "Health",
    "Host",
    "Level",
    "Logging",
    "Migrate",
    "MountRule",
    "Registry",
    "Selection",
    "ServicePolicy",
    "SmokeCheck",
    "Source",
    "SshSettings",
    "Target",
    "Variable",
    "environments",
    "explain",
    "find_root",
    "load",
    "looks_secret",
    "masked_values",
    "mask",
    "public_names",
    "resolve_secrets",
    "one_host",
    "select",
]
