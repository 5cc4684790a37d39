"""Reading YAML with places, safely: events of libyaml turned into :mod:`longshore.inventory.nodes`.

The tree is built without recursion and with bounds on depth and on what aliases add up to, because
libyaml's own composer overflows the stack on deep nesting and aliases can multiply without end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from longshore.errors import InventoryError, Where
from longshore.inventory.nodes import MAX_DEPTH, Key, MappingNode, Node, Scalar, SequenceNode

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_RESOLVER: Any = yaml.resolver.Resolver()
_CONSTRUCTOR = yaml.constructor.SafeConstructor()
_TAG = "tag:yaml.org,2002:"
_SPACES = "Use spaces."
_MAX_NODES = 500_000
_MAX_BYTES = 16 * 1024 * 1024

Report = Callable[[InventoryError], None]
"""Takes a problem that doesn't stop the reading."""


def read_yaml(path: Path, name: str, report: Report) -> Node | None:
    """Read one YAML document; ``None`` for an empty file.

    ``name`` is how the file is called in errors. Duplicate keys and the like go to ``report``; what can't be
    read on from raises ``InventoryError``.
    """
    return parse_yaml(read_text(path, name), name, report)


def read_text(path: Path, name: str) -> str:
    """Read a UTF-8 file. Raises ``InventoryError`` with a sentence when it can't be read as that."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise InventoryError("The file is larger than 16 MB, which no inventory is.", where=Where(name))
        data = path.read_bytes()
    except OSError as error:
        raise InventoryError(f"The file can't be read: {error.strerror}.", where=Where(name)) from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InventoryError(
            "The file is not UTF-8 text.", where=Where(name, line), hint="Save it as UTF-8."
        ) from None


def parse_yaml(text: str, name: str, report: Report) -> Node | None:
    """Parse the text of one YAML document; see :func:`read_yaml`."""
    if text.startswith("$ANSIBLE_VAULT;"):
        raise InventoryError(
            "The file is encrypted with Ansible Vault, which Longshore doesn't read.",
            where=Where(name, 1),
            hint="Move its secrets to env/<environment>.env, or decrypt it with ansible-vault.",
        )
    builder = _Builder(name, report)
    loader = None
    try:
        loader = _Loader(text)
        return builder.build(_events(loader))
    except yaml.MarkedYAMLError as error:
        raise _syntax(error, name, text) from None
    except yaml.YAMLError as error:
        position = getattr(error, "position", None)
        where = Where(name, text.count("\n", 0, position) + 1) if isinstance(position, int) else Where(name)
        raise InventoryError(f"This is not YAML: {_one_line(error)}.", where=where) from None
    finally:
        if loader is not None:
            loader.dispose()


def _events(loader: Any) -> Iterator[Any]:
    while loader.check_event():
        yield loader.get_event()


def _syntax(error: yaml.MarkedYAMLError, name: str, text: str) -> InventoryError:
    mark = error.problem_mark or error.context_mark
    where = Where(name, mark.line + 1, mark.column + 1) if mark else Where(name)
    problem = error.problem or _one_line(error)
    if "maximum nesting depth" in problem:  # libyaml's own bound (1,000), which its scanner may reach first
        return _too_deep(where)
    message, hint = syntax_problem(problem, text, mark.line if mark else -1)
    if "{{" in _lines_until(text, mark.line if mark else -1) and hint != _SPACES:
        hint = 'A value that starts with {{ must be in quotes: "{{ name }}".'
    return InventoryError(message, where=where, hint=hint)


def syntax_problem(problem: str, text: str, line: int) -> tuple[str, str]:
    """The sentence and the hint for what libyaml says of a line (from 0; -1 where none is known)."""
    lines = text.splitlines()
    written = lines[line] if 0 <= line < len(lines) else ""
    if "\t" in written and "token" in problem:
        return "A tab is used here, which YAML forbids.", _SPACES
    hint = ""
    if "mapping values are not allowed" in problem:
        hint = "A colon followed by a space needs quotes around the text, or the indentation is wrong."
    return f"This is not YAML: {problem}.", hint


def _lines_until(text: str, line: int) -> str:
    """A line and the one before it: libyaml may notice late."""
    return "\n".join(text.splitlines()[max(line - 1, 0) : line + 1]) if line >= 0 else ""


def _too_deep(where: Where) -> InventoryError:
    return InventoryError(f"This is nested more than {MAX_DEPTH} levels deep.", where=where)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")


class _Open:
    """A mapping or list that is still being read."""

    def __init__(self, *, mapping: bool, where: Where, anchor: str | None) -> None:
        self.mapping = mapping
        self.where = where
        self.anchor = anchor
        self.items: dict[str, tuple[Key, Node]] = {}
        self.merged: list[Node] = []
        self.list: list[Node] = []
        self.key: Key | None = None
        self.expects_value = False
        self.is_merge = False
        self.size = 1


class _Builder:
    """Builds the tree of one document from libyaml's events."""

    def __init__(self, name: str, report: Report) -> None:
        self._name = name
        self._report = report
        self._anchors: dict[str, tuple[Node, int]] = {}
        self._stack: list[_Open] = []
        self._root: Node | None = None
        self._documents = 0

    def build(self, events: Iterator[Any]) -> Node | None:
        for event in events:
            if isinstance(event, yaml.ScalarEvent):
                self._add(self._scalar(event), event.anchor)
            elif isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
                self._open(event)
            elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
                self._close()
            elif isinstance(event, yaml.AliasEvent):
                self._alias(event)
            elif isinstance(event, yaml.DocumentStartEvent):
                self._documents += 1
                if self._documents > 1:
                    raise InventoryError(
                        "A second document starts here.",
                        where=self._where(event),
                        hint="Keep one document in the file.",
                    )
        return self._root

    def _where(self, event: Any) -> Where:
        mark = event.start_mark
        return Where(self._name, mark.line + 1, mark.column + 1)

    def _open(self, event: Any) -> None:
        where = self._where(event)
        if len(self._stack) >= MAX_DEPTH:
            raise _too_deep(where)
        mapping = isinstance(event, yaml.MappingStartEvent)
        kind = "map" if mapping else "seq"
        if event.tag not in (None, "!", _TAG + kind):
            self._report(_unknown_tag(event.tag, where))
        self._stack.append(_Open(mapping=mapping, where=where, anchor=event.anchor))

    def _close(self) -> None:
        top = self._stack.pop()
        node: Node = SequenceNode(top.list, top.where)
        if top.mapping:
            node = MappingNode(_with_merged(top), top.where)
        self._add(node, top.anchor, size=top.size)

    def _alias(self, event: Any) -> None:
        found = self._anchors.get(event.anchor)
        if found is None:
            if any(entry.anchor == event.anchor for entry in self._stack):
                message = f"The anchor &{event.anchor} is used inside itself."
                raise InventoryError(message, where=self._where(event))
            # Not shown: it may be a password that begins so.
            raise InventoryError(
                "What stands here begins with an asterisk, which YAML takes for a name that an & above gave,"
                " and none did.",
                where=self._where(event),
                hint="Put the value in quotes.",
            )
        node, size = found
        self._add(node, None, size=size, where=self._where(event))

    def _add(self, node: Node, anchor: str | None, *, size: int = 1, where: Where | None = None) -> None:
        if anchor:
            self._anchors[anchor] = (node, size)
        if not self._stack:
            self._root = node
            return
        top = self._stack[-1]
        top.size += size
        if top.size > _MAX_NODES:
            raise InventoryError(
                f"The aliases add up to more than {_MAX_NODES} values.", where=where or node.where
            )
        if not top.mapping:
            top.list.append(node)
        elif not top.expects_value:
            top.expects_value = True
            top.key = self._key(node, where or node.where)
            top.is_merge = isinstance(node, Scalar) and node.raw == "<<" and node.value is None
        else:
            self._pair(top, node)
            top.expects_value = False

    def _pair(self, top: _Open, node: Node) -> None:
        if top.is_merge:
            parts = list(node.items) if isinstance(node, SequenceNode) else [node]
            for part in parts:
                if isinstance(part, MappingNode):
                    top.merged.append(part)
                else:
                    self._report(
                        InventoryError("<< takes a mapping, or a list of mappings.", where=part.where)
                    )
            return
        key = top.key
        if key is None:
            return
        earlier = top.items.get(key.name)
        if earlier is not None:
            self._report(
                InventoryError(
                    f"The key {key.name} is given twice, first in line {earlier[0].where.line}.",
                    where=key.where,
                    hint="Keep one of them.",
                )
            )
            return
        top.items[key.name] = (key, node)

    def _key(self, node: Node, where: Where) -> Key | None:
        if not isinstance(node, Scalar):
            what = "mapping" if isinstance(node, MappingNode) else "list"
            hint = 'A value that starts with {{ must be in quotes: "{{ name }}".' if what == "mapping" else ""
            self._report(InventoryError(f"A {what} can't be a key.", where=where, hint=hint))
            return None
        if isinstance(node.value, bool):
            self._report(
                InventoryError(
                    f"The key {node.raw} is the boolean {str(node.value).lower()} to YAML.",
                    where=where,
                    hint=f'Write it in quotes: "{node.raw}".',
                )
            )
            return None
        if node.value is None:
            if node.raw != "<<":
                self._report(
                    InventoryError("A key is missing before the colon.", where=where, hint="Name it.")
                )
            return None
        return Key(node.value if isinstance(node.value, str) else node.raw, where)

    def _scalar(self, event: Any) -> Scalar:
        where = self._where(event)
        raw: str = event.value
        tag: str = event.tag or ""
        if tag in ("", "!"):
            quoted = (event.style is not None and event.style != "") or tag == "!"
            tag = _TAG + "str" if quoted else _RESOLVER.resolve(yaml.ScalarNode, raw, (True, False))
        if tag == "!unsafe":
            return Scalar(raw, raw, where, unsafe=True)
        if tag == "!vault" or raw.startswith("$ANSIBLE_VAULT;"):
            return Scalar(None, "", where, closed=True)
        short = tag[len(_TAG) :] if tag.startswith(_TAG) else ""
        if short in ("int", "float", "bool", "null"):
            return Scalar(self._construct(short, tag, raw, where), raw, where)
        if short == "merge":
            return Scalar(None, "<<", where)
        # Dates stay the text that was written: no template can tell them apart anyway.
        if short not in ("str", "timestamp", "value"):
            self._report(_unknown_tag(tag, where))
        return Scalar(raw, raw, where)

    def _construct(self, short: str, tag: str, raw: str, where: Where) -> Any:
        node = yaml.ScalarNode(tag, raw)
        try:
            value = getattr(_CONSTRUCTOR, f"construct_yaml_{short}")(node)
            str(value)  # Python refuses to print an integer of more than 4,300 digits
            return value
        except (ValueError, KeyError, IndexError, OverflowError):
            self._report(
                InventoryError(
                    f"{raw[:40]!r} can't be read as YAML's {short}.", where=where, hint="Write it in quotes."
                )
            )
            return None


def _with_merged(top: _Open) -> dict[str, tuple[Key, Node]]:
    """The mapping's own keys over those of ``<<``; of several merged mappings, the first wins."""
    if not top.merged:
        return top.items
    items = dict(top.items)
    for part in top.merged:
        if isinstance(part, MappingNode):
            for name, pair in part.items.items():
                items.setdefault(name, pair)
    return items


def _unknown_tag(tag: str, where: Where) -> InventoryError:
    if tag.startswith(_TAG):
        message = f"The tag {tag.replace(_TAG, '!!')} isn't supported."
        return InventoryError(message, where=where, hint="Remove it, or write the value as plain text.")
    # Not shown: it may be a password that begins so.
    return InventoryError(
        "What stands here begins with an exclamation mark, which YAML takes for a tag.",
        where=where,
        hint="Put the value in quotes.",
    )
