"""Chunks of a run's text: however it is cut into deltas, live chunks of a size are those of the whole text."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mellea.core.blocks import ToolCall
from mellea.core.events import StepEnd, StepStart, TextDelta, ToolEnd
from mellea.core.graphemes import cut_graphemes
from mellea.errors import UsageError
from mellea.stdlib.streaming import ChunkFold, StreamChunk, chunks

_texts = st.text(st.sampled_from("ab é\u0301\u200d👩🇩🇪\r\n한ᄀ가"), max_size=30)


def fold(deltas: Iterable[str], *, live: bool = False, size: int | None = None) -> list[StreamChunk]:
    made = ChunkFold(live=live, size=size)
    for event in [StepStart(1), *map(TextDelta, deltas), StepEnd(1)]:
        made.feed(event)
    made.finish()
    return [*made.ready]


@given(st.lists(_texts, max_size=8), st.integers(1, 9))
@example(["a" + 4 * "\u0301", 4 * "\u0301", "b"], 1)  # so long that nobody looks at the "b" before the end
def test_live_chunks_are_cut_where_the_whole_text_would_be(deltas: list[str], size: int) -> None:
    text = "".join(deltas)
    live = fold(deltas, live=True, size=size)
    assert [chunk.text for chunk in live[:-1]] == cut_graphemes(text, size)
    assert [chunk.text for chunk in fold(deltas, size=size)] == (cut_graphemes(text, size) or [""])
    assert "".join(chunk.text for chunk in fold(deltas)) == text


@pytest.mark.parametrize(("delta", "size"), [("\u0301", 1), ("a", 1000), ("👩\u200d", 50)])
def test_the_cost_of_a_delta_does_not_grow(delta: str, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = 0

    def count(text: str) -> Iterable[int]:
        nonlocal looked
        looked += len(text)
        return ends(text)

    ends = chunks.find_grapheme_ends
    monkeypatch.setattr(chunks, "find_grapheme_ends", count)
    fold(["e", *[delta] * 20_000], live=True, size=size)
    assert looked < 20 * 20_000 * len(delta)


def test_a_step_that_calls_a_tool_is_no_answer_unless_nothing_follows() -> None:
    made = ChunkFold()
    for event in [StepStart(1), TextDelta("Hm."), ToolEnd(ToolCall("c", "look", {})), StepEnd(1), StepStart(2)]:
        made.feed(event)
    assert not made.ready
    made.finish()
    assert [*made.ready] == [StreamChunk("Hm.", 1, is_final=True)]


def test_a_suspended_run_has_no_final_chunk() -> None:
    made = ChunkFold()
    made.feed(TextDelta("Hm."))
    made.finish(is_suspended=True)
    assert not made.ready


@pytest.mark.parametrize("size", [0, -1, True, 1.5, "3"])
def test_a_size_is_a_whole_number(size: int) -> None:
    with pytest.raises(UsageError, match="chunk_size"):
        ChunkFold(size=size)
