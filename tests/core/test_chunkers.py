"""Chunkers divide a text the same way, however it was cut on its way."""

from __future__ import annotations

import pickle
import time
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mellea.core.chunkers import Chunk, NonBlankChunker, Scope, make_text_chunker
from mellea.core.structured import ItemChunker, make_output_format
from mellea.errors import UsageError

SCOPES: list[Scope] = ["word", "sentence", "paragraph", "line"]

TEXTS = st.text(st.sampled_from("abM rs.!?…\"')*。！」 \n\r\t\u00a0é"), max_size=60)


def chunks(scope: Scope, *pieces: str) -> list[str]:
    chunker = make_text_chunker(scope)
    found = [chunk for piece in pieces for chunk in chunker.feed(piece)] + chunker.close()
    assert [chunk.number for chunk in found] == list(range(len(found)))
    assert all(chunk.start == sum(map(len, found[: chunk.number])) for chunk in found)
    return [str(chunk) for chunk in found]


@pytest.mark.parametrize("scope", SCOPES)
@given(text=TEXTS, cuts=st.lists(st.integers(0, 60)))
def test_the_chunks_are_the_text_whatever_the_cuts(scope: Scope, text: str, cuts: list[int]) -> None:
    places = sorted({0, *(cut for cut in cuts if cut < len(text)), len(text)})
    whole = chunks(scope, text)
    assert "".join(whole) == ("" if not text.strip() else text)
    assert all(chunk.strip() for chunk in whole)
    assert chunks(scope, *(text[a:b] for a, b in pairwise(places))) == whole
    assert chunks(scope, *text) == whole


@pytest.mark.parametrize(
    ("scope", "text", "expected"),
    [
        ("word", "Say no bad,  word ", ["Say", " no", " bad,", "  word "]),
        ("word", " \n", []),
        ("line", "one\ntwo\r\n\nthree", ["one\n", "two\r\n", "\nthree"]),
        ("line", "\n \none\n\n\t\n", ["\n \none\n\n\t\n"]),
        ("paragraph", "One.\nStill one.\n\n\nTwo.\n \nThree.", ["One.\nStill one.", "\n\n\nTwo.", "\n \nThree."]),
        ("sentence", "Hi! Mr. Fox ran 3.5 km. He won?! Yes", ["Hi!", " Mr. Fox ran 3.5 km.", " He won?!", " Yes"]),
        (
            "sentence",
            'He said "Go." Then he (e.g. J. Fox) left...',
            ['He said "Go."', " Then he (e.g. J. Fox) left..."],
        ),
        ("sentence", "A heading\n\nA text.", ["A heading", "\n\nA text."]),
        ("sentence", "猫がいる。「はい！」と言った。", ["猫がいる。", "「はい！」", "と言った。"]),
        ("sentence", "Wait... really? ", ["Wait...", " really? "]),
        ("sentence", "One.\n\nTwo.\n\n", ["One.", "\n\nTwo.\n\n"]),
    ],
)
def test_what_a_chunk_is(scope: Scope, text: str, expected: list[str]) -> None:
    assert chunks(scope, text) == expected


def test_a_chunk_comes_as_soon_as_its_end_is_certain_and_no_white_space_can_be_added_to_it() -> None:
    chunker = make_text_chunker("sentence")
    assert chunker.feed("One.") == []  # "One.5" may follow
    assert not chunker.is_keeping
    assert chunker.feed(" ") == []  # and so may the end
    assert chunker.is_keeping
    assert chunker.feed("T") == ["One."]
    words = make_text_chunker("word")
    assert words.feed("forbid") == []
    assert words.feed("den w") == ["forbidden"]


def test_a_chunk_that_waits_for_white_space_can_be_taken_as_it_is() -> None:
    chunker = make_text_chunker("sentence")
    chunker.feed("One.\n")
    assert chunker.flush() == ["One."]
    assert chunker.flush() == []
    assert chunker.feed("\nTwo. ") == []
    assert chunker.close() == ["\n\nTwo. "]
    ended = make_text_chunker("word")
    ended.feed("end ")
    assert [*ended.flush(), *ended.close()] == ["end"]


class Letters:
    """A chunker of somebody else's, who gives white space as chunks of its own, and late."""

    def __init__(self, behind: int) -> None:
        self._behind, self._text = behind, ""

    def feed(self, text: str) -> list[Chunk]:
        self._text += text
        ready = max(0, len(self._text) - self._behind)
        found, self._text = self._text[:ready], self._text[ready:]
        return [Chunk(letter) for letter in found]

    def close(self) -> list[Chunk]:
        return [Chunk(letter) for letter in self._text]


@given(text=st.text("ab \n\u3000", max_size=20), sizes=st.lists(st.integers(1, 4)), behind=st.integers(0, 3))
def test_no_chunker_gives_blank_chunks_and_each_character_is_in_one(text: str, sizes: list[int], behind: int) -> None:
    chunker, found, rest = NonBlankChunker(Letters(behind)), [], text
    for size in [*sizes, len(text) + 1]:
        found += chunker.feed(rest[:size])
        rest = rest[size:]
    found += chunker.close()
    assert "".join(found) == ("" if not text.strip() else text)
    assert all(len(chunk.split()) == 1 for chunk in found)
    assert [chunk.number for chunk in found] == list(range(len(found)))
    assert all(text.startswith(chunk, chunk.start) for chunk in found)


