"""Arguments that come value by value become one JSON text."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mellea.backends.gemini.partial_args import PartialArgs
from mellea.errors import WireError
from tests.soak import examples

NAMES = st.text(min_size=1, max_size=4)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, min_size=1, max_size=3) | st.dictionaries(NAMES, inner, min_size=1, max_size=3),
    max_leaves=8,
)


def write(*partials: dict[str, Any]) -> Any:
    args = PartialArgs()
    return json.loads("".join(map(args.feed, partials)) + args.close())


def in_pieces(path: str, value: Any, cut: int) -> list[dict[str, Any]]:
    """Say a value as the provider does, its texts in two pieces."""
    if isinstance(value, dict):
        steps = [(f"{path}[{json.dumps(name)}]" if cut % 2 else _dotted(path, name), value[name]) for name in value]
    elif isinstance(value, list):
        steps = [(f"{path}[{index}]", item) for index, item in enumerate(value)]
    else:
        return _scalar(path, value, cut)
    return [partial for step, item in steps for partial in in_pieces(step, item, cut)]


def _dotted(path: str, name: str) -> str:
    return f"{path}.{name}" if name.isalnum() else f"{path}[{json.dumps(name, ensure_ascii=False)}]"


def _scalar(path: str, value: Any, cut: int) -> list[dict[str, Any]]:
    if isinstance(value, str):
        first = {"jsonPath": path, "stringValue": value[:cut], "willContinue": True}
        return [first, {"jsonPath": path, "stringValue": value[cut:]}]
    kind = "nullValue" if value is None else "boolValue" if isinstance(value, bool) else "numberValue"
    return [{"jsonPath": path, kind: "NULL_VALUE" if value is None else value}]


@settings(max_examples=examples(200), deadline=None)
@given(st.dictionaries(st.from_regex(r"[a-z]{1,4}", fullmatch=True), VALUES, min_size=1, max_size=3), st.integers(0, 5))
def test_any_arguments_come_through(args: dict[str, Any], cut: int) -> None:
    partials = in_pieces("$", args, cut)
    if any("\\" in partial["jsonPath"] for partial in partials):
        return  # JSON's escapes aren't those of a path
    assert write(*partials) == args


def test_nothing_is_nothing() -> None:
    args = PartialArgs()
    assert args.close() == ""


def test_elements_without_a_value_keep_their_places() -> None:
    assert write({"jsonPath": "$.a[2]", "numberValue": 1}) == {"a": [None, None, 1]}


def test_a_text_may_end_with_the_next_value() -> None:
    opened = {"jsonPath": "$.a", "stringValue": "x", "willContinue": True}
    assert write(opened, {"jsonPath": "$.b", "boolValue": True}) == {"a": "x", "b": True}


def test_a_path_alone_says_nothing() -> None:
    assert PartialArgs().feed({"jsonPath": "$.a", "willContinue": True}) == ""


@pytest.mark.parametrize("path", [None, 5, "", "$", "a.b", "$.a[", "$.a[x]", "$..a", "$[0]", "$.a b["])
def test_a_path_that_leads_to_no_argument(path: Any) -> None:
    with pytest.raises(WireError, match="matches no argument"):
        PartialArgs().feed({"jsonPath": path, "stringValue": "x"})


@pytest.mark.parametrize(
    "paths",
    [
        ["$.a", "$.a"],
        ["$.a", "$.a.b"],
        ["$.a.b", "$.a"],
        ["$.a", "$.b", "$.a"],
        ["$.a[1]", "$.a[0]"],
        ["$.a.b", "$.a[0]"],
    ],
)
def test_what_comes_out_of_order(paths: list[str]) -> None:
    with pytest.raises(WireError):
        write(*({"jsonPath": path, "numberValue": 1} for path in paths))


@pytest.mark.parametrize("partial", [{"stringValue": 5}, {"numberValue": "5"}, {"boolValue": []}])
def test_values_of_another_kind(partial: dict[str, Any]) -> None:
    with pytest.raises(WireError):
        PartialArgs().feed({"jsonPath": "$.a", **partial})
