"""Cards: how values are displayed, as text, HTML or Markdown.

Rules:

- A card holds plain text only. It is escaped here, in one place, so nothing that a model wrote becomes markup: not in
  HTML, not in Markdown (where it is in fences), and no control character reaches a terminal.
- Long texts are cut: a notebook keeps what it shows, and a browser has to lay it out.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from html import escape
from itertools import groupby
from pprint import pformat
from typing import Any

from mellea.core.surrogates import replace_surrogates
from mellea.core.terminal import draw_bar, make_layout_visible, make_visible

__all__ = [
    "Alert",
    "Bar",
    "Card",
    "Code",
    "Fold",
    "Grid",
    "Part",
    "Picture",
    "Prose",
    "count_of",
    "cut",
    "draw_bundle",
    "draw_html",
    "draw_markdown",
    "draw_text",
    "show_error",
    "show_picture",
    "show_value",
    "write_value",
]

LONGEST_TEXT = 20_000
"""How many characters of a text are shown."""

PICTURES = ("image/gif", "image/jpeg", "image/png", "image/webp")
"""The media types of images that are shown: none that may hold scripts or links."""

LARGEST_PICTURE = 5_000_000
"""How many bytes an image that is shown may have; a notebook keeps it in its file."""

LONGEST_CELL = 500
"""How many characters of a cell are shown."""

MOST_ROWS = 200
"""How many rows of a table are shown."""


@dataclass(frozen=True, slots=True)
class Prose:
    """Text for people, whose lines may be wrapped."""

    text: str


@dataclass(frozen=True, slots=True)
class Code:
    """Text with significant spaces: a value, JSON, a tree."""

    text: str


@dataclass(frozen=True, slots=True)
class Alert:
    """What went wrong."""

    text: str


@dataclass(frozen=True, slots=True)
class Fold:
    """A text that is collapsed until it is opened.

    Attributes:
        label: what it is.
        text: the text; without one, the label is a line of its own.
    """

    label: str
    text: str = ""


@dataclass(frozen=True, slots=True)
class Grid:
    """Rows of texts.

    Attributes:
        columns: the names of the columns.
        rows: the cells of each row.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class Bar:
    """How much of something is done.

    Attributes:
        fraction: the share, from 0 to 1.
    """

    fraction: float


@dataclass(frozen=True, slots=True)
class Picture:
    """An image, which frontends show and terminals name.

    Attributes:
        media_type: one of `PICTURES`.
        encoded: the bytes in base64.
        label: its name.
    """

    media_type: str
    encoded: str
    label: str


Part = Picture | Prose | Code | Alert | Fold | Grid | Bar


@dataclass(frozen=True, slots=True)
class Card:
    """How a value is displayed.

    Attributes:
        title: what it is.
        state: its state, such as `"streaming"`.
        facts: short notes: the model, the tokens.
        parts: the content.
    """

    title: str
    state: str = ""
    facts: Sequence[str] = ()
    parts: Sequence[Part] = ()

    def head(self) -> str:
        """Return title, state and facts in one line."""
        return " · ".join(filter(None, [self.title, self.state, *self.facts]))


# -- values -----------------------------------------------------------------------------------------------


def show_value(value: Any) -> Part:
    """Return a typed value as a table of its fields, or as its `repr` if it has none."""
    named = _list_fields(value)
    if named is None:
        return Code("" if value is None else pformat(value, width=100))
    return Grid(("field", "value"), [(name, write_value(item)) for name, item in named.items()])


def _list_fields(value: Any) -> Mapping[str, Any] | None:
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: getattr(value, each.name) for each in fields(value)}
    declared = getattr(type(value), "model_fields", None)  # a pydantic model, which isn't imported for this
    if isinstance(declared, Mapping):
        return {name: getattr(value, name) for name in declared}
    return {str(name): item for name, item in value.items()} if isinstance(value, Mapping) else None


def show_error(error: BaseException | None) -> list[Part]:
    """Return an error as parts of a card, none without an error."""
    return [] if error is None else [Alert(f"{type(error).__name__}: {error}")]


