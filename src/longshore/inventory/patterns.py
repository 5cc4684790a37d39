"""Ansible's host patterns: ``web:db``, ``web:!web2``, ``web:&prod``, ``web*``, ``~regex``, ``web[0:1]``.

As in Ansible, names are united first, then intersected (``&``), then excluded (``!``), whatever the order
they are written in; ``:``, ``,`` and ``;`` separate. Unlike Ansible, a name that is neither host nor group is
an error, because a typo in ``--limit`` must not deploy to fewer hosts in silence.
"""

from __future__ import annotations

import fnmatch
import re
import warnings
from collections.abc import Callable, Iterable, Mapping

from longshore.errors import InventoryError, Where
from longshore.inventory.model import Group
from longshore.inventory.nearest import did_you_mean

_SUBSCRIPT = re.compile(
    r"(?P<name>.+)\[(?:(?P<index>-?\d+)|(?P<start>\d*):(?P<end>\d*)|(?P<first>\d+)-(?P<last>\d*))\]", re.ASCII
)
_GLOB = frozenset("*?[")
_OPENING, _CLOSING = "[{(", "]})"


def match(
    pattern: str,
    *,
    hosts: Iterable[str],
    groups: Mapping[str, Group],
    where: Where | str | None = None,
) -> tuple[str, ...]:
    """Return the names of the hosts that ``pattern`` stands for, in the order of ``hosts``.

    A single host that ``web[0]`` or an exact name picks is found by its place in its group. Raises
    ``InventoryError`` for an unknown name or a pattern that can't be read. An empty result is no error.
    """
    finder = _Finder(tuple(hosts), groups, where)
    union: set[str] = set()
    required: list[set[str]] = []
    excluded: set[str] = set()
    plain = False
    for part in split(pattern):
        if part.startswith("&"):
            required.append(finder.find(part[1:]))
        elif part.startswith("!"):
            excluded |= finder.find(part[1:])
        else:
            plain = True
            union |= finder.find(part)
    if not plain:
        if not required and not excluded:
            raise InventoryError("The host pattern is empty.", where=where, hint="all stands for every host.")
        union = set(finder.hosts)
    for other in required:
        union &= other
    union -= excluded
    return tuple(name for name in finder.hosts if name in union)


def split(pattern: str) -> list[str]:
    """Split at ``:``, ``,`` and ``;`` outside of brackets; ``web[0:1]`` and ``2001:db8::1`` stay whole."""
    if "::" in pattern or re.fullmatch(r"[!&]?([0-9a-fA-F]{1,4}:){7}[0-9a-fA-F]{1,4}", pattern):
        separators = ",;"
    else:
        separators = ":,;"
    parts, depth, current = [], 0, ""
    for character in pattern:
        if character in separators and depth <= 0:
            parts.append(current)
            current = ""
            continue
        depth += (character in _OPENING) - (character in _CLOSING)
        current += character
    parts.append(current)
    return [part.strip() for part in parts if part.strip()]


class _Finder:
    """Finds the hosts of one name, glob, regex or subscript."""

    def __init__(
        self, hosts: tuple[str, ...], groups: Mapping[str, Group], where: Where | str | None
    ) -> None:
        self.hosts = hosts
        self._known = frozenset(hosts)
        self._groups = groups
        self._where = where

    def find(self, name: str) -> set[str]:
        if name in ("all", "*"):
            return set(self.hosts)
        if name in self._known:
            return {name}
        if name in self._groups:
            return set(self._groups[name].hosts) & self._known
        if name.startswith("~"):
            return self._regex(name[1:])
        subscript = _SUBSCRIPT.fullmatch(name)
        if subscript and (found := self._subscript(subscript)) is not None:
            return found
        if _GLOB & set(name):
            return self._glob(name)
        # The name may be one of the inventory's hosts that this pattern is not allowed to reach.
        everywhere = self._groups.get("all")
        if everywhere and name in everywhere.hosts:
            return set()
        raise InventoryError(
            f"There is no host or group named {name!r}.",
            where=self._where,
            hint=did_you_mean(name, [*self._groups, *self.hosts], list_all="Groups and hosts"),
        )

    def _regex(self, text: str) -> set[str]:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # of what "[[" may come to mean
                regex = re.compile(text)
        except (re.error, OverflowError, RecursionError) as error:
            raise InventoryError(
                f"The regular expression {text!r} can't be read: {error}.", where=self._where
            ) from None
        return self._by(lambda name: regex.match(name) is not None)

    def _glob(self, text: str) -> set[str]:
        return self._by(lambda name: fnmatch.fnmatchcase(name, text))

    def _by(self, matches: Callable[[str], bool]) -> set[str]:
        found = {name for name in self.hosts if matches(name)}
        for group in self._groups.values():
            if matches(group.name):
                found |= set(group.hosts) & self._known
        return found

    def _subscript(self, subscript: re.Match[str]) -> set[str] | None:
        """``web[0]``, ``web[-1]``, ``web[0:1]`` (both ends included), ``web[1:]``; of a group or a glob.

        ``web[0-1]`` is Ansible's other way to write a range; where ``web`` is no group it is a glob.
        """
        name = subscript["name"]
        if name not in self._groups and name not in ("all", "*") and not _GLOB & set(name):
            if name.startswith("~") or subscript["start"] is not None:
                self.find(name)
            return None
        chosen = self.find(name)
        ordered = [host for host in self.hosts if host in chosen]
        if subscript["index"] is not None:
            index = int(subscript["index"])
            return {ordered[index]} if -len(ordered) <= index < len(ordered) else set()
        start = int(subscript["start"] or subscript["first"] or 0)
        last = subscript["end"] or subscript["last"]
        end = int(last) + 1 if last else None
        return set(ordered[start:end])
