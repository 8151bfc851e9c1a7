"""Responses: items, one case each, in bodies of our own."""

from __future__ import annotations

import base64
import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mellea.backends.openai.responses.decode import _EVENTS, Decoder
from mellea.core.blocks import ImageBlock, Source, ThinkingBlock, ToolCall, ToolOutput
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
from mellea.errors import BackendError, InterruptedStreamError, OverloadedError, RateLimitError, WireError
from mellea.testing.replay import replay
from tests.backends.openai.bodies import item, response, sse
from tests.backends.openai.test_chat_decode import VALUES
from tests.backends.recorded import Exchange, Outcome, check_cuts, check_splits

CREATED = {"type": "response.created", "response": {"id": "r1", "model": "m1", "status": "in_progress"}}
ENDED = rb'"type": "response\.(completed|incomplete|failed)"'


def text(delta: str, index: int | None = 0) -> dict[str, Any]:
    return {"type": "response.output_text.delta", "output_index": index, "item_id": "i", "delta": delta}


def decode(*events: Any, end: bytes = ENDED, last: dict[str, Any] | None = None, **settings: Any) -> Outcome:
    """Decode a stream in every way: split anywhere, cut everywhere."""
    last = last or response()
    body = sse(CREATED, *events, {"type": f"response.{last['status']}", "response": last}, done=False)
    exchange = Exchange("own", body)
    whole = check_splits(lambda: Decoder(**settings), exchange)
    check_cuts(lambda: Decoder(**settings), exchange, end=end)
    return whole


def test_text() -> None:
    whole = decode(text("He"), text("llo"))
    assert whole.events[:2] == [TextDelta("He"), TextDelta("llo")]
    assert whole.events[-1] == StreamEnd("stop", "r1", "m1")
    assert whole.generation.usage == Usage(3, 2, reasoning_tokens=1)


def test_text_that_comes_whole_comes_once() -> None:
    done = {"type": "response.output_text.done", "output_index": 0, "text": "Hello"}
    message = {"type": "message", "id": "i", "content": [{"type": "output_text", "text": "Hello"}]}
    assert decode(text("Hello"), done, *item(0, **message)).text == "Hello"
    assert decode(done, *item(0, **message)).text == "Hello"
    assert decode(*item(0, **message)).text == "Hello"
    assert decode(last=response(output=[message])).text == "Hello"


def test_the_end() -> None:
    for reason, meant in (("max_output_tokens", "length"), ("content_filter", "content_filter"), ("odd", "other")):
        last = response("incomplete", incomplete_details={"reason": reason})
        assert decode(text("x"), last=last).generation.finish_reason == meant
    failed = response("failed", error={"code": "server_error", "message": "sorry"})
    whole = decode(text("x"), last=failed)
    assert whole.error is not None and "sorry" in str(whole.error) and whole.error.status == 500
    with pytest.raises(InterruptedStreamError) as caught:
        list(replay(Decoder(), sse(CREATED, text("x"))))
    assert caught.value.partial == "x"


def test_what_follows_the_end_is_ignored() -> None:
    one = sse(text("a"), {"type": "response.completed", "response": response()})
    assert [event.chunk for event in replay(Decoder(), one + one) if isinstance(event, TextDelta)] == ["a"]


@pytest.mark.parametrize(
    "error",
    [
        {"type": "error", "code": "rate_limit_exceeded", "message": "slow"},
        {"type": "error", "error": {"type": "rate_limit_error", "message": "slow"}},
        {"error": {"code": 429, "message": "slow"}},
    ],
)
def test_an_error_event(error: dict[str, Any]) -> None:
    whole = decode(text("Hi"), error, end=rb'"slow"')
    assert isinstance(whole.error, RateLimitError) and "slow" in str(whole.error) and whole.error.partial == "Hi"
    assert isinstance(decode({"type": "error", "code": "slow_down", "message": "m"}, end=b'"m"').error, OverloadedError)


def arguments(delta: str, index: int | None = 0, item_id: str = "f") -> dict[str, Any]:
    kind = "response.function_call_arguments.delta"
    return {"type": kind, "item_id": item_id, "delta": delta} | ({} if index is None else {"output_index": index})


def function(index: int, arguments: str, **fields: Any) -> list[dict[str, Any]]:
    return item(
        index, type="function_call", id=f"f{index}", call_id=f"c{index}", name="f", arguments=arguments, **fields
    )


def calls(whole: Outcome) -> list[tuple[str, str, bool]]:
    return [(call.tool_call_id, call.raw_args, call.is_valid) for call in whole.generation.tool_calls]


