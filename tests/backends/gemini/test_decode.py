"""What each kind of part becomes, and what isn't the protocol."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mellea.backends.gemini.decode import Decoder, decode_plain
from mellea.core.blocks import Source, ThinkingBlock, ToolCall, ToolOutput
from mellea.core.events import (
    BuiltinToolEnd,
    BuiltinToolResult,
    BuiltinToolStart,
    FileEvent,
    ReasoningDelta,
    StreamEnd,
    TextDelta,
    ToolDelta,
    ToolEnd,
    ToolStart,
    Usage,
    UsageEvent,
)
from mellea.errors import (
    BackendError,
    InterruptedStreamError,
    OverloadedError,
    RateLimitError,
    WireError,
)
from tests.backends.gemini import answers
from tests.backends.gemini.answers import call, end, part_of, partial, stream, text
from tests.backends.recorded import Outcome, outcome

USAGE = UsageEvent(Usage(input_tokens=25, output_tokens=18, cached_tokens=8, reasoning_tokens=11))


def decode(body: bytes) -> Outcome:
    return outcome(Decoder("gemini-asked"), body)


def finish(*chunks: dict[str, Any]) -> Any:
    return decode(stream(*chunks)).generation.finish_reason


def test_text_then_usage_then_the_end() -> None:
    assert decode(answers.HELLO).events == [
        TextDelta("Hé"),
        TextDelta("llo 🌍."),
        USAGE,
        StreamEnd("stop", "r-1", "gemini-test-001"),
    ]


def test_the_model_asked_for_stands_in_for_one_that_isnt_named() -> None:
    body = b"data: " + json.dumps(end()).encode() + b"\n\n"
    assert decode(body).events[-1] == StreamEnd("stop", None, "gemini-asked")


def test_thoughts_and_their_signatures_stand_where_they_stood() -> None:
    first = decode(answers.THINKING).generation.message.blocks[0]
    assert first == ThinkingBlock("First, a plan.", "gemini:c2lnMQ==")
    assert decode(answers.THINKING).events[:6] == [
        ReasoningDelta("First, "),
        ReasoningDelta("a plan.", "gemini:c2lnMQ=="),
        TextDelta("Here "),
        ReasoningDelta("", "gemini:last:c2lnMg=="),
        TextDelta("it is."),
        ReasoningDelta("", "gemini:c2lnMw=="),
    ]


def test_calls_come_whole_and_get_ids_where_they_have_none() -> None:
    whole = decode(answers.CALLS)
    assert whole.events[:3] == [
        ToolStart("a1", "look"),
        ToolDelta("a1", '{"city": "Zürich", "days": 2}'),
        ToolEnd(ToolCall("a1", "look", {"city": "Zürich", "days": 2}, '{"city": "Zürich", "days": 2}')),
    ]
    calls = whole.generation.tool_calls
    assert [call.tool_call_id for call in calls] == ["a1", "r-1_2", "r-1_3"]
    assert [dict(call.tool_args) for call in calls[1:]] == [{}, {}]
    assert calls[1].signature == "gemini:c2lnNA=="
    assert whole.generation.finish_reason == "tool_call"


def test_arguments_that_come_piece_by_piece() -> None:
    first, second = decode(answers.STREAMED_CALL).generation.tool_calls
    assert first.tool_args == {
        "recipe": {"steps": ['Boil "water\n', "Stir"], "serves": 4},
        "is vegan": False,
        "note": None,
    }
    assert (first.signature, first.is_valid) == ("gemini:c2lnNQ==", True)
    assert (second.tool_name, second.tool_args) == ("serve", {"at": "noon"})
    deltas = [event.chunk for event in decode(answers.STREAMED_CALL).events if isinstance(event, ToolDelta)]
    assert deltas[:3] == ['{"recipe":{"steps":["Boil \\"wa', 'ter\\n"', ',"Stir']


def test_a_streamed_call_that_stop_ends_is_whole() -> None:
    whole = decode(stream(call("cook", willContinue=True), partial("$.what", "soup"), end()))
    assert [(each.tool_args, each.is_valid) for each in whole.generation.tool_calls] == [({"what": "soup"}, True)]


@pytest.mark.parametrize("reason", ["MAX_TOKENS", "SAFETY"])
def test_a_call_that_is_cut_off_is_not_valid(reason: str) -> None:
    whole = decode(stream(call("cook", willContinue=True), partial("$.what", "so", more=True), end(reason)))
    (cut,) = whole.generation.tool_calls
    assert (cut.is_valid, cut.tool_args, cut.raw_args) == (False, {}, '{"what":"so')
    before_any_argument = decode(stream(call("cook", willContinue=True), end(reason)))
    assert not before_any_argument.generation.tool_calls[0].is_valid


def test_a_search_and_what_it_found() -> None:
    whole = decode(answers.SEARCH)
    searched = ToolCall("r-1_1", "google_search", {"queries": ["weather"]}, '{"queries": ["weather"]}', True, True)
    assert BuiltinToolStart("r-1_1", "google_search") in whole.events
    assert BuiltinToolEnd(searched) in whole.events
    assert whole.generation.sources == (
        Source("https://a.example", "A"),
        Source(None, "notes", "It shines."),
        Source("https://b.example"),
    )
    assert whole.text == "Sunny."


def test_sources_that_come_again_are_told_once() -> None:
    found = {"groundingMetadata": {"groundingChunks": [{"web": {"uri": "https://a.example"}}]}}
    assert len(decode(stream(end("STOP", **found), end("STOP", **found))).generation.sources) == 1


def test_what_the_provider_runs_itself() -> None:
    code = {"language": "PYTHON", "code": "print(1)"}
    run = ToolCall("r-1_1", "code_execution", code, json.dumps(code), True, True, "gemini:c2lnNg==")
    assert decode(answers.SERVER_TOOLS).events[:4] == [
        BuiltinToolStart("r-1_1", "code_execution"),
        BuiltinToolEnd(run),
        BuiltinToolResult(ToolOutput("r-1_1", "code_execution", "1\n", is_builtin=True)),
        BuiltinToolStart("t1", "url_context"),
    ]
    assert finish(*[part_of(executableCode={"code": "1"}), end()]) == "stop"


def test_files_come_out_and_drafts_dont() -> None:
    assert decode(answers.PICTURE).events[:3] == [
        FileEvent("image/png", b"png"),
        ReasoningDelta("", "gemini:last:c2lnNw=="),
        FileEvent("video/mp4", url="https://d.example/v"),
    ]


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("STOP", "stop"),
        ("MAX_TOKENS", "length"),
        ("SAFETY", "content_filter"),
        ("RECITATION", "content_filter"),
        ("MALFORMED_FUNCTION_CALL", "error"),
        ("OTHER", "other"),
        ("SOMETHING_NEW", "other"),
    ],
)
def test_finish_reasons(reason: str, expected: str) -> None:
    assert finish(text("a"), end(reason)) == expected


def test_a_blocked_prompt_is_an_end() -> None:
    body = stream({"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 3}})
    assert decode(body).events == [
        UsageEvent(Usage(input_tokens=3)),
        StreamEnd("content_filter", "r-1", "gemini-test-001"),
    ]
    assert isinstance(decode(stream({"promptFeedback": {"safetyRatings": []}})).error, InterruptedStreamError)


def test_other_candidates_and_unknown_fields_are_ignored() -> None:
    other = {"candidates": [{"index": 1, "content": {"parts": [{"text": "B"}]}, "finishReason": "STOP"}]}
    odd = part_of(somethingNew={"a": 1})
    assert decode(stream(other, odd, text("A"), end(newField=[1]))).text == "A"
    assert isinstance(decode(stream(other)).error, InterruptedStreamError)


@pytest.mark.parametrize(("code", "kind"), [(429, RateLimitError), (503, OverloadedError)])
def test_an_error_in_mid_stream_is_raised_after_the_text(code: int, kind: type[BackendError]) -> None:
    error = {"error": {"code": code, "message": "Too much.", "status": "SOME_STATUS"}}
    result = decode(stream(text("Half"), error, text(" lost"), end()))
    assert result.text == "Half"
    assert type(result.error) is kind
    assert str(result.error) == "Gemini reports an error: Too much. (SOME_STATUS)"
    assert (result.error.partial, result.error.model, result.error.is_retryable) == ("Half", "gemini-asked", True)


BROKEN: dict[str, Any] = {
    "no object": [],
    "candidates": {"candidates": {}},
    "a candidate": {"candidates": [5]},
    "content": {"candidates": [{"content": "x"}]},
    "parts": {"candidates": [{"content": {"parts": "x"}}]},
    "a part": {"candidates": [{"content": {"parts": ["x"]}}]},
    "text": part_of(text=5),
    "signature": part_of(text="a", thoughtSignature=5),
    "call": part_of(functionCall=[]),
    "name": call(5),  # type: ignore[arg-type]
    "args": call("a", args=[]),
    "id": call("a", id=5),
    "partials": call("a", partialArgs={}),
    "partial": call("a", partialArgs=[1]),
    "arguments of nothing": call(partialArgs=[{"jsonPath": "$.a", "stringValue": "x"}]),
    "data": part_of(inlineData={"mimeType": "image/png", "data": "A"}),
    "media type": part_of(inlineData={"data": "QQ=="}),
    "address": part_of(fileData={}),
    "finish reason": {"candidates": [{"finishReason": 5}]},
    "usage": end() | {"usageMetadata": 5},
    "count": end() | {"usageMetadata": {"promptTokenCount": "5"}},
    "feedback": {"promptFeedback": 5},
}


@pytest.mark.parametrize("chunk", BROKEN.values(), ids=BROKEN)
def test_what_isnt_the_protocol_is_a_wire_error(chunk: Any) -> None:
    body = stream(text("Half")) + b"data: " + json.dumps(chunk).encode() + b"\n\n"
    result = decode(body)
    assert type(result.error) is WireError
    assert result.error.partial == "Half"


def test_two_calls_cant_be_open_at_once() -> None:
    result = decode(stream(call("a", willContinue=True), call("b", args={})))
    assert isinstance(result.error, WireError) and "'b' begins before the call of 'a'" in str(result.error)


@pytest.mark.parametrize("body", [b"data: {\n\n", b"data: nope\n\n", b'data: {"a": "\xff"}\n\n'])
def test_what_is_no_json_is_a_wire_error(body: bytes) -> None:
    assert type(decode(body).error) is WireError


def test_nothing_at_all_is_interrupted() -> None:
    error = decode(b"").error
    assert isinstance(error, InterruptedStreamError) and error.is_retryable


def test_a_plain_answer_is_one_chunk() -> None:
    body = json.dumps({**text("Hi"), **end(content={"parts": [{"text": "Hi"}]}), "responseId": "r"}).encode()
    assert decode_plain(body, "m") == [TextDelta("Hi"), USAGE, StreamEnd("stop", "r", "m")]
    with pytest.raises(RateLimitError):
        decode_plain(b'{"error": {"code": 429, "message": "no"}}', "m")
