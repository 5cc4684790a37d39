"""What a setting can be: kinds that check a value, explain it, and describe themselves as JSON Schema.

A kind turns a node into a value, or reports a sentence with an example and returns ``None``. Templates are
resolved on the way by the :class:`Reading`; in the first pass over the files they are left for later.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from typing import Any

from longshore import values
from longshore.errors import InventoryError, Where
from longshore.inventory.hidden import looks_secret
from longshore.inventory.nearest import did_you_mean
from longshore.inventory.nodes import (
    MappingNode,
    Node,
    Scalar,
    SequenceNode,
    closed_error,
    describe,
    from_plain,
    is_null,
)
from longshore.records import dataclass

_SURROGATE = re.compile("[\ud800-\udfff]")


class Later:
    """The value of a template in the first pass: unknown yet, and no error."""


LATER = Later()


@dataclass
class Reading:
    """One pass over settings: where problems go, and how templates are resolved (``None``: not yet)."""

    report: Callable[[InventoryError], None]
    resolve: Callable[[Scalar], Any] | None = None
    environment_wide: bool = True
    """Whether what is read is said at a level that covers every host."""
    templated: bool = False
    """Set when a template was met: the value then belongs to one host only."""
    failed: bool = False
    """Set when a template could not be resolved: what then is missing isn't the person's omission."""
    memo: dict[tuple[int, int], tuple[Node, Any]] | None = None
    """Values of mappings without a template, shared between the readings of many hosts."""

    def problem(self, message: str, where: Where, hint: str = "") -> None:
        self.report(InventoryError(message, where=where, hint=hint))

    def open(self, node: Node) -> Node | Later:
        """The node itself, or what its template resolves to."""
        if isinstance(node, Scalar) and node.closed:
            self.report(closed_error(node.where))
            self.failed = True
            return LATER
        if not isinstance(node, Scalar) or not node.is_template:
            return node
        self.templated = True
        if self.resolve is None:
            return LATER
        try:
            return from_plain(self.resolve(node), node.where)
        except InventoryError as error:
            self.report(error)
            self.failed = True
            return LATER


@dataclass(frozen=True)
class Kind:
    """Base of all kinds. ``label`` and ``example`` are for people: the reference table and errors."""

    label: str = ""
    example: str = ""

    def check(self, node: Node, name: str, reading: Reading) -> Any:
        """Return the value, or ``None`` after a report; ``LATER`` for a template of the first pass."""
        if reading.memo is not None and isinstance(node, MappingNode):
            return self._remembered(node, name, reading, reading.memo)
        opened = reading.open(node)
        if isinstance(opened, Later):
            return LATER
        return self.read(opened, name, reading)

    def _remembered(
        self, node: MappingNode, name: str, reading: Reading, memo: dict[tuple[int, int], tuple[Node, Any]]
    ) -> Any:
        key = (id(node), id(self))
        if key in memo:
            return memo[key][1]
        before, reading.templated = reading.templated, False
        value = self.read(node, name, reading)
        if not reading.templated:
            memo[key] = (node, value)  # with the node, so that its id stays its own
        reading.templated |= before
        return value

    def read(self, node: Node, name: str, reading: Reading) -> Any:
        raise NotImplementedError

    def schema(self) -> dict[str, Any]:
        """JSON Schema of the value as it is written, templates aside."""
        raise NotImplementedError

    def hint(self, name: str) -> str:
        """How it is written, for a sentence about ``name``."""
        return f"Write it as {name.rpartition('.')[2]}: {self.example}" if self.example else ""

    def wrong(self, node: Node, name: str, reading: Reading) -> None:
        """Report that ``node`` isn't of this kind."""
        hint = self.hint(name)
        reading.problem(f"{name} must be {self.label}, not {describe(node)}.", node.where, hint)


