"""Tables, which models read and write as Markdown."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from mellea.core.component import TemplateRepresentation, fields_in, is_component
from mellea.core.entrance import entrance
from mellea.errors import UsageError
from mellea.stdlib.components.mobject import MObject
from mellea.templates import to_text

__all__ = ["Table"]

_LINE_BREAK = "<br>"


@dataclass(frozen=True, init=False)
class Table(MObject, funcs_exclude={"from_csv", "to_markdown"}):
    """A table with named columns. A model that transforms it can transpose it, or write a new one.

    Args:
        rows: a list of dicts, whose keys are the columns, or a list of lists of cells.
        columns: the names of the columns; by default the dicts' keys, or the cells of the first row.
        title: the title.

    Raises:
        UsageError: there are no columns, a row isn't a dict or a list, or it has too many cells.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    title: str | None

    @entrance(
        "Table",
        **dict.fromkeys(("headers", "header", "titles", "names"), "it is 'columns' here: columns=…"),
        **dict.fromkeys(("caption", "name"), "it is 'title' here: title=…"),
        data="it is 'rows' here: rows=…",
    )
    def __init__(self, rows: Iterable[Any], columns: Iterable[str] | None = None, *, title: str | None = None) -> None:
        if title is not None and not isinstance(title, str):
            raise UsageError(f"a Table's title is a string, not {title!r}")
        laid_out = _lay_out(rows, columns)
        # Frozen, so ordinary assignment is rejected, even here.
        object.__setattr__(self, "columns", laid_out[0])
        object.__setattr__(self, "rows", laid_out[1])
        object.__setattr__(self, "title", title)

    @classmethod
    def from_csv(cls, text: str, *, delimiter: str = ",", title: str | None = None) -> Self:
        """Read a table whose first line names the columns.

        Raises:
            UsageError: it isn't a text, or an empty one, or a row has more cells than there are columns.
        """
        if not isinstance(text, str):
            raise UsageError(f"from_csv takes the text of a table, not {text!r:.100}; Path(…).read_text() reads a file")
        return cls([row for row in csv.reader(io.StringIO(text), delimiter=delimiter) if row], title=title)

    @classmethod
    def from_markdown(cls, text: str) -> Self:
        """Read a Markdown table.

        Args:
            text: the table: a line with the names of the columns, a line of dashes, and a line for each row.

        Raises:
            UsageError: the text is not a table.
        """
        # Models often add text before and after; a line without a bar isn't a row.
        lines = [_split_cells(line) for line in text.strip().splitlines() if "|" in line]
        if len(lines) < 2 or not all(re.fullmatch(r":?-+:?", cell) for cell in lines[1]):
            raise UsageError(f"a Markdown table has a second line of dashes, as in '| --- |', unlike {text[:100]!r}")
        return cls([lines[0], *lines[2:]])

    def to_markdown(self) -> str:
        """Return the table in Markdown; line breaks in cells become `<br>`."""
        head, *rows = ([_format_cell(cell) for cell in row] for row in (self.columns, *self.rows))
        return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))

    def transpose(self) -> Self:
        """Turn the columns of the table into rows."""
        first, *others = self.columns
        columns = [first, *[_format_value(row[0]) for row in self.rows]]
        rows = [[name, *[row[place] for row in self.rows]] for place, name in enumerate(others, 1)]
        return type(self)(rows, columns, title=self.title)

    def parts(self) -> Sequence[Any]:
        """Return the cells."""
        return [cell for row in self.rows for cell in row]

    def format_for_llm(self) -> TemplateRepresentation:
        """Return the table's template and its Markdown."""
        return TemplateRepresentation("Table", {"table": self.to_markdown(), "title": self.title})

    def __str__(self) -> str:
        return self.to_markdown()


def _lay_out(rows: Any, columns: Any) -> tuple[tuple[str, ...], tuple[tuple[Any, ...], ...]]:
    if isinstance(rows, (str, bytes, Mapping)) or not isinstance(rows, Iterable):
        raise UsageError(f"a Table takes a list of rows, not {rows!r}; Table.from_csv(…) reads text")
    found = list(rows)
    for row in found:
        if isinstance(row, (str, bytes)) or not isinstance(row, (Mapping, Sequence)):
            raise UsageError(f"a row of a Table is a list of cells or a dict, not {row!r}")
    if any(isinstance(row, Mapping) for row in found):
        if not all(isinstance(row, Mapping) for row in found):
            raise UsageError("a Table's rows are all dicts or all lists, not both")
        # All keys, in the order in which they first occur: rows may lack some.
        names = columns if columns is not None else dict.fromkeys(key for row in found for key in row)
        names = list(names)
        found = [[row.get(name) for name in names] for row in found]
    else:
        names = (
            list(columns) if columns is not None else [_format_value(cell) for cell in found.pop(0)] if found else []
        )
    if not names or not all(isinstance(name, str) for name in names):
        raise UsageError(f"a Table takes at least one column, with strings as names, not {names!r}")
    for row in found:
        if len(row) > len(names):
            raise UsageError(f"the row {list(row)!r} has {len(row)} cells, but there are {len(names)} columns")
    # Short rows are padded, as spreadsheets write them; long ones were rejected, since cells would be lost.
    return tuple(names), tuple((*row, *[None] * (len(names) - len(row))) for row in found)


def _format_value(cell: Any) -> str:
    if cell is None:
        return ""
    has_form = isinstance(cell, (Mapping, list, tuple, set, frozenset, bool)) or is_component(cell) or fields_in(cell)
    return to_text(cell) if has_form else str(cell)


def _format_cell(cell: Any) -> str:
    text = re.sub(r"\r\n?|\n", _LINE_BREAK, _format_value(cell))
    # A backslash only has to be escaped where it could start an escape.
    return re.sub(r"\\(?=[\\|]|$)", r"\\\\", text).replace("|", r"\|")


def _split_cells(line: str) -> list[str]:
    cells = [""]
    # One pass: an escaped bar belongs to the cell, and an escaped backslash escapes nothing after it.
    for token in re.findall(r"\\[\\|]|.", line.strip().removeprefix("|")):
        if token == "|":
            cells.append("")
        else:
            cells[-1] += token[1:] if len(token) > 1 else token
    if not cells[-1].strip():
        cells.pop()  # the text after the last bar
    return [cell.strip().replace(_LINE_BREAK, "\n") for cell in cells]
