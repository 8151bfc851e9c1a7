"""A report as tables: in a terminal, with or without rich, and in a notebook."""

from __future__ import annotations

import unicodedata
from typing import Any

from mellea.core.card import Card, Grid, Part, Prose
from mellea.core.terminal import make_lines_visible
from mellea.evaluation.findings import Findings
from mellea.evaluation.layout import FigureTable, Text, lay_out

__all__ = ["draw_rich", "draw_text", "make_card"]


def draw_text(report: Findings) -> str:
    """Return a report as plain text."""
    parts = [_draw_lines(part) if isinstance(part, Text) else _draw_table(part) for part in lay_out(report)]
    return "\n\n".join([make_lines_visible(report.name), *parts])


def _draw_lines(text: Text) -> str:
    return "\n".join(make_lines_visible(line) for line in text.lines)


def _draw_table(table: FigureTable) -> str:
    # A model's text must not move the terminal's cursor.
    lines = [[make_lines_visible(cell) for cell in row] for row in (table.head, *table.rows)]
    widths = [max(_width(row[column]) for row in lines) for column in range(len(table.head))]
    drawn = [
        "  ".join(
            _pad(cell, width, to_the_left=number < table.names or table.is_text)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in lines
    ]
    drawn.insert(1, "  ".join("─" * width for width in widths))
    title = [make_lines_visible(table.title)] if table.title else []
    return "\n".join([*title, *drawn])


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def _pad(text: str, width: int, *, to_the_left: bool) -> str:
    space = " " * (width - _width(text))
    return text + space if to_the_left else space + text


def draw_rich(report: Findings) -> list[Any]:
    """Return a report as tables and texts that rich can print.

    Raises:
        ImportError: rich isn't installed.
    """
    from rich.box import SIMPLE_HEAD  # lazy: an extra
    from rich.table import Table as RichTable  # lazy as well
    from rich.text import Text as RichText  # lazy as well

    drawn: list[Any] = [RichText(make_lines_visible(report.name), style="bold")]
    for part in lay_out(report):
        if isinstance(part, Text):
            drawn.append(RichText("\n".join(map(make_lines_visible, part.lines)), style="bold" if part.is_main else ""))
            continue
        title = RichText(make_lines_visible(part.title)) if part.title else None
        table = RichTable(title=title, title_justify="left", header_style="bold", box=SIMPLE_HEAD, pad_edge=False)
        for number, name in enumerate(part.head):
            table.add_column(
                RichText(make_lines_visible(name)),
                justify="left" if number == 0 or part.is_text else "right",
                no_wrap=True,
            )
        for row in part.rows:
            table.add_row(*[RichText(make_lines_visible(cell)) for cell in row])
        drawn.append(table)
    return drawn


def make_card(report: Findings) -> Card:
    """Return a report as a notebook shows it."""
    parts: list[Part] = []
    for part in lay_out(report):
        if isinstance(part, Text):
            parts.append(Prose("\n".join(part.lines)))
            continue
        parts += [Prose(part.title)] if part.title else []
        parts.append(Grid(part.head, part.rows))
    return Card("evaluation", facts=(report.name,), parts=parts)
