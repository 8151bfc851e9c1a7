"""Responses as servers really send them: which item an event speaks of, and what goes back in the next turn."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mellea.backends.openai.backend import OpenAIBackend
from mellea.backends.openai.responses.decode import Decoder
from mellea.core.accumulator import fold
from mellea.core.backend import Request
from mellea.core.events import (
    BuiltinToolEnd,
    BuiltinToolResult,
    BuiltinToolStart,
    FileEvent,
    SourceEvent,
    StreamEnd,
    ToolStart,
)
from mellea.core.messages import user_message
from mellea.errors import BackendError, InterruptedStreamError, WireError
from mellea.testing import replay
from tests.backends.openai.bodies import response, sse
from tests.backends.recorded import Exchange, Outcome, check_splits, outcome

CREATED = {"type": "response.created", "response": {"id": "r1", "model": "m1"}}
MESSAGE = {"type": "message", "id": "m1", "content": []}


def said(text: str, **fields: Any) -> dict[str, Any]:
    return {**MESSAGE, "content": [{"type": "output_text", "text": text, "annotations": []}], **fields}


def function(number: int, **fields: Any) -> dict[str, Any]:
    own = {"id": f"f{number}", "call_id": f"c{number}", "name": "f", "arguments": f'{{"q":{number}}}'}
    return {"type": "function_call", **own, **fields}


def added(item: dict[str, Any], index: int | None = 0) -> dict[str, Any]:
    begun = {**item, "arguments": ""} if "arguments" in item else {**item, "content": []}
    return {"type": "response.output_item.added", "output_index": index, "item": begun}


def done(item: dict[str, Any], index: int | None = 0) -> dict[str, Any]:
    return {"type": "response.output_item.done", "output_index": index, "item": item}


def delta(kind: str, text: Any, index: int | None = 0, **fields: Any) -> dict[str, Any]:
    return {"type": f"response.{kind}.delta", "output_index": index, "delta": text, **fields}


def decode(*events: Any, output: Any = (), status: str = "completed") -> Outcome:
    last = {"type": f"response.{status}", "response": response(status, output=list(output))}
    return check_splits(Decoder, Exchange("own", sse(CREATED, *events, last, done=False)))


def calls(whole: Outcome) -> list[tuple[str, bool]]:
    assert whole.error is None
    return [(each.raw_args, each.is_valid) for each in whole.generation.tool_calls]


ARGUMENTS = "function_call_arguments"
ONE, TWO = ('{"q":1}', True), ('{"q":2}', True)
REASONING = {"type": "reasoning", "id": "rs", "summary": []}


@pytest.mark.parametrize("index", [0, None])
def test_items_under_one_index_or_none(index: int | None) -> None:
    one, two = function(1), function(2)
    for first in (REASONING, MESSAGE):
        events = (added(first, index), done(first, index), added(one, index), delta(ARGUMENTS, '{"q":1}', index))
        assert calls(decode(*events, done(one, index))) == [ONE]
    assert calls(decode(added(one, index), done(one, index), added(two, index), done(two, index))) == [ONE, TWO]
    assert calls(decode(done(one, index), done(two, index))) == [ONE, TWO]
    mixed = [
        added(one, index),
        added(two, index),
        delta(ARGUMENTS, '{"q":', index, item_id="f1"),
        delta(ARGUMENTS, '{"q":2}', index, item_id="f2"),
        delta(ARGUMENTS, "1}", index, item_id="f1"),
    ]
    assert calls(decode(*mixed, done(one, index), done(two, index))) == [ONE, TWO]
    assert calls(decode(*mixed, output=[one, two])) == [ONE, TWO]
    texts = [added(MESSAGE, index), delta("output_text", "hello", index), done(said("hello"), index)]
    assert decode(*texts, output=[said("hello")]).text == "hello"
    assert decode(*texts[1:], output=[said("hello")]).text == "hello"


@pytest.mark.parametrize("index", [0, None])
def test_items_under_one_id(index: int | None) -> None:
    one, two = function(1), function(2, id="f1")
    assert calls(decode(added(one, index), done(one, index), added(two, index), done(two, index))) == [ONE, TWO]
    assert calls(decode(added(one, index), done(one, index), done(two, index), output=[one, two])) == [ONE, TWO]
    first, second = said("first"), said("second")
    whole = decode(added(first, index), done(first, index), added(second, index), done(second, index))
    assert whole.text == "first\n\nsecond"


def test_ids_that_are_others_in_each_event() -> None:
    one, hello = function(1), said("hello")
    events = [
        added({**MESSAGE, "id": "x1"}),
        delta("output_text", "hel", item_id="x2"),
        delta("output_text", "lo", item_id="x3"),
        done({**hello, "id": "x4"}),
        added({**one, "id": "x5"}, 1),
        delta(ARGUMENTS, '{"q":1}', 1, item_id="x6"),
        done({**one, "id": "x7"}, 1),
    ]
    whole = decode(*events, output=[{**hello, "id": "x8"}, {**one, "id": "x9"}])
    assert (whole.text, calls(whole)) == ("hello", [ONE])


def test_arguments_that_come_only_in_a_done_event() -> None:
    given = {"type": f"response.{ARGUMENTS}.done", "output_index": 0, "item_id": "f1", "arguments": '{"q":1}'}
    one = function(1)
    assert calls(decode(added(one), given)) == [ONE]
    assert calls(decode(added(one), given, done({**one, "arguments": ""}))) == [ONE]
    assert calls(decode(added(one), {**given, "arguments": {"q": 1}}, done({**one, "arguments": None}))) == [
        ('{"q": 1}', True)
    ]
    assert calls(decode(done({**one, "arguments": {"q": 1}}))) == [('{"q": 1}', True)]
    assert calls(decode(added(one), delta(ARGUMENTS, '{"q"'), done(one))) == [ONE]  # the rest of its deltas was lost


def test_a_call_that_nobody_ended_has_no_arguments() -> None:
    assert calls(decode(added(function(1)))) == [("", False)]
    assert calls(decode(added(function(1)), delta(ARGUMENTS, '{"q":'))) == [('{"q":', False)]
    assert calls(decode(added(function(1)), delta(ARGUMENTS, '{"q":1}'))) == [ONE]
    custom = {"type": "custom_tool_call", "id": "i", "call_id": "c", "name": "sql"}
    assert calls(decode({"type": "response.output_item.added", "item": custom})) == [("", False)]


def test_a_name_may_come_late_and_has_to_come() -> None:
    one = function(1)
    whole = decode(added({**one, "name": ""}), delta(ARGUMENTS, '{"q":1}'), done(one))
    assert calls(whole) == [ONE] and whole.events[0] == ToolStart("c1", "f")
    assert isinstance(decode(done({**one, "name": None})).error, WireError)
    assert isinstance(decode(added({**one, "name": None})).error, WireError)


def test_ids_of_calls_are_unique() -> None:
    whole = decode(
        done(function(1), 0), done(function(2, call_id="c1"), 1), done(function(3, call_id=None, id=None), 2)
    )
    ids = [each.tool_call_id for each in whole.generation.tool_calls]
    assert len(set(ids)) == 3 and "" not in ids


def test_items_that_only_the_final_object_has() -> None:
    assert decode(added(REASONING), done(REASONING), output=[REASONING, said("the answer")]).text == "the answer"
    whole = decode(delta("output_text", "hi"), output=[said("hi"), function(1)])
    assert (whole.text, calls(whole), whole.generation.finish_reason) == ("hi", [ONE], "tool_call")


def test_the_providers_tools_end_in_the_order_of_the_output() -> None:
    tools = [{"id": f"l{n}", "type": "mcp_list_tools", "server_label": f"s{n}", "tools": []} for n in range(3)]
    begun = [added(each, n) for n, each in enumerate(tools)]
    whole = decode(*begun, done(tools[2], 2), output=tools)
    for kind in (BuiltinToolStart, BuiltinToolEnd, BuiltinToolResult):
        assert len([event for event in whole.events if isinstance(event, kind)]) == 3
    ended = [event.tool_call.tool_call_id for event in whole.events if isinstance(event, BuiltinToolEnd)]
    assert ended == ["l0", "l1", "l2"]
    (end,) = [event for event in decode(begun[0]).events if isinstance(event, BuiltinToolEnd)]
    assert not end.tool_call.is_valid and end.tool_call.signature is None


def test_a_part_of_the_content_that_comes_only_as_a_whole() -> None:
    part = {"type": "response.content_part.done", "output_index": 0, "content_index": 0}
    assert decode(added(said("")), {**part, "part": {"type": "output_text", "text": "hello"}}).text == "hello"
    begun = (added(said("")), delta("output_text", "hel"))
    assert decode(*begun, {**part, "part": {"type": "output_text", "text": "hello"}}).text == "hello"
    refusal = decode(added(said("")), {**part, "part": {"type": "refusal", "refusal": "no"}})
    assert (refusal.text, refusal.generation.finish_reason) == ("no", "content_filter")


def test_an_answer_as_a_whole_in_one_event() -> None:
    whole = check_splits(Decoder, Exchange("own", sse(response("completed", output=[said("hello")]), done=False)))
    assert (whole.text, whole.error) == ("hello", None)


def test_an_answer_whose_text_stands_outside_the_output() -> None:
    body = json.dumps({**response("completed", output=[]), "output_text": "hello"}).encode()
    assert check_splits(Decoder, Exchange("own", body)).text == "hello"


def test_text_that_its_deltas_left_out() -> None:
    assert decode(delta("output_text", "hel"), done(said("hello"))).text == "hello"
    two = said("a", content=[{"type": "output_text", "text": text} for text in ("hel", "lo")])
    assert decode(delta("output_text", "hel", content_index=0), done(two)).text == "hello"
    assert decode(delta("output_text", None), delta("output_text", "hello"), done(said("other"))).text == "hello"
    refused = {"type": "response.refusal.done", "output_index": 0, "refusal": "No."}
    assert decode(refused).generation.finish_reason == "content_filter" and decode(refused).text == "No."


@pytest.mark.parametrize(
    "action",
    ["generate", {"type": "search"}, None, 5, ["x"], {"type": 5, "sources": 7}, {"type": "open_page", "url": 1}],
)
@pytest.mark.parametrize("kind", ["image_generation_call", "web_search_call", "computer_call", "code_interpreter_call"])
def test_what_a_tool_of_the_provider_says_of_itself_may_have_any_shape(kind: str, action: Any) -> None:
    item = {"type": kind, "id": "b", "action": action, "outputs": action, "result": "no base64 ü", "queries": action}
    whole = decode(done(item), done(said("hello"), 1))
    assert (whole.text, whole.error) == ("hello", None)


def test_types_in_the_event_lines_alone() -> None:
    events = [CREATED, delta("output_text", "hello"), {"type": "response.completed", "response": response()}]
    body = "".join(
        f"event: {event.pop('type')}\ndata: {json.dumps(event)}\n\n" for event in [dict(event) for event in events]
    )
    assert check_splits(Decoder, Exchange("own", body.encode())).text == "hello"


@pytest.mark.parametrize("beat", ["{}", "null", "ping", '{"type": "keepalive"}', '{"type": "response.new", "x": 1}'])
def test_heartbeats_say_nothing(beat: str) -> None:
    assert decode(beat, delta("output_text", "hello"), beat).text == "hello"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"{}", "{}"),
        (b'{"message":"Unauthorized"}', "Unauthorized"),
        (b'{"detail":"Not Found"}', "Not Found"),
        (b'{"success":false,"msg":"no quota"}', "no quota"),
        (b'{"error":null}', "error"),
        (b'{"output":null,"status":"completed"}', "completed"),
        (b'{"id":"r","status":"failed","error":{"message":"boom"}}', "boom"),
        (sse({"type": "response.error", "error": {"message": "boom"}}), "boom"),
        (sse({"type": "error", "message": "boom"}), "boom"),
        (sse({"error": {"message": "boom"}}), "boom"),
        (sse({"type": "response.failed", "response": {"error": {"message": "boom"}}}), "boom"),
        (b"<title>502 Bad Gateway</title>", "502 Bad Gateway"),
        (b"event: error\ndata: {\"message\": \"boom\"}\n\n", "boom"),
    ],
)  # fmt: skip
def test_no_response_is_no_answer(body: bytes, words: str) -> None:
    whole = check_splits(Decoder, Exchange("own", body))
    assert whole.error is not None and not isinstance(whole.error, InterruptedStreamError)
    assert words in str(whole.error) and not whole.events and isinstance(whole.error, BackendError)


# -- what goes back ------------------------------------------------------------------------------------------


def back(*output: dict[str, Any], api_model: str = "gpt-5") -> list[dict[str, Any]]:
    """Return what the next turn sends of an answer."""
    backend = OpenAIBackend(api_model, api="responses", api_key="k")
    asked = Request((user_message("q"),))
    answer = fold(list(replay(backend.make_decoder(asked), json.dumps(response(output=list(output))).encode())))
    again = Request((user_message("q"), *answer.messages, user_message("more")))
    return backend.encode(again).payload["input"][1:-1]


def test_a_phase_goes_back_with_its_message() -> None:
    output = (said("I look.", id="m1", phase="commentary"), said("Done.", id="m2", phase="final_answer"))
    assert [(item["phase"], item["content"][0]["text"]) for item in back(*output)] == [
        ("commentary", "I look."),
        ("final_answer", "Done."),
    ]
    assert decode(done(output[0]), done(output[1], 1)).text == "I look.\n\nDone."
    assert "phase" not in back(said("plain"))[0]
    assert decode(done(said("a", phase=5))).text == "a"


def test_what_the_provider_refuses_isnt_sent_back() -> None:
    search = {"type": "web_search_call", "id": "ws", "status": "completed"}
    action = {"type": "search", "query": "q", "sources": [{"type": "api"}], "new": 1}
    assert back({**search, "action": action}) == [{**search, "action": {"type": "search", "query": "q"}}]
    code = {
        "type": "code_interpreter_call",
        "id": "ci",
        "container_id": "k",
        "code": "1",
        "outputs": [],
        "status": "done",
    }
    assert back({**code, "new": 1}) == [code]
    image = {"type": "image_generation_call", "id": "ig", "status": "completed", "result": "cGl4ZWxz"}
    assert back({**image, "action": "generate", "size": "1x1", "revised_prompt": "p"}) == [image]


def test_a_file_of_a_container_says_where_it_is() -> None:
    note = {"type": "container_file_citation", "container_id": "k 1", "file_id": "f1", "filename": "a.csv"}
    cited = said("[CSV]", content=[{"type": "output_text", "text": "[CSV]", "annotations": [note, note]}])
    url = "https://api.openai.com/v1/containers/k%201/files/f1/content"
    whole = decode(done(cited))
    assert [event for event in whole.events if isinstance(event, FileEvent)] == [
        FileEvent("text/csv", url=url, filename="a.csv")
    ]
    assert [event.source.url for event in whole.events if isinstance(event, SourceEvent)] == [url, url]
    assert [item["type"] for item in back(cited)] == ["message"]


def test_an_empty_answer_is_one() -> None:
    assert decode().events[-1] == StreamEnd("stop", "r1", "m1")


def test_a_cut_before_the_end_is_noticed() -> None:
    body = sse(CREATED, added(function(1)), delta(ARGUMENTS, '{"q":1}'), done=False)
    assert isinstance(outcome(Decoder(), body).error, InterruptedStreamError)
