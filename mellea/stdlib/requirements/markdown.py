"""Requirements on the form of an output in Markdown: lists and tables, by GitHub Flavored Markdown 0.29."""

from __future__ import annotations

import re

from mellea.core.entrance import entrance
from mellea.core.numbers import check_whole
from mellea.core.requirement import Requirement, ValidationResult
from mellea.errors import UsageError
from mellea.stdlib.requirements.shorthand import simple_validate

__all__ = ["find_fenced_blocks", "markdown_list", "markdown_table", "strip_fence"]

_ITEM = re.compile(r"(?P<marker> {0,3}(?:[-*+]|(?P<number>\d{1,9})[.)]))(?: (?P<gap> *+)(?=\S)|\Z)")
_BREAK = re.compile(r" {0,3}(?:(?:\*[ \t]*+){3,}+|(?:-[ \t]*+){3,}+|(?:_[ \t]*+){3,}+)")
_FENCE = re.compile(r" *+(?P<mark>`{3,}+(?=[^`]*+\Z)|~{3,}+)")
_MARKS = re.compile(r"(?:[ >]|(?:[-*+]|\d{1,9}[.)])(?= ))*+")
"""Markers of enclosing blocks that may precede the text of a paragraph."""

_NO_PARAGRAPH = re.compile(r"#{1,6}+(?: |\Z)|[<>]|`{3}|~{3}")
_DELIMITER = re.compile(r"\|?(?: *:?-+:? *\|)+(?: *:?-+:? *)?|\| *:?-+:? *\|?")

# Possessive, so that a line of nothing but backticks, or a very long one, costs linear time.
_FENCED_BLOCK = re.compile(
    r"^[ \t]*+(`{3,}+|~{3,}+)[ \t]*+([\w+-]*+)[^\n]*+\n(.*?)(?:^[ \t]*+\1[ \t]*+$|\Z)", re.DOTALL | re.MULTILINE
)


@entrance("markdown_list")
def markdown_list(
    *,
    ordered: bool | None = None,
    min_items: int = 1,
    max_items: int | None = None,
    description: str | None = None,
    check_only: bool = False,
) -> Requirement:
    """Make a requirement that the output is a Markdown list and nothing else.

    An item may span several lines and have sub-items, which aren't counted. After a blank line only indented lines
    belong to the item.

    Args:
        ordered: whether the items have to be numbered; either is accepted by default.
        min_items: the least number of items.
        max_items: the greatest number of items.
        description: the text for the prompt, instead of the default.
        check_only: keep it out of the prompt.

    Raises:
        UsageError: a limit isn't a whole number, or `min_items` is above `max_items`.
    """
    _check_range("items", min_items, max_items)

    def validate(text: str) -> ValidationResult:
        reader = _ListReader()
        # Models like to put the whole answer into a fence, which isn't what is being checked.
        for line in strip_fence(text).split("\n"):
            item = reader.read(line)
            # The first line that isn't part of a list decides: later ones can't make the text a list again.
            if not reader.is_list:
                return ValidationResult(False, f"{_shorten(line)} is not an item of a list")
            if item is not None and ordered not in (None, item["number"] is not None):
                return ValidationResult(False, f"{_shorten(line)} is {'not ' if ordered else ''}numbered")
        count = reader.count
        met = min_items <= count and (max_items is None or count <= max_items)
        return ValidationResult(met, f"it has {_format_count(count, 'item')}")

    kind = {None: "", True: "numbered ", False: "bulleted "}[ordered]
    said = f"Answer with a {kind}Markdown list{_describe_range('item', min_items, max_items)}, and nothing else."
    return Requirement(description or said, simple_validate(validate), check_only)


@entrance("markdown_table")
def markdown_table(
    *,
    columns: int | None = None,
    min_rows: int = 1,
    max_rows: int | None = None,
    description: str | None = None,
    check_only: bool = False,
) -> Requirement:
    """Make a requirement that the output is a Markdown table and nothing else.

    Args:
        columns: the number of columns; any by default.
        min_rows: the least number of rows, without the header.
        max_rows: the greatest number of rows.
        description: the text for the prompt, instead of the default.
        check_only: keep it out of the prompt.

    Raises:
        UsageError: a limit isn't a whole number, or `min_rows` is above `max_rows`.
    """
    _check_range("rows", min_rows, max_rows)
    _check_range("columns", columns if columns is not None else 1, None)

    def validate(text: str) -> ValidationResult:
        lines = [line.strip() for line in strip_fence(text).strip().split("\n")]
        if len(lines) < 2 or _DELIMITER.fullmatch(lines[1]) is None:
            return ValidationResult(False, "its second line isn't the one of dashes, as in | --- | --- |")
        head = len(_split_cells(lines[0]))
        for line in lines:
            # GFM itself allows rows that are too short or too long, but in a model's answer this means that a cell was
            # lost.
            if "|" not in line or len(_split_cells(line)) != head:
                return ValidationResult(False, f"{_shorten(line)} is not a row of {_format_count(head, 'cell')}")
        rows = len(lines) - 2
        met = min_rows <= rows and (max_rows is None or rows <= max_rows) and columns in (None, head)
        return ValidationResult(met, f"it has {_format_count(head, 'column')} and {_format_count(rows, 'row')}")

    width = "" if columns is None else f" of {_format_count(columns, 'column')}"
    said = f"Answer with a Markdown table{width}{_describe_range('row', min_rows, max_rows)}, and nothing else."
    return Requirement(description or said, simple_validate(validate), check_only)