def test_calls_are_interleaved() -> None:
    (one, one_done), (two, two_done) = function(0, '{"x":1}'), function(1, "{}")
    whole = decode(
        one, two, arguments('{"x":'), arguments("{", 1), arguments("1}"), arguments("}", 1), one_done, two_done
    )
    assert calls(whole) == [("c0", '{"x":1}', True), ("c1", "{}", True)]
    assert whole.generation.finish_reason == "tool_call"


def test_a_call_without_deltas_and_one_without_arguments() -> None:
    assert calls(decode(*function(0, '{"x":1}'), *function(1, ""))) == [("c0", '{"x":1}', True), ("c1", "", True)]


def test_a_call_is_known_by_its_id_where_there_is_no_index() -> None:
    begun, done = function(0, "{}")
    for event in (begun, done):
        del event["output_index"]
    assert calls(decode(begun, arguments("{}", None, "f0"), done)) == [("c0", "{}", True)]


def test_a_call_that_was_never_ended() -> None:
    begun, done = function(0, "{}")
    assert calls(decode(begun, last=response(output=[done["item"]]))) == [("c0", "{}", True)]
    incomplete = response("incomplete", incomplete_details={"reason": "max_output_tokens"})
    assert calls(decode(begun, last=incomplete)) == [("c0", "", False)]
    assert calls(decode(*function(0, "", status="incomplete"), last=incomplete)) == [("c0", "", False)]


def test_a_custom_call_takes_text() -> None:
    whole = decode(*item(0, type="custom_tool_call", id="i", call_id="c", name="sql", input="SELECT 1"))
    (call,) = whole.generation.tool_calls
    assert (call.tool_args, call.raw_args, call.is_valid) == ({"input": "SELECT 1"}, "SELECT 1", True)


def test_reasoning_is_signed() -> None:
    def part(delta: str, number: int) -> list[dict[str, Any]]:
        begun = {"type": "response.reasoning_summary_part.added", "output_index": 0, "summary_index": number}
        return [begun, {"type": "response.reasoning_summary_text.delta", "output_index": 0, "delta": delta}]

    begun, done = item(0, type="reasoning", id="rs", encrypted_content="secret", summary=[])
    whole = decode(begun, *part("One.", 0), *part("Two.", 1), done, text("4", 1))
    (thinking,) = [block for block in whole.generation.message.blocks if isinstance(block, ThinkingBlock)]
    assert thinking.text == "One.\n\nTwo."
    assert json.loads((thinking.signature or "").removeprefix("openai:")) == {"id": "rs", "encrypted_content": "secret"}


def test_raw_reasoning_isnt_signed() -> None:
    raw = {"type": "response.reasoning_text.delta", "output_index": 0, "delta": "Hm"}
    whole = decode(raw, *item(0, type="reasoning", id="rs", content=[{"type": "reasoning_text", "text": "Hm"}]))
    assert [event for event in whole.events if isinstance(event, ReasoningDelta)] == [ReasoningDelta("Hm")]


def test_a_refusal() -> None:
    whole = decode({"type": "response.refusal.delta", "output_index": 0, "delta": "No."})
    assert (whole.text, whole.generation.finish_reason) == ("No.", "content_filter")


def test_citations_come_once() -> None:
    notes = [
        {"type": "url_citation", "url": "https://a.example", "title": "A"},
        {"type": "file_citation", "file_id": "f", "filename": "a.pdf"},
    ]
    added = {"type": "response.output_text.annotation.added", "output_index": 0, "annotation": notes[0]}
    part = {"type": "output_text", "text": "x", "annotations": notes}
    whole = decode(text("x"), added, *item(0, type="message", content=[part]))
    assert whole.generation.sources == (Source("https://a.example", "A"), Source(title="a.pdf"))


def builtin(**fields: Any) -> list[Any]:
    whole = decode(*item(0, id="b", status="completed", **fields))
    return [event for event in whole.events if not isinstance(event, (TextDelta, StreamEnd))][:-1]


def test_tools_of_the_providers_own() -> None:
    searched = {"type": "search", "query": "q", "sources": [{"type": "url", "url": "https://a.example"}]}
    begun, end, result = builtin(type="web_search_call", action=searched)
    assert begun == BuiltinToolStart("b", "web_search")
    assert isinstance(end, BuiltinToolEnd) and end.tool_call.tool_args == searched and end.tool_call.is_builtin
    assert result == BuiltinToolResult(ToolOutput("b", "web_search", searched["sources"], is_builtin=True))

    _, end, result = builtin(type="mcp_call", name="ask", arguments='{"q": 1}', output="yes", error=None)
    assert (end.tool_call.tool_name, end.tool_call.tool_args, result.result.result) == ("ask", {"q": 1}, "yes")
    *_, result = builtin(type="mcp_call", name="ask", arguments="{}", error={"message": "no"})
    assert result.result.is_error

    outputs = [{"type": "logs", "logs": "4"}, {"type": "image", "url": "https://i.example/1.png"}]
    _, end, image, result = builtin(type="code_interpreter_call", code="2+2", container_id="k", outputs=outputs)
    assert end.tool_call.tool_args == {"code": "2+2", "container_id": "k"} and result.result.result == outputs
    assert image == FileEvent("image/png", url="https://i.example/1.png")

    assert [type(event) for event in builtin(type="mcp_approval_request", name="f", arguments="{}")] == [
        BuiltinToolStart,
        BuiltinToolEnd,
    ]
    assert builtin(type="new_thing_call")[0] == BuiltinToolStart("b", "new_thing")


