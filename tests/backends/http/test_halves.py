"""Halves of a character: joined where they meet, U+FFFD where one stays alone, in no text that comes out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mellea.backends.http.halves import Halves, parse_odd
from mellea.core.blocks import Source
from mellea.core.events import Event, ReasoningDelta, SourceEvent, StreamEnd, TextDelta, ToolDelta, ToolEnd, ToolStart
from mellea.core.messages import parse_tool_call
from mellea.core.surrogates import replace_surrogates, replace_surrogates_in

HIGH, LOW, ALONE, FACE = "\ud83d", "\ude00", "\ufffd", "\U0001f600"
END = StreamEnd("stop")


def joined(*events: Event) -> list[Event]:
    halves = Halves()
    one_by_one = [out for event in events for out in halves.feed([event])]
    assert one_by_one == Halves().feed(events)
    return one_by_one


def text(*chunks: str) -> str:
    return "".join(event.chunk for event in joined(*map(TextDelta, chunks), END) if isinstance(event, TextDelta))


@pytest.mark.parametrize(
    ("chunks", "whole"),
    [
        ([f"a {HIGH}", f"{LOW} b"], f"a {FACE} b"),
        ([HIGH, LOW], FACE),
        ([HIGH, "", LOW], FACE),
        ([f"{HIGH}{LOW}"], FACE),
        ([f"a {HIGH} b"], f"a {ALONE} b"),
        ([HIGH, "b"], f"{ALONE}b"),
        ([HIGH, HIGH, LOW], f"{ALONE}{FACE}"),
        ([LOW, HIGH], f"{ALONE}{ALONE}"),
        ([HIGH], ALONE),
        ([FACE, HIGH, LOW], FACE * 2),
    ],
)
def test_text(chunks: list[str], whole: str) -> None:
    assert text(*chunks) == whole


@given(st.lists(st.text(st.sampled_from([HIGH, LOW, "a", FACE]), max_size=3), max_size=6))
def test_any_cut_comes_to_the_same(chunks: list[str]) -> None:
    assert text(*chunks) == replace_surrogates("".join(chunks))
    text(*chunks).encode()


def test_each_kind_of_delta_and_each_call_has_halves_of_its_own() -> None:
    events = joined(
        TextDelta(HIGH), ReasoningDelta(HIGH), ToolDelta("a", HIGH), ToolDelta("b", HIGH),
        ToolDelta("a", LOW), ReasoningDelta(LOW), TextDelta(LOW), ToolEnd(parse_tool_call("b", "f", HIGH)), END,
    )  # fmt: skip
    assert events[:4] == [ToolDelta("a", FACE), ReasoningDelta(FACE), TextDelta(FACE), ToolDelta("b", ALONE)]
    assert isinstance(events[4], ToolEnd) and events[4].tool_call.raw_args == ALONE


def test_a_call_parts_the_halves_of_a_text() -> None:
    assert joined(TextDelta(HIGH), ToolStart("a", "f"), TextDelta(LOW)) == [
        TextDelta(ALONE), ToolStart("a", "f"), TextDelta(ALONE)
    ]  # fmt: skip


def test_a_signature_and_side_information() -> None:
    assert joined(ReasoningDelta(HIGH, "s")) == [ReasoningDelta(ALONE, "s")]
    assert joined(SourceEvent(Source(title=HIGH))) == [SourceEvent(Source(title=ALONE))]


def test_escapes_inside_the_arguments() -> None:
    call = parse_tool_call("a", "f", r'{"q": "\ud83d", "face": "\ud83d\ude00"}')
    assert call.tool_args == {"q": ALONE, "face": FACE} and call.is_valid


def test_values_and_bytes() -> None:
    assert replace_surrogates_in({"a": [HIGH, (LOW,)]}) == {"a": [ALONE, (ALONE,)]}
    assert parse_odd(rb'{"a": "\ud83d"}') == {"a": HIGH}
    assert parse_odd(b'{"a": "\xed\xa0\xbd"}') == {"a": HIGH}
    assert parse_odd(b'{"a": "\xff"}') == {"a": ALONE}
    for broken in (b'{"a": "\\ud83', b"{", rb'{"a": "\ud83d"', b"nonsense"):
        with pytest.raises(ValueError, match=r"."):
            parse_odd(broken)
