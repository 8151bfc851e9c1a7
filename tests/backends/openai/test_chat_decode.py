"""Chat completions: what services do with the format, one case each, in bodies of our own."""

from __future__ import annotations

import base64
import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mellea.backends.openai.chat.decode import Decoder
from mellea.core.blocks import ImageBlock, Source, ThinkingBlock
from mellea.core.events import ReasoningDelta, StreamEnd, TextDelta, ToolDelta, ToolEnd, ToolStart, Usage
from mellea.errors import (
    AuthError,
    BackendError,
    BadRequestError,
    InterruptedStreamError,
    OverloadedError,
    RateLimitError,
    WireError,
)
from mellea.testing.replay import replay
from tests.backends.openai.bodies import call, chunk, sse
from tests.backends.recorded import Exchange, Outcome, check_cuts, check_splits

USAGE = {"prompt_tokens": 4, "completion_tokens": 6, "total_tokens": 10}
FINISHED = rb'"finish_reason": ?"'


def decode(*chunks: Any, end: bytes = FINISHED, done: bool = True, **settings: Any) -> Outcome:
    """Decode a stream in every way: split anywhere, cut everywhere."""
    exchange = Exchange("own", sse(*chunks, done=done))
    whole = check_splits(lambda: Decoder(**settings), exchange)
    check_cuts(lambda: Decoder(**settings), exchange, end=end)
    return whole


def test_text_and_what_is_known_of_the_answer() -> None:
    whole = decode(
        chunk(role="assistant", content=""), chunk(content="Hé"), chunk(content="llo"), chunk("stop", usage=USAGE)
    )
    assert [event for event in whole.events if isinstance(event, TextDelta)] == [TextDelta("Hé"), TextDelta("llo")]
    assert whole.events[-1] == StreamEnd("stop", "c1", "m1")
    assert whole.generation.usage == Usage(4, 6)


def test_done_is_optional_and_usage_may_come_after_the_finish() -> None:
    for done in (True, False):
        usage = {"id": "c1", "choices": [], "usage": USAGE}
        whole = decode(chunk(content="Hi"), chunk("length"), usage, done=done)
        assert (whole.generation.finish_reason, whole.generation.usage) == ("length", Usage(4, 6))


def test_done_alone_is_no_end() -> None:
    whole = decode(chunk(content="Hi"))
    assert isinstance(whole.error, InterruptedStreamError) and whole.error.partial == "Hi"
    assert isinstance(decode(done=True).error, InterruptedStreamError)


def test_every_choice_that_was_seen_has_to_finish() -> None:
    whole = decode(chunk(content="a"), chunk(content="b", index=1), chunk("stop"), chunk("length", index=1))
    assert (whole.text, whole.generation.finish_reason) == ("a", "stop")
    cut = decode(chunk(content="a"), chunk(content="b", index=1), chunk("stop"), end=b"never")
    assert isinstance(cut.error, InterruptedStreamError)


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("stop", "stop"),
        ("max_tokens", "length"),
        ("content_filter", "content_filter"),
        ("odd", "other"),
        ("error", "error"),
    ],
)
def test_finish_reasons(said: str, meant: str) -> None:
    assert decode(chunk(said, content="x")).generation.finish_reason == meant


def calls_of(*entries: Any, finish: str = "tool_calls") -> list[tuple[str, str, str, bool]]:
    whole = decode(*[chunk(tool_calls=[entry]) for entry in entries], chunk(finish))
    assert whole.error is None
    calls = whole.generation.tool_calls
    return [(each.tool_call_id, each.tool_name, each.raw_args, each.is_valid) for each in calls]


def test_calls_are_interleaved_by_index() -> None:
    assert calls_of(
        call(name="f", call_id="a"),
        call(name="g", call_id="b", index=1),
        call('{"x":', index=0),
        call("{", index=1),
        call("1}", index=0),
        call("}", index=1),
    ) == [("a", "f", '{"x":1}', True), ("b", "g", "{}", True)]


def test_calls_come_whole_without_an_index() -> None:
    assert calls_of(call("{}", "f", "a", None), call('{"x":1}', "f", "b", None)) == [
        ("a", "f", "{}", True),
        ("b", "f", '{"x":1}', True),
    ]


def test_parts_without_an_index_belong_to_the_last_call() -> None:
    assert calls_of(call("", "f", "a", None), call('{"x":', index=None), call("1}", index=None)) == [
        ("a", "f", '{"x":1}', True)
    ]


def test_ids_and_names_are_repeated_or_empty() -> None:
    assert calls_of(call("{", "f", "a"), call("}", "f", "a")) == [("a", "f", "{}", True)]
    assert calls_of(call("{", "f", "a"), call("}", "", "")) == [("a", "f", "{}", True)]


