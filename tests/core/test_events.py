"""Events are cheap, slotted, comparable and pickle; usage adds up."""

from __future__ import annotations

import dataclasses
import pickle

import pytest

from mellea.core import events
from mellea.core.blocks import Source, ToolCall, ToolOutput
from mellea.core.events import Event, StreamEnd, TextDelta, Usage

CALL = ToolCall("c1", "look", {"q": 1}, '{"q": 1}')

ONE_OF_EACH: list[Event] = [
    TextDelta("a"),
    events.ReasoningDelta("b", "signed"),
    events.ToolStart("c1", "look"),
    events.ToolDelta("c1", "{"),
    events.ToolEnd(CALL),
    events.BuiltinToolStart("c2", "search"),
    events.BuiltinToolEnd(CALL),
    events.BuiltinToolResult(ToolOutput("c2", "search", "found")),
    events.FileEvent("image/png", data=b"png"),
    events.SourceEvent(Source("https://example.org")),
    events.UsageEvent(Usage(1, 2)),
    StreamEnd("stop", "r1", "m"),
    events.KeepAlive(),
    events.AttemptStart(2, "It was"),
    events.ChunkValidated(2, " a cat.", is_committed=True),
    events.AttemptRejected(2, "no cats", "there is one"),
    events.AttemptAccepted(3),
    events.StepStart(1),
    events.ToolProgress("c1", "look", 0.5),
    events.ToolResult(ToolOutput("c1", "look", "seen")),
    events.StepEnd(1),
    events.NestedEvent("c1", "look/1", TextDelta("a")),
    events.Steered("Be brief."),
]


def test_there_is_one_of_each() -> None:
    kinds = {kind for name in events.__all__ if isinstance(kind := getattr(events, name), type)}
    assert {type(event) for event in ONE_OF_EACH} == {kind for kind in kinds if issubclass(kind, Event)} - {Event}


@pytest.mark.parametrize("event", ONE_OF_EACH, ids=lambda event: type(event).__name__)
def test_an_event_is_a_small_value(event: Event) -> None:
    assert not hasattr(event, "__dict__")
    assert dataclasses.replace(event) == event  # type: ignore[type-var]
    assert pickle.loads(pickle.dumps(event)) == event
    assert repr(event).startswith(type(event).__name__ + "(")


def test_usage_adds_what_is_known() -> None:
    total = Usage(10, 5) + Usage(1, None, cached_tokens=3)
    assert total == Usage(11, 5, 3, None, None)
    assert total.total_tokens == 16
    assert Usage().total_tokens is None
    assert Usage(input_tokens=4).total_tokens == 4


def test_a_later_usage_replaces_what_it_knows_zero_included() -> None:
    assert Usage(10, 1, cached_tokens=2).merge(Usage(None, 7, cached_tokens=0)) == Usage(10, 7, 0)
