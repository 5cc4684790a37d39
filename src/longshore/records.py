"""``dataclass`` for the controller: the standard one, its methods made when they are first needed.

The standard decorator writes and compiles six methods for every class when its module is imported, most of
a millisecond. A command imports some 130 such classes and makes objects of half of them: that was a sixth of
its time. Here the fields are still the standard library's (``fields``, ``replace``, ``asdict`` and ``match``
work); only ``__init__`` is compiled, for the first object, and the other methods are the same code for all.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from operator import attrgetter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import dataclass
else:

    def dataclass(cls=None, *, frozen=False, eq=True, order=False):
        """The standard library's ``dataclass``, with the options of it that are used here."""

        def make(cls):
            # Nobody waits for the two that have an order.
            return dataclasses.dataclass(frozen=frozen, order=True)(cls) if order else _make(cls, frozen, eq)

        return make if cls is None else make(cls)


__all__ = ["dataclass"]


def _make(cls: type, frozen: bool, eq: bool) -> type:
    dataclasses.dataclass(init=False, repr=False, eq=False)(cls)
    methods: dict[str, Any] = {"__init__": _first_init(cls), "__repr__": _repr}
    if frozen:
        methods |= {"__setattr__": _refuse_set, "__delattr__": _refuse_delete}
    if eq:
        values = _values(cls)
        methods |= {"__eq__": _eq(values), "__hash__": _hash(values) if frozen else None}
    for name, method in methods.items():
        if name not in vars(cls):
            setattr(cls, name, method)
    return cls


def _first_init(cls: type) -> Callable[..., None]:
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        made = _compiled_init(cls)
        cls.__init__ = made  # type: ignore[misc]
        made(self, *args, **kwargs)

    return init


def _compiled_init(cls: type) -> Callable[..., None]:
    """``__init__`` with the fields' names, as text: so its signature and its complaints are Python's own."""
    parameters, body = [], ["_record_ = self.__dict__"]
    known: dict[str, Any] = {"MISSING": dataclasses.MISSING}
    for field in dataclasses.fields(cls):
        name = field.name
        value = name
        if field.default is not dataclasses.MISSING:
            known[f"default_{name}"] = field.default
            parameters.append(f"{name}=default_{name}")
        elif field.default_factory is not dataclasses.MISSING:
            known[f"factory_{name}"] = field.default_factory
            parameters.append(f"{name}=MISSING")
            value = f"factory_{name}() if {name} is MISSING else {name}"
        else:
            parameters.append(name)
        # Past __setattr__, which refuses for frozen ones.
        body.append(f"_record_[{name!r}] = {value}")
    if hasattr(cls, "__post_init__"):
        body.append("self.__post_init__()")
    lines = "".join(f"\n    {line}" for line in body)
    # As the standard library does it. The text is of names that stand in a class body, and of nothing else.
    exec(f"def __init__(self, {', '.join(parameters)}):{lines}", known)  # noqa: S102
    made: Callable[..., None] = known["__init__"]
    made.__qualname__ = f"{cls.__qualname__}.__init__"
    return made


def _values(cls: type) -> Callable[[Any], Any]:
    """What an object is compared by: the same for two objects only if all of these fields are."""
    names = [field.name for field in dataclasses.fields(cls) if field.compare]
    return attrgetter(*names) if names else lambda _: ()


def _eq(values: Callable[[Any], Any]) -> Callable[[Any, Any], Any]:
    def equal(self: Any, other: Any) -> Any:
        if other.__class__ is not self.__class__:
            return NotImplemented
        return values(self) == values(other)

    return equal


def _hash(values: Callable[[Any], Any]) -> Callable[[Any], int]:
    def hashed(self: Any) -> int:
        return hash((self.__class__, values(self)))

    return hashed


def _repr(self: Any) -> str:
    names = [field.name for field in dataclasses.fields(self) if field.repr]
    return f"{type(self).__qualname__}({', '.join(f'{name}={getattr(self, name)!r}' for name in names)})"


def _refuse_set(self: Any, name: str, value: Any) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_delete(self: Any, name: str) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")
