"""Read an answer without a JSON document: numbers, strings and words, in code fences or in prose."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator

from mellea.core.structured.schema import Schema, list_branches

__all__ = ["read_candidates"]

_FENCED = re.compile(r"```[\w+-]*+[ \t]*+\n?+((?:[^`]++|`(?!``))*+)(```|\Z)")
_ONE_FENCE = re.compile(r"\s*+```[\w+-]*+[ \t]*+\n(?P<inside>(?:[^`]++|`(?!``))*+)```\s*+")
_OPENING = re.compile(r'\{(?=\s*+["}])|\[(?=\s*+(?:["\[{\]\d-]|true|false|null))')
"""A bracket that begins an object or a list, unlike brackets around an aside in prose."""

# The digits in 1,000 or 3/4, or after a minus sign that isn't JSON's, aren't the intended number.
_APART = r"(?<![\w.\u2212\u2013])(?<!\d[,/:])"
_BARE = r"-?\d++(?:\.\d++)?+(?:[eE][+-]?\d++)?+(?!\.?\w|[,/:]\d)|true\b|false\b|null\b"
_NUMBER = re.compile(f"{_APART}(?:{_BARE})")
_SCALAR = re.compile(rf'{_APART}(?:"(?:[^"\\]++|\\.)*+(?:"|(?P<unclosed>\\?\Z))|{_BARE})', re.DOTALL)
_SPELLED = {"true": "true", "false": "false", "none": "null", "null": "null"}
"""How Python and others spell JSON's literals."""

_AROUND = " \t\r\n.!*_`\"'"
"""Characters around a single word that don't change it."""


def _is_unfinished(text: str) -> bool:
    """Whether more text could make a different value of it, as `12` could be the start of `123`.

    Every other JSON value shows its own end: a bracket, a quote, the last letter of a literal.
    """
    return text[-1:].isdigit()


def read_candidates(text: str, schema: Schema, *, is_cut: bool = False) -> Iterator[Iterable[str]]:
    """Yield the JSON texts that an answer without a document may stand for, the most likely ones first.

    Each group holds alternatives; if several of them are different valid values, the answer is ambiguous. Values inside
    an object or a list that is invalid or was cut off are never picked.

    Args:
        text: the answer.
        schema: the requested schema.
        is_cut: the answer was cut off.
    """
    if is_cut:
        # The whole text, or a closed fence; in prose that was cut off, the value may not have arrived yet.
        yield () if _is_unfinished(text) else (text,)
        yield [fenced[1].strip() for fenced in _FENCED.finditer(text) if fenced[2]]
        return
    options, takes_any_text = _collect_words(schema)
    bare = _strip_fence(text)
    # From literal to lenient: the unchanged text, the text without its fence, a single word, then values in prose.
    yield (text.removeprefix("\ufeff"),)
    yield (bare,)
    yield (json.dumps(word) for word in options if word == bare)
    if spelled := _SPELLED.get(bare.rstrip(".").lower()):
        yield (spelled,)
    if takes_any_text:
        yield (json.dumps(bare),) if bare else ()
        return
    yield [fenced[1].strip() for fenced in _FENCED.finditer(text) if fenced[1].strip()]
    # If the text contains an object or a list, a number beside it belongs to that and isn't the answer.
    if _OPENING.search(text) is None:
        yield dict.fromkeys(_find_scalars(text))
    word = bare.strip(_AROUND).casefold()
    yield [json.dumps(option) for option in options if option.casefold() == word]
    if options:  # "not one of these words" is a better error than "not JSON"
        yield (json.dumps(bare),)


def _find_scalars(text: str) -> Iterator[str]:
    for found in _SCALAR.finditer(text):
        if found["unclosed"] is not None:  # no later quote is closed either, and trying each would cost quadratic time
            yield from (number[0] for number in _NUMBER.finditer(text, found.start() + 1))
            return
        yield found[0]


def _strip_fence(text: str) -> str:
    one = _ONE_FENCE.fullmatch(text)
    return (one["inside"] if one else text).strip()


def _collect_words(schema: Schema) -> tuple[list[str], bool]:
    """Return the strings that a value may be, and whether it may be any string and is never a list or an object."""
    found = list_branches(schema, schema)
    words = [word for one in found for word in one.get("enum", [one["const"]] if "const" in one else [])]
    is_open = any(one.get("type") == "string" and not {"enum", "const"} & one.keys() for one in found)
    is_single = all(one.get("type") in ("string", "integer", "number", "boolean") for one in found)
    return list(dict.fromkeys(word for word in words if isinstance(word, str))), is_open and is_single
