"""References: values that say where a secret is kept, instead of the secret.

``op://prod/db/password`` as 1Password writes it, and ``ref+NAME://WHAT?option=value#field`` for every store
(the form of vals and helmfile), or in an inventory a mapping with ``from``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches
from urllib.parse import parse_qsl

from longshore.records import dataclass
from longshore.secrets.adapters import ADAPTERS, ALIASES

DEFAULT_TIMEOUT = 30.0
_PREFIXED = re.compile(r"ref\+([A-Za-z0-9_-]+)://(.*)", re.DOTALL)


@dataclass(frozen=True)
class Reference:
    """One secret in one store. None of it is secret: it is shown in errors and by ``explain``."""

    store: str
    """The adapter's name: ``op``, ``vault``, …"""
    ref: str
    """What the store calls it; for ``command`` the words, joined to be shown."""
    field: str = ""
    options: tuple[tuple[str, str], ...] = ()
    command: tuple[str, ...] = ()
    timeout: float = DEFAULT_TIMEOUT
    """Seconds that the store's tool gets."""

    def __str__(self) -> str:
        if self.store == "op":
            return f"op://{self.ref}"
        said = self.options if self.store != "sops" else ()
        options = "&".join(f"{name}={value}" for name, value in said)
        field = f"#{self.field}" if self.field else ""
        return f"{self.store}://{self.ref}{f'?{options}' if options else ''}{field}"


def parse_reference(text: str) -> Reference | None:
    """The reference that a value is, or ``None`` for a value that stands for itself.

    Raises ``ValueError`` with a sentence for one that can't be right.
    """
    if text.startswith("op://"):
        return checked("op", text.removeprefix("op://"))
    match = _PREFIXED.fullmatch(text)
    if match is None:
        return None
    name, rest = match.groups()
    store = _store(name)
    if store == "command":
        raise ValueError("A command is said in the inventory, as {from: command, command: [pass, show, db]}.")
    if store == "op":
        return checked(store, rest)
    rest, _, field = rest.partition("#")
    rest, _, query = rest.partition("?")
    return checked(store, rest, field, dict(parse_qsl(query, keep_blank_values=True)))


def checked(
    store: str,
    ref: str,
    field: str = "",
    options: Mapping[str, str] | None = None,
    *,
    command: tuple[str, ...] = (),
    timeout: float = DEFAULT_TIMEOUT,
) -> Reference:
    """A reference with everything that its store needs. Raises ``ValueError`` with a sentence."""
    name = _store(store)
    adapter = ADAPTERS[name]
    if any("\0" in word for word in (ref, field, *(options or {}).values(), *command)):
        raise ValueError("A reference can't hold a NUL character.")
    if name == "command":
        if not command or not command[0]:
            raise ValueError("A reference to a command needs it: {from: command, command: [pass, show, db]}.")
        return Reference(name, " ".join(command), command=command, timeout=timeout)
    if not ref:
        raise ValueError(f"A reference to {adapter.title} says which secret: {adapter.example}.")
    if ref.startswith("-"):
        raise ValueError(
            f"A reference to {adapter.title} can't begin with a dash: its tool would misread it."
        )
    if name == "op" and ref.partition("?")[0].count("/") < 2:
        raise ValueError("A reference to 1Password is op://VAULT/ITEM/FIELD.")
    if field and not adapter.takes_field:
        raise ValueError(f"A reference to {adapter.title} has no field: {adapter.example}.")
    if not field and adapter.field_needed:
        raise ValueError(f"A reference to {adapter.title} says which field: {adapter.example}.")
    unknown = [option for option in options or {} if option not in adapter.options]
    if unknown:
        known = ", ".join(adapter.options) or "none"
        raise ValueError(f"A reference to {adapter.title} has no option {unknown[0]!r}; there are: {known}.")
    if name == "sops":
        options = {"type": "dotenv" if ref.endswith(".env") else "json"}
    return Reference(
        name, ref, field or adapter.usual_field, tuple(sorted((options or {}).items())), timeout=timeout
    )


def _store(name: str) -> str:
    known = ALIASES.get(name, name)
    if known in ADAPTERS:
        return known
    near = get_close_matches(name, [*ADAPTERS, *ALIASES], 1)
    hint = f"Did you mean {near[0]}?" if near else f"There are: {', '.join(ADAPTERS)}."
    raise ValueError(f"{name!r} is no store of secrets that Longshore knows. {hint}")
