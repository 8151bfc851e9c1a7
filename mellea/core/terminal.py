"""Text for a terminal: text from elsewhere made safe to show, since a terminal obeys what it is sent; bars of signs."""

from __future__ import annotations

import re

from mellea.core.surrogates import replace_surrogates

__all__ = ["draw_bar", "make_layout_visible", "make_lines_visible", "make_visible"]

# No search runs past the next introducer, so all searches together are linear.
_ESCAPE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"
    r"|(?:\x1b\]|\x9d)(?:[^\x07\x1b\x9c\x9d]*(?:\x07|\x1b\\|\x9c))?"
    r"|\x1b[@-Z\\-_]?"
)
_CONTROLS = {
    **dict.fromkeys((*range(0x20), *range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F)),
    **dict.fromkeys(map(ord, "\t\n\r\v\f\x85"), " "),
}

_BAR = 24


def draw_bar(fraction: float) -> str:
    """Return a bar of signs, with the share in per cent."""
    filled = int(fraction * _BAR)
    return f"[{'#' * filled}{'.' * (_BAR - filled)}] {fraction:4.0%}"


def make_visible(text: str) -> str:
    """Return a text in one line without what a terminal would obey: escapes, controls, marks of direction."""
    return " ".join(_disarm(text).split())


def make_layout_visible(text: str) -> str:
    """Return a text of several lines without what a terminal would obey; its spaces stay."""
    return "\n".join(map(_disarm, text.split("\n")))


def _disarm(text: str) -> str:
    if "\x1b" in text or "\x9b" in text or "\x9d" in text:
        text = _ESCAPE.sub("", text)
    return replace_surrogates(text).translate(_CONTROLS)


def make_lines_visible(text: str) -> str:
    """Return a text of several lines without what a terminal would obey."""
    return "\n".join(map(make_visible, text.split("\n")))