def show_picture(media_type: str, data: bytes | None, label: str) -> list[Part]:
    """Return an image as a part of a card, none for other files, and for images that a notebook can't hold."""
    if data is None or media_type not in PICTURES or len(data) > LARGEST_PICTURE:
        return []
    return [Picture(media_type, base64.b64encode(data).decode("ascii"), label)]


def write_value(value: Any) -> str:
    """Return a value as the text of a cell: strings as they are, other values as their `repr`."""
    return value if isinstance(value, str) else pformat(value, width=100)


def count_of(count: int, noun: str) -> str:
    """Return a number of things, such as `1 row` or `1,200 rows`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


# -- all forms at once ------------------------------------------------------------------------------------


def draw_bundle(card: Card) -> dict[str, str]:
    """Return a card in all the media types that notebooks choose from."""
    return {
        "text/plain": draw_text(card),
        "text/html": draw_html(card),
        "text/markdown": draw_markdown(card),
    }


# -- text -------------------------------------------------------------------------------------------------


def draw_text(card: Card) -> str:
    """Return a card for a terminal, without control sequences."""
    lines = [make_visible(card.head())]
    for part in card.parts:
        match part:
            case Prose(text) | Code(text) | Alert(text):
                lines += make_layout_visible(cut(text, LONGEST_TEXT)).split("\n") if text else []
            case Fold(label, text):
                said = f": {make_visible(cut(text, LONGEST_CELL))}" if text else ""
                lines.append(make_visible(label) + said)
            case Grid(columns, rows):
                lines += _draw_columns(columns, rows)
            case Picture(media_type, _, label):
                lines.append(make_visible(f"({label}, {media_type})"))
            case Bar(fraction):
                lines.append(draw_bar(fraction))
    return "\n".join(lines)


def _draw_columns(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    shown, left = _take_rows(rows)
    cells = [[make_visible(cell) for cell in row] for row in [columns, *shown]]
    widths = [max(len(row[place]) for row in cells) for place in range(len(columns))]
    for row in cells:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
    if left:
        yield left


# -- HTML -------------------------------------------------------------------------------------------------

# No colours but the frontend's own, so that it can be read in dark mode as well.
_HEAD = "font-size:.85em;opacity:.7"
_WRAPPED = "white-space:pre-wrap;overflow-wrap:anywhere;word-break:normal;margin:.2em 0"
_PROSE = f"{_WRAPPED};max-width:50em"
_CODE = _WRAPPED
_ALERT = f"{_PROSE};border-left:.2em solid;padding-left:.6em"
_WIDE = "overflow-x:auto"
_TABLE = "color:inherit;font:inherit;border-collapse:collapse;margin:.2em 0"
_HEADER = "text-align:left;padding:.1em 1em .1em 0;white-space:nowrap"
_BAR = "border:1px solid;border-radius:.3em;max-width:30em;margin:.3em 0;opacity:.7"
_FILLED = "height:.4em;background:currentColor"
_PICTURE = "max-width:100%;max-height:40em;display:block;margin:.2em 0"
_CELL = "text-align:left;vertical-align:top;padding:.1em 1em .1em 0;white-space:pre-wrap;overflow-wrap:break-word"


def draw_html(card: Card) -> str:
    """Return a card as an HTML fragment: no scripts, no links, no styles outside of it."""
    parts = "".join(_draw_part(part) for part in card.parts)
    # The classes keep frontends from typesetting text between dollars as formulas.
    head = f'<div style="{_HEAD}">{_escape(card.head())}</div>'
    return f'<div class="mellea tex2jax_ignore mathjax_ignore">{head}{parts}</div>'


def _draw_part(part: Part) -> str:
    match part:
        case Prose(text):
            return f'<div style="{_PROSE}">{_escape(cut(text, LONGEST_TEXT))}</div>'
        case Code(text):
            return f'<pre style="{_CODE}">{_escape(cut(text, LONGEST_TEXT))}</pre>'
        case Alert(text):
            return f'<div style="{_ALERT}">{_escape(cut(text, LONGEST_TEXT))}</div>'
        case Fold(label, ""):
            return f'<div style="{_HEAD}">{_escape(label)}</div>'
        case Fold(label, text):
            shown = _escape(cut(text, LONGEST_TEXT))
            head = f'<summary style="{_HEAD}">{_escape(label)}</summary>'
            return f'<details>{head}<div style="{_PROSE}">{shown}</div></details>'
        case Grid(columns, rows):
            cells, left = _take_rows(rows)
            head = "".join(f'<th style="{_HEADER}">{_escape(cell)}</th>' for cell in columns)
            body = "".join(f"<tr>{''.join(map(_draw_cell, row))}</tr>" for row in cells)
            table = f'<table style="{_TABLE}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
            return f'<div style="{_WIDE}">{table}</div>' + (
                f'<div style="{_HEAD}">{_escape(left)}</div>' if left else ""
            )
        case Picture(media_type, encoded, label):
            return f'<img style="{_PICTURE}" alt="{_escape(label)}" src="data:{media_type};base64,{encoded}">'
        case Bar(fraction):
            return f'<div style="{_BAR}"><div style="{_FILLED};width:{fraction:.1%}"></div></div>'


def _draw_cell(text: str) -> str:
    return f'<td style="{_CELL}">{_escape(text)}</td>'


def _escape(text: str) -> str:
    return escape(_printable(text))


# -- Markdown ---------------------------------------------------------------------------------------------


def draw_markdown(card: Card) -> str:
    """Return a card as Markdown; texts are in fences, where nothing is markup."""
    pieces = [_in_line(card.head())]
    for part in card.parts:
        match part:
            case Prose(text) | Code(text) | Alert(text):
                pieces.append(_in_fence(text))
            case Fold(label, text):
                pieces += [f"{_in_line(label)}:", _in_fence(text)] if text else [_in_line(label)]
            case Grid(columns, rows):
                pieces.append("\n".join(_draw_grid(columns, rows)))
            case Picture(media_type, _, label):
                pieces.append(_in_line(f"({label}, {media_type})"))
            case Bar(fraction):
                pieces.append(_in_line(draw_bar(fraction)))
    return "\n\n".join(pieces)


def _draw_grid(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    shown, left = _take_rows(rows)
    yield f"| {' | '.join(map(_in_line, columns))} |"
    yield f"|{' --- |' * len(columns)}"
    for row in shown:
        yield f"| {' | '.join(map(_in_line, row))} |"
    if left:
        yield f"\n{_in_line(left)}"


def _in_fence(text: str) -> str:
    text = _printable(cut(text, LONGEST_TEXT))
    # A fence ends at a run of backticks as long as its own.
    longest = max((len(list(run)) for sign, run in groupby(text) if sign == "`"), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text}\n{fence}"


def _in_line(text: str) -> str:
    """Return a text in one line, with all markup escaped as entities."""
    text = make_visible(text)
    return "".join(f"&#{ord(sign)};" if sign in _MARKS else sign for sign in text)


_MARKS = frozenset("\\`*_{}[]()<>#+-!|&~$:/@\"'=")


# -- what all of them need --------------------------------------------------------------------------------


def cut(text: str, longest: int) -> str:
    """Truncate a text to a number of characters, and say how many are left out."""
    left = len(text) - longest
    return text if left <= 0 else f"{text[:longest]}… ({left:,} more characters)"


def _take_rows(rows: Sequence[Sequence[Any]]) -> tuple[list[list[str]], str]:
    """Return the rows to show, with truncated cells, and a note about the others."""
    shown = [[cut(cell, LONGEST_CELL) for cell in row] for row in rows[:MOST_ROWS]]
    left = len(rows) - len(shown)
    return shown, f"… {left:,} more rows" if left else ""


# Characters that no document may contain; line ends and tabs stay.
_CONTROLS = {code: None for code in (*range(0x20), *range(0x7F, 0xA0)) if code not in (0x09, 0x0A)}


def _printable(text: str) -> str:
    return replace_surrogates(text).translate(_CONTROLS)
