"""A text is never cut inside what a reader sees as one character."""

from __future__ import annotations

import itertools
import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mellea.core.graphemes import cut_graphemes, find_grapheme_ends

WHOLE = {
    "a letter with an accent": "e\u0301",
    "several accents": "a\u0300\u0323\u0361",
    "a line end": "\r\n",
    "an emoji with a skin tone": "\U0001f44d\U0001f3fd",
    "a family": "\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "a heart with its variation selector": "\u2764\ufe0f",
    "a keycap": "1\ufe0f\u20e3",
    "a flag": "\U0001f1f3\U0001f1f4",
    "a flag made of tags": "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
    "a Korean syllable of three letters": "\u1100\u1161\u11a8",
    "a Korean syllable with a final letter": "\uac00\u11a8",
    "a Hindi conjunct": "\u0915\u094d\u0937\u093f",
    "a Thai vowel": "\u0e19\u0e33",
    "a Tamil syllable": "\u0ba8\u0bbf",
    "an Arabic number sign": "\u0600\u0661",
}
_pieces = st.sampled_from([*WHOLE.values(), "a", " ", "é", "日", "\n"]) | st.characters()
_texts = st.lists(_pieces, max_size=12).map("".join)


@pytest.mark.parametrize("name", WHOLE)
def test_what_is_seen_as_one_character_stays_whole(name: str) -> None:
    text = WHOLE[name]
    assert cut_graphemes(f"x{text}y", 1) == ["x", text, "y"]


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("", []),
        ("abc", ["a", "b", "c"]),
        ("\r\r\n\n", ["\r", "\r\n", "\n"]),
        ("日本語", ["日", "本", "語"]),
        (
            "\U0001f1f3\U0001f1f4\U0001f1f8\U0001f1ea\U0001f1eb",
            ["\U0001f1f3\U0001f1f4", "\U0001f1f8\U0001f1ea", "\U0001f1eb"],
        ),
        ("각가", ["각", "가"]),
        ("a\n\u0301", ["a", "\n", "\u0301"]),
    ],
)
def test_characters_are_parted_where_they_can_be(text: str, pieces: list[str]) -> None:
    assert cut_graphemes(text, 1) == pieces


def test_pieces_have_the_size_that_was_asked_for_and_the_last_one_is_the_rest() -> None:
    text = "".join(["a", "e\u0301", "\U0001f44d\U0001f3fd", "b", "c"])
    assert cut_graphemes(text, 2) == ["ae\u0301", "\U0001f44d\U0001f3fdb", "c"]
    assert cut_graphemes(text, 100) == [text]


@given(_texts, st.integers(1, 5))
def test_the_pieces_are_the_text_and_no_piece_begins_with_a_mark(text: str, size: int) -> None:
    pieces = cut_graphemes(text, size)
    assert "".join(pieces) == text
    assert all(pieces)
    for before, piece in itertools.pairwise(pieces):
        is_mark = unicodedata.category(piece[0]) in ("Mn", "Me", "Mc")
        assert not is_mark or unicodedata.category(before[-1]) in ("Cc", "Zl", "Zp")
    ends = list(find_grapheme_ends(text))
    assert len(pieces) == -(-len(ends) // size)


def test_the_cost_is_linear() -> None:
    def seconds(text: str) -> float:
        began = time.process_time()
        cut_graphemes(text, 3)
        return time.process_time() - began

    for piece in ("a", "\u0301", "\U0001f1f3", "\u200d", "\u094d\u0937", "\U0001f468\u200d"):
        short = min(seconds(piece * 2_000) for _ in range(3))
        assert min(seconds(piece * 20_000) for _ in range(3)) < 40 * short + 0.01
