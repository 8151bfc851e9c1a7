"""JSON lines: each line once, wherever the bytes are split."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mellea.backends.http import jsonl
from mellea.backends.http.jsonl import JsonLinesDecoder
from mellea.errors import WireError


def decode(*pieces: bytes) -> list[bytes]:
    decoder = JsonLinesDecoder()
    return [*(line for piece in pieces for line in decoder.feed(piece)), *decoder.close()]


def test_lines_come_when_they_are_complete() -> None:
    decoder = JsonLinesDecoder()
    assert decoder.feed(b'{"a": 1}\n{"b"') == [b'{"a": 1}']
    assert decoder.feed(b": 2}") == []
    assert decoder.feed(b"\n\r\n \n") == [b'{"b": 2}']
    assert decoder.close() == []


def test_the_last_line_needs_no_end() -> None:
    assert decode(b"1\n2") == [b"1", b"2"]
    decoder = JsonLinesDecoder()
    decoder.feed(b"1")
    assert (decoder.close(), decoder.close()) == ([b"1"], [])


@settings(deadline=None)
@given(st.text(alphabet='\n\r {}"aé😀\u2028', max_size=60).map(str.encode), st.lists(st.integers(0, 200), max_size=6))
def test_split_anywhere(stream: bytes, places: list[int]) -> None:
    cuts = sorted(min(place, len(stream)) for place in places)
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert decode(*pieces) == [line for line in stream.split(b"\n") if line.strip()]


def test_a_line_without_end_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonl, "MAX_LINE_BYTES", 1000)
    decoder = JsonLinesDecoder()
    for _ in range(100):
        decoder.feed(b"x" * 900 + b"\n")
    with pytest.raises(WireError, match="larger than"):
        for _ in range(1001):
            decoder.feed(b"x")