def test_two_calls_under_one_index_and_two_with_one_id() -> None:
    assert [each[0] for each in calls_of(call("{}", "f", "a"), call("{}", "f", "b"))] == ["a", "b"]
    assert [each[0] for each in calls_of(call("{}", "f", "a"), call("{}", "f", "a", 1))] == ["a", "a_1"]


def test_a_call_without_an_id_gets_one_and_a_late_name_waits() -> None:
    assert calls_of(call("{}", "f")) == [("call_c1_0", "f", "{}", True)]
    whole = decode(chunk(tool_calls=[call("{", None, "a")]), chunk(tool_calls=[call("}", "f")]), chunk("tool_calls"))
    assert whole.events[:3] == [ToolStart("a", "f"), ToolDelta("a", "{"), ToolDelta("a", "}")]


def test_a_call_without_arguments() -> None:
    whole = decode(chunk(tool_calls=[call("", "f", "a")]), chunk("tool_calls"))
    (end,) = [event for event in whole.events if isinstance(event, ToolEnd)]
    assert (end.tool_call.tool_args, end.tool_call.is_valid) == ({}, True)


@pytest.mark.parametrize("arguments", ["", '{"x'])
def test_a_call_that_the_limit_cuts_off_isnt_valid(arguments: str) -> None:
    assert calls_of(call(arguments, "f", "a"), finish="length") == [("a", "f", arguments, False)]


def test_a_call_whose_service_says_stop() -> None:
    assert decode(chunk(tool_calls=[call("{}", "f", "a")]), chunk("stop")).generation.finish_reason == "tool_call"


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_reasoning(field: str) -> None:
    whole = decode(chunk(content="", **{field: "Hm"}), chunk(**{field: "m."}), chunk(content="4"), chunk("stop"))
    assert whole.generation.thinking == "Hmm." and whole.text == "4"


def test_signed_reasoning_goes_back_as_it_came() -> None:
    def details(**fields: Any) -> list[Any]:
        return [{"type": "reasoning.text", "index": 0, **fields}]

    whole = decode(
        chunk(reasoning="One", reasoning_details=details(text="One")),
        chunk(reasoning=" two", reasoning_details=details(text=" two")),
        chunk(reasoning_details=details(signature="sig")),
        chunk(content="2"),
        chunk("stop"),
        backend="openrouter",
    )
    (thinking,) = [block for block in whole.generation.message.blocks if isinstance(block, ThinkingBlock)]
    assert thinking.text == "One two" and thinking.signature is not None
    name, _, kept = thinking.signature.partition(":")
    assert (name, json.loads(kept)) == ("openrouter", details(text="One two", signature="sig"))


