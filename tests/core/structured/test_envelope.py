"""Values in an object of our own making: out of it comes the value alone, each character as soon as it is certain."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mellea.core.structured.envelope import Unwrapper, needs_wrapping, wrap_schema
from tests.soak import examples

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.sampled_from('"\\{}[]a 😀'), max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["value", "}", '"']), inner, max_size=3)
    ),
    max_leaves=8,
)


def unwrap(parts: Any) -> list[str]:
    unwrapper = Unwrapper()
    return [*[unwrapper.feed(part) for part in parts], unwrapper.close()]


@settings(max_examples=examples(300))
@given(JSON, st.integers(0, 2) | st.none(), st.lists(st.integers(0, 300), max_size=6))
def test_the_value_comes_out_however_the_text_is_split(value: Any, indent: int | None, cuts: list[int]) -> None:
    text = json.dumps({"value": value}, indent=indent) + "\n"
    places = sorted({cut % (len(text) + 1) for cut in cuts})
    inside = unwrap([text])[0]
    assert json.loads(inside) == value
    assert "".join(unwrap(text)) == inside, "one by one"
    assert "".join(unwrap([text[a:b] for a, b in zip([0, *places], [*places, len(text)], strict=True)])) == inside


@settings(max_examples=examples(200))
@given(JSON)
def test_nothing_is_held_back_once_the_value_has_begun(value: Any) -> None:
    text = json.dumps({"value": value})
    inside, start = json.dumps(value), len('{"value": ')
    unwrapper = Unwrapper()
    came = unwrapper.feed(text[: start + 1])
    for place in range(start + 1, len(text)):
        assert came.rstrip() == inside[: place - start].rstrip()
        came += unwrapper.feed(text[place])
    assert came == inside


@pytest.mark.parametrize("text", ["[1, 2]", '{"values": 1}', "No.", '{"val', ""])
def test_what_is_not_wrapped_passes(text: str) -> None:
    assert "".join(unwrap([text])) == text == "".join(unwrap(text))


def test_objects_stay_as_they_are() -> None:
    leaf = {"$ref": "#/$defs/a", "$defs": {"a": {"type": "object"}}}
    assert not needs_wrapping({"type": "object"})
    assert not needs_wrapping(leaf)
    assert needs_wrapping({"anyOf": [{"type": "object"}, {"type": "null"}]})
    assert needs_wrapping({"type": "array", "items": leaf})
    assert wrap_schema({"type": "integer", "$defs": {"a": {}}}) == {
        "type": "object",
        "properties": {"value": {"type": "integer"}},
        "required": ["value"],
        "additionalProperties": False,
        "$defs": {"a": {}},
    }