def test_an_image_is_a_file() -> None:
    image = base64.b64encode(b"pixels").decode()
    events = builtin(type="image_generation_call", output_format="webp", result=image, revised_prompt="A cat")
    assert FileEvent("image/webp", data=b"pixels") in events
    (call,) = [event.tool_call for event in events if isinstance(event, BuiltinToolEnd)]
    assert image not in (call.signature or "") and call.tool_args == {"revised_prompt": "A cat"}


def test_an_answer_in_one_body() -> None:
    output = [
        {
            "type": "reasoning",
            "id": "rs",
            "summary": [{"type": "summary_text", "text": "Hm"}],
            "encrypted_content": "s",
        },
        {"type": "message", "id": "m", "content": [{"type": "output_text", "text": "Hi"}]},
        {"type": "function_call", "id": "f", "call_id": "c", "name": "f", "arguments": "{}"},
    ]
    events = list(replay(Decoder(), json.dumps(response(output=output)).encode()))
    assert isinstance(events[0], ReasoningDelta) and events[1] == TextDelta("Hi")
    (end,) = [event.tool_call for event in events if isinstance(event, ToolEnd)]
    assert end == ToolCall("c", "f", {}, "{}") and events[-1] == StreamEnd("tool_call", "r1", "m1")
    with pytest.raises(BackendError, match="sorry"):
        list(replay(Decoder(), b'{"error": {"message": "sorry"}}'))


def test_an_answer_that_is_taken_out_of_its_object() -> None:
    whole = decode(text('{"va'), text('lue": [1,'), text(" 2]}"), is_wrapped=True)
    assert whole.text == "[1, 2]"


@pytest.mark.parametrize(
    "data",
    [
        '{"type": 5}',
        '{"delta": "a"}',
        '{"type": "response.output_text.delta", "output_index": 0, "delta": 5}',
        '{"type": "response.output_text.delta", "output_index": [1], "delta": "a"}',
        '{"type": "response.output_item.added", "item": 5}',
        '{"type": "response.output_item.done", "item": {"type": "function_call", "arguments": 5}}',
        '{"type": "response.output_item.done", "item": {"type": "message", "content": [5]}}',
        '{"type": "response.completed", "response": 5}',
    ],
)
def test_what_isnt_the_protocol_is_a_wire_error(data: str) -> None:
    with pytest.raises(WireError):
        list(replay(Decoder(), sse(CREATED, data)))


ITEMS = st.fixed_dictionaries(
    {"type": st.sampled_from(["message", "reasoning", "function_call", "web_search_call", "mcp_call", "x_output"])},
    optional=dict.fromkeys(("id", "call_id", "name", "content", "arguments", "summary", "action", "output"), VALUES),
)
ODD = st.fixed_dictionaries(
    {"type": st.sampled_from(sorted(_EVENTS))},
    optional={
        "delta": VALUES,
        "item": ITEMS | VALUES,
        "output_index": VALUES,
        "annotation": VALUES,
        "response": VALUES,
    },
)


@given(st.lists(ODD, max_size=4))
def test_nothing_but_our_own_errors_comes_out(events: list[Any]) -> None:
    with contextlib.suppress(BackendError):
        list(replay(Decoder(), sse(CREATED, *events)))


def test_an_image_block_is_what_the_fold_makes() -> None:
    image = base64.b64encode(b"x").decode()
    whole = decode(*item(0, type="image_generation_call", id="b", result=image))
    assert whole.generation.files == (ImageBlock("image/png", data=b"x"),)


def test_arguments_after_the_end_of_their_call_are_ignored() -> None:
    late = {"type": "response.function_call_arguments.delta", "item_id": "f", "delta": '{"b": 2}'}
    call = item(0, type="function_call", id="f", call_id="c", name="look", arguments='{"a": 1}')
    events = list(replay(Decoder(), sse(CREATED, *call, late, {"type": "response.completed", "response": response()})))
    assert [type(event) for event in events] == [ToolStart, ToolDelta, ToolEnd, UsageEvent, StreamEnd]
    assert [event.tool_call.tool_args for event in events if isinstance(event, ToolEnd)] == [{"a": 1}]