def as_text(node: Node, name: str, reading: Reading) -> str | None:
    """A scalar as the text that was written. What YAML 1.1 reads as something else is reported."""
    if not isinstance(node, Scalar) or node.value is None:
        what = "has no value" if is_null(node) else f"must be a text, not {describe(node)}"
        hint = 'Write "" for an empty one.' if is_null(node) else ""
        reading.problem(f"{name} {what}.", node.where, hint)
        return None
    if node.surprising:
        if looks_secret(name.rpartition(".")[2]):
            reading.problem(f"{name} is not a text to YAML.", node.where, "Write it in quotes.")
        else:
            said = f"{name}: {node.raw} is {describe(node)} to YAML."
            reading.problem(said, node.where, f'Write "{node.raw}".')
        return None
    return node.raw if not isinstance(node.value, str) else node.value


@dataclass(frozen=True)
class Text(Kind):
    """A text. ``pattern`` bounds it, ``rule`` says that bound in words; a ``secret`` is never quoted."""

    label: str = "a text"
    pattern: str = ""
    rule: str = ""
    secret: bool = False

    def read(self, node: Node, name: str, reading: Reading) -> str | None:
        text = as_text(node, name, reading)
        if text is None:
            return None
        if (not text.isascii() and _SURROGATE.search(text)) or "\x00" in text:
            reading.problem(f"{name} holds a character that no file can hold.", node.where)
            return None
        if self.pattern and not re.fullmatch(self.pattern, text):
            hint = self.hint(name)
            hidden = self.secret or looks_secret(name.rpartition(".")[2], text)
            shown = "what is written there" if hidden else repr(text[:60])
            reading.problem(f"{name}: {shown} is not {self.rule or self.label}.", node.where, hint)
            return None
        return text

    def schema(self) -> dict[str, Any]:
        shape: dict[str, Any] = {"type": ["string", "number"]}
        if self.pattern:
            shape = {"type": "string", "pattern": f"^(?:{self.pattern})$"}
        return shape


@dataclass(frozen=True)
class Choice(Kind):
    """One of a few words."""

    choices: tuple[str, ...] = ()
    label: str = "one of a few words"

    def read(self, node: Node, name: str, reading: Reading) -> str | None:
        text = as_text(node, name, reading)
        if text is None:
            return None
        if text not in self.choices:
            hint = did_you_mean(text, self.choices, list_all="It is one of")
            reading.problem(f"{name} can't be {text[:60]!r}.", node.where, hint)
            return None
        return text

    def schema(self) -> dict[str, Any]:
        return {"enum": list(self.choices)}


@dataclass(frozen=True)
class Flag(Kind):
    """``true`` or ``false``; also YAML 1.1's ``yes`` and ``no``, which can mean nothing else here."""

    label: str = "true or false"
    example: str = "true"

    def read(self, node: Node, name: str, reading: Reading) -> bool | None:
        if isinstance(node, Scalar):
            if isinstance(node.value, bool):
                return node.value
            if isinstance(node.value, str) and node.value.lower() in ("true", "false"):
                return node.value.lower() == "true"
        self.wrong(node, name, reading)
        return None

    def schema(self) -> dict[str, Any]:
        return {"type": "boolean"}


@dataclass(frozen=True)
class Whole(Kind):
    """A whole number between bounds."""

    label: str = "a whole number"
    minimum: int = 0
    maximum: int = 1_000_000

    def read(self, node: Node, name: str, reading: Reading) -> int | None:
        number: int | None = None
        if isinstance(node, Scalar) and not isinstance(node.value, bool):
            if isinstance(node.value, int) and not node.surprising:
                number = node.value
            elif isinstance(node.value, str) and re.fullmatch(r"-?[0-9]{1,9}", node.value.strip()):
                number = int(node.value)
            elif node.surprising:
                said = f"{name}: {node.raw} is {describe(node)} to YAML."
                reading.problem(said, node.where, f"Write it in plain digits: {name.rpartition('.')[2]}: 5")
                return None
        if number is None:
            self.wrong(node, name, reading)
            return None
        if not self.minimum <= number <= self.maximum:
            bounds = f"{self.minimum} to {self.maximum}"
            reading.problem(f"{name} must be a whole number from {bounds}, not {number}.", node.where)
            return None
        return number

    def schema(self) -> dict[str, Any]:
        return {"type": "integer", "minimum": self.minimum, "maximum": self.maximum}


