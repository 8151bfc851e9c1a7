"""Chat completions as services really send them: odd frames, odd types, odd ends, and what they say of failures."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mellea.backends.openai.chat.decode import Decoder
from mellea.core.events import FileEvent, StreamEnd, ToolEnd, Usage
from mellea.errors import BackendError, InterruptedStreamError, OverloadedError, WireError
from tests.backends.openai.bodies import call, chunk, sse
from tests.backends.recorded import Exchange, Outcome, check_cuts, check_splits, outcome

HELLO = [chunk(content="hel"), chunk(content="lo"), chunk("stop")]


def decode(body: bytes) -> Outcome:
    """Decode a body in every way."""
    whole = check_splits(Decoder, Exchange("own", body))
    if b"data:" in body:
        check_cuts(Decoder, Exchange("own", body), end=rb'"finish_reason": ?"[a-z]')
    return whole


def calls_of(*chunks: Any) -> list[tuple[str, str, bool]]:
    whole = decode(sse(*chunks))
    assert whole.error is None
    ids = [each.tool_call_id for each in whole.generation.tool_calls]
    assert len(set(ids)) == len(ids)
    return [(each.tool_name, each.raw_args, each.is_valid) for each in whole.generation.tool_calls]


@pytest.mark.parametrize(
    "extra",
    [
        {"usage": {"prompt_tokens": 1.5, "completion_tokens": "x"}}, {"usage": []}, {"usage": 5}, {"id": 7}, {"id": []},
        {"model": 5}, {"citations": "http://x"}, {"citations": [5]}, {"search_results": {}}, {"x_groq": 5},
        {"error": None}, {"error": {}}, {"error": ""}, {"created": "now"}, {"system_fingerprint": []},
    ],
)  # fmt: skip
def test_side_information_of_any_shape(extra: dict[str, Any]) -> None:
    assert decode(sse(*[{**each, **extra} for each in HELLO])).text == "hello"


@pytest.mark.parametrize(
    "delta",
    [
        {"annotations": {}}, {"annotations": [5]}, {"images": "x"}, {"reasoning": 5}, {"reasoning_details": [None]},
        {"provider_metadata": []}, {"role": 5}, {"tool_calls": None}, {"refusal": None}, {"tool_calls": []},
        {"function_call": None}, {"content": None}, {"content": []}, {"logprobs": []}, None,
    ],
)  # fmt: skip
def test_a_delta_with_something_beside_the_point(delta: Any) -> None:
    odd = {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
    assert decode(sse(odd, HELLO[0], odd, *HELLO[1:])).text == "hello"


@pytest.mark.parametrize("beat", ["", "{}", "null", "ping", "5", '"alive"', "keep-alive", '{"type": "ping"}', "[]"])
def test_heartbeats_say_nothing(beat: str) -> None:
    assert decode(sse(beat, HELLO[0], beat, *HELLO[1:])).text == "hello"


@pytest.mark.parametrize(
    "tail", ["[DONE]", " [DONE] ", "[done]", "done", "null", "cost=0.01", "{", '{"error": "late"}']
)
def test_nothing_behind_the_end_fails_the_answer(tail: str) -> None:
    whole = decode(sse(*HELLO, tail, done=False))
    assert (whole.text, whole.error, whole.events[-1]) == ("hello", None, StreamEnd("stop", "c1", "m1"))


def test_usage_behind_something_odd_still_counts() -> None:
    used = {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2}}
    assert decode(sse(*HELLO, "cost=0.01", {"choices": 5}, used)).generation.usage == Usage(1, 2)


def test_an_event_that_lacks_its_empty_line_counts_if_it_ends_the_answer() -> None:
    body = sse(*HELLO, done=False)
    for cut in (body[:-1], body[:-2]):
        assert outcome(Decoder(), cut).text == "hello" and outcome(Decoder(), cut).error is None
    assert isinstance(outcome(Decoder(), body[:-3]).error, InterruptedStreamError)


@pytest.mark.parametrize(
    "chunks",
    [
        [call('{"q":1}', "f"), call('{"q":2}', "g")],
        [call('{"q":1}', "f", ""), call('{"q":2}', "g", "")],
        [call('{"q":1}', "f", "a"), call('{"q":2}', "", "b")],
        [call('{"q":1}', "f", "a"), call('{"q":2}', "f", "b")],
        [call('{"q":1}', "f"), call('{"q":2}', "f")],
        [call('{"q":', "f"), call("1}", "f"), call('{"q":', "f"), call("2}", "f")],
        [call('{"q":', "f"), call("1}"), call('{"q":', "f"), call("2}")],
        [call('{"q":1}', "f", "a", None), call('{"q":2}', "f", "b", None)],
        [call('{"q":1}', "f", None, None), call('{"q":2}', "g", None, None)],
        [call('{"q":1}', "f", None, 0), call('{"q":2}', "f", None, 1)],
        [call('{"q":1}', "f", "same", 0), call('{"q":2}', "f", "same", 1)],
    ],
)
def test_two_calls_however_they_are_told_apart(chunks: list[Any]) -> None:
    for calls in ([chunk(tool_calls=[each]) for each in chunks], [chunk(tool_calls=chunks)]):
        found = calls_of(*calls, chunk("tool_calls"))
        assert [args for _, args, _ in found] == ['{"q":1}', '{"q":2}'] and all(valid for *_, valid in found)


@pytest.mark.parametrize(
    ("deltas", "arguments"),
    [
        ([(0, "a", "f", "{}"), (0, None, None, '{"q":1}')], ['{"q":1}']),
        ([(0, "a", "f", "{}"), (0, "a", "f", '{"q":'), (0, "a", "f", "1}")], ['{"q":1}']),
        ([(0, "a", "f", {}), (0, None, None, " "), (0, None, None, '{"q":1}')], ['{"q":1}']),
        ([(0, "a", "f", "{}"), (0, "b", "f", "{}")], ["{}", "{}"]),
        ([(0, "a", "f", "{}"), (0, None, None, "")], ["{}"]),
        ([(0, "a", "f", '{"q":1}'), (0, "a", "f", '{"q":1}')], ['{"q":1}']),
        ([(None, "a", "f", '{"q":1}'), (None, "a", "f", '{"q":2}')], ['{"q":1}', '{"q":2}']),
        ([(0, "a", "f", '{"q":1}'), (0, "a", "f", '{"q":2}')], ['{"q":1}', '{"q":2}']),
        ([(None, None, "f", "{}"), (None, None, "f", '{"q":1}')], ["{}", '{"q":1}']),
    ],
)
def test_an_empty_object_a_call_said_again_and_two_calls_under_one_id(
    deltas: list[tuple[int | None, str | None, str | None, Any]], arguments: list[str]
) -> None:
    sent = [
        chunk(tool_calls=[{"index": index, "id": sent_id, "function": {"name": name, "arguments": said}}])
        for index, sent_id, name, said in deltas
    ]
    assert calls_of(*sent, chunk("tool_calls")) == [("f", each, True) for each in arguments]


def test_arguments_as_an_object_an_index_as_a_text_and_an_id_as_a_number() -> None:
    entry = {"index": "0", "id": 7, "function": {"name": "f", "arguments": {"q": 1}}}
    assert calls_of(chunk(tool_calls=[entry]), chunk("tool_calls")) == [("f", '{"q": 1}', True)]
    assert calls_of(chunk(function_call={"name": "f", "arguments": "{}"}), chunk("function_call")) == [
        ("f", "{}", True)
    ]


def test_a_call_without_a_name_isnt_lost_without_a_word() -> None:
    assert isinstance(decode(sse(chunk(tool_calls=[call('{"q":1}')]), chunk("tool_calls"))).error, WireError)


def test_ids_of_our_own_differ_between_answers() -> None:
    def made(name: str) -> str:
        body = sse(
            {"choices": [{"index": 0, "delta": {"tool_calls": [call("{}", name, "")]}, "finish_reason": "stop"}]}
        )
        return next(e.tool_call.tool_call_id for e in decode(body).events if isinstance(e, ToolEnd))

    assert made("f") != made("g") and made("f") == made("f")


# -- what the bytes are --------------------------------------------------------------------------------------

WHOLE = {"id": "c1", "choices": [{"index": 0, "message": {"content": "hello"}, "finish_reason": "stop"}]}


@pytest.mark.parametrize(
    "body",
    [
        json.dumps(WHOLE).encode(),
        json.dumps(WHOLE, indent=2).encode() + b"\n",
        b"\xef\xbb\xbf" + json.dumps(WHOLE).encode(),
        json.dumps(WHOLE).encode() + b"\n\ndata: [DONE]\n\n",
        json.dumps([WHOLE]).encode(),
        b": PROCESSING\n\n" + json.dumps(WHOLE).encode(),
        sse(WHOLE),
        b"\n".join(json.dumps(each).encode() for each in HELLO),
        json.dumps(HELLO).encode(),
        json.dumps({"choices": [{"index": 0, "message": {"content": "hello"}, "finish_reason": ""}]}).encode(),
        json.dumps({"choices": [{"message": {"content": "hello"}, "finish_reason": None}]}).encode(),
        json.dumps({"choices": [{"text": "hello", "index": 0, "finish_reason": "stop"}]}).encode(),
        sse({"choices": [{"index": 0, "text": "hello", "finish_reason": "stop"}]}),
        sse(chunk(content="hello", index=1), chunk("stop", index=1)),
        sse({"choices": [{"message": {"content": "hel"}}]}, WHOLE),
    ],
)
def test_the_bytes_say_what_they_are(body: bytes) -> None:
    whole = check_splits(Decoder, Exchange("own", body))
    assert (whole.text, whole.error, whole.generation.finish_reason) == ("hello", None, "stop")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"error": {"message": "no credits", "code": 402}}', "no credits"),
        (b'{"code": 50505, "message": "overloaded", "data": null}', "overloaded"),
        (b'{"base_resp": {"status_code": 1008, "status_msg": "no balance"}}', "no balance"),
        (b"<html><head><title>502 Bad Gateway</title></head></html>", "502 Bad Gateway"),
        (b"upstream connect error\n", "upstream connect error"),
        (b"no healthy upstream", "no healthy upstream"),
        (b"data: Internal Server Error\n\n", "Internal Server Error"),
        (b'event: error\ndata: {"message": "no quota left"}\n\n', "no quota left"),
        (b'{"unknown": "thing"}', "thing"),
        (b"[]", "[]"),
        (b"{}", "{}"),
    ],
)
def test_bytes_that_are_no_answer_are_shown(body: bytes, words: str) -> None:
    for kind in (body, sse(body.decode().strip()) if body.startswith(b"{") and b"unknown" not in body else body):
        whole = check_splits(Decoder, Exchange("own", kind))
        if kind == sse("{}"):
            continue
        assert whole.error is not None and not whole.events and words in str(whole.error)
        assert not whole.error.is_retryable or words == "[]"


def test_an_answer_of_something_unknown_is_no_empty_success() -> None:
    for delta in ({"audio": {"data": "here"}}, {"output": "here"}, {"content": [{"type": "video", "url": "here"}]}):
        whole = decode(sse(chunk(**delta), chunk("stop")))
        assert isinstance(whole.error, WireError) and "here" in str(whole.error) and whole.events == []
    assert decode(sse(chunk(role="assistant", content=""), chunk("stop"))).events[-1] == StreamEnd("stop", "c1", "m1")


@pytest.mark.parametrize(
    "report",
    [
        {"code": 50505, "message": "overloaded"},
        {"base_resp": {"status_code": 1, "status_msg": "overloaded"}, "choices": None},
        {"error_code": 17, "error_msg": "overloaded"},
        {"success": False, "msg": "overloaded"},
        {"choices": [{"index": 0, "delta": {}, "finish_reason": None, "error": {"message": "overloaded"}}]},
        {"choices": [], "error": {"message": "overloaded"}},
        {"error": "overloaded"},
        {"x_groq": {"error": "overloaded"}},
    ],
)
def test_a_failure_in_mid_stream_keeps_its_words(report: dict[str, Any]) -> None:
    whole = outcome(Decoder(), sse(HELLO[0], report))
    assert type(whole.error) is BackendError and "overloaded" in str(whole.error)
    assert (whole.error.partial, whole.error.is_retryable) == ("hel", False)


def test_json_between_the_events_is_a_servers_word() -> None:
    whole = outcome(Decoder(), sse(HELLO[0], done=False) + b'{"error": {"code": 503, "message": "overheated"}}\n')
    assert isinstance(whole.error, OverloadedError) and "overheated" in str(whole.error)


@pytest.mark.parametrize("said", ["null", "", "None"])
def test_a_finish_reason_that_says_there_is_none(said: str) -> None:
    assert isinstance(outcome(Decoder(), sse(chunk(said, content="hel"))).error, InterruptedStreamError)


# -- text and thoughts ------------------------------------------------------------------------------------------


def test_thoughts_in_tags_are_reasoning() -> None:
    whole = decode(sse(chunk(content="<thi"), chunk(content="nk>Hm."), chunk(content="</think>\n4"), chunk("stop")))
    assert (whole.generation.thinking, whole.text) == ("Hm.", "4")
    own = decode(sse(chunk(reasoning_content="Hm."), chunk(content="<think>4"), chunk("stop")))
    assert (own.generation.thinking, own.text) == ("Hm.", "<think>4")


def test_thoughts_come_before_an_answer_that_is_taken_out_of_its_object() -> None:
    body = sse(
        chunk(content="<think>{"), chunk(content='"value": 1}</think>{"value'), chunk(content='": [2]}'), HELLO[2]
    )
    whole = check_splits(lambda: Decoder(is_wrapped=True), Exchange("own", body))
    assert (whole.generation.thinking, whole.text) == ('{"value": 1}', "[2]")


def test_halves_of_a_character_are_joined() -> None:
    body = b"".join(
        b'data: {"choices":[{"index":0,"delta":{"content":"%b"}}]}\n\n' % each
        for each in (rb"a\ud83d", rb"\ude00b\ud83d")
    )
    assert decode(body + sse(chunk("stop"))).text == "a\U0001f600b\ufffd"


def test_reasoning_that_no_field_names_is_counted() -> None:
    used = {"prompt_tokens": 35, "completion_tokens": 12, "total_tokens": 109}
    assert decode(sse(*HELLO[:2], chunk("stop", usage=used))).generation.usage == Usage(35, 74)


def test_an_images_address_is_a_text() -> None:
    whole = decode(sse(chunk(images=[{"image_url": "http://x/y.png"}]), chunk("stop")))
    assert FileEvent("image/png", url="http://x/y.png") in whole.events