def test_thinking_in_parts_of_the_content() -> None:
    thought = [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm"}]}]
    whole = decode(chunk(content=thought), chunk(content=[{"type": "text", "text": "4"}]), chunk("stop"))
    assert whole.events[:2] == [ReasoningDelta("Hm"), TextDelta("4")]


def test_citations() -> None:
    note = {"type": "url_citation", "url_citation": {"url": "https://a.example", "title": "A", "content": "…"}}
    found = {"search_results": [{"url": "https://b.example", "title": "B", "snippet": "b"}]}
    first = {**chunk(content="x"), **found, "citations": ["https://b.example", "https://c.example"]}
    whole = decode(first, chunk(annotations=[note]), chunk("stop"))
    assert whole.generation.sources == (
        Source("https://b.example", "B", "b"),
        Source("https://c.example"),
        Source("https://a.example", "A", "…"),
    )


def test_an_image() -> None:
    url = f"data:image/webp;base64,{base64.b64encode(b'pixels').decode()}"
    whole = decode(chunk(images=[{"type": "image_url", "image_url": {"url": url}}]), chunk("stop"))
    assert whole.generation.files == (ImageBlock("image/webp", data=b"pixels"),)


def test_tools_that_the_gateway_ran_are_counted() -> None:
    counts = {"gateway": {"gatewayToolCalls": {"perplexity_search": 2}}}
    whole = decode(chunk(content="x"), chunk("stop", provider_metadata=counts))
    calls = [block for block in whole.generation.message.blocks if getattr(block, "is_builtin", False)]
    assert [each.tool_name for each in calls] == ["perplexity_search"] * 2  # type: ignore[union-attr]


def test_a_refusal_is_text_and_says_so() -> None:
    whole = decode(chunk(refusal="I can't."), chunk("stop"))
    assert (whole.text, whole.generation.finish_reason) == ("I can't.", "content_filter")


def test_an_answer_in_one_body() -> None:
    message = {"role": "assistant", "content": "Hi", "tool_calls": [call("{}", "f", "a", None)]}
    body = {"id": "c1", "model": "m1", "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}
    events = list(replay(Decoder(), json.dumps({**body, "usage": USAGE}).encode()))
    assert events[0] == TextDelta("Hi") and events[-1] == StreamEnd("tool_call", "c1", "m1")
    with pytest.raises(InterruptedStreamError):
        list(replay(Decoder(), json.dumps({"choices": []}).encode()))


@pytest.mark.parametrize(
    ("error", "kind", "retries"),
    [
        ({"message": "slow down", "type": "requests", "code": "rate_limit_exceeded"}, RateLimitError, True),
        ({"message": "no money", "code": "insufficient_quota"}, RateLimitError, False),
        ({"message": "bad key", "code": "invalid_api_key"}, AuthError, False),
        ({"message": "busy", "code": 503}, OverloadedError, True),
        ({"message": "no", "type": "invalid_request_error", "code": "tool_use_failed"}, BadRequestError, True),
        ({"message": "odd"}, BackendError, False),
        ("just text", BackendError, False),
    ],
)
def test_an_error_in_mid_stream_is_typed(error: Any, kind: type[BackendError], retries: bool) -> None:
    whole = decode(chunk(content="Hi"), {"error": error}, end=b'"error"')
    assert type(whole.error) is kind and whole.error.is_retryable is retries
    assert whole.error.partial == whole.text == "Hi"
    assert (error if isinstance(error, str) else error["message"]) in str(whole.error)


def test_an_error_in_a_choice_and_one_of_vllm() -> None:
    failed = chunk("error", content="")
    failed["choices"][0]["error"] = {"code": 502, "message": "upstream"}
    assert "upstream" in str(decode(chunk(content="Hi"), failed, end=rb'"error": \{').error)
    whole = decode({"object": "error", "message": "too long", "code": 400}, end=b'"error"')
    assert isinstance(whole.error, BadRequestError)


@pytest.mark.parametrize(
    "data",
    [
        "{",
        '{"choices": 5}',
        '{"choices": [5]}',
        '{"choices": [{"index": "x", "delta": {}}]}',
        '{"choices": [{"index": [1], "delta": {}}]}',
        '{"choices": [{"delta": 5}]}',
        '{"choices": [{"delta": {"content": 5}}]}',
        '{"choices": [{"delta": {"content": {"a": 1}}}]}',
        '{"choices": [{"delta": {"content": [5]}}]}',
        '{"choices": [{"delta": {"content": "", "tool_calls": 5}}]}',
        '{"choices": [{"delta": {"tool_calls": [5]}}]}',
        '{"choices": [{"delta": {"tool_calls": [{"index": "a"}]}}]}',
        '{"choices": [{"delta": {"tool_calls": [{"function": 5}]}}]}',
        '{"choices": [{"delta": {"tool_calls": [{"function": {"arguments": 5}}]}}]}',
        '{"choices": [{"delta": {"tool_calls": [{"function": {"arguments": [1]}}]}}]}',
        '{"choices": [{"delta": {"tool_calls": [{"function": {"name": 5}}]}}]}',
        '{"choices": [{"delta": {}, "finish_reason": 5}]}',
    ],
)
def test_what_isnt_the_protocol_is_a_wire_error(data: str) -> None:
    with pytest.raises(WireError) as caught:
        list(replay(Decoder(), sse(chunk(content="Hi"), data)))
    assert caught.value.partial == "Hi"


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "id",
                    "model",
                    "choices",
                    "index",
                    "delta",
                    "content",
                    "refusal",
                    "tool_calls",
                    "function",
                    "name",
                    "arguments",
                    "usage",
                    "error",
                    "type",
                    "text",
                    "finish_reason",
                    "reasoning",
                    "reasoning_details",
                    "images",
                    "image_url",
                    "url",
                    "annotations",
                    "url_citation",
                    "prompt_tokens",
                    "x_groq",
                    "citations",
                    "search_results",
                    "provider_metadata",
                    "gateway",
                    "gatewayToolCalls",
                    "message",
                    "code",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(st.lists(VALUES, max_size=4))
def test_nothing_but_our_own_errors_comes_out(values: list[Any]) -> None:
    chunks = [{"choices": [{"delta": value, "index": 0}]} for value in values]
    for body in (sse(*values), sse(*chunks, *values), sse(chunk(content="a"), *values, chunk("stop"))):
        with contextlib.suppress(BackendError):
            list(replay(Decoder(), body))
