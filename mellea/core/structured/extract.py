"""JSON in a text that has more than JSON: Markdown fences, a sentence before it, a remark after it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from json import JSONDecoder

__all__ = ["json_values"]

_FENCED = re.compile(r"```[\w+-]*[ \t]*\n?(.*?)(?:```|\Z)", re.DOTALL)
_OPENING = re.compile(r"[\[{]")
_SCALAR = re.compile(r'(?<![\w.])(?:"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?(?!\.?\w)|true\b|false\b|null\b)')
_TRIES = 32
"""How many brackets may turn out to begin nothing; each costs a look at the rest of the text."""


def json_values(text: str) -> Iterator[str]:
    """Find the JSON values in a text, the likeliest first.

    These are what stands between fences, then each object and list that is complete, then a single value,
    if the text has only one.
    """
    for fenced in _FENCED.finditer(text):
        if fenced[1].strip():
            yield fenced[1].strip()
    yield from _containers(text)
    scalars = {scalar[0] for scalar in _SCALAR.finditer(text)}
    if len(scalars) == 1:
        yield scalars.pop()


def _containers(text: str) -> Iterator[str]:
    decoder, place, failures = JSONDecoder(), 0, 0
    while failures < _TRIES and (opening := _OPENING.search(text, place)) is not None:
        place = opening.start()
        try:
            _, end = decoder.raw_decode(text, place)
        except (ValueError, RecursionError):
            failures += 1
            place += 1
        else:
            yield text[place:end]
            place = end
