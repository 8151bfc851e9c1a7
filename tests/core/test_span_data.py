"""A span as plain data: JSON, nothing unknown, and content only if it is asked for."""

from __future__ import annotations

import json
from typing import Any

import pytest

import mellea
from mellea.core import ImageBlock, Message, ToolCall, ToolOutput, Usage
from mellea.core.blocks import CBlock, ThinkingBlock
from mellea.core.events import ToolEnd
from mellea.core.span_data import describe_message, describe_span
from mellea.errors import RateLimitError
from mellea.stdlib.requirements import check, simple_validate
from mellea.testing import ScriptedBackend

PASSWORD = "correct horse"


def spans_of(*replies: Any, **arguments: Any) -> list[dict[str, Any]]:
    m = mellea.start_session(ScriptedBackend(*replies, usage=Usage(3, 4)))
    with mellea.traces.start("t") as t:
        m.instruct(f"it is {PASSWORD}", name="call", **arguments)
    return [describe_span(span) for span in t.spans] + [describe_span(span, content=True) for span in t.spans]


def test_a_request_is_told_without_what_isnt_known() -> None:
    plain = spans_of(["a", "b"], model_options={"temperature": 0.5})[1]
    for name in ("id", "parent", "started", "seconds", "session", "time_to_first_chunk"):
        assert plain.pop(name) is not None
    assert plain == {
        "kind": "call",
        "name": "call",
        "given_name": "call",
        "is_request": True,
        "status": "ok",
        "provider": "scripted",
        "model": "script",
        "options": {"temperature": 0.5},
        "output_type": "text",
        "chunk_count": 2,
        "response_model": "script",
        "response_id": "script-1",
        "finish_reason": "stop",
        "input_tokens": 3,
        "output_tokens": 4,
    }


def test_everything_is_json_and_content_is_there_only_if_asked_for() -> None:
    def look(place: str) -> str:
        """Look."""
        return f"{place} {PASSWORD}"

    no = check(f"isn't {PASSWORD}", validation_fn=simple_validate(lambda text: (False, f"{text} is {PASSWORD}")))
    with_tools = spans_of([ToolEnd(ToolCall("1", "look", {"place": PASSWORD}))], "x", tools=[look], tool_calls="run")
    found = with_tools + spans_of(f"so {PASSWORD}", requirements=[no])
    without = [each for each in found if "messages" not in each and "arguments" not in each]
    halves = [with_tools[: len(with_tools) // 2], with_tools[len(with_tools) // 2 :]]
    assert PASSWORD not in json.dumps(halves[0]) and json.dumps(halves[1]).count(PASSWORD) >= 4
    assert json.loads(json.dumps(found)) == found and without
    rejected = next(each for each in found if each.get("reasons"))
    assert rejected["reasons"][0]["requirement"] == f"isn't {PASSWORD}" and rejected["is_accepted"] is False


def test_an_error_is_told_by_its_type_and_with_content_by_its_words() -> None:
    m = mellea.start_session(ScriptedBackend(RateLimitError("too many")))
    with mellea.traces.start("t") as t, pytest.raises(RateLimitError):
        m.instruct("x")
    plain, full = describe_span(t.spans[1]), describe_span(t.spans[1], content=True)
    assert plain["error_type"] == "RateLimitError" and "error" not in plain and "too many" in full["error"]
    assert t.cost == 0.0 and "cost" not in plain and "input_tokens" not in plain


def test_messages_have_roles_and_parts() -> None:
    blocks = [
        CBlock("hello"),
        ThinkingBlock("hm"),
        ImageBlock(data=b"1234"),
        ImageBlock(url="https://example.org/a.png"),
        ToolCall("1", "look", {"place": "Rome", "api_key": "sk-1"}),
    ]
    assert describe_message(Message("assistant", blocks)) == {
        "role": "assistant",
        "parts": [
            {"type": "text", "content": "hello"},
            {"type": "reasoning", "content": "hm"},
            {"type": "blob", "mime_type": "image/png", "modality": "image", "size": 4},
            {"type": "uri", "mime_type": "image/png", "modality": "image", "uri": "https://example.org/a.png"},
            {"type": "tool_call", "id": "1", "name": "look", "arguments": {"place": "Rome", "api_key": "***"}},
        ],
    }
    output = Message("tool", ToolOutput("1", "look", {"found": 2}))
    assert describe_message(output)["parts"] == [{"type": "tool_call_response", "id": "1", "response": '{"found": 2}'}]
