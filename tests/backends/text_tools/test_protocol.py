"""The protocol for models without tools: what is decoded of a text, however it is cut."""

from __future__ import annotations

import json
import time
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mellea.backends.text_tools.decode import MAX_HELD, ProtocolDecoder, ProtocolRules
from mellea.core.accumulator import join_deltas
from mellea.core.blocks import ToolCall
from mellea.core.events import Event, FinishReason, TextDelta, ToolDelta, ToolEnd, ToolStart

LOOK = '{"tool": "look", "arguments": {"place": "Rome"}}'


def decode(
    *pieces: str, rules: ProtocolRules | None = None, reason: FinishReason = "stop"
) -> tuple[list[Event], str | None]:
    numbers = iter(range(100))
    decoder = ProtocolDecoder(rules or ProtocolRules(), lambda: f"c{next(numbers)}")
    events = [event for piece in pieces for event in decoder.feed(piece)]
    return events + decoder.close(reason), decoder.problem


def text(events: list[Event]) -> str:
    return "".join(event.chunk for event in events if isinstance(event, TextDelta))


def calls(events: list[Event]) -> list[tuple[str, Any]]:
    return [(e.tool_call.tool_name, e.tool_call.tool_args) for e in events if isinstance(e, ToolEnd)]


def test_a_call_has_the_events_of_a_native_one() -> None:
    events, problem = decode('{"tool": "look", "argum', 'ents": {"pla', 'ce": "Rome"}', "}")
    assert problem is None
    assert events == [
        ToolStart("c0", "look"),
        ToolDelta("c0", '{"pla'),
        ToolDelta("c0", 'ce": "Rome"}'),
        ToolEnd(ToolCall("c0", "look", {"place": "Rome"}, '{"place": "Rome"}')),
    ]


def test_an_answer_streams_as_it_is_written() -> None:
    events, problem = decode('{"answer": "A lin', "e\\", "n\\u00e9\\ud83d", '\\ude00 \\"end\\""}', " and more")
    assert problem is None
    assert events == [TextDelta("A lin"), TextDelta("e"), TextDelta("\né"), TextDelta('😀 "end"')]


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (r'{"answer": "\(x\)"}', r"\(x\)"),  # LaTeX with single backslashes
        ('{"answer": "two\nlines"}', "two\nlines"),
        (r'{"answer": "\ud83dx"}', "\N{REPLACEMENT CHARACTER}x"),
        (r'{"answer": "\ude00"}', "\N{REPLACEMENT CHARACTER}"),
        (r'{"answer": "\ud83d', "\N{REPLACEMENT CHARACTER}"),
        ('{"answer": "no end', "no end"),
        ('{"answer": 12}', "12"),
        ('{"answer": {"a": [1, "]"]}}', '{"a": [1, "]"]}'),
        ('{"answer": ""}', ""),
        ('Sure!\n```json\n{ "answer" : "x" }\n```', "x"),
        ('{"answer": "x"}{"answer": "y"}', "x"),
        ('{"tool": null, "answer": "x"}', "x"),
        ('{"thought": "none"} {"answer": "x", "more": [1]}', "x"),
        ('{"reply": {"answer": "x"}}', "x"),
    ],
)
def test_the_text_of_an_answer_is_shown_and_nothing_else(said: str, shown: str) -> None:
    events, problem = decode(said)
    assert (text(events), calls(events), problem) == (shown, [], None)


@pytest.mark.parametrize(
    "between",
    ["", "\n", ", ", "\n```\n```json\n", "]\n[", ";\n\n"],
    ids=["", "line", "comma", "fence", "list", "semicolon"],
)
def test_several_calls_follow_one_another(between: str) -> None:
    events, problem = decode(f'[{LOOK}{between}{{"arguments": {{}}, "tool": "now"}}]')
    assert calls(events) == [("look", {"place": "Rome"}), ("now", {})]
    assert (text(events), problem) == ("", None)


def test_text_before_a_call_is_text() -> None:
    events, _ = decode(f"I'll look {{in}} Rome.\n\n```json\n{LOOK}\n```")
    assert (text(events), calls(events)) == ("I'll look {in} Rome.", [("look", {"place": "Rome"})])
    events, _ = decode('{"answer": "I\'ll look.", "tool": "now"}')
    assert (text(events), calls(events)) == ("I'll look.", [("now", {})])


def test_nothing_of_a_call_shows_if_it_stands_in_an_object_of_the_models_own() -> None:
    events, _ = decode(f'{{"calls": [{LOOK}, {LOOK}]}}')
    assert (text(events), len(calls(events))) == ("", 2)


def test_what_a_model_makes_up_after_its_calls_is_dropped() -> None:
    made_up = f'{LOOK}\nResult: a dog\n{{"tool": "delete", "arguments": {{}}}}\n{{"answer": "a dog"}}'
    events, problem = decode(made_up)
    assert (text(events), calls(events), problem) == ("", [("look", {"place": "Rome"})], None)
    events, _ = decode(f'{LOOK}{{"answer": "a dog"}}{LOOK}')
    assert (text(events), calls(events)) == ("", [("look", {"place": "Rome"})])
    events, _ = decode(f'{{"answer": "x"}}\n{LOOK}')
    assert (text(events), calls(events)) == ("x", [])


@pytest.mark.parametrize(
    "said",
    [
        '{"tool": "look", "arguments": {"place": "Ro',
        '{"tool": "look", "arguments": "Rome"}',
        '{"tool": "look", "arguments": [1]}',
        '{"tool": "look", "arguments": {"place": Rome}}',
    ],
)
def test_arguments_that_are_no_object_make_an_invalid_call(said: str) -> None:
    events, problem = decode(said)
    (call,) = [event.tool_call for event in events if isinstance(event, ToolEnd)]
    assert (call.tool_name, call.is_valid, problem) == ("look", False, None)
    assert call.raw_args
    assert call.raw_args == "".join(event.chunk for event in events if isinstance(event, ToolDelta))


