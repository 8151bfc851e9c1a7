"""Checks which regular expressions the engine's grammar can enforce.

They are Rust's, without assertions: an expression that it can't compile disables the whole constraint
without an error, so anything not known to work is rejected. The tests cover each form here.
"""

from __future__ import annotations

import re

__all__ = ["explain_unsupported"]

_ESCAPE = r"\\(?:[dDwWsSnrtfv]|[.+*?()|\[\]{}^$/\\\-@%#&~:;,'\"=!_` ]|u[0-9A-Fa-f]{4}|x[0-9A-Fa-f]{2}|[pP]\{\^?\w+\})"
_TOKEN = re.compile(
    rf"""(?P<escape>{_ESCAPE})
    |(?P<class>\[\^?(?:{_ESCAPE}|[^\]\\\[])+\])
    |(?P<open>\((?:\?:|\?P?<[A-Za-z_]\w*>|(?!\?)))
    |(?P<close>\))
    |(?P<bar>\|)
    |(?P<repeat>(?:[*+?]|\{{\d+(?:,\d*)?\}})\??)
    |(?P<start>\^)
    |(?P<end>\$)
    |(?P<plain>[^\\()\[{{*+?|^$])""",
    re.VERBOSE | re.DOTALL,
)
_COUNTS = re.compile(r"\{(\d+),(\d+)\}")
_BEGINNINGS = frozenset({None, "open", "bar"})


def explain_unsupported(pattern: str) -> str | None:
    """Return what in the pattern the engine can't enforce, or `None`."""
    position, before, depth = 0, None, 0
    while position < len(pattern):
        token = _TOKEN.match(pattern, position)
        # Look-aheads and back references are rejected, since a grammar that ignores them would allow too much.
        if token is None:
            return f"{pattern[position : position + 4]!r} at position {position}"
        kind, text = token.lastgroup, token.group()
        after = pattern[token.end() : token.end() + 1]
        depth += {"open": 1, "close": -1}.get(kind or "", 0)
        if depth < 0 or not _fits(kind, text, before, after):
            return f"{text!r} at position {position}"
        position, before = token.end(), kind
    return None if depth == 0 else "a group that isn't closed"


def _fits(kind: str | None, text: str, before: str | None, after: str) -> bool:
    if kind == "repeat":
        counts = _COUNTS.match(text)
        is_range = counts is None or int(counts[1]) <= int(counts[2])
        # Nothing to repeat.
        return is_range and before not in _BEGINNINGS | {"start", "end"}
    # An anchor in the middle asserts something, which the grammar can't.
    if kind == "start":
        return before in _BEGINNINGS
    return kind != "end" or after in ("", "|", ")")
