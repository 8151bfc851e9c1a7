"""Values that the library makes itself behave as dataclasses do, although they share their methods."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from dataclasses import dataclass, field
from typing import Any

import pytest

from mellea.core.values import quick_value


@quick_value
class Point:
    x: int
    y: int = 0
    note: str = field(default="", repr=False, compare=False)
    more: list[Any] = field(default_factory=list)


@quick_value
class Other:
    x: int
    y: int = 0
    note: str = ""
    more: list[Any] = field(default_factory=list)


@quick_value
class Farther(Point):
    z: int = 0


@dataclass(slots=True)
class Twin:
    x: int
    y: int = 0
    note: str = field(default="", repr=False, compare=False)
    more: list[Any] = field(default_factory=list)


@quick_value
class Pair:
    left: int
    right: int


@quick_value
class Named:
    name: str

    def __repr__(self) -> str:
        return f"<{self.name}>"


def test_it_shows_itself_as_a_dataclass_does() -> None:
    assert repr(Point(1, 2, "secret", [3])) == repr(Twin(1, 2, "secret", [3])).replace("Twin", "Point")
    assert repr(Farther(1, z=4)) == "Farther(x=1, y=0, more=[], z=4)"


def test_one_that_holds_itself_can_be_shown() -> None:
    point = Point(1)
    point.more.append(point)
    assert repr(point) == "Point(x=1, y=0, more=[...])"


def test_a_method_of_its_own_stays() -> None:
    assert repr(Named("a")) == "<a>"
    assert Named("a") == Named("a")


@pytest.mark.parametrize("other", [Point(1, 3), Point(1, 2, more=[1]), Other(1, 2), Farther(1, 2), Twin(1, 2), (1, 2)])
def test_two_that_differ_in_class_or_field_are_not_equal(other: object) -> None:
    assert Point(1, 2) != other
    assert other != Point(1, 2)


def test_two_with_equal_fields_are_equal_whatever_is_not_compared() -> None:
    assert Point(1, 2, "a") == Point(1, 2, "b")
    assert Farther(1, 2, z=3) == Farther(1, 2, z=3)


def test_equal_ones_are_one_key() -> None:
    assert {Pair(1, 2): "a"}[Pair(1, 2)] == "a"
    with pytest.raises(TypeError):
        hash(Point(1))  # of a list


def test_it_is_a_slotted_dataclass() -> None:
    point = Point(1, more=[2])
    assert [each.name for each in dataclasses.fields(point)] == ["x", "y", "note", "more"]
    assert not hasattr(point, "__dict__")
    assert Point.__match_args__ == ("x", "y", "note", "more")


def test_it_is_copied_and_pickled_whole() -> None:
    point = Farther(1, 2, "n", [3], 4)
    for again in (copy.copy(point), copy.deepcopy(point), pickle.loads(pickle.dumps(point))):
        assert again == point
        assert again.note == "n"
