"""Lines become events, however they are split and wherever they are cut."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mellea.backends.ollama.decode import Decoder
from mellea.backends.ollama.wire import FINISH_REASONS
from mellea.core.blocks import ToolCall
from mellea.core.events import (
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
from mellea.errors import BackendError, InterruptedStreamError, WireError
from mellea.testing import replay
from tests.backends.ollama import answers
from tests.backends.ollama.answers import call, end, lines, message
from tests.backends.recorded import TALLY, Exchange, Outcome, check_order, check_splits, outcome, own, replay_server

END = [UsageEvent(Usage(26, 8)), StreamEnd("stop", None, "llama3.2")]

OURS = own(answers.ALL, content_type="application/x-ndjson")


def make() -> Decoder:
    return Decoder("asked")


def decode(body: bytes) -> Outcome:
    return outcome(make(), body)


@pytest.mark.parametrize("exchange", OURS)
def test_the_events_are_the_same_however_it_is_split(exchange: Exchange) -> None:
    assert check_splits(make, exchange).error is None


@pytest.mark.parametrize("exchange", OURS)
def test_a_cut_is_noticed_unless_only_the_line_end_is_missing(exchange: Exchange) -> None:
    whole, size = decode(exchange.body), len(exchange.body.rstrip())
    for cut in range(len(exchange.body)):
        part = decode(exchange.body[:cut])
        if cut >= size:
            assert part.key() == whole.key(), f"cut at {cut}"
            continue
        assert isinstance(part.error, InterruptedStreamError), f"cut at {cut}"
        assert part.error.partial == part.text, f"cut at {cut}"
        assert part.events == whole.events[: len(part.events)], f"cut at {cut}"
        check_order(part)
    TALLY["own cuts"] += len(exchange.body)


@pytest.mark.parametrize("exchange", [each for each in OURS if each.id != "line-ends"])  # it reads no empty lines
@pytest.mark.filterwarnings("ignore")  # the client's own
def test_it_is_what_the_official_client_says(exchange: Exchange) -> None:
    ollama = pytest.importorskip("ollama")
    with replay_server(exchange) as url:
        client = ollama.Client(host=url)
        chunks = list(client.chat("m", messages=[{"role": "user", "content": "Hi"}], stream=True))
    ours, last = decode(exchange.body).generation, chunks[-1]
    assert ours.text == "".join(chunk.message.content or "" for chunk in chunks)
    assert ours.thinking == "".join(chunk.message.thinking or "" for chunk in chunks)
    calls = [each.function for chunk in chunks for each in chunk.message.tool_calls or ()]
    assert [(each.tool_name, each.tool_args) for each in ours.tool_calls] == [(f.name, f.arguments) for f in calls]
    assert ours.usage == Usage(last.prompt_eval_count, last.eval_count)
    assert ours.finish_reason == ("tool_call" if calls else FINISH_REASONS[last.done_reason or "stop"])
    assert ours.model == last.model


def test_text_then_usage_then_the_end() -> None:
    assert decode(answers.HELLO).events == [TextDelta("Hé"), TextDelta("llo 🌍."), *END]


def test_thoughts() -> None:
    assert decode(answers.THINKING).events[:3] == [
        ReasoningDelta("Let me "),
        ReasoningDelta("see."),
        TextDelta("Four."),
    ]


def test_calls_get_ids_where_they_have_none() -> None:
    whole = decode(answers.CALLS)
    raw = '{"city": "Zürich", "days": 2}'
    first = whole.generation.tool_calls[0].tool_call_id
    assert whole.events[1:4] == [
        ToolStart(first, "look"),
        ToolDelta(first, raw),
        ToolEnd(ToolCall(first, "look", {"city": "Zürich", "days": 2}, raw)),
    ]
    calls = whole.generation.tool_calls
    ids = [call.tool_call_id for call in calls]
    assert all(ids) and len(set(ids)) == 3 and ids[2] == "call_abc"
    later = decode(answers.CALLS.replace(answers.MOMENT.encode(), b"2025-10-26T17:15:25.097767Z")).generation.tool_calls
    assert not {call.tool_call_id for call in later} & set(ids[:2])
    assert (calls[1].tool_args, calls[1].is_valid) == ({}, True)
    assert whole.generation.finish_reason == "tool_call"


@pytest.mark.parametrize(("arguments", "args"), [(None, {}), ("", {}), ('{"a": 1}', {"a": 1})])
def test_arguments_in_other_forms(arguments: Any, args: dict[str, Any]) -> None:
    (made,) = decode(lines(message(tool_calls=[call("a", arguments)]), end())).generation.tool_calls
    assert (made.tool_args, made.is_valid) == (args, True)
    (odd,) = decode(lines(message(tool_calls=[call("a", "[1]")]), end())).generation.tool_calls
    assert not odd.is_valid


def test_ids_that_repeat_are_made_to_differ() -> None:
    twice = [call("a", {}, id="same"), call("a", {}, id="same")]
    first, second = decode(lines(message(tool_calls=twice), end())).generation.tool_calls
    assert first.tool_call_id == "same" != second.tool_call_id


def test_images_come_out() -> None:
    assert decode(lines(message(images=["cG5n"]), end())).events[0] == FileEvent("image/png", b"png")
    assert decode(lines(message("a", images=None), end())).text == "a"


@pytest.mark.parametrize(
    ("reason", "expected"), [("stop", "stop"), ("length", "length"), (None, "stop"), ("load", "other")]
)
def test_finish_reasons(reason: str | None, expected: str) -> None:
    assert decode(lines(message("a"), end(reason))).generation.finish_reason == expected


def test_no_counts_are_no_usage() -> None:
    assert decode(b'{"done": true}\n').events == [StreamEnd("stop", None, "asked")]


def test_an_error_in_mid_stream_is_raised_after_the_text() -> None:
    result = decode(lines(message("Half"), {"error": "the model crashed"}, message(" lost"), end()))
    assert result.text == "Half"
    assert type(result.error) is BackendError
    assert str(result.error).endswith("the model crashed") and not result.error.is_retryable
    assert (result.error.partial, result.error.model) == ("Half", "asked")


def test_an_error_without_a_line_end_is_raised() -> None:
    assert "crashed" in str(decode(lines(message("Half")) + b'{"error": "crashed"}').error)


def test_what_follows_the_end_is_ignored() -> None:
    assert decode(answers.HELLO + answers.HELLO).events == decode(answers.HELLO).events


BROKEN: dict[str, Any] = {
    "message": {"message": "x"},
    "content": message(5),  # type: ignore[arg-type]
    "calls": message(tool_calls={"a": 1}),
    "call": message(tool_calls=["x"]),
    "function": message(tool_calls=[{}]),
    "no name": message(tool_calls=[{"function": {"arguments": {}}}]),
    "name": message(tool_calls=[call(5, {})]),  # type: ignore[arg-type]
    "arguments": message(tool_calls=[call("a", [1])]),
    "image": message(images=["A"]),
    "images": message(images=[5]),
    "reason": end(done_reason=5),
    "done": message("") | {"done": "yes"},
}


@pytest.mark.parametrize("chunk", BROKEN.values(), ids=BROKEN)
def test_essential_words_of_another_type_are_an_error(chunk: Any) -> None:
    result = decode(lines(message("Half")) + json.dumps(chunk).encode() + b"\n")
    assert type(result.error) is WireError
    assert result.error.partial == "Half"


@pytest.mark.parametrize(
    "chunk",
    [
        message(thinking=None, images=None, tool_calls=None, role=5, news={"a": 1}),
        message(thinking=5),
        message(None),  # type: ignore[arg-type]
        message("") | {"created_at": 5, "model": [], "eval_count": {}, "error": None},
        {"message": None, "done": False, "error": ""},
        {"status": "loading"},
        [],
        None,
        "keep-alive",
    ],
    ids=repr,
)
def test_what_is_beside_the_point_never_fails_an_answer(chunk: Any) -> None:
    body = (
        lines(message("Hel")) + json.dumps(chunk).encode() + b"\n" + lines(message("lo"), end(model=5, eval_count=2.5))
    )
    result = decode(body)
    assert result.error is None and result.text == "Hello"
    assert result.generation.usage == Usage(26, None)


def test_ids_of_another_type_are_read_all_the_same() -> None:
    (made,) = decode(lines(message(tool_calls=[call("a", {}, id=5)]), end())).generation.tool_calls
    assert made.tool_call_id == "5"


@pytest.mark.parametrize("body", [b"{\n", b"nope\n", b"\n\n", b"5\n", b'{"response": "hello"}\n', b"<html>busy</html>"])
def test_where_nothing_is_recognised_nothing_succeeds(body: bytes) -> None:
    assert isinstance(decode(body).error, BackendError)


@pytest.mark.parametrize(
    "report", [{"error": "no such model"}, {"detail": "no such model"}, {"message": "no such model"}]
)
def test_a_failure_under_status_200_says_what_the_server_says(report: Any) -> None:
    assert "no such model" in str(decode(lines(report)).error)


def test_halves_of_a_character_are_joined() -> None:
    body = lines(message("HALF"), message("REST"), message(tool_calls=[call("a", {"b": "HALFREST"})]), end())
    result = decode(body.replace(b"HALF", b"a \\ud83d").replace(b"REST", b"\\ude00 b"))
    assert result.text == "a 😀 b"
    assert result.generation.tool_calls[0].tool_args == {"b": "a 😀 b"}
    alone = decode(lines(message("HALF"), end()).replace(b"HALF", b"\\ud83d"))
    assert alone.text == "\ufffd" and alone.error is None


@pytest.mark.parametrize("size", [1, 3, 100])
def test_thoughts_in_tags_are_reasoning(size: int) -> None:
    said = "<think>Hm, <b>.</think>\n\nFour <think>."
    result = decode(lines(*[message(said[n : n + size]) for n in range(0, len(said), size)], end()))
    assert (result.generation.thinking.strip(), result.text) == ("Hm, <b>.", "Four <think>.")
    told = decode(lines(message("", thinking="Hm"), message("<think>"), end()))
    assert told.text == "<think>"


def test_a_plain_answer_is_one_line_or_several() -> None:
    for indent in (None, 2):
        body = json.dumps(end(content="Hi"), indent=indent).encode()
        assert list(replay(Decoder("asked"), body)) == [TextDelta("Hi"), *END]
    with pytest.raises(BackendError, match="no model"):
        list(replay(Decoder("asked"), b'{"error": "no model"}'))
    with pytest.raises(InterruptedStreamError):
        list(replay(Decoder("asked"), b'{"message": {"content": "Half"}}'))
    with pytest.raises(WireError):
        list(replay(Decoder("asked"), b"{}"))


def test_the_answer_of_the_other_endpoint_is_read() -> None:
    said = [{"model": "m", "response": "hel", "done": False}, {"model": "m", "response": "lo", "done": True}]
    assert decode(b"".join(json.dumps(each).encode() + b"\n" for each in said)).text == "hello"
    assert (
        "".join(
            event.chunk
            for event in list(replay(Decoder("m"), json.dumps(said[1]).encode()))
            if isinstance(event, TextDelta)
        )
        == "lo"
    )


@pytest.mark.parametrize(
    "report", [{"detail": "used up"}, {"errors": [{"message": "used up"}]}, {"ok": False, "reason": "used up"}]
)
def test_a_failure_of_any_shape_behind_text_keeps_its_words(report: dict[str, Any]) -> None:
    failed = decode(json.dumps(message("hello")).encode() + b"\n" + json.dumps(report).encode() + b"\n")
    assert "used up" in str(failed.error)
    assert failed.text == "hello"
