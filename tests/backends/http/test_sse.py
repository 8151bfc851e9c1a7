"""Server-sent events: the standard's rules as vectors, and a slow obvious reader to compare with."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mellea.backends.http import decoding
from mellea.backends.http.decoding import ServerSentEvent, SseDecoder
from mellea.errors import WireError

Parsed = list[tuple[str, str, str]]


def decode(pieces: Iterable[bytes]) -> Parsed:
    decoder = SseDecoder()
    events = [event for piece in pieces for event in decoder.feed(piece)]
    return [(event.event, event.data.decode(), event.id) for event in events]


def payloads(pieces: Iterable[bytes]) -> list[str]:
    decoder = SseDecoder()
    return [data.decode() for piece in pieces for data in decoder.payloads(piece)]


def obvious(stream: bytes) -> Parsed:
    """Read a whole stream by the letter of the standard, with no thought for speed."""
    text = stream.decode("utf-8", "replace").removeprefix("\ufeff")
    *lines, _ = re.split("\r\n|\n|\r", text)
    found: Parsed = []
    data, kind, last_id = "", "", ""
    for line in lines:
        if line == "":
            if data:
                found.append((kind or "message", data[:-1], last_id))
            data, kind = "", ""
            continue
        if line.startswith(":"):
            continue
        field, colon, value = line.partition(":")
        if colon and value.startswith(" "):
            value = value[1:]
        if field == "event":
            kind = value
        elif field == "data":
            data += value + "\n"
        elif field == "id" and "\0" not in value:
            last_id = value
    return found


VECTORS: dict[str, tuple[bytes, Parsed]] = {
    "one line": (b"data: a\n\n", [("message", "a", "")]),
    "several data lines": (b"data: YHOO\ndata: +2\ndata: 10\n\n", [("message", "YHOO\n+2\n10", "")]),
    "CR": (b"data: a\rdata: b\r\rdata: c\r\r", [("message", "a\nb", ""), ("message", "c", "")]),
    "CRLF": (b"data: a\r\ndata: b\r\n\r\n", [("message", "a\nb", "")]),
    "mixed ends": (b"data: a\rdata: b\ndata: c\r\n\r\n", [("message", "a\nb\nc", "")]),
    "byte order mark": (b"\xef\xbb\xbfdata: a\n\n", [("message", "a", "")]),
    "second byte order mark": (b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\ndata: b\n\n", [("message", "b", "")]),
    "mark inside": (b"data: \xef\xbb\xbfa\n\n", [("message", "\ufeffa", "")]),
    "comments": (b": hello\n:\n:x\ndata: a\n: in between\n\n: bye\n\n", [("message", "a", "")]),
    "event before data": (b"event: add\ndata: 7\n\n", [("add", "7", "")]),
    "event after data": (b"data: 7\nevent: add\n\n", [("add", "7", "")]),
    "event is forgotten": (b"event: add\ndata: 7\n\ndata: 8\n\n", [("add", "7", ""), ("message", "8", "")]),
    "event without data": (b"event: add\n\ndata: 8\n\n", [("message", "8", "")]),
    "empty event name": (b"event\ndata: 8\n\n", [("message", "8", "")]),
    "last of two events": (b"event: a\nevent: b\ndata: 8\n\n", [("b", "8", "")]),
    "no space": (b"event:add\ndata:7\n\n", [("add", "7", "")]),
    "two spaces": (b"data:  7\n\n", [("message", " 7", "")]),
    "tab": (b"data:\t7\n\n", [("message", "\t7", "")]),
    "colons in the value": (b"data: a: b:c\n\n", [("message", "a: b:c", "")]),
    "empty data": (
        b"data\n\ndata\ndata\n\ndata:\n\n", [("message", "", ""), ("message", "\n", ""), ("message", "", "")],
    ),
    "id stays": (
        b"id: 1\ndata: a\n\ndata: b\n\nid\ndata: c\n\n",
        [("message", "a", "1"), ("message", "b", "1"), ("message", "c", "")],
    ),
    "id with null": (b"id: 1\nid: 2\x003\ndata: a\n\n", [("message", "a", "1")]),
    "unknown fields": (b"retry: 10\nfoo: bar\nDATA: x\n data: y\ndata: a\n\n", [("message", "a", "")]),
    "unfinished": (b"data: a\n\ndata: b\n", [("message", "a", "")]),
    "unfinished line": (b"data: a\n\ndata: b", [("message", "a", "")]),
    "other separators": ("data: a\x0b\x0c\x85\u2028b\n\n".encode(), [("message", "a\x0b\x0c\x85\u2028b", "")]),
    "beyond ASCII": ("event: é\ndata: 😀\nid: ü\n\n".encode(), [("é", "😀", "ü")]),
    "nothing": (b"", []),
    "blank lines": (b"\n\r\n\r\n\n", []),
}  # fmt: skip


@pytest.mark.parametrize("name", VECTORS)
def test_the_standard(name: str) -> None:
    stream, expected = VECTORS[name]
    assert obvious(stream) == expected
    assert decode([stream]) == expected
    assert decode(stream[i : i + 1] for i in range(len(stream))) == expected
    data = [text for _, text, _ in expected]
    assert payloads([stream]) == data
    assert payloads(stream[i : i + 1] for i in range(len(stream))) == data
    for cut in range(len(stream)):
        assert decode([stream[:cut], b"", stream[cut:]]) == expected
        assert payloads([stream[:cut], b"", stream[cut:]]) == data


FRAGMENTS = st.sampled_from(
    ["data: x\n\n", "data: x\n\ndata: y\n\n", "\n", "\n", "\n\n", "\r", "\r\n", "data: ", "data:", "data",
     "event: ", "id: ", ":", ": ", " ", "x", "é😀", "\ufeff", "retry: 1", "\0", "\u2028"]
)  # fmt: skip


@settings(deadline=None)
@given(st.lists(FRAGMENTS, max_size=40).map(lambda parts: "".join(parts).encode()), st.data())
def test_any_stream_split_anywhere(stream: bytes, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert decode(pieces) == obvious(stream)
    assert payloads(pieces) == [text for _, text, _ in obvious(stream)]


@settings(deadline=None)
@given(st.binary(max_size=200), st.integers(1, 7))
def test_any_bytes_at_all(stream: bytes, step: int) -> None:
    decoder, whole = SseDecoder(), SseDecoder()
    split = [event for i in range(0, len(stream), step) for event in decoder.feed(stream[i : i + step])]
    assert split == whole.feed(stream)
    assert decoder.is_empty() == whole.is_empty()
    alone = SseDecoder()
    assert [data for i in range(0, len(stream), step) for data in alone.payloads(stream[i : i + step])] == [
        event.data for event in split
    ]
    assert alone.is_empty() == whole.is_empty()


@pytest.mark.parametrize(
    ("stream", "is_empty"),
    [(b"", True), (b"data: a\n\n", True), (b": x\n", True), (b"data: a\n", False), (b"data: a", False), (b"x", False)],
)
def test_it_knows_what_is_left_over(stream: bytes, is_empty: bool) -> None:
    decoder = SseDecoder()
    decoder.feed(stream)
    assert decoder.is_empty() is is_empty


def test_a_line_of_a_megabyte() -> None:
    line = b"x" * 1_000_000
    stream = b"data: " + line + b"\n\n"
    expected = [ServerSentEvent("message", line)]
    assert SseDecoder().feed(stream) == expected
    decoder = SseDecoder()
    assert [event for i in range(0, len(stream), 1000) for event in decoder.feed(stream[i : i + 1000])] == expected


@pytest.mark.parametrize("piece", [b"data: x\n", b"data: " + b"x" * 100], ids=["lines", "one line"])
@pytest.mark.parametrize("take", [SseDecoder.feed, SseDecoder.payloads])
def test_an_event_without_end_is_an_error(
    take: Callable[[SseDecoder, bytes], list[object]], piece: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "MAX_EVENT_BYTES", 10_000)
    decoder = SseDecoder()
    with pytest.raises(WireError, match="larger than"):
        for _ in range(10_000):
            take(decoder, piece)


def test_a_long_stream_of_small_events_is_no_large_event(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "MAX_EVENT_BYTES", 100)
    decoder = SseDecoder()
    assert (
        sum(len(decoder.feed(b"data: x\n\ndata: y\n\ndata:")) + len(decoder.feed(b" z\n\n")) for _ in range(100)) == 300
    )


def test_comments_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "MAX_EVENT_BYTES", 100)
    decoder = SseDecoder()
    assert not any(decoder.feed(b": still thinking\n") for _ in range(1000))
    assert decoder.is_empty()


def _seconds(take: Callable[[SseDecoder, bytes], list[object]], pieces: list[bytes]) -> float:
    best = float("inf")
    for _ in range(3):
        decoder = SseDecoder()
        began = time.process_time()
        for piece in pieces:
            take(decoder, piece)
        best = min(best, time.process_time() - began)
    return best


@pytest.mark.parametrize(
    "make",
    [
        lambda n: [b"data: x\n"] * n,
        lambda n: [b"data: x\n" * n],
        lambda n: [b"x"] * n,
        lambda n: [b": x\n"] * n,
        lambda n: [b"data: x\n\n" * n],
        lambda n: [b"data: x\r\n\r", b"\n"] * n,
    ],
    ids=["an endless event", "the same in one read", "an endless line", "comments", "tiny events", "CRLF split"],
)
@pytest.mark.parametrize("take", [SseDecoder.feed, SseDecoder.payloads])
def test_the_cost_is_linear(
    take: Callable[[SseDecoder, bytes], list[object]], make: Callable[[int], list[bytes]]
) -> None:
    small, large = _seconds(take, make(5_000)), _seconds(take, make(50_000))
    assert large < 40 * small + 0.05, f"ten times the bytes took {large / small:.0f} times as long"
