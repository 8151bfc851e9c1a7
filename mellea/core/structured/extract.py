"""JSON in a text that has more than JSON: Markdown fences, a sentence before it, a remark after it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from json import JSONDecoder

__all__ = ["json_values"]

_FENCED = re.compile(r"```[\w+-]*[ \t]*\n?(.*?)(```|\Z)", re.DOTALL)
_OPENING = re.compile(r'\{(?=\s*["}])|\[(?=\s*(?:["\[{\]\d-]|true|false|null))')
"""A bracket that begins an object or a list, and not an aside, as brackets in prose do."""

_SCALAR = re.compile(r'(?<![\w.])(?:"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?(?!\.?\w)|true\b|false\b|null\b)')


def json_values(text: str, *, is_cut: bool = False) -> Iterator[str]:
    """Find the JSON values in a text, the likeliest first.

    These are what stands between fences, then each object and list, then a single value, if the text has only
    one. Nothing is taken out of an object or a list that is wrong somewhere, or was cut off.

    Args:
        text: where they stand.
        is_cut: the text goes on, and isn't there.
    """
    for fenced in _FENCED.finditer(text):
        if fenced[1].strip() and (fenced[2] or not is_cut):
            yield fenced[1].strip()
    yield from _containers(text)
    scalars = {scalar[0] for scalar in _SCALAR.finditer(text)}
    if len(scalars) == 1 and not is_cut and _OPENING.search(text) is None:
        yield scalars.pop()


def _containers(text: str) -> Iterator[str]:
    decoder, place = JSONDecoder(), 0
    while (opening := _OPENING.search(text, place)) is not None:
        try:
            _, place = decoder.raw_decode(text, opening.start())
        except (ValueError, RecursionError):
            return
        yield text[opening.start() : place]
