"""Ranks notes by the words that they share with a question, and by the angle between their vectors.

All notes of a user are compared, which takes milliseconds for a thousand. An index of words in the file, such as
SQLite's FTS5, would have to be read across all users, and isn't part of every SQLite.
"""

from __future__ import annotations

import math
import re
import unicodedata
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from operator import mul

from mellea.stdlib.agents.memory.note import Note

__all__ = ["pack", "rank", "rank_by_words"]

_WORDS = re.compile(r"\w+")
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")
"""Thai, Lao, Burmese, Japanese and Chinese, which put no spaces between their words."""

_STEM = 5
"""Words that begin with the same letters, this many, count as forms of one word: half as much as the word itself."""

_EVEN = 60
"""Two rankings are merged by the sum of 1 / (60 + place): reciprocal rank fusion (Cormack et al., 2009)."""


def rank(notes: Sequence[Note], question: str, vectors: Mapping[int, bytes], asked: bytes | None) -> list[Note]:
    """Return the notes that match a question, best first.

    Args:
        notes: the notes, the newest first.
        question: a question, or words.
        vectors: vectors of the notes, by their ids.
        asked: the vector of the question; without one, only notes that share a word with it fit.
    """
    by_words = rank_by_words(notes, question)
    if asked is None:
        return by_words
    wanted = array("f", asked)
    known = [note for note in notes if len(vectors.get(note.id, b"")) == len(asked)]
    by_vectors = sorted(known, key=lambda note: -sum(map(mul, wanted, array("f", vectors[note.id]))))
    scores: Counter[Note] = Counter()
    for order in (by_words, by_vectors):
        for place, note in enumerate(order):
            scores[note] += 1 / (_EVEN + place)  # type: ignore[assignment]  # a Counter takes any number
    return [note for note, _ in scores.most_common()]


def rank_by_words(notes: Sequence[Note], question: str) -> list[Note]:
    """Return the notes that share a word with the question, best first, newest first among equals."""
    wanted = _features(question)
    counts = [(note, _features(note.text)) for note in notes]
    total = len(counts)
    rarity: dict[str, float] = {}
    for feature, weight in wanted.items():
        among = sum(feature in found for _, found in counts)
        rarity[feature] = weight * math.log(1 + (total - among + 0.5) / (among + 0.5))
    scores = [(note, sum(rarity[feature] for feature in wanted if feature in found)) for note, found in counts]
    return [note for note, score in sorted(scores, key=lambda scored: -scored[1]) if score > 0]


def pack(vector: Sequence[float]) -> bytes:
    """Return a vector of length 1 in the same direction, as bytes."""
    length = math.sqrt(sum(map(mul, vector, vector))) or 1.0
    return array("f", [number / length for number in vector]).tobytes()


def _features(text: str) -> dict[str, float]:
    """Return the features by which a text is found, with weights: words, their prefixes, and pairs of letters in
    scripts without spaces."""
    plain = unicodedata.normalize("NFKD", text.casefold())
    plain = "".join([char for char in plain if not unicodedata.combining(char)])
    features: dict[str, float] = {}
    for word in _WORDS.findall(plain):
        if _UNSPACED.search(word):
            features.update(dict.fromkeys([word[at : at + 2] for at in range(max(1, len(word) - 1))], 1.0))
        else:
            features[word] = 1.0
            features[f"{(word[:-1] if word.endswith('s') else word)[:_STEM]}-"] = 0.5
    return features
