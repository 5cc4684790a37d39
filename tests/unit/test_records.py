"""``longshore.records.dataclass`` does what the standard one does, for everything that is used here."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from longshore.records import dataclass


@dataclass(frozen=True)
class Point:
    """Two numbers."""

    x: int
    y: int = 0
    tags: list[str] = dataclasses.field(default_factory=list, compare=False)
    own: str = ""
    secret: str = dataclasses.field(default="", repr=False)
    kind: ClassVar[str] = "point"

    def __post_init__(self) -> None:
        if self.x < 0:
            raise ValueError("x is negative")


@dataclass(frozen=True)
class Named(Point):
    """One with a name."""

    name: str = "?"


@dataclass
class Counter:
    """Can be changed, so it has no hash."""

    count: int = 0


@dataclass(frozen=True, eq=False)
class Thing:
    """Only itself."""

    label: str


@dataclass(frozen=True, order=True)
class Version:
    """Has an order."""

    major: int
    minor: int = 0


@dataclass(frozen=True)
class Nothing:
    """No fields."""


def test_objects_are_made_as_the_signature_says() -> None:
    assert Point(1, y=2).y == 2
    assert Point(1).tags == []
    assert Point(1).tags is not Point(1).tags
    assert Named(1, name="n").name == "n"
    assert Nothing() == Nothing()
    with pytest.raises(ValueError, match="x is negative"):
        Named(-1)


@pytest.mark.parametrize(
    "wrong", [lambda: Point(), lambda: Point(1, z=2), lambda: Point(1, 2, [], "", "", 5)]
)  # type: ignore[call-arg]
def test_arguments_that_do_not_fit_are_a_type_error(wrong: Callable[[], Any]) -> None:
    with pytest.raises(TypeError, match=r"Point\.__init__\(\)"):
        wrong()


def test_equal_fields_make_equal_objects_of_one_class() -> None:
    assert Point(1, 2, ["a"]) == Point(1, 2, ["b"])
    assert hash(Point(1, 2, ["a"])) == hash(Point(1, 2))
    assert Point(1, 2) != Point(1, 3)
    assert Point(1) != Named(1)
    assert Point(1, secret="s") != Point(1)
    assert Thing("a") != Thing("a")
    assert len({Thing("a"), Thing("a")}) == 2
    assert Version(1, 2) < Version(1, 10)
    with pytest.raises(TypeError):
        hash(Counter())


def test_what_is_frozen_cannot_be_changed() -> None:
    for wrong in (
        lambda: setattr(Point(1), "x", 2),
        lambda: setattr(Named(1), "new", 2),
        lambda: delattr(Point(1), "x"),
        lambda: setattr(Thing("a"), "label", "b"),
    ):
        with pytest.raises(dataclasses.FrozenInstanceError):
            wrong()
    counter = Counter()
    counter.count += 1
    assert counter == Counter(1)


def test_what_must_not_be_shown_is_not() -> None:
    shown = repr(Named(1, secret="hunter2", name="n"))
    assert shown == "Named(x=1, y=0, tags=[], own='', name='n')"


def test_the_standard_library_knows_the_fields() -> None:
    point = dataclasses.replace(Point(1, tags=["a"]), y=5)
    assert dataclasses.asdict(point) == {"x": 1, "y": 5, "tags": ["a"], "own": "", "secret": ""}
    assert [field.name for field in dataclasses.fields(Named)] == ["x", "y", "tags", "own", "secret", "name"]
    assert copy.deepcopy(point) == point
    assert pickle.loads(pickle.dumps(point)) == point
    match point:
        case Point(x, y):
            assert (x, y) == (1, 5)
