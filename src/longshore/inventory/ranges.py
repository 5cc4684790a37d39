"""Host ranges as Ansible has them: ``web[1:3]``, ``web[01:10:2]``, ``db-[a:c]``, and ``name:port``."""

from __future__ import annotations

import re
import string

_RANGE = re.compile(
    r"\[(?:(?P<low>\d*):(?P<high>\d+)|(?P<from>[a-zA-Z]):(?P<to>[a-zA-Z]))(?::(?P<step>\d+))?\]", re.ASCII
)
_PORT = re.compile(r"(?P<name>\[[0-9a-fA-F:.]+\]|(?:[^\[\]:]|\[[^\[\]]*\])+):(?P<port>\d{1,5})", re.ASCII)
_MAX_HOSTS = 20_000


def split_port(name: str) -> tuple[str, int | None]:
    """Split ``web1:2222`` or ``[2001:db8::1]:22`` into name and port; a bare IPv6 address has no port."""
    match = _PORT.fullmatch(name)
    if not match:
        return name, None
    bare = match["name"]
    if bare.startswith("[") and not _RANGE.search(bare):
        bare = bare.strip("[]")
    return bare, int(match["port"])


def expand(name: str) -> list[str]:
    """Return the names that ``name`` stands for, in order. Both ends of a range belong to it.

    Raises ``ValueError`` with a sentence. The rules are those of Ansible's ``expand_hostname_range``.
    """
    match = _RANGE.search(name)
    if not match:
        if "[" in name and ":" in name and not re.fullmatch(r"\[[0-9a-fA-F:.]+\]", name):
            raise ValueError(f"{name} is not a range. Write it as web[1:3], web[01:10:2] or db-[a:c].")
        return [name]
    parts = _letters(match) if match["from"] else _numbers(match)
    head, tail = name[: match.start()], expand(name[match.end() :]) if match.end() < len(name) else [""]
    if len(parts) * len(tail) > _MAX_HOSTS:
        raise ValueError(f"{name} stands for more than {_MAX_HOSTS} hosts.")
    return [f"{head}{part}{rest}" for part in parts for rest in tail]


def _numbers(match: re.Match[str]) -> list[str]:
    low, high, step = match["low"] or "0", match["high"], int(match["step"] or 1)
    if len(low) > 9 or len(high) > 9:
        raise ValueError(f"{match[0]} is not a range of hosts: the numbers are too large.")
    width = 0
    if len(low) > 1 and low.startswith("0"):
        width = len(low)
        if len(high) != width:
            raise ValueError(
                f"{match[0]} needs the same number of digits at both ends: [{low}:{high.zfill(width)}]."
            )
    if step == 0 or int(low) > int(high):
        raise ValueError(f"{match[0]} stands for no host: it must go upwards, as [1:3].")
    if (int(high) - int(low)) // step > _MAX_HOSTS:
        raise ValueError(f"{match[0]} stands for more than {_MAX_HOSTS} hosts.")
    return [str(number).zfill(width) for number in range(int(low), int(high) + 1, step)]


def _letters(match: re.Match[str]) -> list[str]:
    letters = string.ascii_letters
    first, last, step = letters.index(match["from"]), letters.index(match["to"]), int(match["step"] or 1)
    if step == 0 or first > last:
        raise ValueError(f"{match[0]} stands for no host: it must go upwards, as [a:c].")
    return list(letters[first : last + 1 : step])
