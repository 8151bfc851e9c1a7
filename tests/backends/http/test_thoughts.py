"""Thoughts in tags: reasoning and text come apart in the same way, however the text is cut."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mellea.backends.http.thoughts import TAGS, ThoughtTags
from mellea.core.events import Event, ReasoningDelta, StreamEnd, TextDelta, ToolStart, Usage, UsageEvent

END = StreamEnd("stop")


def split(*chunks: str | Event) -> tuple[str, str]:
    """Return the thoughts and the text that come of chunks and other events."""
    tags, out = ThoughtTags(), list[Event]()
    for chunk in chunks:
        out += tags.feed([TextDelta(chunk) if isinstance(chunk, str) else chunk])
    out += tags.feed([END])
    assert out[-1] is END
    thoughts = "".join(event.chunk for event in out if isinstance(event, ReasoningDelta))
    return thoughts, "".join(event.chunk for event in out if isinstance(event, TextDelta))


@pytest.mark.parametrize(
    ("said", "thoughts", "text"),
    [
        ("<think>Hm.</think>Four.", "Hm.", "Four."),
        ("\n <think>\nHm.\n</think>\n\nFour. \n", "Hm.", "Four. \n"),
        ("<thinking>a</thinking>b", "a", "b"),
        ("<reasoning>a</reasoning>b", "a", "b"),
        ("[THINK]a[/THINK]b", "a", "b"),
        ("\ufeff<think>a</think>b", "a", "b"),
        ("<think>a</think>\n<think>b</think>c", "ab", "c"),
        ("<think></think>c", "", "c"),
        ("<think>\n\n</think>\n\nc", "", "c"),
        ("<think>never closed [1, 2]", "never closed [1, 2]", ""),
        ("<think>a </thin k> b", "a </thin k> b", ""),
        ("<think>a</thinking>b</think>c", "a</thinking>b", "c"),
        ("<thinks>a</think>", "", "<thinks>a</think>"),
        ("Well, <think>a</think>", "", "Well, <think>a</think>"),
        ("  plain", "", "  plain"),
        ("<", "", "<"),
        ("  <thin", "", "  <thin"),
        ("", "", ""),
        (" \n", "", " \n"),
    ],
)
def test_thoughts_and_text(said: str, thoughts: str, text: str) -> None:
    assert split(said) == split(*said) == (thoughts, text)
    for place in range(len(said)):
        assert split(said[:place], said[place:]) == (thoughts, text)


@given(
    st.lists(st.sampled_from([*TAGS, *TAGS.values(), "a", "<", "</", "think", ">", " ", "\n", "[", "{}"]), max_size=8)
)
def test_a_decision_falls_at_a_character(pieces: list[str]) -> None:
    said = "".join(pieces)
    assert split(*pieces) == split(said) == split(*said)


def test_a_service_with_a_field_for_reasoning_says_tags_in_its_text() -> None:
    assert split(ReasoningDelta("Hm."), "<think>a</think>") == ("Hm.", "<think>a</think>")


def test_a_call_ends_the_beginning() -> None:
    assert split(" <", ToolStart("c", "f"), "think>") == ("", " <think>")


def test_what_is_beside_the_text_decides_nothing() -> None:
    assert split("<thi", UsageEvent(Usage(1, 1)), ReasoningDelta(""), "nk>a</think>b") == ("a", "b")


def test_the_time_is_linear() -> None:
    started = time.process_time()
    split("<think>", *["\n"] * 50_000, *["<"] * 50_000)
    split(*[" "] * 100_000, "x")
    assert time.process_time() - started < 5.0
