"""Writes ``longshore.yml``: a small YAML writer, so that the same input is the same bytes for ever.

Texts are double-quoted, and a ``$`` is doubled: Compose interpolates values, never keys.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from longshore.records import dataclass

_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_RESERVED = {"null", "true", "false", "yes", "no", "on", "off", "y", "n"}
# JSON leaves these as they are; YAML readers refuse them or take them for line breaks.
_UNPRINTABLE = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff\ud800-\udfff]")


@dataclass(frozen=True)
class Tagged:
    """A value with one of Compose's tags: ``!override`` replaces, ``!reset`` drops what files before said."""

    tag: Literal["!override", "!reset"]
    value: Any = None


def override(value: Any) -> Tagged:
    """Return ``value`` marked to replace what earlier files say."""
    return Tagged("!override", value)


RESET = Tagged("!reset")


def quote(text: str) -> str:
    """Return ``text`` as a double-quoted YAML scalar."""
    return _UNPRINTABLE.sub(
        lambda match: f"\\u{ord(match.group()):04x}", json.dumps(text, ensure_ascii=False)
    )


def emit(value: Mapping[str, Any]) -> str:
    """Return a mapping as a YAML document, in the mapping's order."""
    return "".join(f"{line}\n" for line in _lines(value, ""))


def _key(key: str) -> str:
    return key if _PLAIN_KEY.fullmatch(key) and key.lower() not in _RESERVED else quote(key)


def _scalar(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    return quote(str(value).replace("$", "$$"))


def _lines(value: Any, indent: str) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, child in value.items():
            yield from _entry(f"{indent}{_key(key)}:", child, indent)
    else:
        for child in value:
            if isinstance(child, Mapping) and child:
                inner = list(_lines(child, f"{indent}  "))
                yield f"{indent}- {inner[0].lstrip()}"
                yield from inner[1:]
            else:
                yield from _entry(f"{indent}-", child, indent)


def _entry(head: str, child: Any, indent: str) -> Iterator[str]:
    if isinstance(child, Tagged):
        head, child = f"{head} {child.tag}", child.value
    if isinstance(child, Mapping | list | tuple):
        if not child:
            yield f"{head} {'{}' if isinstance(child, Mapping) else '[]'}"
            return
        yield head
        yield from _lines(child, f"{indent}  ")
    else:
        yield f"{head} {_scalar(child)}"
