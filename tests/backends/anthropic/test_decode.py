"""What becomes of a streamed answer, one case at a time."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mellea.backends.anthropic.decode import Decoder
from mellea.backends.anthropic.wire import FILES_URL
from mellea.core.accumulator import join_deltas
from mellea.core.blocks import Source, ToolCall, ToolOutput
from mellea.core.events import (
    BuiltinToolEnd,
    BuiltinToolResult,
    BuiltinToolStart,
    Event,
    FileEvent,
    KeepAlive,
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
from mellea.errors import (
    AuthError,
    BackendError,
    BadRequestError,
    InterruptedStreamError,
    NotFoundError,
    OverloadedError,
    RateLimitError,
    StatusError,
    WireError,
)
from mellea.testing import replay
from tests.backends.anthropic import answers
from tests.backends.anthropic.answers import FOUND, SEARCH, TOOL, block, call, end, framed, start, text
from tests.backends.recorded import Outcome, outcome


def decode(*events: Any, **how: Any) -> list[Event]:
    decoder = Decoder("claude-test", **how)
    return join_deltas([*decoder.feed(framed(*events)), *decoder.close()])


def spoken(events: list[Event]) -> list[Event]:
    return [event for event in events if not isinstance(event, (UsageEvent, KeepAlive))]


def test_everything_in_one_message() -> None:
    decoder = Decoder("claude-asked")
    events = join_deltas([*decoder.feed(answers.EVERYTHING), *decoder.close()])
    assert events == [
        UsageEvent(Usage(30, None, 20, 3, None)),
        KeepAlive(),
        ReasoningDelta("Let me look.", "anthropic:c2ln"),
        ReasoningDelta("", "anthropic:redacted_thinking:aGlkZGVu"),
        TextDelta("I look it up. "),
        BuiltinToolStart("srvtoolu_1", "web_search"),
        BuiltinToolEnd(
            ToolCall("srvtoolu_1", "web_search", {"query": "weather"}, '{"query": "weather"}', is_builtin=True)
        ),
        BuiltinToolResult(ToolOutput("srvtoolu_1", "web_search", FOUND, is_builtin=True)),
        SourceEvent(Source("https://a.example", "A", "sunny")),
        TextDelta("It is sunny."),
        ReasoningDelta("", 'anthropic:block:{"type": "compaction", "content": "shorter"}'),
        ToolStart("toolu_1", "weather"),
        ToolDelta("toolu_1", '{"city": "Paris"}'),
        ToolEnd(ToolCall("toolu_1", "weather", {"city": "Paris"}, '{"city": "Paris"}')),
        ToolStart("toolu_2", "now"),
        ToolEnd(ToolCall("toolu_2", "now", {}, "")),
        UsageEvent(Usage(32, 9, 20, 3, 4)),
        StreamEnd("tool_call", "msg_1", "claude-test"),
    ]


def test_the_start_of_a_call_comes_before_its_arguments_are_whole() -> None:
    decoder = Decoder("claude-test")
    begun = framed(start(), {"type": "content_block_start", "index": 0, "content_block": TOOL})
    assert decoder.feed(begun)[-1] == ToolStart("toolu_1", "weather")


def test_parallel_calls_may_be_interleaved() -> None:
    decoder = Decoder("claude-test")
    ends = [event.tool_call for event in decoder.feed(answers.INTERLEAVED) if isinstance(event, ToolEnd)]
    assert [(each.tool_call_id, each.tool_args) for each in ends] == [
        ("toolu_2", {"city": "B"}),
        ("toolu_1", {"city": "A"}),
    ]


@pytest.mark.parametrize("reason", ["max_tokens", "model_context_window_exceeded", "refusal"])
@pytest.mark.parametrize("chunks", [(), ('{"city": "Pa',), ('{"city": "Paris"}',)])
def test_a_call_that_is_cut_off_is_not_valid(reason: str, chunks: tuple[str, ...]) -> None:
    open_call = call(0, TOOL, *chunks)[:-1]
    ended = [event for event in decode(start(), *open_call, *end(reason)) if isinstance(event, ToolEnd)]
    assert [(each.tool_call.is_valid, each.tool_call.tool_args) for each in ended] == [(False, {})]
    assert ended[0].tool_call.raw_args == "".join(chunks)


@pytest.mark.parametrize(("reason", "is_valid"), [("tool_use", True), ("end_turn", True), ("max_tokens", False)])
def test_a_call_without_arguments_waits_for_the_reason(reason: str, is_valid: bool) -> None:
    decoder = Decoder("claude-test")
    assert not [e for e in decoder.feed(framed(start(), *call(0, TOOL, ""))) if isinstance(e, ToolEnd)]
    ended = [event for event in decoder.feed(framed(*end(reason))) if isinstance(event, ToolEnd)]
    assert [(each.tool_call.is_valid, each.tool_call.tool_args) for each in ended] == [(is_valid, {})]


def test_arguments_that_are_no_object_are_kept_and_not_valid() -> None:
    (ended,) = [event for event in decode(start(), *call(0, TOOL, "[1]"), *end()) if isinstance(event, ToolEnd)]
    assert (ended.tool_call.is_valid, ended.tool_call.raw_args) == (False, "[1]")


def test_a_call_by_code_keeps_its_caller_and_container() -> None:
    caller = {"type": "code_execution_20250825", "tool_id": "srvtoolu_1"}
    whole = {**TOOL, "input": {"player": 1}, "caller": caller}
    delta, stop = end("tool_use")
    delta["delta"]["container"] = {"id": "container_1"}
    events = decode(start(), *block(0, whole), delta, stop)
    (ended,) = [event.tool_call for event in events if isinstance(event, ToolEnd)]
    assert ended.raw_args == '{"player": 1}' == "".join(e.chunk for e in events if isinstance(e, ToolDelta))
    assert ended.signature == (
        'anthropic:{"caller": {"type": "code_execution_20250825", "tool_id": "srvtoolu_1"}, "container": "container_1"}'
    )


def test_a_direct_caller_says_nothing() -> None:
    events = decode(start(), *call(0, {**TOOL, "caller": {"type": "direct"}}, "{}"), *end("tool_use"))
    assert [event.tool_call.signature for event in events if isinstance(event, ToolEnd)] == [None]


def test_a_tool_of_an_mcp_server() -> None:
    used = {"type": "mcp_tool_use", "id": "mcptoolu_1", "name": "echo", "input": {}, "server_name": "s"}
    got = {"type": "mcp_tool_result", "tool_use_id": "mcptoolu_1", "is_error": True, "content": []}
    events = spoken(decode(start(), *call(0, used, '{"a": 1}'), *block(1, got), *end()))
    assert isinstance(events[1], BuiltinToolEnd)
    assert events[1].tool_call.signature == 'anthropic:{"server_name": "s", "type": "mcp_tool_use"}'
    assert events[2] == BuiltinToolResult(ToolOutput("mcptoolu_1", "echo", [], is_error=True, is_builtin=True))


def test_a_result_that_is_an_error_says_so() -> None:
    content = {"type": "web_search_tool_result_error", "error_code": "max_uses_exceeded"}
    got = {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": content}
    events = decode(start(), *call(0, SEARCH, "{}"), *block(1, got), *end())
    assert [event.result.is_error for event in events if isinstance(event, BuiltinToolResult)] == [True]


def test_a_result_without_its_call_is_named_after_its_kind() -> None:
    got = {"type": "code_execution_tool_result", "tool_use_id": "srvtoolu_0", "content": {"type": "x"}}
    events = decode(start(), *block(0, got), *end())
    assert [e.result.tool_name for e in events if isinstance(e, BuiltinToolResult)] == ["code_execution"]


def test_files_that_code_has_written() -> None:
    output = {"type": "bash_code_execution_output", "file_id": "file_1"}
    content = {"type": "bash_code_execution_result", "stdout": "", "content": [output]}
    got = {"type": "bash_code_execution_tool_result", "tool_use_id": "srvtoolu_1", "content": content}
    upload = {"type": "container_upload", "file_id": "file_2"}
    events = decode(start(), *block(0, got), *block(1, upload), *end())
    urls = [event.url for event in events if isinstance(event, FileEvent)]
    assert urls == [f"{FILES_URL}/file_1/content", f"{FILES_URL}/file_2/content"]


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("refusal", "content_filter"),
        ("pause_turn", "other"),
        ("a_reason_of_tomorrow", "other"),
    ],
)
def test_why_it_stopped(reason: str, finish: str) -> None:
    events = decode(start(), *text(0, "Hi"), *end(reason))
    assert events[-1] == StreamEnd(finish, "msg_1", "claude-test")  # type: ignore[arg-type]
    assert TextDelta("Hi") in events


def test_the_model_that_answers_after_a_fallback() -> None:
    switched = {"type": "fallback", "from": {"model": "a"}, "to": {"model": "claude-other"}}
    assert decode(start(), *block(0, switched), *text(1, "Hi"), *end())[-1] == StreamEnd(
        "stop", "msg_1", "claude-other"
    )


def test_a_start_that_comes_twice_does_no_harm() -> None:
    assert decode(start(), start(), *text(0, "Hi"), *end()) == decode(start(), *text(0, "Hi"), *end())


def test_a_message_spliced_into_another_is_an_error() -> None:
    decoder = Decoder("claude-test")
    open_call = call(1, TOOL, '{"city": "Pa')[:-1]
    told = decoder.feed(framed(start(), *text(0, "Hi"), *open_call, start(id="msg_2"), *text(0, "Ho"), *end()))
    assert not [event for event in told if isinstance(event, ToolEnd)]
    with pytest.raises(WireError, match="merged two answers") as caught:
        decoder.close()
    assert caught.value.is_retryable and caught.value.partial == "Hi"


@pytest.mark.parametrize(
    ("kind", "error", "is_retryable"),
    [
        ("invalid_request_error", BadRequestError, False),
        ("authentication_error", AuthError, False),
        ("permission_error", AuthError, False),
        ("not_found_error", NotFoundError, False),
        ("request_too_large", BadRequestError, False),
        ("rate_limit_error", RateLimitError, True),
        ("overloaded_error", OverloadedError, True),
        ("api_error", StatusError, True),
        ("an_error_of_tomorrow", BackendError, False),
    ],
)
def test_an_error_in_mid_stream_is_raised(kind: str, error: type[BackendError], is_retryable: bool) -> None:
    failure = {"type": "error", "error": {"type": kind, "message": "Not now"}, "request_id": "req_1"}
    decoder = Decoder("claude-test")
    told = decoder.feed(framed(start(), *text(0, "Hel")[:2], failure, *end()))
    assert told[-1] == TextDelta("Hel")
    with pytest.raises(error, match="Not now") as caught:
        decoder.feed(b"")
    assert type(caught.value) is error
    assert (caught.value.partial, caught.value.request_id, caught.value.is_retryable) == ("Hel", "req_1", is_retryable)


def test_an_error_in_openai_form_is_raised_too() -> None:
    with pytest.raises(BadRequestError, match="too long"):
        Decoder("m").feed(b'data: {"error": {"code": 400, "message": "too long", "type": "exceed_context"}}\n\n')


@pytest.mark.parametrize("body", [b"", answers.HELLO[:200], answers.HELLO.partition(b"event: message_stop")[0]])
def test_a_stream_without_its_end_is_interrupted(body: bytes) -> None:
    decoder = Decoder("claude-test")
    decoder.feed(body)
    with pytest.raises(InterruptedStreamError) as caught:
        decoder.close()
    assert caught.value.is_retryable and caught.value.partial in ("", "Hello wörld")


@pytest.mark.parametrize(
    "data",
    [
        b"{",
        b'{"type": []}',
        b'{"id": "msg_1"}',
        b'{"type": "message_start", "message": 5}',
        b'{"type": "message_start", "message": {"content": 5}}',
        b'{"type": "message_start", "message": {"stop_reason": 5}}',
        b'{"type": "message_stop"}',
        b'{"type": "content_block_start", "index": 0, "content_block": {"type": "tool_use"}}',
        b'{"type": "content_block_start", "index": [], "content_block": {"type": "text"}}',
        b'{"type": "content_block_start", "index": 0, "content_block": {"type": 5}}',
        b'{"type": "content_block_start", "index": 0, "content_block": {"id": "toolu_1"}}',
        b'{"type": "content_block_delta", "index": 0, "delta": 5}',
        b'{"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": 5}}',
        b'{"type": "content_block_delta", "index": 3, "delta": {"type": "input_json_delta", "partial_json": "{}"}}',
        b'{"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": 5}}',
        b'{"type": "message_delta", "delta": 5}',
        b'{"type": "message_delta", "delta": {"stop_reason": 5}}',
    ],
)
def test_essential_words_of_another_type_are_an_error(data: bytes) -> None:
    with pytest.raises(WireError):
        Decoder("claude-test").feed(b"data: " + data + b"\n\n")


@pytest.mark.parametrize("data", [b"", b"5", b"null", b'"type"', b"[1]", b"<html>", b"{}", b'{"type": "news"}'])
def test_where_nothing_is_recognised_nothing_succeeds(data: bytes) -> None:
    decoder = Decoder("claude-test")
    decoder.feed(b"data: " + data + b"\n\n")
    with pytest.raises(BackendError):
        decoder.close()


@pytest.mark.parametrize(
    "event",
    [
        {
            "type": "message_start",
            "message": {"id": None, "model": [], "usage": [1], "container": "x", "content": None},
        },
        {"type": "message_start", "message": None},
        {"type": "message_delta", "usage": {"output_tokens": "9", "output_tokens_details": []}},
        {"type": "message_delta", "delta": {"stop_reason": None, "container": {"id": 5}}, "usage": {"x": 1.5}},
        {"type": "content_block_start", "index": 0, "content_block": None},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": None}},
        {"type": "content_block_delta", "index": None, "delta": {"type": "thinking_delta", "thinking": None}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": 5}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "citations_delta", "citation": 1}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "citations_delta", "citation": {"url": []}}},
        {"type": "content_block_delta", "index": 9, "delta": {"type": "input_json_delta", "partial_json": None}},
        {"type": "content_block_stop", "index": 7},
        {"type": "ping", "at": 5},
        {"type": "news_of_tomorrow", "message": "x"},
    ],
    ids=repr,
)
def test_what_is_beside_the_point_never_fails_an_answer(event: Any) -> None:
    events = decode(start(), *text(0, "Hello"), event, *text(1, " you"), *end())
    assert "".join(each.chunk for each in events if isinstance(each, TextDelta)) == "Hello you"
    assert isinstance(events[-1], StreamEnd) and events[-1].finish_reason == "stop"


@pytest.mark.parametrize(
    "heartbeat", [b"event: ping\ndata: {}\n\n", b"event: ping\ndata:\n\n", b"data: {}\n\n", b":\n\n"]
)
def test_heartbeats_of_any_kind_are_passed_over(heartbeat: bytes) -> None:
    decoder = Decoder("claude-test")
    events = decoder.feed(framed(start()) + heartbeat + framed(*text(0, "Hi")) + heartbeat + framed(*end()))
    assert TextDelta("Hi") in events and isinstance(events[-1], StreamEnd)


def test_types_may_stand_in_the_event_lines_alone() -> None:
    lines = [
        f"event: {event['type']}\ndata: {json.dumps({key: value for key, value in event.items() if key != 'type'})}\n\n"
        for event in (start(), *call(0, TOOL, '{"city":', '"Rome"}'), *text(1, "Hi"), *end("tool_use"))
    ]
    events = Decoder("claude-test").feed("".join(lines).encode())
    assert TextDelta("Hi") in events
    assert [event.tool_call.tool_args for event in events if isinstance(event, ToolEnd)] == [{"city": "Rome"}]


# -- several blocks under one number, blocks that nobody stops ---------------------------------------------


def begin(index: int | None, call_id: str | None, **more: Any) -> dict[str, Any]:
    tool = {"type": "tool_use", "name": "weather", "input": {}, **({"id": call_id} if call_id else {}), **more}
    return {"type": "content_block_start", "index": index, "content_block": tool}


def write(index: int | None, chunk: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": {"type": "input_json_delta", "partial_json": chunk}}


def stop(index: int | None) -> dict[str, Any]:
    return {"type": "content_block_stop", "index": index}


ONE, TWO = '{"city": "A"}', '{"city": "B"}'
TEXT = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
MORE = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi"}}


@pytest.mark.parametrize(
    "events",
    [
        [begin(0, "a"), write(0, ONE), begin(0, "b"), write(0, TWO), stop(0), stop(1)],
        [begin(0, "a"), write(0, ONE), begin(0, "b"), write(0, TWO)],
        [begin(0, "a"), write(0, ONE), begin(1, "b"), write(1, TWO)],
        [begin(None, "a"), write(None, ONE), begin(None, "b"), write(None, TWO), stop(None)],
        [begin(0, "a"), begin(0, "a"), write(0, ONE), stop(0), begin(0, "b", input={"city": "B"})],
        [begin(0, "a"), write(0, {"city": "A"}), stop(0), begin(1, "b", input=TWO), stop(1)],
        [begin(0, "a", input={"no": 1}), write(0, ONE), stop(0), begin(1, "b"), write(1, TWO), stop(1)],
        [begin(0, "a"), TEXT, MORE, write(0, ONE), stop(0), begin(0, "b"), write(0, TWO), stop(0)],
        [TEXT, begin(0, "a"), write(0, ONE[:5]), MORE, stop(0), write(0, ONE[5:]), begin(0, "b"), write(0, TWO)],
        [TEXT, begin(0, "a"), stop(0), write(0, ONE), MORE, begin(1, "b"), write(1, TWO), stop(1)],
        [begin(0, "a"), begin(1, "b"), write(1, TWO[:4]), write(0, ONE), write(1, TWO[4:]), stop(0), stop(1)],
    ],
)
def test_calls_are_told_apart_however_their_blocks_are_numbered(events: list[Any]) -> None:
    decoded = decode(start(), *events, *end("tool_use"))
    calls = {event.tool_call.tool_call_id: event.tool_call for event in decoded if isinstance(event, ToolEnd)}
    assert {call_id: (each.tool_args, each.is_valid) for call_id, each in calls.items()} == {
        "a": ({"city": "A"}, True),
        "b": ({"city": "B"}, True),
    }
    for call_id, args in (("a", {"city": "A"}), ("b", {"city": "B"})):
        deltas = [event for event in decoded if isinstance(event, ToolDelta) and event.tool_call_id == call_id]
        assert json.loads("".join(event.chunk for event in deltas)) == args


def test_calls_get_ids_of_their_own() -> None:
    """Gateways leave ids out, or give all calls the same."""
    same = [begin(0, "x"), write(0, ONE), stop(0), begin(1, "x"), write(1, TWO), stop(1)]
    none = [begin(0, None), write(0, ONE), stop(0), begin(1, None), write(1, TWO), stop(1)]
    for events in (same, none):
        decoded = decode(start(), *events, *end("tool_use"))
        ids = [event.tool_call.tool_call_id for event in decoded if isinstance(event, ToolEnd)]
        assert len(set(ids)) == 2 and all(ids)
        assert ids == [event.tool_call_id for event in decoded if isinstance(event, ToolStart)]
    other = decode(start(id="msg_2"), *none, *end("tool_use"))
    assert not {event.tool_call.tool_call_id for event in other if isinstance(event, ToolEnd)} & set(ids)


def test_halves_of_a_character_are_joined() -> None:
    body = framed(start(), *text(0, "HALF", "REST"), *call(1, TOOL, '{"city": "HALF', 'REST"}'), *end("tool_use"))
    body = body.replace(b"HALF", b"a \\ud83d").replace(b"REST", b"\\ude00 b")
    events = [*(decoder := Decoder("claude-test")).feed(body), *decoder.close()]
    assert "".join(event.chunk for event in events if isinstance(event, TextDelta)) == "a 😀 b"
    assert [event.tool_call.tool_args for event in events if isinstance(event, ToolEnd)] == [{"city": "a 😀 b"}]


def test_many_calls_cost_no_more_than_each_of_them() -> None:
    """Steps are counted, not seconds: all calls are open at the same time, and end one by one."""
    decoder = Decoder("claude-test")
    decoder.feed(framed(start()))
    for number in range(300):
        decoder.feed(
            framed(begin(number, f"c{number}"), stop(number)) if number % 2 else framed(begin(number, f"c{number}"))
        )
        assert len(decoder._waiting) <= 1
    events = decoder.feed(framed(*end("tool_use")))
    assert len([event for event in events if isinstance(event, ToolEnd)]) >= 150


def test_a_prefix_keeps_its_space_to_itself() -> None:
    events = decode(start(), *text(0, " ", " and so on"), *end(), drops_space=True)
    assert TextDelta("and so on") in events


# -- one plain answer ------------------------------------------------------------------------------------


def whole(**message: Any) -> bytes:
    return json.dumps({**start()["message"], "stop_reason": "end_turn", **message}).encode()


def test_a_plain_answer_has_the_same_events() -> None:
    content = [
        {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"},
        {"type": "text", "text": "Hello", "citations": [{"type": "char_location", "cited_text": "Hi"}]},
        {**SEARCH, "input": {"query": "x"}},
        {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": FOUND},
        {**TOOL, "input": {}},
    ]
    body = whole(content=content, stop_reason="tool_use", usage={"input_tokens": 7, "output_tokens": 9})
    assert spoken(join_deltas(list(replay(Decoder("m"), body)))) == [
        ReasoningDelta("Hm.", "anthropic:c2ln"),
        SourceEvent(Source(None, None, "Hi")),
        TextDelta("Hello"),
        BuiltinToolStart("srvtoolu_1", "web_search"),
        BuiltinToolEnd(ToolCall("srvtoolu_1", "web_search", {"query": "x"}, '{"query": "x"}', is_builtin=True)),
        BuiltinToolResult(ToolOutput("srvtoolu_1", "web_search", FOUND, is_builtin=True)),
        ToolStart("toolu_1", "weather"),
        ToolEnd(ToolCall("toolu_1", "weather", {}, "")),
        StreamEnd("tool_call", "msg_1", "claude-test"),
    ]


def test_a_plain_error_is_raised() -> None:
    with pytest.raises(OverloadedError, match="busy"):
        list(replay(Decoder("m"), b'{"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}'))


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"5", b'{"content": 5}', b'{"type": "message"}', b"<p>Hi</p>"])
def test_a_plain_answer_that_is_none(body: bytes) -> None:
    with pytest.raises(BackendError):
        list(replay(Decoder("m"), body))


@pytest.mark.parametrize(
    ("report", "said"),
    [
        ({"detail": "Not Found"}, "Not Found"),
        ({"success": False, "message": "quota used up"}, "quota used up"),
        ({"code": 1113, "message": "Insufficient balance"}, "Insufficient balance"),
        ({"error": "no such model"}, "no such model"),
        ({"base_resp": {"status_code": 1004, "status_msg": "login fail"}}, "login fail"),
        ({"type": "error", "error": {"type": "overloaded_error", "message": None, "details": "busy"}}, "busy"),
    ],
)
def test_a_failure_under_status_200_says_what_the_server_says(report: Any, said: str) -> None:
    for body in (json.dumps(report).encode(), b"data: " + json.dumps(report).encode() + b"\n\n"):
        with pytest.raises(BackendError, match=said):
            list(replay(Decoder("m"), body))


def test_the_content_may_be_a_text() -> None:
    assert TextDelta("Hello") in list(replay(Decoder("m"), whole(content="Hello")))


# -- a schema held by a forced call ------------------------------------------------------------------------


def test_the_arguments_of_the_answer_tool_are_the_text() -> None:
    answered = call(0, {**TOOL, "name": "town"}, '{"name": ', '"Bern"}')
    events = spoken(decode(start(), *answered, *end("tool_use"), answer_tool="town"))
    assert events == [TextDelta('{"name": "Bern"}'), StreamEnd("stop", "msg_1", "claude-test")]


def test_a_value_in_an_object_of_our_own_comes_out_of_it() -> None:
    wrapped = ('{"val', 'ue": [{"n": 1}', ', {"n": 2}]', "}")
    for parts, how in (
        (call(0, {**TOOL, "name": "towns"}, *wrapped), {"answer_tool": "towns"}),
        (text(0, *wrapped), {}),
    ):
        events = spoken(decode(start(), *parts, *end(), is_wrapped=True, **how))
        assert events[:-1] == [TextDelta('[{"n": 1}, {"n": 2}]')]


def test_other_tools_stay_calls_beside_it() -> None:
    events = spoken(decode(start(), *call(0, TOOL, "{}"), *end("tool_use"), answer_tool="town"))
    assert events[-1] == StreamEnd("tool_call", "msg_1", "claude-test")


def test_a_whole_message_in_one_event() -> None:
    said = {"id": "m", "type": "message", "content": [{"type": "text", "text": "hello"}], "stop_reason": "end_turn"}
    assert spoken(decode(said)) == [TextDelta("hello"), StreamEnd("stop", "m", "claude-test")]


def read_in_every_way(body: bytes) -> list[Outcome]:
    """Decode a body whole and byte by byte."""
    return [outcome(Decoder("m"), body, splits) for splits in ((), range(1, len(body)))]


def test_text_makes_a_message_whose_start_was_lost() -> None:
    for found in read_in_every_way(framed(*text(0, "Hi"), *end())):
        assert (found.text, found.error) == ("Hi", None)


def test_a_split_character_in_a_name_is_replaced_wherever_the_reads_end() -> None:
    tool = {**TOOL, "name": "a\ud83d"}
    for found in read_in_every_way(framed(start(), *call(0, tool, "{}"), *end("tool_use"))):
        assert [each.tool_name for each in found.generation.tool_calls] == ["a\ufffd"]


def test_the_usage_of_an_answer_that_is_not_known_is_reported_wherever_the_reads_end() -> None:
    odd = {"type": "content_block_start", "index": 0, "content_block": {"type": "riddle", "index": 0}}
    for found in read_in_every_way(framed(start(), odd, *end())):
        assert "riddle" in str(found.error)
        assert {type(event) for event in found.events} == {UsageEvent}
