"""YAML as Compose reads it: YAML 1.2 scalars, merge keys, ``!reset`` and ``!override``, and places.

Every string, mapping and list remembers where it was written, so that an error can say so. Nothing here
knows what a service is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import yaml

from longshore.errors import RenderError, Where
from longshore.records import dataclass

# Anchors can make a small file expand without end; compose-go has the same bound.
_MAX_NODES = 100_000
# libyaml composes by recursion, and overflows the stack of the process. From 0.2.6 on it has a bound of its
# own (1,000), which its scanner can reach before we have counted to ours.
_MAX_DEPTH = 100
_LIBYAML_TOO_DEEP = "maximum nesting depth"
_MAX_BITS = 10_000

_BaseLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Text(str):
    """A string and where it was written. ``unset`` names the variables in it that had no value."""

    where: Where
    unset: tuple[str, ...] = ()

    @classmethod
    def at(cls, value: str, where: Where, unset: tuple[str, ...] = ()) -> Text:
        """Return ``value`` as written at ``where``."""
        text = cls(value)
        text.where = where
        if unset:
            text.unset = unset
        return text


class Map(dict[str, Any]):
    """A mapping, where it begins, and where each of its keys is."""

    def __init__(self, where: Where) -> None:
        super().__init__()
        self.where = where
        self.at: dict[str, Where] = {}

    def put(self, key: str, value: Any, where: Where) -> None:
        """Set a key and remember its place."""
        self[key] = value
        self.at[key] = where

    def where_of(self, key: str) -> Where:
        """The place of a key, or of the whole mapping."""
        return self.at.get(key, self.where)


class Items(list[Any]):
    """A list and where it begins."""

    def __init__(self, where: Where) -> None:
        super().__init__()
        self.where = where


@dataclass(frozen=True)
class Reset:
    """``!reset``: what earlier files said of this key is dropped."""

    where: Where


@dataclass(frozen=True)
class Override:
    """``!override``: what earlier files said of this key is replaced, not merged."""

    value: Any
    where: Where


def unmarked(value: Any) -> Any:
    """The value itself, where it is marked ``!override``."""
    return value.value if isinstance(value, Override) else value


class _Loader(_BaseLoader):  # type: ignore[misc]
    """Composes nodes only; scalars get the tags that yaml.v3, which Compose uses, gives them."""

    yaml_implicit_resolvers: dict[Any, Any] = {}  # noqa: RUF012  (PyYAML's own protocol)


def _resolver(tag: str, pattern: str, first: str) -> None:
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(f"^(?:{pattern})$"), list(first))


_resolver("null", "~|null|Null|NULL|", "~nN")
_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile("^$"), [""])
_resolver("bool", "true|True|TRUE|false|False|FALSE", "tTfF")
_resolver("int", r"[-+]?(?:0b[01_]+|0o[0-7_]+|0x[0-9a-fA-F_]+|[0-9][0-9_]*)", "-+0123456789")
_resolver(
    "float",
    r"[-+]?(?:\.[0-9]+|[0-9][0-9_]*(?:\.[0-9_]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
    "-+0123456789.",
)
_resolver("merge", "<<", "<")


@lru_cache(maxsize=256)
def parse(text: str, file: str) -> tuple[Any, ...]:
    """Return the documents of ``text``: ``Map``, ``Items``, ``Text`` and plain scalars, never to be changed.

    ``file`` is the name for places. Raises ``RenderError`` with file, line and column.
    """
    try:
        _check_depth(text, file)
        nodes = list(yaml.compose_all(text, Loader=_Loader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = Where(file, mark.line + 1, mark.column + 1) if mark else Where(file)
        problem = error.problem or error.context or ""
        if _LIBYAML_TOO_DEEP in problem:
            raise _too_deep(where) from None
        raise RenderError(f"This is not valid YAML: {problem}.", where=where) from None
    except yaml.YAMLError as error:
        raise RenderError(f"This is not valid YAML: {error}.", where=Where(file)) from None
    return tuple(_Builder(file).build(node) for node in nodes if node is not None)


def _check_depth(text: str, file: str) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=_BaseLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > _MAX_DEPTH:
                mark = event.start_mark
                where = Where(file, mark.line + 1, mark.column + 1) if mark else Where(file)
                raise _too_deep(where)
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _too_deep(where: Where) -> RenderError:
    return RenderError(f"This is nested more than {_MAX_DEPTH} levels deep.", where=where)


class _Builder:
    def __init__(self, file: str) -> None:
        self.file = file
        self.count = 0
        self.open: set[int] = set()

    def where(self, node: yaml.Node) -> Where:
        return Where(self.file, node.start_mark.line + 1, node.start_mark.column + 1)

    def build(self, node: yaml.Node) -> Any:
        self.count += 1
        if self.count > _MAX_NODES:
            raise RenderError("This YAML expands to more than 100,000 nodes by its anchors.", where=self.file)
        if node.tag == "!reset":
            return Reset(self.where(node))
        if node.tag == "!override":
            return Override(self.plain(node), self.where(node))
        return self.plain(node)

    def plain(self, node: yaml.Node) -> Any:
        if isinstance(node, yaml.ScalarNode):
            return self.scalar(node)
        if id(node) in self.open:
            raise RenderError("This anchor contains itself.", where=self.where(node))
        self.open.add(id(node))
        try:
            if isinstance(node, yaml.SequenceNode):
                items = Items(self.where(node))
                items.extend(self.build(child) for child in node.value)
                return items
            return self.mapping(node)
        finally:
            self.open.discard(id(node))

    def scalar(self, node: yaml.ScalarNode) -> Any:
        kind = node.tag.rpartition(":")[2]
        value: str = node.value
        if kind == "null":
            return None
        if kind == "bool":
            return value.lower() == "true"
        try:
            if kind == "int":
                return _integer(value)
            if kind == "float":
                return float(value.replace("_", "").replace(".inf", "inf").replace(".nan", "nan").lower())
        except ValueError:
            pass
        return Text.at(value, self.where(node))

    def mapping(self, node: yaml.Node) -> Map:
        result = Map(self.where(node))
        merged: list[Map] = []
        for key_node, value_node in node.value:
            where = self.where(key_node)
            if key_node.tag == "tag:yaml.org,2002:merge":
                merged.extend(self.merged(value_node))
                continue
            key = self.plain(key_node) if isinstance(key_node, yaml.ScalarNode) else None
            if not isinstance(key, str):
                shown = getattr(key_node, "value", None)
                raise RenderError(
                    f"The key {shown if isinstance(shown, str) else 'here'} is not a text.",
                    where=where,
                    hint="Put it in quotes.",
                )
            if key in result:
                raise RenderError(
                    f"The key {key!r} is given twice here, first in line {result.at[key].line}.", where=where
                )
            result.put(key, self.build(value_node), where)
        for base in merged:
            for key, value in base.items():
                if key not in result:
                    result.put(key, value, base.where_of(key))
        return result

    def merged(self, node: yaml.Node) -> Iterator[Map]:
        nodes = node.value if isinstance(node, yaml.SequenceNode) else [node]
        for child in nodes:
            built = self.build(child)
            if not isinstance(built, Map):
                raise RenderError("<< merges mappings only.", where=self.where(child))
            yield built


def _integer(value: str) -> int:
    digits = value.replace("_", "")
    unsigned = digits.lstrip("+-")
    if len(unsigned) > 1 and unsigned[0] == "0" and unsigned.isdigit():
        return int(digits, 8)  # yaml.v3 keeps YAML 1.1's octal numbers
    number = int(digits, 0)
    if number.bit_length() > _MAX_BITS:
        raise ValueError("Python refuses to print it")
    return number