class _ListReader:
    """Reads a list line by line (GFM 0.29, 5.2 and 5.3): which lines begin an item, and which others belong to one."""

    def __init__(self) -> None:
        self.count = 0
        self.is_list = True
        self._content = 0  # a line indented this far belongs to the open item
        self._has_paragraph = False  # an unindented line may then continue it ("lazy continuation", 5.1)
        self._fence = ""

    def read(self, line: str) -> re.Match[str] | None:
        """Read a line; return the match of the marker if the line begins an item."""
        # Tabs stop at multiples of four (GFM 0.29, 2.2), so afterwards columns can be counted.
        line = line.expandtabs(4).rstrip()
        if not line:
            self._has_paragraph = False
            return None
        indent = len(line) - len(line.lstrip(" "))
        is_inside = self.count > 0 and indent >= self._content
        is_break = _BREAK.fullmatch(line) is not None
        # `* * *` is a thematic break, not an item (4.1), and goes first.
        item = None if is_inside or is_break else _ITEM.match(line)
        if item is not None:
            self._begin(item)
            self._look_inside(line[item.end() :])
        elif is_inside:
            self._look_inside(line)
        else:
            self.is_list = self._has_paragraph and not is_break and _NO_PARAGRAPH.match(line.lstrip(" ")) is None
        return item

    def _begin(self, item: re.Match[str]) -> None:
        gap = len(item["gap"] or "")
        # After five spaces or more the item begins with indented code.
        self._content = len(item["marker"]) + (1 + gap if gap < 4 else 1)
        self._fence = ""
        self.count += 1

    def _look_inside(self, line: str) -> None:
        fence = _FENCE.match(line, _MARKS.match(line).end() if not self._fence else 0)  # type: ignore[union-attr]
        if self._fence:
            if fence is not None and fence["mark"].startswith(self._fence) and line.strip() == fence["mark"]:
                self._fence = ""
            self._has_paragraph = False
            return
        # Nothing inside a fence is an item, whatever it looks like.
        self._fence = fence["mark"] if fence is not None else ""
        text = line[_MARKS.match(line).end() :]  # type: ignore[union-attr]
        is_break = _BREAK.fullmatch(line.strip()) is not None
        self._has_paragraph = bool(text) and not is_break and _NO_PARAGRAPH.match(text) is None


def _split_cells(line: str) -> list[str]:
    inner = re.sub(r"(?<!\\)\|$", "", line.removeprefix("|"))
    return re.split(r"(?<!\\)\|", inner)


def _shorten(line: str) -> str:
    return repr(line.strip() if len(line) <= 60 else line.strip()[:60] + "…")


def _format_count(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _describe_range(noun: str, least: int, most: int | None) -> str:
    if most is None:
        return f" of at least {_format_count(least, noun)}" if least > 1 else ""
    if least == most:
        return f" of exactly {_format_count(most, noun)}"
    return f" of at most {_format_count(most, noun)}" if least <= 1 else f" of {least} to {_format_count(most, noun)}"


def _check_range(name: str, least: int, most: int | None) -> None:
    for value in (least, most):
        check_whole(f"the number of {name}", value, 0, or_none=True)
    if most is not None and least > most:
        raise UsageError(f"at least {least} {name} and at most {most} exclude each other")


def find_fenced_blocks(text: str) -> list[tuple[str, str]]:
    """Return the language, in lower case, and the code of each fenced block; the last one may be unclosed."""
    return [(language.lower(), code) for _, language, code in _FENCED_BLOCK.findall(text)]


def strip_fence(text: str) -> str:
    """Return the content of a text that is one fenced block as a whole, otherwise the text."""
    first, _, rest = text.strip().partition("\n")
    marker = first[: len(first) - len(first.lstrip("`"))]
    body, _, last = rest.rpartition("\n")
    is_one = len(marker) >= 3 and last.strip() == marker
    if not is_one or any(line.strip() == marker for line in body.split("\n")):
        return text
    return body
