"""The one encoding of ``.env`` that Compose reads back exactly, whatever the value."""

from __future__ import annotations

import re
from collections.abc import Mapping

from longshore.errors import InventoryError

_ENCODE = str.maketrans(
    {"\\": "\\\\", '"': '\\"', "$": "\\$", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v", "\f": "\\f"}
)
_SURROGATE = re.compile("[\ud800-\udfff]")


def encode(value: str) -> str:
    """Return ``value`` in double quotes, so that Compose reads back exactly ``value``.

    Raises ``InventoryError`` for a NUL character, which no environment variable can hold.
    """
    if "\0" in value:
        raise InventoryError("The value holds a NUL character, which no environment variable can.")
    return f'"{value.translate(_ENCODE)}"'


def render(mapping: Mapping[str, str]) -> str:
    """Return the text of an env file with these variables, in the mapping's order.

    Raises ``InventoryError`` with the variable's name (never its value) for a name that Compose can't
    read and for a NUL character in a value.
    """
    lines = []
    for key, value in mapping.items():
        if not _is_name(key):
            raise InventoryError(
                f"{key!r} can't be the name of a variable in .env.",
                hint="Use letters, digits, '_', '.' and '-'.",
            )
        if "\0" in value:
            raise InventoryError(
                f"The value of {key} holds a NUL character, which no environment variable can.",
                hint="Encode it (base64, for example) and decode it in the application.",
            )
        if _SURROGATE.search(value):
            raise InventoryError(f"The value of {key} is not valid Unicode, so it can't be written as UTF-8.")
        lines.append(f"{key}={encode(value)}\n")
    return "".join(lines)


def _is_name(key: str) -> bool:
    return bool(key) and all(char in "_.-[]" or char.isalpha() or char.isnumeric() for char in key)
