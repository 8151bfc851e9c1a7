"""Finds where a text may be cut without splitting what a reader sees as one character.

Follows Unicode's rules for extended grapheme clusters (UAX #29, Unicode 15.1), as far as the standard library has the
properties: line ends, combining and spacing marks, joiners and emoji with their modifiers, flags, and Korean syllables.
Where it hasn't, two characters may stay together that could be split, never the other way round.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator

__all__ = ["cut_graphemes", "find_grapheme_ends"]

_JOINER = "\u200d"
_VIRAMA = 9  # the combining class of signs that join consonants of Indic scripts
_EXTENDING = frozenset({"Mn", "Me", "Mc"})
_PREPENDED = frozenset("\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\u0d4e")
_PREPENDED_RANGES = ((0x110BD, 0x110BD), (0x110CD, 0x110CD), (0x111C2, 0x111C3), (0x11A84, 0x11A89))


def cut_graphemes(text: str, size: int) -> list[str]:
    """Split the text into pieces of `size` graphemes; the last one may be shorter."""
    pieces: list[str] = []
    start = count = 0
    for end in find_grapheme_ends(text):
        count += 1
        if count == size:
            pieces.append(text[start:end])
            start, count = end, 0
    if start < len(text):
        pieces.append(text[start:])
    return pieces


def find_grapheme_ends(text: str) -> Iterator[int]:
    """Yield the index after each grapheme; the last one is the length of the text."""
    # Nearly all text, where only CR LF belong together (Unicode 16, UAX 29, GB3).
    if text.isascii():
        yield from _find_ascii_ends(text)
        return
    flags = 0  # regional indicators in a row, before the current position
    for index in range(1, len(text)):
        before, after = text[index - 1], text[index]
        # Flags are pairs: of four letters in a row the second and third don't belong together (GB12, GB13).
        flags = flags + 1 if _is_flag_half(before) else 0
        if not _belong_together(before, after, flags):
            yield index
    if text:
        yield len(text)


def _find_ascii_ends(text: str) -> Iterator[int]:
    for index in range(1, len(text) + 1):
        if text[index - 1 : index + 1] != "\r\n":
            yield index


def _belong_together(before: str, after: str, flags: int) -> bool:
    if before == "\r" and after == "\n":
        return True
    # GB4 and GB5, before the rules that join.
    if _is_control(before) or _is_control(after):
        return False
    return (
        _extends(after)
        or before == _JOINER
        or _is_prepended(before)
        or (flags % 2 == 1 and _is_flag_half(after))
        or (unicodedata.combining(before) == _VIRAMA and after.isalpha())
        or _is_one_syllable(before, after)
    )


def _is_control(char: str) -> bool:
    return unicodedata.category(char) in ("Cc", "Zl", "Zp") and char != _JOINER


def _extends(char: str) -> bool:
    return (
        unicodedata.category(char) in _EXTENDING
        or char in ("\u200c", _JOINER, "\uff9e", "\uff9f", "\u0e33", "\u0eb3")
        or "\U0001f3fb" <= char <= "\U0001f3ff"  # skin tones
        or "\U000e0020" <= char <= "\U000e007f"  # tags of flags
    )


def _is_prepended(char: str) -> bool:
    return char in _PREPENDED or any(first <= ord(char) <= last for first, last in _PREPENDED_RANGES)


def _is_flag_half(char: str) -> bool:
    return "\U0001f1e6" <= char <= "\U0001f1ff"


def _is_one_syllable(before: str, after: str) -> bool:
    left, right = _find_hangul_class(before), _find_hangul_class(after)
    return (
        (left == "L" and right in ("L", "V", "LV", "LVT"))
        or (left in ("LV", "V") and right in ("V", "T"))
        or (left in ("LVT", "T") and right == "T")
    )


def _find_hangul_class(char: str) -> str:
    code = ord(char)
    if 0x1100 <= code <= 0x115F or 0xA960 <= code <= 0xA97C:
        return "L"
    if 0x1160 <= code <= 0x11A7 or 0xD7B0 <= code <= 0xD7C6:
        return "V"
    if 0x11A8 <= code <= 0x11FF or 0xD7CB <= code <= 0xD7FB:
        return "T"
    if 0xAC00 <= code <= 0xD7A3:
        return "LV" if (code - 0xAC00) % 28 == 0 else "LVT"
    return ""
