"""Readings of an answer in which no document was found: numbers, texts and words, in fences or among prose."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator

from mellea.core.structured.schema import Schema, list_branches

__all__ = ["read_candidates"]

_FENCED = re.compile(r"```[\w+-]*+[ \t]*+\n?+((?:[^`]++|`(?!``))*+)(```|\Z)")
_ONE_FENCE = re.compile(r"\s*+```[\w+-]*+[ \t]*+\n(?P<inside>(?:[^`]++|`(?!``))*+)```\s*+")
_OPENING = re.compile(r'\{(?=\s*+["}])|\[(?=\s*+(?:["\[{\]\d-]|true|false|null))')
"""A bracket that begins an object or a list, and not an aside, as brackets in prose do."""

# A number that is a part of 1,000 or 3/4, or stands behind a minus that JSON doesn't know, means something else.
_APART = r"(?<![\w.\u2212\u2013])(?<!\d[,/:])"
_BARE = r"-?\d++(?:\.\d++)?+(?:[eE][+-]?\d++)?+(?!\.?\w|[,/:]\d)|true\b|false\b|null\b"
_NUMBER = re.compile(f"{_APART}(?:{_BARE})")
_SCALAR = re.compile(rf'{_APART}(?:"(?:[^"\\]++|\\.)*+(?:"|(?P<unclosed>\\?\Z))|{_BARE})', re.DOTALL)
_SPELLED = {"true": "true", "false": "false", "none": "null", "null": "null"}
"""How Python, and others, spell what JSON has a word for."""

_AROUND = " \t\r\n.!*_`\"'"
"""What stands around a single word without changing it."""


def _is_unfinished(text: str) -> bool:
    """Whether more text could make another value of the one that the text is: as 12 may become 123.

    Everything else in JSON has an end of its own: a bracket, a quote, the last letter of a word.
    """
    return text[-1:].isdigit()


def read_candidates(text: str, schema: Schema, *, is_cut: bool = False) -> Iterator[Iterable[str]]:
    """Yield what JSON a text without a document may stand for, the likeliest first.

    Each reading is one JSON text or several; several that are values, and not the same one, leave open which is meant.
    Nothing is taken out of an object or a list that is wrong somewhere, or was cut off.

    Args:
        text: an answer.
        schema: of what was asked for.
        is_cut: the answer goes on, and isn't there.
    """
    if is_cut:
        yield () if _is_unfinished(text) else (text,)
        yield [fenced[1].strip() for fenced in _FENCED.finditer(text) if fenced[2]]
        return
    options, takes_any_text = _collect_words(schema)
    bare = _strip_fence(text)
    yield (text.removeprefix("\ufeff"),)
    yield (bare,)
    yield (json.dumps(word) for word in options if word == bare)
    if spelled := _SPELLED.get(bare.rstrip(".").lower()):
        yield (spelled,)
    if takes_any_text:
        yield (json.dumps(bare),) if bare else ()
        return
    yield [fenced[1].strip() for fenced in _FENCED.finditer(text) if fenced[1].strip()]
    if _OPENING.search(text) is None:
        yield dict.fromkeys(_find_scalars(text))
    word = bare.strip(_AROUND).casefold()
    yield [json.dumps(option) for option in options if option.casefold() == word]
    if options:  # it is none of them, which says more than that it is not JSON
        yield (json.dumps(bare),)


def _find_scalars(text: str) -> Iterator[str]:
    for found in _SCALAR.finditer(text):
        if found["unclosed"] is not None:  # then no quote behind it is closed either, and to try each costs too much
            yield from (number[0] for number in _NUMBER.finditer(text, found.start() + 1))
            return
        yield found[0]


def _strip_fence(text: str) -> str:
    one = _ONE_FENCE.fullmatch(text)
    return (one["inside"] if one else text).strip()


def _collect_words(schema: Schema) -> tuple[list[str], bool]:
    """Return the words that a value may be, and whether it may be any text besides, and is single in any case."""
    found = list_branches(schema, schema)
    words = [word for one in found for word in one.get("enum", [one["const"]] if "const" in one else [])]
    is_open = any(one.get("type") == "string" and not {"enum", "const"} & one.keys() for one in found)
    is_single = all(one.get("type") in ("string", "integer", "number", "boolean") for one in found)
    return list(dict.fromkeys(word for word in words if isinstance(word, str))), is_open and is_single
