"""Any type that hypothesis comes up with: its values come back, its prefixes are never taken for values."""

from __future__ import annotations

import dataclasses
import enum
import json
import typing
from collections.abc import Mapping
from typing import Any, Literal, NotRequired, Optional, TypedDict, Union

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic_core import to_jsonable_python

from mellea.core.accumulator import Generation
from mellea.core.messages import Message
from mellea.core.structured import OutputFormat, make_output_format
from mellea.core.structured.schema_check import check
from mellea.errors import ParseError
from tests.soak import examples


class Color(enum.Enum):
    RED = "red"
    DEEP_RED = "red!"


class Size(enum.IntEnum):
    SMALL = 1
    LARGE = 12


Values = st.SearchStrategy[Any]
Case = tuple[Any, Values]

TEXTS = st.text(st.characters(codec="utf-8"), max_size=6)
INTS = st.integers(-(10**12), 10**12)
WORDS = ("yes", "no", "a ```b", '{"c": 1}')

LEAVES: list[Case] = [
    (int, INTS),
    (float, st.floats(allow_nan=False, allow_infinity=False)),
    (bool, st.booleans()),
    (str, TEXTS),
    (Color, st.sampled_from(Color)),
    (Size, st.sampled_from(Size)),
    (Literal["yes", "no", "a ```b", '{"c": 1}'], st.sampled_from(WORDS)),
    (Literal[1, 12, "12"], st.sampled_from((1, 12, "12"))),
]


def made(fields: list[Case]) -> Case:
    cls = dataclasses.make_dataclass("Made", [(f"f{place}", kind) for place, (kind, _) in enumerate(fields)])
    return cls, st.builds(cls, **{f"f{place}": values for place, (_, values) in enumerate(fields)})


def with_defaults(fields: list[Case]) -> Case:
    specs: Any = [(f"f{place}", Optional[kind], None) for place, (kind, _) in enumerate(fields)]  # noqa: UP045
    cls = dataclasses.make_dataclass("Loose", specs)
    values = {f"f{place}": st.none() | each for place, (_, each) in enumerate(fields)}
    return cls, st.builds(cls, **values)


def typed_dict(fields: list[Case]) -> Case:
    hints = {f"f {place}": kind if place % 2 else NotRequired[kind] for place, (kind, _) in enumerate(fields)}
    needed = {f"f {place}": values for place, (_, values) in enumerate(fields) if place % 2}
    others = {f"f {place}": values for place, (_, values) in enumerate(fields) if not place % 2}
    make: Any = TypedDict
    return make("Town", hints), st.fixed_dictionaries(needed, optional=others)


def of(generic: Any, *args: Any) -> Any:
    """Fill in a generic, out of a type checker's sight."""
    return generic[args if len(args) > 1 else args[0]]


def grown(cases: st.SearchStrategy[Case]) -> st.SearchStrategy[Case]:
    several = st.lists(cases, min_size=1, max_size=3)
    return st.one_of(
        cases.map(lambda case: (of(list, case[0]), st.lists(case[1], max_size=3))),
        cases.map(lambda case: (of(Optional, case[0]), st.none() | case[1])),
        cases.map(lambda case: (of(dict, str, case[0]), st.dictionaries(TEXTS, case[1], max_size=3))),
        several.map(lambda many: (of(tuple, *[case[0] for case in many]), st.tuples(*[case[1] for case in many]))),
        several.map(made),
        several.map(with_defaults),
        several.map(typed_dict),
    )


CASES = st.recursive(st.sampled_from(LEAVES), grown, max_leaves=5)


@st.composite
def pairs(draw: Any) -> tuple[Any, Any]:
    kind, values = draw(CASES)
    return kind, draw(values)


def parse(format: OutputFormat[Any], text: str, reason: Any = "stop") -> Any:
    return format.parse(Generation(text, Message("assistant", text), finish_reason=reason))


quick = settings(max_examples=examples(150), deadline=None, suppress_health_check=[HealthCheck.too_slow])


@quick
@given(pairs())
def test_a_value_written_as_json_comes_back(pair: tuple[Any, Any]) -> None:
    kind, value = pair
    format = make_output_format(kind)
    text = json.dumps(to_jsonable_python(value), ensure_ascii=False)
    assert parse(format, text) == value
    assert parse(format, text, "length" if not text[-1].isdigit() else "stop") == value
    check(json.loads(text), format.schema.schema, format.schema.schema)  # the schema that is sent allows it


@quick
@given(pairs())
def test_fences_and_prose_dont_change_a_value(pair: tuple[Any, Any]) -> None:
    kind, value = pair
    format = make_output_format(kind)
    text = json.dumps(to_jsonable_python(value), indent=1)
    if kind is str or "```" in text:
        return
    assert parse(format, f"```json\n{text}\n```") == value
    if text[0] in "{[":
        try:
            assert parse(format, f"Sure, here it is:\n{text}\nIs that fine?") == value
        except ParseError as error:  # an empty list of other lists is two values
            assert "values" in str(error)


@quick
@given(pairs(), st.data())
def test_a_part_of_an_answer_that_was_cut_off_is_never_taken_for_another_value(
    pair: tuple[Any, Any], data: st.DataObject
) -> None:
    kind, value = pair
    format = make_output_format(kind)
    text = json.dumps(to_jsonable_python(value))
    part = text[: data.draw(st.integers(0, len(text) - 1))]
    with pytest.raises(ParseError):
        parse(format, part, "length")


@dataclasses.dataclass
class Tree:
    name: str
    children: list[Tree] = dataclasses.field(default_factory=list)
    twin: Optional[Forest] = None  # noqa: UP045


class Forest(TypedDict, total=False):
    trees: typing.Required[list[Tree]]
    near: Mapping[str, Forest]
    odd: Union[Tree, Color, None]  # noqa: UP007


TREES: Values = st.deferred(
    lambda: st.builds(Tree, TEXTS, st.lists(TREES, max_size=2), st.none() | st.builds(lambda t: {"trees": t}, LISTS))
)
LISTS: Values = st.lists(TREES, max_size=1)
FORESTS: Values = st.recursive(
    st.fixed_dictionaries({"trees": LISTS}, optional={"odd": st.none() | st.sampled_from(Color) | TREES}),
    lambda inner: st.fixed_dictionaries({"trees": LISTS, "near": st.dictionaries(TEXTS, inner, max_size=2)}),
    max_leaves=3,
)


@settings(max_examples=examples(60), deadline=None, suppress_health_check=list(HealthCheck))
@given(FORESTS)
def test_types_that_hold_themselves_come_back(value: Any) -> None:
    assert parse(make_output_format(Forest), json.dumps(to_jsonable_python(value))) == value
