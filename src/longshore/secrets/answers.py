"""What the stores' tools print, read: from the answer, the reference's ``ref`` and its field to the value.

They raise ``LookupError`` with a sentence when the field isn't there, and ``ValueError`` for what the tool
would never print.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import TYPE_CHECKING, Any

from longshore import dotenv

if TYPE_CHECKING:
    from collections.abc import Callable


def one_line_off(text: str, ref: str, field: str) -> str:
    """The answer without the newline that the tool adds."""
    return text.removesuffix("\n").removesuffix("\r")


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        raise ValueError("not JSON") from None


def _text(value: Any) -> str:
    if isinstance(value, (dict, list)):
        return json.dumps(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _pick(found: Any, field: str) -> str:
    if not isinstance(found, dict):
        raise LookupError(f"it is not a set of fields, so there is no {field!r} in it")
    if field not in found or found[field] is None:
        names = ", ".join(sorted(map(str, found))[:12]) or "none"
        raise LookupError(f"it has no field {field!r} (it has: {names})")
    return _text(found[field])


def _picked(text: str, field: str, inner: Callable[[Any], Any] = lambda answer: answer) -> str:
    """A field of JSON, of what ``inner`` takes from it. Raises ``ValueError`` for what is no JSON."""
    # Numbers as they are there, not as Python would write them; in a set or a list they stay numbers.
    found = inner(json.loads(text, parse_float=str, parse_int=str))
    if isinstance(found, dict) and isinstance(found.get(field), (dict, list)):
        found = inner(json.loads(text))
    return _pick(found, field)


def bitwarden(text: str, ref: str, field: str) -> str:
    item = _json(text)
    login = item.get("login") or {}
    known = {name: login.get(name) for name in ("password", "username", "totp")} | {
        "notes": item.get("notes")
    }
    own = {str(one.get("name")): one.get("value") for one in item.get("fields") or []}
    # An item can have a field of its own called password; who asks for the password means the login's.
    return _pick(own | {name: value for name, value in known.items() if value is not None}, field)


def bitwarden_secret(text: str, ref: str, field: str) -> str:
    return _pick(_json(text), "value")


def aws(text: str, ref: str, field: str) -> str:
    answer = _json(text)
    if answer.get("SecretString") is not None:
        secret = str(answer["SecretString"])
    else:
        secret = _decoded(str(answer["SecretBinary"]))
    if not field:
        return secret
    try:
        return _picked(secret, field)
    except ValueError:
        raise LookupError(f"it is not JSON, so there is no {field!r} in it") from None


def _decoded(text: str) -> str:
    try:
        padded = text.strip() + "=" * (-len(text.strip()) % 4)
        return base64.b64decode(padded.translate(str.maketrans("-_", "+/")), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise ValueError("not text in base64") from None


def google(text: str, ref: str, field: str) -> str:
    secret = _decoded(text)
    return _picked(secret, field) if field else secret


def vault(text: str, ref: str, field: str) -> str:
    return _picked(text, field, _vault_fields)


def _vault_fields(answer: Any) -> Any:
    data = answer["data"]
    # Version 2 of the engine wraps the fields, version 1 doesn't.
    return data.get("data") if isinstance(data, dict) and "metadata" in data else data


def sops(text: str, ref: str, field: str) -> str:
    if ref.endswith(".env"):
        # As it was written before it was encrypted, and so read as every env file.
        entries = {entry.key: entry for entry in dotenv.read(text, ref)}
        value = _pick({name: entry.value for name, entry in entries.items()}, field)
        if entries[field].unset:
            raise LookupError(
                f"{field} has a $ and a name that is not set, which Compose reads as nothing; in single "
                "quotes a $ stays"
            )
        return value
    return _picked(text, field)
