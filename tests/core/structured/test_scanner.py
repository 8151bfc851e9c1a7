"""The scanner against `json`: the same values, the same verdict, however the text is split."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mellea.core.structured.scanner import MAX_DEPTH, Kind, ScanError, Scanner
from tests.soak import examples

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(codec=None) | st.sampled_from('"\\/\n\t\u2028😀é')),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
TEXTS = st.builds(
    lambda value, ascii, indent: json.dumps(value, ensure_ascii=ascii, indent=indent),
    JSON,
    st.booleans(),
    st.none() | st.integers(0, 2),
)
CUTS = st.lists(st.integers(0, 10_000), max_size=12)
NONSENSE = st.lists(
    st.sampled_from(
        [*'{}[]",:\\a0-1.5e \n\x00é', "\\u", "d83d", "\\ud83d", "de00", "\\n", "true", "null", "NaN", '"a"', '"k":']
    ),
    max_size=14,
).map("".join)


def pieces(text: str, cuts: Iterable[int]) -> list[str]:
    places = sorted({cut % (len(text) + 1) for cut in cuts})
    return [text[a:b] for a, b in zip([0, *places], [*places, len(text)], strict=True)]


def scan(parts: Iterable[str], whole_at: int | None = None) -> tuple[list[tuple[Kind, Any]], ScanError | None]:
    """Return the events, with the pieces of each string joined, and the error."""
    scanner = Scanner(whole_at)
    events = [event for part in parts for event in scanner.feed(part)] + scanner.close()
    joined: list[tuple[Kind, Any]] = []
    for kind, value in events:
        if joined and joined[-1][0] is Kind.PIECE and kind in (Kind.PIECE, Kind.STRING):
            joined[-1] = (kind, joined[-1][1] + value)
        elif (kind, value) != (Kind.PIECE, ""):
            joined.append((kind, value))
    return joined, scanner.error


def built(events: list[tuple[Kind, Any]]) -> Any:
    """Build the value that the events of a whole document describe."""
    top: list[Any] = []
    stack: list[Any] = [top]
    keys: list[Any] = [None]
    for kind, value in events:
        if kind is Kind.KEY:
            keys[-1] = value
        elif kind is Kind.END:
            stack.pop()
            keys.pop()
        else:
            new = {Kind.OBJECT: {}, Kind.ARRAY: []}.get(kind, value)
            if kind is Kind.WHOLE:
                new = json.loads(value)
            stack[-1].append(new) if isinstance(stack[-1], list) else stack[-1].__setitem__(keys[-1], new)
            if kind in (Kind.OBJECT, Kind.ARRAY):
                stack.append(new)
                keys.append(None)
    return top[0]


def key(result: tuple[list[tuple[Kind, Any]], ScanError | None]) -> str:
    events, error = result
    return repr((events, error and (str(error), error.place)))


@settings(max_examples=examples(400))
@given(TEXTS, CUTS)
@example('"\\ud83d\\ude00"', [4, 7, 9])
@example('{"\\ud83d\\ude00": "\\\\u0041"}', list(range(30)))
@example('"\\ud83d"', [3, 7])
@example('["\\\\\\ud83d", "\\\\ud83d"]', list(range(30)))
def test_the_value_is_json_s_however_the_text_is_split(text: str, cuts: list[int]) -> None:
    whole = scan([text])
    assert whole[1] is None
    assert repr(built(whole[0])) == repr(json.loads(text))
    assert key(scan(pieces(text, cuts))) == key(whole)
    assert key(scan(text)) == key(whole), "one by one"


@settings(max_examples=examples(1500))
@given(NONSENSE, CUTS)
def test_nonsense_is_refused_where_json_refuses_it_however_it_is_split(text: str, cuts: list[int]) -> None:
    events, error = whole = scan([text])
    try:
        value = json.loads(text)
    except ValueError:
        assert error is not None, text
    else:
        assert error is None, text
        assert repr(built(events)) == repr(value)
    assert key(scan(pieces(text, cuts))) == key(whole)
    assert key(scan(text)) == key(whole), "one by one"


@settings(max_examples=examples(400))
@given(TEXTS, CUTS, st.integers(0, 3))
def test_values_that_come_whole_are_slices_of_the_text(text: str, cuts: list[int], depth: int) -> None:
    whole = scan([text], depth)
    assert whole[1] is None
    assert repr(built(whole[0])) == repr(json.loads(text))
    assert all(value in text for kind, value in whole[0] if kind is Kind.WHOLE)
    assert key(scan(pieces(text, cuts), depth)) == key(whole)
    assert key(scan(text, depth)) == key(whole), "one by one"


@pytest.mark.parametrize(
    ("text", "said", "place"),
    [
        ('{"a" 1}', "expected ':', not '1'", 5),
        ("[1 2]", "expected ',' or ']', not '2'", 3),
        ('{"a": 1,}', "expected a key in quotes, not '}'", 8),
        ("[1,]", "expected a value, not ']'", 3),
        ("[] x", "expected nothing more, not 'x'", 3),
        ("[nil]", "not 'nil'", 1),
        ('"a\\x"', "escape", 2),
        ('"a\nb"', "control character", 2),
        ("[", "the text ends before", 1),
        ("", "the text ends before", 0),
    ],
)
def test_an_error_says_what_and_where(text: str, said: str, place: int) -> None:
    for parts in ([text], text):
        error = scan(parts)[1]
        assert error is not None
        assert said in str(error)
        assert error.place == place


def test_events_before_an_error_are_given_and_none_after_it() -> None:
    scanner = Scanner()
    assert scanner.feed('["a", !') == [(Kind.ARRAY, None), (Kind.STRING, "a")]
    assert scanner.error is not None
    assert scanner.feed('"b"]') == [] == scanner.close()


def test_a_number_ends_with_the_character_after_it() -> None:
    scanner = Scanner()
    assert scanner.feed("[12") == [(Kind.ARRAY, None)]
    assert scanner.feed("3") == []
    assert scanner.feed(",") == [(Kind.SCALAR, 123)]
    assert Scanner().feed("1") == []
    scanner = Scanner()
    assert scanner.feed("1.5") + scanner.close() == [(Kind.SCALAR, 1.5)]


def test_special_numbers_are_those_of_python() -> None:
    events, error = scan(["[NaN, Infinity, -Infinity, 1e999]"])
    assert error is None
    value = built(events)
    assert math.isnan(value[0])
    assert value[1:] == [math.inf, -math.inf, math.inf]


def test_too_deep_is_an_error_and_no_recursion_error() -> None:
    for text in ("[" * 100_000, '{"a":' * 100_000):
        events, error = scan([text])
        assert error is not None
        assert f"more than {MAX_DEPTH}" in str(error)
        assert sum(kind in (Kind.OBJECT, Kind.ARRAY) for kind, _ in events) == MAX_DEPTH
    deepest = "[" * MAX_DEPTH + "]" * MAX_DEPTH
    assert scan([deepest])[1] is None
    assert scan(["[" * 100_000 + "]" * 100_000], 0)[1] is None, "nobody looks inside a value that comes whole"


def test_a_number_is_no_longer_than_python_can_read() -> None:
    assert scan(["1" * 4300])[1] is None
    for parts in (["1" * 5000], "1" * 5000):
        error = scan(parts)[1]
        assert error is not None
        assert "4300" in str(error)


@pytest.mark.parametrize("whole_at", [None, 1])
@pytest.mark.parametrize("text", ['["' + "x" * 400_000 + '"]', '["' + '\\"' * 200_000 + '"]', '["' + "\\" * 400_000])
def test_a_long_string_in_small_pieces_costs_linear_time(text: str, whole_at: int | None) -> None:
    def seconds(length: int) -> float:
        scanner = Scanner(whole_at)
        started = time.process_time()
        for place in range(0, length, 4):
            scanner.feed(text[place : place + 4])
        return time.process_time() - started

    few = min(seconds(len(text) // 8) for _ in range(3))
    assert seconds(len(text)) < 8 * few * 3, "eight times the text may cost eight times as much, and some noise"
