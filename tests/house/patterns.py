"""The regular expressions of the package, found in its source, and how each of them is used."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tests.house.tree import PACKAGE, ROOT, python_files

METHODS = ("search", "match", "fullmatch", "split", "findall", "finditer", "sub", "subn")


@dataclass(frozen=True)
class Pattern:
    """One regular expression.

    Attributes:
        place: the file and, for a constant, its name.
        source: as it stands in the code.
        methods: those that it is used by in its file; all that search, if that can't be seen.
        compiled: the expression; `None` where the code makes it while it runs.
    """

    place: str
    source: str
    methods: tuple[str, ...]
    compiled: re.Pattern[Any] | None


@cache
def patterns() -> tuple[Pattern, ...]:
    return tuple(pattern for path in python_files(PACKAGE) for pattern in _in_file(path))


def _in_file(path: Path) -> Iterator[Pattern]:
    code = path.read_text("utf-8")
    # Parsing and walking takes milliseconds for each file, at every collection.
    if not re.search(r"(?<![\w.])re\.[a-z]+\(", code):
        return
    tree = ast.parse(code)
    used = _uses(tree)
    assigned = list(_assigned(tree))
    names = {id(call): target for call, target in assigned}
    constants = _constants(assigned)
    own = {target for _, target in assigned} | {"re"}
    handed_on = {each for name, methods in used.items() if name not in own for each in methods} - {"split"}
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        method = node.func.attr
        if ast.unparse(node.func.value) != "re" or method not in (*METHODS, "compile") or not node.args:
            continue
        name = names.get(id(node), "")
        # One that is handed on is used by what is called on some parameter.
        seen = {method} if method != "compile" else used.get(name) or handed_on or {"search", "finditer"}
        methods = tuple(sorted(seen))
        place = path.relative_to(ROOT).as_posix()
        source = ast.unparse(node.args[0])
        # One out of a dict stands for each that is in it.
        members = _members(node.args[0], constants)
        for member in members:
            yield Pattern(f"{place}:{member}", member, methods, _compiled(node, constants, repr(constants[member])))
        if not members:
            yield Pattern(f"{place}:{name or node.lineno}", source, methods, _compiled(node, constants, source))


def _members(source: ast.AST, constants: dict[str, Any]) -> list[str]:
    if not isinstance(source, ast.Subscript):
        return []
    return [name for name in constants if name.startswith(f"{ast.unparse(source.value)}[")]


def _compiled(node: ast.Call, constants: dict[str, Any], source: str) -> re.Pattern[Any] | None:
    flags = [arg for arg in node.args[1:] if re.match(r"re\.[A-Z]", ast.unparse(arg))]
    flags += [keyword.value for keyword in node.keywords if keyword.arg == "flags"]
    scope = {"re": re, **constants}
    try:
        pattern = eval(source, scope)
        value = 0
        for flag in flags:
            value |= eval(ast.unparse(flag), scope)
        return re.compile(pattern, value)
    except (NameError, AttributeError, TypeError):
        return None


def _assigned(tree: ast.AST) -> Iterator[tuple[ast.AST, str]]:
    """Yield what is assigned to a name, and the members of a dict that is."""
    for node in ast.walk(tree):
        if not isinstance(node, (ast.Assign, ast.AnnAssign)):
            continue
        target = node.targets[0] if isinstance(node, ast.Assign) else node.target
        if not isinstance(target, ast.Name) or node.value is None:
            continue
        yield node.value, target.id
        if isinstance(node.value, ast.Dict):
            for key, value in zip(node.value.keys, node.value.values, strict=True):
                yield value, f"{target.id}[{'' if key is None else ast.unparse(key)}]"


def _uses(tree: ast.AST) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.attr in METHODS:
            found.setdefault(node.value.id, set()).add(node.attr)
    return found


def _constants(assigned: Sequence[tuple[ast.AST, str]]) -> dict[str, Any]:
    """Return the texts among a module's constants, of which other patterns may be made."""
    found: dict[str, Any] = {}
    for value, name in assigned:
        try:
            found[name] = eval(ast.unparse(value), {"re": re, **found})
        except Exception:
            continue
    return {name: value for name, value in found.items() if isinstance(value, (str, bytes))}
