"""Every regular expression that reads an answer costs linear time, tried with its worst inputs."""

from __future__ import annotations

import importlib
import pkgutil
import re
import time
from functools import partial

import pytest

import mellea.core.structured as room
from mellea.core.structured.extract import read_candidates

KIB = 1024
UNITS = [
    '"',
    '\\"',
    "\\",
    "`",
    "```",
    "``",
    "{",
    "[",
    "{ ",
    "[\n",
    " ",
    "\n",
    "1",
    "1.",
    "1e",
    "-",
    "1,",
    "a",
    "a.",
    "_",
    ",",
]
UNITS += [
    '{"value"',
    '{"value": ',
    '{"v',
    '"a"',
    '"a":',
    '"a": ',
    "tru",
    "true",
    "\\u12",
    "\\ud83d",
    "\ufeff",
    '["x',
    "]",
    ".",
]
STARTS = ["", '"', "```json\n", "{", '{"value":', "[", "x", "1", "\ufeff"]


def patterns() -> list[tuple[str, re.Pattern[str]]]:
    found: list[tuple[str, re.Pattern[str]]] = []
    for module in pkgutil.iter_modules(room.__path__):
        names = vars(importlib.import_module(f"{room.__name__}.{module.name}"))
        own = [(name, value) for name, value in names.items() if isinstance(value, re.Pattern)]
        found += [(f"{module.name}.{name}", value) for name, value in own if isinstance(value.pattern, str)]
    return found


PATTERNS = patterns()


SEARCHED = {"candidate._BRACKET", "candidate._BRACKET_OR_QUOTE", "wrapped._BRACKET"}
SEARCHED |= {"extract._FENCED", "extract._NUMBER", "extract._OPENING", "item_chunker._PIECE"}
"""Those that are searched for in a text; the others are only matched where the text has been read to."""


def seconds(pattern: re.Pattern[str], text: str, *, is_searched: bool) -> float:
    started = time.process_time()
    pattern.match(text)
    pattern.fullmatch(text)
    if is_searched:
        for _ in pattern.finditer(text):
            pass
    return time.process_time() - started


@pytest.mark.parametrize(("name", "pattern"), PATTERNS, ids=[name for name, _ in PATTERNS])
def test_each_regular_expression_is_linear_in_a_long_text(name: str, pattern: re.Pattern[str]) -> None:
    cost = partial(seconds, pattern, is_searched=name in SEARCHED)
    for start in STARTS:
        for unit in UNITS:
            text = start + unit * (16 * KIB // len(unit))
            if cost(text) > 0.02:  # then see how it grows
                long = start + unit * (64 * KIB // len(unit))
                few = min(cost(text) for _ in range(3))
                assert min(cost(long) for _ in range(2)) < 9 * few + 0.02, (start, unit)


def test_numbers_and_texts_among_prose_are_found_in_linear_time() -> None:
    def cost(text: str) -> float:
        started = time.process_time()
        for _ in read_candidates(text, {"type": "integer"}):
            list(_)
        return time.process_time() - started

    for unit in UNITS:
        few, many = (min(cost('"' + unit * (size * KIB // len(unit))) for _ in range(3)) for size in (16, 64))
        assert many < 9 * few + 0.05, unit
