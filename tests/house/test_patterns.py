"""No regular expression costs more than linear time, whatever a server, a model or a user says.

A new expression needs a line in `worst_inputs.py`: what would make it slow, a piece that is repeated.
"""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.house.patterns import Pattern, patterns
from tests.house.worst_inputs import WORST, Worst

LONG, SHORT = 64 * 1024, 16 * 1024
SECONDS = 0.5
"""Of processor time: a linear expression takes milliseconds, a quadratic one many seconds."""

GENERAL: tuple[Worst, ...] = tuple(("", piece, "\0") for piece in ("a", " ", "\n", "\\", '"', "[", "1", ".", "-", "a "))
"""What is tried with every expression, a quarter as long."""

MADE_OF_WORDS = {
    "pattern",
    "_make_pattern(word)",
    "'|'.join(pieces)",
    "f'\\\\{{\\\\{{-?\\\\s*{re.escape(name)}\\\\b'",
    "f'(?<!\\\\{{)\\\\{{{re.escape(unused)}\\\\}}'",
}
"""Expressions that the user writes, or that are made of words while the program runs."""


def _text(worst: Worst, length: int) -> str:
    before, piece, behind = worst
    return before + piece * (length // len(piece)) + behind


def _seconds(pattern: Pattern, method: str, text: Any) -> float:
    assert pattern.compiled is not None
    arguments: list[Any] = [*(["x"] if "sub" in method else []), text]
    if isinstance(pattern.compiled.pattern, bytes):
        arguments = [argument.encode() for argument in arguments]
    begun = time.thread_time()
    found = getattr(pattern.compiled, method)(*arguments)
    if method == "finditer":
        for _ in found:
            pass
    return time.thread_time() - begun


@pytest.mark.parametrize("pattern", patterns(), ids=lambda pattern: pattern.place)
def test_an_expression_is_linear_in_its_worst_input(pattern: Pattern) -> None:
    if pattern.compiled is None:
        assert pattern.source in MADE_OF_WORDS, f"{pattern.place}: an expression that can't be tried: {pattern.source}"
        return
    source = pattern.compiled.pattern
    worst = WORST.get(source if isinstance(source, str) else source.decode())
    assert worst, f"{pattern.place}: say in worst_inputs.py what would make {pattern.source} slow"
    inputs = [(each, LONG) for each in worst] + [(each, SHORT) for each in GENERAL]
    for each, length in inputs:
        for method in pattern.methods:
            took = _seconds(pattern, method, _text(each, length))
            assert took < SECONDS, f"{pattern.place}: {method} took {took:.1f} s on {each!r} repeated"
