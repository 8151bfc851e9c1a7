import itertools
import json
import re

import pytest

from mellea.backends.llama_cpp.repetition import Repetition

STORY = (
    "Max was a small dog who lived in a red house by the sea. Every morning he ran down to the beach, where the "
    "fishermen knew him well and gave him what they had left. One day a storm came up, and the boats did not return. "
)
SONG = (
    "Row, row, row your boat, gently down the stream. Merrily, merrily, merrily, merrily, life is but a dream. "
    "The river is wide and the evening is cold. Row, row, row your boat, gently down the stream. Merrily, merrily, "
    "merrily, merrily, life is but a dream. We sing what our fathers have sung to the old. "
)


def pieces(text: str) -> list[str]:
    return re.findall(r" ?\w+|\s|[^\w\s]", text)


def position(text: str) -> int | None:
    """Return after how many pieces the text counts as a repetition."""
    repetition = Repetition()
    return next((at for at, piece in enumerate(pieces(text), 1) if repetition.feed(piece)), None)


@pytest.mark.parametrize(
    "circle", [" no", "\nMocha", "A canvas of dreams,\n", "He loved his family. He loved his home. "]
)
def test_a_circle_is_noticed_soon(circle):
    start = len(pieces(STORY))
    found = position(STORY + circle * 200)
    assert found is not None
    assert start < found < start + 80 + 3 * len(pieces(circle))


def test_a_circle_that_is_varied_by_a_word_is_noticed_too():
    circle = "".join(
        f"They made another kettle that would let them travel through {what} again, but "
        for what in ("time", "space", "time and space", "time", "the sea", "time", "space") * 8
    )
    found = position(STORY + circle)
    assert found is not None
    assert found < len(pieces(STORY)) + 240


@pytest.mark.parametrize(
    "text",
    [
        STORY,
        SONG,
        "\n".join(str(number) for number in range(1000)),
        "\n".join(f"| {a} | {b} | {a * b} |" for a, b in itertools.product(range(1, 11), range(1, 11))),
        "\n".join(f"{number}. The {word} is good." for number, word in enumerate(pieces(STORY))),
        "",
    ],
)
def test_a_refrain_a_count_a_table_and_a_list_are_no_circles(text):
    assert position(text) is None


VERSE = "Row, row, row your boat\nGently down the stream\nMerrily, merrily, merrily, merrily\nLife is but a dream\n"
CHORUS = f"{VERSE}The river is wide and the evening is cold,\nWe sing what our fathers have sung to the old,\n{STORY}\n"


@pytest.mark.parametrize(
    "text",
    [
        "".join(f"A {what} verse\n{VERSE}\n" for what in ("first", "second", "third", "last")),
        f"The sea is near.\n{CHORUS}The hills are far.\n{CHORUS}We are at home.\n{CHORUS}",
        json.dumps(
            [{"id": number, "name": f"n{number}", "active": True, "tags": []} for number in range(60)], indent=2
        ),
        "".join(f'<circle cx="{number}" cy="50" r="4" fill="red"/>\n' for number in range(0, 600, 10)),
        "\n".join(
            ["r n b q k b n r", "p p p p p p p p", *[". . . . . . . ."] * 4, "P P P P P P P P", "R N B Q K B N R"]
        ),
        f"{STORY}Once more, since you asked for it twice:\n{STORY}",
        "".join(f"    self.assertEqual(add({number}, {number}), {2 * number})\n" for number in range(60)),
        "Title\n" + "-" * 60 + "\nHe laughed: " + "ha " * 20 + "and went on.\n" + " " * 60 + "end",
    ],
    ids=["verses", "a long chorus", "JSON", "SVG", "a chess board", "a copy", "asserts", "a line"],
)
def test_what_is_meant_to_repeat_itself_is_no_circle(text):
    assert position(text) is None
