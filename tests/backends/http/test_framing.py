"""What an author's decoder gets for free: one that says only what a chunk means, in both framings."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from mellea.backends import http
from mellea.backends.http import JsonLinesWireDecoder, SseWireDecoder, WireDecoder, find_int, read_text
from mellea.core.accumulator import Accumulator, Generation
from mellea.core.events import Event, StreamEnd, TextDelta, Usage, UsageEvent
from mellea.errors import BackendError, InterruptedStreamError, RateLimitError, WireError
from mellea.testing import replay


def read(decoder: WireDecoder, chunk: dict[str, Any], events: list[Event]) -> None:
    if "error" in chunk:
        raise decoder.make_reported_error(chunk)
    if piece := read_text(chunk, "piece"):
        events.append(TextDelta(piece))
    if "over" in chunk:
        events.append(UsageEvent(Usage(output_tokens=find_int(chunk, "wrote"))))
        events.append(StreamEnd("stop", decoder.response_id, decoder.model))


class Sse(SseWireDecoder):
    end_mark = "the toy's over"

    def read_chunk(self, chunk: dict[str, Any], events: list[Event]) -> None:
        read(self, chunk, events)


class Lines(JsonLinesWireDecoder):
    end_mark = "the toy's over"

    def read_chunk(self, chunk: dict[str, Any], events: list[Event]) -> None:
        read(self, chunk, events)


def sse(*chunks: Any) -> bytes:
    return b"".join(b"data: " + json.dumps(chunk, ensure_ascii=False).encode() + b"\n\n" for chunk in chunks)


def lines(*chunks: Any) -> bytes:
    return b"".join(json.dumps(chunk, ensure_ascii=False).encode() + b"\n" for chunk in chunks)


WIRES = pytest.mark.parametrize(("make", "frame"), [(Sse, sse), (Lines, lines)], ids=["sse", "lines"])
WHOLE = ({"piece": "Grü"}, {"piece": "ße 🌍"}, {"over": True, "wrote": 2})


def fold(decoder: WireDecoder, body: bytes, splits: Any = ()) -> Generation:
    accumulator = Accumulator()
    accumulator.feed(list(replay(decoder, body, splits)))
    return accumulator.generation()


@WIRES
def test_the_bytes_may_be_split_anywhere(make: Any, frame: Any) -> None:
    body = frame(*WHOLE)
    for splits in ((), range(1, len(body)), *([place] for place in range(1, len(body)))):
        answer = fold(make("m", backend="toy"), body, splits)
        assert (answer.text, answer.finish_reason, answer.model) == ("Grüße 🌍", "stop", "m")
        assert answer.usage is not None and answer.usage.output_tokens == 2


@WIRES
@pytest.mark.parametrize(
    "body",
    [
        json.dumps({"piece": "Hi", "over": 1}).encode(),
        json.dumps([{"piece": "H"}, {"piece": "i"}, {"over": 1}]).encode(),
        b'{"piece": "H"}\n{"piece": "i"}\n{"over": 1}',
        b'\xef\xbb\xbf  {"piece": "Hi",\n "over": 1}\n',
    ],
    ids=["object", "list", "several", "mark and blanks"],
)
def test_an_answer_may_come_as_a_body(make: Any, frame: Any, body: bytes) -> None:
    assert fold(make(backend="toy"), body).text == "Hi"
    assert [type(event) for event in list(replay(make(backend="toy"), body))][-1] is StreamEnd


@WIRES
def test_a_cut_stream_names_what_is_missing(make: Any, frame: Any) -> None:
    with pytest.raises(InterruptedStreamError, match="without the toy's over") as caught:
        fold(make("m", backend="toy"), frame(*WHOLE[:2]))
    assert (caught.value.partial, caught.value.backend, caught.value.model) == ("Grüße 🌍", "toy", "m")
    with pytest.raises(InterruptedStreamError):
        fold(make(backend="toy"), json.dumps({"piece": "Hi"}).encode())


@WIRES
def test_a_last_frame_without_its_own_end_counts_if_it_ends_the_answer(make: Any, frame: Any) -> None:
    assert fold(make(backend="toy"), frame(*WHOLE).rstrip(b"\n")).text == "Grüße 🌍"


@WIRES
def test_text_before_an_error_comes_first(make: Any, frame: Any) -> None:
    decoder = make(backend="toy")
    body = frame(WHOLE[0], {"error": {"message": "slow down", "code": 429}})
    assert decoder.feed(body) == [TextDelta("Grü")]
    with pytest.raises(RateLimitError, match="slow down") as caught:
        decoder.feed(b"")
    assert caught.value.partial == "Grü"


def read_to_the_error(decoder: WireDecoder, body: bytes) -> tuple[str, BackendError | None]:
    """Return the text that is delivered, and the error after it."""
    said = []
    try:
        for event in replay(decoder, body):
            said += [event.chunk] if isinstance(event, TextDelta) else []
    except BackendError as error:
        assert error.partial == "".join(said)
        return "".join(said), error
    return "".join(said), None


@WIRES
@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b'[{"piece": "Hi"}, {"error": {"message": "slow down", "code": 429}}]', RateLimitError),
        (b'[{"piece": "H"}, {"piece": "i"}, {"piece": " the', InterruptedStreamError),
        (b'[{"piece": "H"},\n{"piece": "i"}\n,\n', InterruptedStreamError),
        (b'[{"piece": "H"}, {"piece": "i"}]', InterruptedStreamError),
    ],
    ids=["an error", "a cut in a chunk", "a cut after a chunk", "no end"],
)
def test_text_before_the_fault_of_a_body_is_delivered(make: Any, frame: Any, body: bytes, error: Any) -> None:
    said, caught = read_to_the_error(make(backend="toy"), body)
    assert (said, type(caught)) == ("Hi", error)


@WIRES
def test_a_cut_behind_the_end_of_a_body_changes_nothing(make: Any, frame: Any) -> None:
    assert read_to_the_error(make(backend="toy"), b'[{"piece": "Hi"}, {"over": 1}, {"ot') == ("Hi", None)


@WIRES
@pytest.mark.parametrize("is_list", [True, False])
def test_what_follows_the_end_in_the_same_read_is_not_read(make: Any, frame: Any, is_list: bool) -> None:
    chunks = [{"piece": "Hi"}, {"over": 1}, {"piece": "again"}, {"over": 1}]
    body = (
        json.dumps(chunks).encode() if is_list else frame({"piece": "Hi"}, [{"over": 1}, {"piece": "?"}, {"over": 1}])
    )
    events = [event for event in replay(make(backend="toy"), body) if not isinstance(event, UsageEvent)]
    assert events == [TextDelta("Hi"), StreamEnd("stop", None, None)]


def test_a_long_first_line_does_not_stop_the_stream() -> None:
    line = lines({"piece": "H" * 100_000})
    decoder = Lines(backend="toy")
    said = [event for start in range(0, len(line), 1000) for event in decoder.feed(line[start : start + 1000])]
    assert said == [TextDelta("H" * 100_000)]
    assert decoder.feed(lines({"piece": "i"})) == [TextDelta("i")]


def test_a_long_answer_in_one_line_is_a_whole_answer() -> None:
    body = json.dumps({"piece": "H" * 100_000, "over": 1}).encode()
    assert fold(Lines(backend="toy"), body, range(0, len(body), 1000)).text == "H" * 100_000


@WIRES
@pytest.mark.parametrize("body", [b"<html>hello</html>", b'{"other": 1}', b"busy, come back later\n"])
def test_what_is_no_answer_is_never_an_empty_success(make: Any, frame: Any, body: bytes) -> None:
    with pytest.raises((WireError, InterruptedStreamError)):
        fold(make(backend="toy"), body)


@WIRES
def test_a_wrong_type_fails_where_it_is_essential_alone(make: Any, frame: Any) -> None:
    with pytest.raises(BackendError, match="'piece'"):
        fold(make(backend="toy"), frame({"piece": 5}, {"over": 1}))
    usage = fold(make(backend="toy"), frame(WHOLE[0], {"over": 1, "wrote": [2]})).usage
    assert usage is None or usage.output_tokens is None


def test_a_decoder_needs_no_transport() -> None:
    code = (
        "import sys; from mellea.backends.http import SseWireDecoder, JsonLinesWireDecoder; "
        "print(sorted({'anyio', 'httpx', 'asyncio', 'mellea.backends.http.backend'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    found = done.stdout.strip()
    assert "httpx" not in found and "mellea.backends.http.backend" not in found, done.stderr


def test_every_public_name_is_there() -> None:
    for name in http.__all__:
        assert getattr(http, name) is not None
    assert not hasattr(http, "no_such_name")
