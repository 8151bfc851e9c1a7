"""What the package says to its users: errors that are raised, in plain English."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.house.tree import PACKAGE, name, parse, python_files

_STILTED = re.compile(
    r"\bis (?:no|none) (?:of )?(?:['\"\0]|them\b|a\b|an\b)|\bthe answer is no |\b(?:which|that) is no "
)


def test_the_package_asserts_nothing() -> None:
    # `python -O` drops them, and an AssertionError tells a user neither what happened nor what to do.
    found = [
        f"{name(path)}:{node.lineno}"
        for path in python_files(PACKAGE)
        for node in ast.walk(parse(path))
        if isinstance(node, ast.Assert)
    ]
    assert not found, f"raise an error that says what to do, or have the types say it: {found}"


def test_messages_say_isnt_a_valid_not_is_no() -> None:
    found = [
        f"{name(path)}:{line}: {text!r}"
        for path in python_files(PACKAGE)
        for line, text in _texts(path)
        if _STILTED.search(text)
    ]
    assert not found, f"write 'X is not a valid Y', 'X is not one of …' or 'there is no …': {found}"


def _texts(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the texts in a file that aren't docstrings, with `\\0` for each value that is filled in."""
    inside: set[int] = set()
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            inside.add(id(node.value))
        elif isinstance(node, ast.JoinedStr):
            inside.update(id(part) for part in node.values)
            yield (
                node.lineno,
                "".join([str(part.value) if isinstance(part, ast.Constant) else "\0" for part in node.values]),
            )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside:
            yield node.lineno, node.value