@dataclass(frozen=True)
class Unit(Kind):
    """A number with a unit: a size, a duration, or CPU cores."""

    parse: Callable[[Any], int | float] = values.parse_cpus
    pattern: str = ""
    minimum: float = 0
    shortest: str = ""
    """The minimum as a person writes it."""

    def read(self, node: Node, name: str, reading: Reading) -> int | float | None:
        if isinstance(node, Scalar) and isinstance(node.value, (int, float)) and not node.surprising:
            text: str | None = node.raw
        elif not isinstance(node, Scalar) or node.value is None or isinstance(node.value, bool):
            self.wrong(node, name, reading)
            return None
        elif isinstance(node.value, float):
            text = node.raw  # 0.50 is 0.5 cores whatever YAML thinks of its digits
        else:
            text = as_text(node, name, reading)
        if text is None:
            return None
        try:
            value = self.parse(text)
        except ValueError as error:
            reading.problem(f"{name}: {error}", node.where)
            return None
        if value < self.minimum:
            reading.problem(f"{name} must be at least {self.shortest}, not {text}.", node.where)
            return None
        return value

    def schema(self) -> dict[str, Any]:
        return {"type": ["string", "number"], "pattern": f"^(?:{self.pattern})$"}


def size(example: str, *, base: int = 1024, minimum: int = 0, shortest: str = "") -> Unit:
    """A size, in bytes."""
    return Unit(
        "a size",
        example,
        parse=lambda text: values.parse_size(text, base=base),
        pattern=r"\d+(\.\d+)?\s*([kKmMgGtTpP][iI]?)?[bB]?",
        minimum=minimum,
        shortest=shortest,
    )


def duration(example: str, *, minimum: float = 0, shortest: str = "") -> Unit:
    """A duration, in seconds."""
    return Unit(
        "a duration",
        example,
        parse=values.parse_duration,
        pattern=r"0|(\d+(\.\d+)?(ms|us|h|m|s|d))+",
        minimum=minimum,
        shortest=shortest,
    )


CPUS = Unit("CPU cores", "0.5", parse=values.parse_cpus, pattern=r"\d*\.?\d+")


@dataclass(frozen=True)
class Command(Kind):
    """A command: a line that is split as a shell splits it (nothing is expanded), or a list of arguments."""

    label: str = "a command"
    example: str = "alembic upgrade head"

    def read(self, node: Node, name: str, reading: Reading) -> tuple[str, ...] | None:
        if isinstance(node, SequenceNode):
            items = [Text().check(item, name, reading) for item in node.items]
            words = tuple(item for item in items if isinstance(item, str))
            if not node.items:
                self.wrong(node, name, reading)
            return words if len(words) == len(items) else None
        text = as_text(node, name, reading)
        if text is None:
            return None
        try:
            words = tuple(shlex.split(text))
        except ValueError as error:
            reading.problem(f"{name}: {text[:60]!r} can't be split: {error}.", node.where)
            return None
        if not words:
            reading.problem(f"{name} is an empty command.", node.where, self.hint(name))
            return None
        return words

    def schema(self) -> dict[str, Any]:
        return {"type": ["string", "array"], "items": {"type": ["string", "number"]}}


@dataclass(frozen=True)
class ShellOrList(Command):
    """A command of a health check: a line goes to the container's shell as it is, a list is run directly."""

    label: str = "a command"
    example: str = "pg_isready -q"

    def read(self, node: Node, name: str, reading: Reading) -> Any:
        if isinstance(node, SequenceNode):
            return super().read(node, name, reading)
        text = as_text(node, name, reading)
        return text or None


@dataclass(frozen=True)
class Anything(Kind):
    """Any value, as plain data."""

    label: str = "any value"

    def check(self, node: Node, name: str, reading: Reading) -> Any:
        if isinstance(node, MappingNode):
            return {key.name: self.check(value, name, reading) for key, value in node}
        if isinstance(node, SequenceNode):
            return [self.check(item, name, reading) for item in node.items]
        opened = reading.open(node)
        if isinstance(opened, Later):
            return LATER
        return opened.value if isinstance(opened, Scalar) else self.check(opened, name, reading)

    def schema(self) -> dict[str, Any]:
        return {}
