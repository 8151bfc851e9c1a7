"""The fold gives the same generation however the deltas are cut, and joining them changes nothing."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mellea.core.accumulator import Accumulator, Generation, join_deltas
from mellea.core.blocks import CBlock, FileBlock, ImageBlock, Source, ThinkingBlock, ToolCall, ToolOutput
from mellea.core.events import (
    BuiltinToolEnd,
    BuiltinToolResult,
    BuiltinToolStart,
    Event,
    FileEvent,
    ReasoningDelta,
    SourceEvent,
    StreamEnd,
    TextDelta,
    ToolDelta,
    ToolEnd,
    ToolStart,
    Usage,
    UsageEvent,
)
from tests.soak import examples

CALL = ToolCall("c1", "look", {"q": "x"}, '{"q": "x"}')
OTHER = ToolCall("c2", "find", {}, "{}")
SEARCH = ToolCall("s1", "search", {}, "", is_builtin=True)
FOUND = ToolOutput("s1", "search", "it", is_builtin=True)


def fold(*events: Event) -> Generation:
    accumulator = Accumulator()
    accumulator.feed(events)
    return accumulator.generation()


def test_nothing_folds_to_an_empty_answer() -> None:
    generation = fold()
    assert (generation.text, generation.message.blocks, generation.finish_reason) == ("", (), None)


def test_text_is_one_block() -> None:
    generation = fold(TextDelta("Hel"), TextDelta("lo"), StreamEnd("stop", "r1", "m1"))
    assert generation.message.blocks == (CBlock("Hello"),)
    assert (generation.finish_reason, generation.response_id, generation.model) == ("stop", "r1", "m1")


def test_blocks_keep_their_order() -> None:
    generation = fold(
        ReasoningDelta("let me "),
        ReasoningDelta("see", "sig"),
        TextDelta("I'll "),
        TextDelta("look."),
        ToolStart("c1", "look"),
        ToolDelta("c1", '{"q": "x"}'),
        ToolEnd(CALL),
        BuiltinToolStart("s1", "search"),
        BuiltinToolEnd(SEARCH),
        BuiltinToolResult(FOUND),
        FileEvent("image/png", data=b"png"),
        FileEvent("application/pdf", url="https://example.org/a.pdf", filename="a.pdf"),
        TextDelta("Done."),
    )
    assert generation.message.blocks == (
        ThinkingBlock("let me see", "sig"),
        CBlock("I'll look."),
        CALL,
        SEARCH,
        FOUND,
        ImageBlock("image/png", b"png"),
        FileBlock("application/pdf", url="https://example.org/a.pdf", filename="a.pdf"),
        CBlock("Done."),
    )
    assert (generation.text, generation.thinking) == ("I'll look.Done.", "let me see")
    assert generation.tool_calls == (CALL,)
    assert [file.media_type for file in generation.files] == ["image/png", "application/pdf"]


def test_two_calls_written_at_the_same_time_are_both_kept() -> None:
    generation = fold(
        ToolStart("c1", "look"),
        ToolStart("c2", "find"),
        ToolDelta("c1", '{"q":'),
        ToolDelta("c2", "{"),
        TextDelta("meanwhile"),
        ToolDelta("c1", ' "x"}'),
        ToolEnd(CALL),
        ToolDelta("c2", "}"),
        ToolEnd(OTHER),
    )
    assert generation.tool_calls == (CALL, OTHER)
    assert generation.text == "meanwhile"


def test_half_a_call_is_no_call() -> None:
    assert fold(TextDelta("a"), ToolStart("c1", "look"), ToolDelta("c1", '{"q"')).message.blocks == (CBlock("a"),)


def test_each_signature_ends_a_thought() -> None:
    generation = fold(
        ReasoningDelta("a"), ReasoningDelta("", "1"), ReasoningDelta("b", "2"), ReasoningDelta("c"), TextDelta("d")
    )
    assert generation.message.blocks == (
        ThinkingBlock("a", "1"),
        ThinkingBlock("b", "2"),
        ThinkingBlock("c"),
        CBlock("d"),
    )


def test_a_signature_without_text_is_kept() -> None:
    assert fold(ReasoningDelta("", "sealed")).message.blocks == (ThinkingBlock("", "sealed"),)


def test_empty_deltas_leave_no_trace() -> None:
    generation = fold(
        TextDelta(""), ReasoningDelta("a"), TextDelta(""), ReasoningDelta("b"), ReasoningDelta(""), TextDelta("c")
    )
    assert generation.message.blocks == (ThinkingBlock("ab"), CBlock("c"))
    assert fold(TextDelta(""), ReasoningDelta("")).message.blocks == ()
    assert fold(TextDelta("a"), ReasoningDelta(""), TextDelta("b")).message.blocks == (CBlock("ab"),)


def test_what_a_later_usage_knows_replaces_the_earlier() -> None:
    generation = fold(UsageEvent(Usage(10, 1)), TextDelta("a"), UsageEvent(Usage(output_tokens=7)))
    assert generation.usage == Usage(10, 7)
    assert fold(TextDelta("a")).usage is None


def test_sources_are_collected() -> None:
    one, two = Source("https://a.example"), Source("https://b.example")
    assert fold(SourceEvent(one), TextDelta("a"), SourceEvent(two)).sources == (one, two)


def test_a_generation_may_be_asked_for_at_any_time_and_doesnt_change_afterwards() -> None:
    accumulator = Accumulator()
    accumulator.feed([ReasoningDelta("a"), TextDelta("b")])
    early = accumulator.generation()
    accumulator.feed([TextDelta("c"), StreamEnd("stop")])
    assert (early.text, early.finish_reason) == ("b", None)
    assert accumulator.generation().text == "bc"
    assert accumulator.generation() == accumulator.generation()


texts = st.text(max_size=12)
one_event: st.SearchStrategy[Event] = st.one_of(
    st.builds(TextDelta, texts),
    st.builds(ReasoningDelta, texts, st.none() | st.just("signed")),
    st.builds(ToolDelta, st.sampled_from(["c1", "c2"]), texts),
    st.sampled_from(
        [
            ToolStart("c1", "look"),
            ToolEnd(CALL),
            BuiltinToolEnd(SEARCH),
            BuiltinToolResult(FOUND),
            FileEvent("image/png", data=b"png"),
            SourceEvent(Source("https://a.example")),
            UsageEvent(Usage(3, 1)),
            UsageEvent(Usage(None, 2)),
            StreamEnd("stop", "r1", "m1"),
        ]
    ),
)
streams = st.lists(one_event, max_size=14)


def cut(event: Any, places: list[int]) -> list[Event]:
    """Cut a delta at those places; a signature goes with the last piece."""
    if not isinstance(event, (TextDelta, ReasoningDelta, ToolDelta)):
        return [event]
    ends = sorted({min(place, len(event.chunk)) for place in places} | {len(event.chunk)})
    chunks = [event.chunk[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    match event:
        case TextDelta():
            return [TextDelta(chunk) for chunk in chunks]
        case ToolDelta(tool_call_id=call):
            return [ToolDelta(call, chunk) for chunk in chunks]
        case _:
            last = len(chunks) - 1
            return [
                ReasoningDelta(chunk, event.signature if number == last else None)
                for number, chunk in enumerate(chunks)
            ]


@settings(max_examples=examples(120), deadline=None)
@given(streams, st.lists(st.integers(0, 12), max_size=4))
def test_any_cut_of_the_deltas_gives_the_same_generation(events: list[Event], places: list[int]) -> None:
    pieces = [piece for event in events for piece in cut(event, places)]
    assert fold(*pieces) == fold(*events)


@settings(max_examples=examples(120), deadline=None)
@given(streams, st.lists(st.integers(0, 12), max_size=4))
def test_joined_deltas_fold_to_the_same_and_are_the_same_for_any_cut(events: list[Event], places: list[int]) -> None:
    joined = join_deltas(events)
    assert fold(*joined) == fold(*events)
    assert join_deltas(joined) == joined
    pieces = [piece for event in events for piece in cut(event, places)]
    assert join_deltas(pieces) == joined


@settings(max_examples=examples(50), deadline=None)
@given(streams, st.integers(0, 14))
def test_feeding_at_once_or_bit_by_bit_is_the_same(events: list[Event], place: int) -> None:
    accumulator = Accumulator()
    accumulator.feed(events[:place])
    accumulator.generation()
    accumulator.feed(events[place:])
    assert accumulator.generation() == fold(*events)


@settings(max_examples=examples(50), deadline=None)
@given(streams)
def test_the_text_is_all_text_deltas_and_no_other(events: list[Event]) -> None:
    expected = "".join(event.chunk for event in events if isinstance(event, TextDelta))
    assert fold(*events).text == expected


def test_a_joined_stream_has_no_neighbours_of_one_kind() -> None:
    events: list[Event] = [
        TextDelta("a"),
        TextDelta("b"),
        ToolDelta("c1", "x"),
        ToolDelta("c1", "y"),
        ToolDelta("c2", "z"),
        ReasoningDelta("r"),
        ReasoningDelta("s", "sig"),
        ReasoningDelta("t"),
    ]
    assert join_deltas(events) == [
        TextDelta("ab"),
        ToolDelta("c1", "xy"),
        ToolDelta("c2", "z"),
        ReasoningDelta("rs", "sig"),
        ReasoningDelta("t"),
    ]


@pytest.mark.parametrize("count", [1, 1000])
def test_joining_keeps_one_copy_of_the_text(count: int) -> None:
    joined = join_deltas([TextDelta("word ") for _ in range(count)])
    assert isinstance(joined[0], TextDelta)
    assert fold(*joined).text is joined[0].chunk