@pytest.mark.parametrize(
    ("said", "rules"),
    [
        ("", ProtocolRules()),
        ("It is 3.", ProtocolRules()),
        ('{"name": "look"}', ProtocolRules()),
        ('{"tool": 5}', ProtocolRules()),
        ('{"tool": ""}', ProtocolRules()),
        ('{"tool" "look"}', ProtocolRules()),
        ('{"arguments": {}}', ProtocolRules()),
        ('{"tool: look', ProtocolRules()),
        (f'{{"tool": "{"x" * 10_000}"}}', ProtocolRules()),
        (f'{{"arguments": {{}}, "{"x" * 10_000}": 1}}', ProtocolRules()),
        ('{"answer": "x"}', ProtocolRules(must_call=True)),
        (LOOK, ProtocolRules(names=frozenset({"now"}), must_call=True)),
    ],
)
def test_nothing_is_shown_of_a_text_that_breaks_the_protocol(said: str, rules: ProtocolRules) -> None:
    events, problem = decode(*said, rules=rules)
    assert events == []
    assert problem


def test_a_text_that_was_stopped_is_no_breach() -> None:
    assert decode("It is", reason="length") == ([TextDelta("It is")], None)
    assert decode("", reason="content_filter") == ([], None)
    assert decode('{"answer": "It is', reason="length") == ([TextDelta("It is")], None)


def test_an_answer_with_a_format_is_the_json_itself() -> None:
    rules = ProtocolRules(has_format=True)
    events, _ = decode('{"answer": {"a": "x\\', 'n", "b": [', "1]}", "}", rules=rules)
    assert events == [TextDelta('{"a": "x\\'), TextDelta('n", "b": ['), TextDelta("1]}")]
    assert text(decode('{"answer": "x"}', rules=rules)[0]) == '"x"'
    assert text(decode('{"answer": 12 }', rules=rules)[0]) == "12"


def test_an_answer_that_was_begun_goes_on() -> None:
    events, problem = decode('nd on"}', rules=ProtocolRules(begun='{"answer": "on a'))
    assert (text(events), problem) == ("nd on", None)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
CALLS = st.tuples(st.sampled_from(["look", "now", "añadir"]), st.dictionaries(st.text(max_size=5), JSON, max_size=3))


def write(name: str, arguments: dict[str, Any], is_turned: bool, is_ascii: bool) -> str:
    parts = [("tool", name), ("arguments", arguments)]
    return json.dumps(dict(parts[::-1] if is_turned else parts), ensure_ascii=is_ascii)


@given(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=30),
    st.lists(CALLS, max_size=3),
    st.text(max_size=30),
    st.booleans(),
    st.booleans(),
    st.lists(st.integers(0, 400), max_size=12),
)
def test_the_events_are_the_same_however_the_text_is_cut(
    before: str, called: list[Any], answer: str, is_turned: bool, is_ascii: bool, cuts: list[int]
) -> None:
    body = "\n".join(write(name, args, is_turned, is_ascii) for name, args in called)
    body = body or json.dumps({"answer": answer}, ensure_ascii=is_ascii)
    said = f"{before}\n{body}"
    places = sorted({0, len(said), *(cut for cut in cuts if cut < len(said))})
    whole, _ = decode(said)
    for pieces in ([said[a:b] for a, b in pairwise(places)], list(said)):
        events, problem = decode(*pieces)
        assert problem is None
        assert join_deltas(events) == join_deltas(whole)
    assert calls(whole) == called
    assert text(whole) == (answer if not called else text(whole))
    assert not called or text(whole) in before
    starts = [event.tool_call_id for event in whole if isinstance(event, ToolStart)]
    assert starts == [event.tool_call.tool_call_id for event in whole if isinstance(event, ToolEnd)]


@given(
    st.lists(
        st.sampled_from(['{"tool": "', '{"answer": "', '"', "\\", "\\u", "d83d", "{", "}", "[", ":", ",", " ", "x"])
    )
)
def test_no_text_breaks_the_decoder(pieces: list[str]) -> None:
    events, problem = decode(*pieces)
    said = "".join(pieces)
    whole, other = decode(said)
    assert (join_deltas(events), problem) == (join_deltas(whole), other)
    assert (join_deltas(decode(*said)[0]), problem) == (join_deltas(whole), other)
    assert problem is None or events == []


@pytest.mark.parametrize("piece", ["x", "{", '{"', " ", '{"tool": "x"', "\\", '{"answer": "\\ud83d'], ids=str)
@pytest.mark.parametrize(
    "begin", ["", '{"tool": "a", "arguments": ', '{"answer": "', LOOK, '{"arguments": {"a": '], ids=str
)
def test_it_takes_linear_time(begin: str, piece: str) -> None:
    def measure(count: int) -> float:
        start = time.process_time()
        decode(begin, *[piece] * count)
        return time.process_time() - start

    small = min(measure(1_000) for _ in range(3))
    assert min(measure(8_000) for _ in range(2)) < 8 * small * 4 + 0.01


def test_what_is_held_back_has_a_limit() -> None:
    events, problem = decode(*["x" * 1000] * (MAX_HELD // 1000 + 2))
    assert events == []
    assert problem is not None
    assert "200,000" in problem
    assert decode('{"arguments": "', *["x" * 1000] * 300)[1] is not None
    assert decode("{", *[" " * 1000] * 300)[1] is not None
    assert calls(decode(LOOK, *[" " * 1000] * 300)[0]) == [("look", {"place": "Rome"})]