def test_a_chunk_is_a_text_that_knows_its_place() -> None:
    chunk = make_text_chunker("word", number=7, start=40).feed("cat s")[0]
    assert (chunk, chunk.number, chunk.start, chunk.item) == ("cat", 7, 40, "")
    again = pickle.loads(pickle.dumps(chunk))
    assert type(again) is Chunk
    assert (again, again.number, again.start) == ("cat", 7, 40)


def test_the_cost_of_one_long_chunk_is_linear() -> None:
    def seconds(letters: int) -> float:
        chunker = make_text_chunker("paragraph")
        began = time.process_time()
        for _ in range(letters):
            chunker.feed("word ")
        return time.process_time() - began

    seconds(1_000)
    few, many = min(seconds(4_000) for _ in range(3)), min(seconds(40_000) for _ in range(3))
    assert many < 40 * few  # ten times as much; were it quadratic it would be a hundred times


def item_chunks(*pieces: str, before: str = "", kind: Any = list[Any]) -> list[tuple[str, str]]:
    chunker = ItemChunker(make_output_format(kind), before=before)
    found = [chunk for piece in pieces for chunk in chunker.feed(piece)] + chunker.close()
    return [(str(chunk), chunk.item) for chunk in found]


@pytest.mark.parametrize(
    "text",
    [
        '[1, 2 , {"a": [3]},"b,]", [4], null ]',
        "[]",
        "prose [1.5]",
        '{"other": [1], "n": [1, 2], "x": 3}',
        "[1, ",
        "",
        "[1,]",
    ],
)
def test_each_item_is_in_a_chunk_of_its_own(text: str) -> None:
    whole = item_chunks(text)
    assert "".join(chunk for chunk, _ in whole) == text
    assert item_chunks(*text) == whole
    for cut in range(len(text)):
        assert item_chunks(text[:cut], text[cut:]) == whole


def test_what_an_item_is() -> None:
    assert item_chunks('[1, 2 , {"a": [3]},"b,]", [4], null ]') == [
        ("[1,", "1"),
        (" 2 ,", "2"),
        (' {"a": [3]}', '{"a": [3]}'),
        (',"b,]"', '"b,]"'),
        (", [4]", "[4]"),
        (", null ]", "null"),
    ]
    assert item_chunks(" 2, 3]", before="[1,") == [(" 2,", "2"), (" 3]", "3")]
    fields = {"type": "object", "properties": {"x": {"type": "integer"}, "n": {"type": "array"}}}
    assert item_chunks('{"x": 1, "n": [5, 6], "y": [7]}', kind=fields) == [
        ('{"x": 1, "n": [5,', "5"),
        (" 6]", "6"),
        (', "y": [7]}', ""),
    ]
    assert item_chunks("\n[1,\n 2]\n\n") == [("\n[1,", "1"), ("\n 2]\n\n", "2")]


def test_there_are_no_chunks_of_other_kinds() -> None:
    with pytest.raises(UsageError, match="'item'"):
        make_text_chunker("item")


_ODD = [
    ".",
    "!",
    "…",
    "。",
    "！",
    ")",
    '"',
    "*",
    "_",
    " ",
    "  ",
    "\n",
    "\t",
    "\r\n",
    "\n\n",
    "a",
    "Mr",
    "No.",
    "e.g.",
    " A.",
]


@given(
    parts=st.lists(st.sampled_from([*_ODD, "。」", "word", "\u3000"]), max_size=16), sizes=st.lists(st.integers(1, 5))
)
def test_marks_and_white_space_of_all_kinds_are_divided_in_the_same_way_however_they_come(
    parts: list[str], sizes: list[int]
) -> None:
    text = "".join(parts)
    for scope in ("word", "sentence", "paragraph", "line"):
        whole, single, sized = (make_text_chunker(scope) for _ in range(3))  # type: ignore[arg-type]
        expected = [*whole.feed(text), *whole.close()]
        assert [chunk for char in text for chunk in single.feed(char)] + single.close() == expected
        found, rest = [], text
        for size in [*sizes, len(text) + 1]:
            found += sized.feed(rest[:size])
            rest = rest[size:]
        assert found + sized.close() == expected
        assert "".join(expected) == ("" if not text.strip() else text)


@pytest.mark.parametrize("flood", [".", "。", "!)", '"', "* ", ") ", " \n", " ", "\n", "A. ", "x", ". . ", "\t"])
def test_a_model_that_writes_one_thing_for_ever_costs_no_more_for_each_piece(flood: str) -> None:
    for scope in ("word", "sentence", "paragraph", "line"):
        chunker, started = make_text_chunker(scope), time.process_time()  # type: ignore[arg-type]
        chunks = [chunk for _ in range(10_000) for char in flood for chunk in chunker.feed(char)] + chunker.close()
        assert time.process_time() - started < 2, "it looks at all of the text again and again"
        assert "".join(chunks) == ("" if not flood.strip() else flood * 10_000)
