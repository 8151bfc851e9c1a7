"""Markdown's fences around code: what stands between them."""

from __future__ import annotations

import re

__all__ = ["find_fenced_blocks", "strip_fence"]

# Possessive, so that a line of nothing but backticks, or a very long one, isn't gone through over and over.
_FENCE = re.compile(
    r"^[ \t]*+(`{3,}+|~{3,}+)[ \t]*+([\w+-]*+)[^\n]*+\n(.*?)(?:^[ \t]*+\1[ \t]*+$|\Z)", re.DOTALL | re.MULTILINE
)


def find_fenced_blocks(text: str) -> list[tuple[str, str]]:
    """Return the language, in small letters, and the code of each fenced block; the last one may be open."""
    return [(language.lower(), code) for _, language, code in _FENCE.findall(text)]


def strip_fence(text: str) -> str:
    """Return what is inside, if the whole text stands in one fence; otherwise the text."""
    first, _, rest = text.strip().partition("\n")
    marker = first[: len(first) - len(first.lstrip("`"))]
    body, _, last = rest.rpartition("\n")
    is_one = len(marker) >= 3 and last.strip() == marker
    if not is_one or any(line.strip() == marker for line in body.split("\n")):
        return text
    return body
