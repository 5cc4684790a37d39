"""What was said about a host, level by level, and what it comes to: lazily, and shared between hosts."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import field
from typing import Any

from longshore.errors import InventoryError, LongshoreError
from longshore.inventory.model import Source, Variable
from longshore.inventory.nodes import MappingNode, Node, Scalar, closed_error, plain
from longshore.records import dataclass

SETTINGS = "longshore"


@dataclass(frozen=True, eq=False)
class Said:
    """A value somewhere in the inventory, and who said it."""

    node: Node
    source: Source


Stacks = Mapping[str, tuple[Said, ...]]
"""Name to everything said about it, weakest first."""


def stacked(said: Iterable[tuple[str, Said]], below: Stacks | None = None) -> dict[str, tuple[Said, ...]]:
    """Put what is said, weakest first, on top of ``below``."""
    stacks = dict(below or {})
    for name, value in said:
        stacks[name] = (*stacks.get(name, ()), value)
    return stacks


@dataclass(eq=False)
class Layers:
    """What one host hears, as stacks: ``role`` below ``groups`` below ``own`` below ``command``."""

    role: Stacks
    groups: Stacks
    own: Stacks
    command: Stacks

    def said(self, name: str) -> tuple[Said, ...]:
        """Everything said about ``name``, weakest first."""
        return (
            *self.role.get(name, ()),
            *self.groups.get(name, ()),
            *self.own.get(name, ()),
            *self.command.get(name, ()),
        )

    def winner(self, name: str) -> Said | None:
        """The strongest that is said about ``name``."""
        for stacks in (self.command, self.own, self.groups, self.role):
            if found := stacks.get(name):
                return found[-1]
        return None

    def names(self) -> dict[str, None]:
        """All names, in the order weakest level first."""
        names: dict[str, None] = {}
        for stacks in (self.role, self.groups, self.own, self.command):
            names.update(dict.fromkeys(stacks))
        return names


_THREAD = threading.local()


def _resolving() -> list[tuple[int, str]]:
    """What this thread is resolving, outermost first: a context's id and a name.

    Hosts are rendered in threads that share contexts, so the contexts themselves can't hold it.
    """
    found: list[tuple[int, str]] | None = getattr(_THREAD, "resolving", None)
    if found is None:
        found = _THREAD.resolving = []
    return found


@dataclass(eq=False)
class Context(Mapping[str, Any]):
    """A host's variables with templates resolved, each when it is asked for, once.

    ``magic`` are names that Ansible defines and nobody can change; ``fallbacks`` are names of ours that the
    inventory may use for something else. Asking for a broken variable raises ``InventoryError``.
    """

    layers: Layers
    magic: Mapping[str, Any]
    fallbacks: Mapping[str, Any]
    settings: Node | None = None
    """Our settings after all levels; the value of ``longshore``."""
    notice: Callable[[str, Scalar], None] = lambda name, node: None
    """Told of a number that a template uses and that YAML reads otherwise than it is written."""
    _values: dict[str, Any] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Any:
        try:
            return self._values[name]
        except KeyError:
            pass
        if name in self.magic:
            return self.magic[name]
        node = self.settings if name == SETTINGS and self.settings is not None else None
        if node is None:
            said = self.layers.winner(name)
            if said is None:
                return self.fallbacks[name]
            node = said.node
        resolving = _resolving()
        key = (id(self), name)
        if key in resolving:
            loop = [inner for _, inner in resolving[resolving.index(key) :]]
            shown = " > ".join([*loop, name])
            raise InventoryError(f"The variable {name} is defined by itself: {shown}.", where=node.where)
        resolving.append(key)
        try:
            value = self._values[name] = self.resolve(node)
        finally:
            resolving.pop()
        if isinstance(node, Scalar) and node.surprising and not isinstance(value, bool):
            self.notice(name, node)
        return value

    def resolve(self, node: Node) -> Any:
        """The node as plain values, its templates resolved with this host's variables."""
        if isinstance(node, Scalar):
            if node.closed:
                raise closed_error(node.where)
            if not node.is_template:
                return node.value
            from longshore.inventory.templates import resolve_text  # and Jinja2 with it

            return resolve_text(str(node.value), self, node.where)
        if isinstance(node, MappingNode):
            return {key.name: self.resolve(value) for key, value in node}
        return [self.resolve(item) for item in node.items]

    def __contains__(self, name: object) -> bool:
        if not isinstance(name, str):
            return False
        return name in self.magic or self.layers.winner(name) is not None or name in self.fallbacks

    def __iter__(self) -> Iterator[str]:
        names = self.layers.names()
        names.update(dict.fromkeys(self.magic))
        names.update(dict.fromkeys(self.fallbacks))
        return iter(names)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:  # values may be secrets
        return f"<variables: {', '.join(self)}>"


class TemplateVariables(Mapping[str, Any]):
    """A context for templates of the project, with ``extra`` names below the host's own.

    A variable that is broken becomes a value that says so when a template uses it, so that the ones that
    nobody uses stay harmless.
    """

    def __init__(self, context: Context, extra: Mapping[str, Any]) -> None:
        self._context = context
        self._extra = extra

    def __getitem__(self, name: str) -> Any:
        own = name in self._context and name not in self._context.fallbacks
        if not own and name in self._extra:
            return self._extra[name]
        try:
            return self._context[name]
        except LongshoreError as error:
            from longshore.inventory.templates import undefined

            return undefined(error)

    def __iter__(self) -> Iterator[str]:
        return iter({**dict.fromkeys(self._context), **dict.fromkeys(self._extra)})

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return repr(self._context)


class HostVariables(Mapping[str, Variable]):
    """What was said about a host, by name: the winner with its source, and what it overrode."""

    def __init__(self, context: Context) -> None:
        self.context = context

    def __getitem__(self, name: str) -> Variable:
        said = self.context.layers.said(name)
        if not said:
            raise KeyError(name)
        overrode = tuple((plain(entry.node), entry.source) for entry in reversed(said[:-1]))
        return Variable(name, self.context[name], said[-1].source, overrode)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.context.layers.winner(name) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self.context.layers.names())

    def __len__(self) -> int:
        return len(self.context.layers.names())

    def __repr__(self) -> str:
        return repr(self.context)


class Peers(Mapping[str, Context]):
    """``hostvars``: every host's variables by its name."""

    def __init__(self, contexts: Mapping[str, Context]) -> None:
        self._contexts = contexts

    def __getitem__(self, name: str) -> Context:
        return self._contexts[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._contexts)

    def __len__(self) -> int:
        return len(self._contexts)


TEMPLATE_NAMES = ("range", "dict", "lipsum", "cycler", "joiner", "namespace", "lookup")
"""What every template has: Jinja2's globals, and ``lookup``."""


class Fallbacks(Mapping[str, Any]):
    """The names below all others: ``own`` ones, and those that every template has. Jinja2 is only imported
    when one of these is asked for: an inventory without templates does without it."""

    def __init__(self, own: Mapping[str, Any]) -> None:
        self._own = own

    def __getitem__(self, name: str) -> Any:
        if name in self._own:
            return self._own[name]
        if name not in TEMPLATE_NAMES:
            raise KeyError(name)
        from longshore.inventory.templates import template_globals

        return template_globals()[name]

    def __contains__(self, name: object) -> bool:
        return name in self._own or name in TEMPLATE_NAMES

    def __iter__(self) -> Iterator[str]:
        return iter((*TEMPLATE_NAMES, *self._own))

    def __len__(self) -> int:
        return len(TEMPLATE_NAMES) + len(self._own)
