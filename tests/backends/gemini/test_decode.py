"""What each kind of part becomes, and what isn't the protocol."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mellea.backends.gemini.decode import Decoder
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
from mellea.testing import replay
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
    assert [call.tool_call_id for call in calls] == ["a1", "call_r-1_1", "call_r-1_2"]
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
    searched = ToolCall("call_r-1_0", "google_search", {"queries": ["weather"]}, '{"queries": ["weather"]}', True, True)
    assert BuiltinToolStart("call_r-1_0", "google_search") in whole.events
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
    run = ToolCall("call_r-1_0", "code_execution", code, json.dumps(code), True, True, "gemini:c2lnNg==")
    assert decode(answers.SERVER_TOOLS).events[:4] == [
        BuiltinToolStart("call_r-1_0", "code_execution"),
        BuiltinToolEnd(run),
        BuiltinToolResult(ToolOutput("call_r-1_0", "code_execution", "1\n", is_builtin=True)),
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


def test_another_candidate_is_the_answer_where_the_first_never_comes() -> None:
    begun = {"candidates": [{"index": 1, "content": {"parts": [{"text": "B"}]}}]}
    third = {"candidates": [{"index": 2, "content": {"parts": [{"text": "C"}]}, "finishReason": "MAX_TOKENS"}]}
    other = {"candidates": [{"index": 1, "content": {"parts": [{"text": "!"}]}, "finishReason": "STOP"}]}
    result = decode(stream(begun, third, other))
    assert (result.text, result.error) == ("B!", None)
    assert result.events[-1] == StreamEnd("stop", "r-1", "gemini-test-001")
    assert isinstance(decode(stream(begun)).error, InterruptedStreamError)
    assert decode(stream(begun, text("A"), other, text(" is it"), end())).text == "A is it"


def test_another_answer_behind_the_end_is_left_out() -> None:
    """Somebody between here and Google has put two answers into one stream; a chunk without an id is of the second."""
    second = stream(text(" and more"), text(" of it"), end("MAX_TOKENS"))
    for foreign in (second.replace(b"r-1", b"r-2"), second.replace(b'"responseId": "r-1", ', b"")):
        result = decode(stream(text("All"), end()) + foreign)
        assert (result.text, result.events[-1]) == ("All", StreamEnd("stop", "r-1", "gemini-test-001"))


def test_a_finish_reason_in_each_chunk_is_no_end() -> None:
    """As the first servers had it."""
    whole = stream(
        text("One"), end(content={"parts": [{"text": " two"}]}), end(content={"parts": [{"text": " three"}]})
    )
    for body in (whole, whole.replace(b'"responseId": "r-1", ', b"")):
        assert decode(body).text == "One two three"


@pytest.mark.parametrize(("code", "kind"), [(429, RateLimitError), (503, OverloadedError)])
def test_an_error_in_mid_stream_is_raised_after_the_text(code: int, kind: type[BackendError]) -> None:
    error = {"error": {"code": code, "message": "Too much.", "status": "SOME_STATUS"}}
    result = decode(stream(text("Half"), error, text(" lost"), end()))
    assert result.text == "Half"
    assert type(result.error) is kind
    assert "Too much." in str(result.error) and str(code) in str(result.error)
    assert (result.error.partial, result.error.model, result.error.is_retryable) == ("Half", "gemini-asked", True)


BROKEN: dict[str, Any] = {
    "candidates": {"candidates": {}},
    "a candidate": {"candidates": [5]},
    "index": {"candidates": [{"index": [], "content": {"parts": [{"text": "x"}]}}]},
    "content": {"candidates": [{"content": "x"}]},
    "parts": {"candidates": [{"content": {"parts": "x"}}]},
    "a part": {"candidates": [{"content": {"parts": ["x"]}}]},
    "text": part_of(text=5),
    "call": part_of(functionCall=[]),
    "name": call(5),  # type: ignore[arg-type]
    "no name": call(args={"a": 1}),
    "args": call("a", args=[5]),
    "partials": call("a", partialArgs={}),
    "partial": call("a", partialArgs=[1]),
    "arguments of nothing": call(partialArgs=[{"jsonPath": "$.a", "stringValue": "x"}]),
    "data": part_of(inlineData={"mimeType": "image/png", "data": "A"}),
    "media type": part_of(inlineData={"mimeType": 5, "data": "QQ=="}),
    "address": part_of(fileData={}),
    "finish reason": {"candidates": [{"finishReason": 5}]},
}


@pytest.mark.parametrize("chunk", BROKEN.values(), ids=BROKEN)
def test_essential_words_of_another_type_are_an_error(chunk: Any) -> None:
    body = stream(text("Half")) + b"data: " + json.dumps(chunk).encode() + b"\n\n"
    result = decode(body)
    assert type(result.error) is WireError
    assert result.error.partial == "Half"


@pytest.mark.parametrize(
    "chunk",
    [
        {"error": None},
        {"candidates": None, "usageMetadata": {}},
        {"candidates": [None]},
        {"candidates": [{"content": {"parts": None}, "finishReason": None, "index": None}]},
        {"candidates": [{"content": {"parts": [None]}}]},
        {"candidates": [{"content": None, "groundingMetadata": [], "citationMetadata": 5}]},
        {"candidates": [{"groundingMetadata": {"groundingChunks": {"a": 1}, "webSearchQueries": "x"}}]},
        part_of(text=None, thought=None),
        part_of(text="", thoughtSignature=5),
        part_of(somethingNew={"text": "x"}),
        {"usageMetadata": 5, "responseId": [], "modelVersion": {}, "promptFeedback": 5},
        {"usageMetadata": {"promptTokenCount": "5", "candidatesTokenCount": 1.5}},
        {"status": "warming up"},
        {},
        [],
        5,
    ],
    ids=repr,
)
def test_what_is_beside_the_point_never_fails_an_answer(chunk: Any) -> None:
    odd = b"data: " + json.dumps(chunk).encode() + b"\n\n"
    for body in (stream(text("Hel")) + odd + stream(text("lo"), end()), stream(text("Hello"), end()) + odd):
        result = decode(body)
        assert result.error is None and result.text == "Hello"
        assert result.generation.finish_reason == "stop"


@pytest.mark.parametrize(
    "tail", [b"data: [DONE]\n\n", b"data: {\n\n", b"data: done\n\n", b'data: {"error": {"code": 500}}\n\n']
)
def test_nothing_behind_the_end_fails_the_answer(tail: bytes) -> None:
    result = decode(answers.HELLO + tail)
    assert result.error is None and result.text == "Hé" + "llo 🌍."


def test_counts_are_read_in_any_known_shape() -> None:
    counts = {"promptTokenCount": "5", "candidatesTokenCount": 7.0, "thoughtsTokenCount": None}
    assert decode(stream(text("a"), end() | {"usageMetadata": counts})).generation.usage == Usage(5, 7)


@pytest.mark.parametrize(
    ("args", "raw"), [('{"a": 1}', {"a": 1}), ({"a": 1}, {"a": 1}), ([], {}), (None, {}), ("", {})]
)
def test_arguments_come_as_objects_or_texts(args: Any, raw: Any) -> None:
    (made,) = decode(stream(call("f", args=args, id=5), end())).generation.tool_calls
    assert (made.tool_args, made.is_valid, made.tool_call_id) == (raw, True, "5")


def test_a_call_ends_with_the_next_one() -> None:
    first = call("a", willContinue=True, partialArgs=[{"jsonPath": "$.x", "numberValue": 1}])
    whole = decode(stream(first, call("b", args={}), end()))
    assert [(each.tool_name, each.tool_args, each.is_valid) for each in whole.generation.tool_calls] == [
        ("a", {"x": 1}, True),
        ("b", {}, True),
    ]
    cut = decode(stream(call("a", willContinue=True), partial("$.x", "so", more=True), call("b", args={}), end()))
    assert [each.is_valid for each in cut.generation.tool_calls] == [False, True]


def test_calls_with_ids_may_be_written_at_the_same_time() -> None:
    def piece(call_id: str, number: int, **more: Any) -> dict[str, Any]:
        return call(id=call_id, partialArgs=[{"jsonPath": f"$.n{number}", "numberValue": number}], **more)

    whole = decode(
        stream(
            call("f", id="a", willContinue=True),
            call("f", id="b", willContinue=True),
            piece("a", 1, willContinue=True),
            piece("b", 2),
            piece("a", 3),
            end(),
        )
    )
    calls = {each.tool_call_id: dict(each.tool_args) for each in whole.generation.tool_calls}
    assert calls == {"a": {"n1": 1, "n3": 3}, "b": {"n2": 2}}


def test_ids_are_unique_in_an_answer_and_between_answers() -> None:
    first = decode(stream(call("f", args={}, id="x"), call("f", args={}, id="x"), call("f", args={}), end()))
    ids = [each.tool_call_id for each in first.generation.tool_calls]
    assert len(set(ids)) == 3 and ids[0] == "x"
    other = stream(call("f", args={}), end()).replace(b"r-1", b"r-2")
    assert decode(other).generation.tool_calls[0].tool_call_id not in ids


def test_a_part_of_any_kind_may_be_signed() -> None:
    body = stream(
        part_of(thoughtSignature="MQ=="),
        part_of(inlineData={"mimeType": "image/png", "data": "QQ=="}, thought=True, thoughtSignature="Mg=="),
        part_of(codeExecutionResult={"outcome": "OUTCOME_OK"}, thoughtSignature="Mw=="),
        end(),
    )
    kept = [event.signature for event in decode(body).events if isinstance(event, ReasoningDelta)]
    assert kept == ["gemini:MQ==", "gemini:Mg==", "gemini:last:Mw=="]


def test_halves_of_a_character_are_joined() -> None:
    body = stream(text("HALF"), text("REST"), call("f", args={"x": "HALFREST"}), end())
    result = decode(body.replace(b"HALF", b"a \\ud83d").replace(b"REST", b"\\ude00 b"))
    assert result.text == "a 😀 b" and result.generation.tool_calls[0].tool_args == {"x": "a 😀 b"}


def test_an_answer_may_come_as_a_list_of_chunks() -> None:
    """So it does without `alt=sse`."""
    chunks = [text("Hel"), text("lo"), end()]
    assert decode(json.dumps(chunks, indent=1).encode()).text == "Hello"


@pytest.mark.parametrize(
    "report",
    [{"error": "no such model"}, {"message": "no such model"}, [{"error": {"code": 404, "message": "no such model"}}]],
)
def test_a_failure_under_status_200_says_what_the_server_says(report: Any) -> None:
    for body in (json.dumps(report).encode(), b"data: " + json.dumps(report).encode() + b"\n\n"):
        assert "no such model" in str(decode(body).error)


@pytest.mark.parametrize(
    "body", [b"data: {\n\n", b"data: nope\n\n", b"data: {}\n\n", b"<p>busy</p>", b'data: {"text": "x"}\n\n']
)
def test_where_nothing_is_recognised_nothing_succeeds(body: bytes) -> None:
    assert isinstance(decode(body).error, BackendError)


def test_the_delay_that_an_error_in_mid_stream_asks_for() -> None:
    info = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "2.5s"}
    error = decode(stream({"error": {"code": 429, "message": "busy", "details": [info]}})).error
    assert isinstance(error, RateLimitError) and error.retry_after == 2.5


def test_nothing_at_all_is_interrupted() -> None:
    error = decode(b"").error
    assert isinstance(error, InterruptedStreamError) and error.is_retryable


def test_a_plain_answer_is_one_chunk() -> None:
    body = json.dumps({**text("Hi"), **end(content={"parts": [{"text": "Hi"}]}), "responseId": "r"}).encode()
    assert list(replay(Decoder("m"), body)) == [TextDelta("Hi"), USAGE, StreamEnd("stop", "r", "m")]
    with pytest.raises(RateLimitError):
        list(replay(Decoder("m"), b'{"error": {"code": 429, "message": "no"}}'))
