"""Requirements on the form of an output in Markdown: lists and tables, by GitHub Flavored Markdown 0.29."""

from __future__ import annotations

import re

from mellea.core.requirement import Requirement, ValidationResult
from mellea.errors import UsageError
from mellea.stdlib.requirements.fences import unfenced
from mellea.stdlib.requirements.shorthand import simple_validate

__all__ = ["markdown_list", "markdown_table"]

_ITEM = re.compile(r"(?P<indent> *)(?:(?P<bullet>[-*+])|(?P<number>\d{1,9})[.)])(?: +\S|\t)")
_DELIMITER = re.compile(r"\|?(?: *:?-+:? *\|)+(?: *:?-+:? *)?|\| *:?-+:? *\|?")


def markdown_list(
    *,
    ordered: bool | None = None,
    min_items: int = 1,
    max_items: int | None = None,
    description: str | None = None,
    check_only: bool = False,
) -> Requirement:
    """Make a requirement that the output is a Markdown list and nothing else.

    An item may go on over several lines, if they are indented, and have items of its own, which aren't counted.

    Args:
        ordered: whether the items are numbered; both will do by default.
        min_items: how many at least.
        max_items: how many at most.
        description: says it in the prompt, in place of the default.
        check_only: keep it out of the prompt.

    Raises:
        UsageError: a number is none.
    """
    _check_range("items", min_items, max_items)

    def validate(text: str) -> ValidationResult:
        count = 0
        for line in unfenced(text).split("\n"):
            item = _ITEM.match(line)
            if item is None or item["indent"]:
                if line.strip() and (count == 0 or not line.startswith((" ", "\t"))):
                    return ValidationResult(False, f"{_shown(line)} is no item of a list")
                continue
            count += 1
            if ordered is not None and (item["number"] is not None) is not ordered:
                return ValidationResult(False, f"{_shown(line)} is {'not ' if ordered else ''}numbered")
        met = min_items <= count and (max_items is None or count <= max_items)
        return ValidationResult(met, f"it has {_many(count, 'item')}")

    kind = {None: "", True: "numbered ", False: "bulleted "}[ordered]
    said = f"Answer with a {kind}Markdown list{_range('item', min_items, max_items)}, and nothing else."
    return Requirement(description or said, simple_validate(validate), check_only)


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
        columns: how many columns; any number by default.
        min_rows: how many rows at least, without the head.
        max_rows: how many at most.
        description: says it in the prompt, in place of the default.
        check_only: keep it out of the prompt.

    Raises:
        UsageError: a number is none.
    """
    _check_range("rows", min_rows, max_rows)
    _check_range("columns", columns if columns is not None else 1, None)

    def validate(text: str) -> ValidationResult:
        lines = [line.strip() for line in unfenced(text).strip().split("\n")]
        if len(lines) < 2 or _DELIMITER.fullmatch(lines[1]) is None:
            return ValidationResult(False, "its second line isn't the one of dashes, as in | --- | --- |")
        head = len(_cells(lines[0]))
        for line in lines:
            if "|" not in line or len(_cells(line)) != head:
                return ValidationResult(False, f"{_shown(line)} is no row of {_many(head, 'cell')}")
        rows = len(lines) - 2
        met = min_rows <= rows and (max_rows is None or rows <= max_rows) and columns in (None, head)
        return ValidationResult(met, f"it has {_many(head, 'column')} and {_many(rows, 'row')}")

    width = "" if columns is None else f" of {_many(columns, 'column')}"
    said = f"Answer with a Markdown table{width}{_range('row', min_rows, max_rows)}, and nothing else."
    return Requirement(description or said, simple_validate(validate), check_only)


def _cells(line: str) -> list[str]:
    inner = re.sub(r"(?<!\\)\|$", "", line.removeprefix("|"))
    return re.split(r"(?<!\\)\|", inner)


def _shown(line: str) -> str:
    return repr(line.strip() if len(line) <= 60 else line.strip()[:60] + "…")


def _many(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _range(noun: str, least: int, most: int | None) -> str:
    if most is None:
        return f" of at least {_many(least, noun)}" if least > 1 else ""
    if least == most:
        return f" of exactly {_many(most, noun)}"
    return f" of at most {_many(most, noun)}" if least <= 1 else f" of {least} to {_many(most, noun)}"


def _check_range(name: str, least: int, most: int | None) -> None:
    for value in (least, most):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
            raise UsageError(f"the number of {name} takes a whole number from 0, not {value!r}")
    if most is not None and least > most:
        raise UsageError(f"{least} {name} at least can't go with {most} at most")
