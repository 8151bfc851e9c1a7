import pytest

from mellea.backends.llama_cpp.decode import Decoder, convert_error
from mellea.core.events import KeepAlive, ReasoningDelta, StreamEnd, TextDelta, Usage, UsageEvent
from mellea.errors import BackendError, BadRequestError, ConfigurationError, InterruptedStreamError


def chunk(delta=None, finish=None, **more):
    return {"choices": [{"index": 0, "delta": delta or {}, "finish_reason": finish}], "id": "r1", **more}


USAGE = {
    "choices": [],
    "id": "r1",
    "usage": {"prompt_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 4}},
}


def decoded(*chunks, **arguments):
    decoder = Decoder("m", **arguments)
    return [event for each in chunks for event in decoder.feed(each)] + decoder.close()


def test_an_answer_that_repeats_a_text_with_a_broken_mark_has_the_text_as_it_was():
    chunks = [chunk({"content": "<\u2060|im"}), chunk({"content": "\u2060"}), chunk(finish="stop"), USAGE]
    assert decoded(*chunks, drops_joiners=True)[:-2] == [TextDelta("<|im")]
    assert decoded(*chunks)[:-2] == [TextDelta("<\u2060|im"), TextDelta("\u2060")]


def test_a_text_that_goes_round_in_circles_is_ended_as_if_it_had_reached_its_limit():
    decoder = Decoder("m", stops_repetition=True)
    decoder.feed(chunk({}, prompt_progress={"total": 9, "processed": 9}))
    count = 0
    while not decoder.is_over:
        assert decoder.feed(chunk({"content": " word"})) == [TextDelta(" word")]
        count += 1
    assert decoder.feed(chunk({"content": "more"})) == []
    assert decoder.close() == [UsageEvent(Usage(9, count)), StreamEnd("length", "r1", "m")]
    assert count < 120


def test_json_goes_on_however_often_it_repeats_itself():
    chunks = [chunk({"content": "["}), *[chunk({"content": "0, "})] * 500, chunk(finish="stop"), USAGE]
    events = decoded(*chunks, stops_repetition=True, is_json=True)
    assert "".join(getattr(event, "chunk", "") for event in events) == "[" + "0, " * 500


def test_a_whole_stream():
    progress = chunk({"role": "assistant", "content": None}, prompt_progress={"total": 9, "processed": 4})
    head = chunk({"role": "assistant", "content": None})
    assert decoded(progress, head, chunk({"content": "a"}), chunk({"content": "b"}), chunk(finish="stop"), USAGE) == [
        KeepAlive(),
        TextDelta("a"),
        TextDelta("b"),
        UsageEvent(Usage(9, 2, 4)),
        StreamEnd("stop", "r1", "m"),
    ]


@pytest.mark.parametrize(
    ("engine", "ours"), [("stop", "stop"), ("length", "length"), ("tool_calls", "tool_call"), ("new", "other")]
)
def test_finish_reasons(engine, ours):
    assert decoded(chunk(finish=engine)) == [StreamEnd(ours, "r1", "m")]


def test_thoughts_of_a_thinking_model():
    assert decoded(chunk({"reasoning_content": "hm"}), chunk(finish="stop"))[0] == ReasoningDelta("hm")


def test_a_stream_without_its_end_was_interrupted():
    decoder = Decoder("m")
    decoder.feed(chunk({"content": "a"}))
    with pytest.raises(InterruptedStreamError):
        decoder.close()


def test_a_prompt_that_is_too_long_names_both_lengths():
    error = {"code": 400, "message": "x", "type": "exceed_context_size_error", "n_prompt_tokens": 5031, "n_ctx": 2048}
    with pytest.raises(BadRequestError, match=r"5031 .* 2048;.*context_window") as caught:
        Decoder("m").feed({"error": error})
    assert (caught.value.status, caught.value.model, caught.value.is_retryable) == (400, "m", False)


@pytest.mark.parametrize(("code", "kind"), [(400, BadRequestError), (500, BackendError)])
def test_errors_that_come_as_data(code, kind):
    with pytest.raises(BackendError, match="boom") as caught:
        Decoder("m").feed({"error": {"code": code, "message": "boom", "type": "x"}})
    assert type(caught.value) is kind


def test_errors_that_are_raised():
    assert type(convert_error(ValueError("bad"), "m")) is BadRequestError
    assert type(convert_error(RuntimeError("[json.exception.parse_error.101] x"), "m")) is BadRequestError
    assert type(convert_error(RuntimeError("failed"), "m")) is BackendError
    own = ConfigurationError("x")
    assert convert_error(own, "m") is own


@pytest.mark.parametrize("text", ['{"a', "[", '"', "-1", "7", "true", "false", "null"])
def test_json_may_begin_like_this(text):
    assert decoded(chunk({"content": text}), chunk(finish="stop"), is_json=True)[0] == TextDelta(text)


def test_a_constraint_that_vanished_is_an_error():
    with pytest.raises(BackendError, match="didn't enforce the schema"):
        Decoder("m", is_json=True).feed(chunk({"content": "The moon"}))
