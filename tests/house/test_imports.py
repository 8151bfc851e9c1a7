"""Who imports whom: the contracts in pyproject.toml, and what they can't say."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.house.tree import PACKAGE, ROOT, module, name, needs_lint_group, parse, python_files, settings

OWNERS = {
    "asyncio": "mellea/core/runtime/loop.py",
    "trio": "mellea/core/runtime/loop.py",
    "httpcore": "mellea/backends/http/pool.py",
    "httpx": "mellea/backends/http/httpx_clients.py",
    "xllamacpp": "mellea/backends/llama_cpp/engine.py",
}
"""Packages that one file alone may name."""

PURE = {"encode.py", "decode.py", "wire.py"}
IMPURE = {"anyio", "asyncio", "httpx", "socket", "trio"}

FILES = python_files(PACKAGE)


def _imports(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """The modules that a file imports, wherever it does, and the lines."""
    for node in ast.walk(tree):
        yield from _imported(node)


def _imported(node: ast.AST) -> list[tuple[str, int]]:
    if isinstance(node, ast.Import):
        return [(alias.name, node.lineno) for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        source = "." * node.level + (node.module or "")
        return [(f"{source}.{alias.name}", node.lineno) for alias in node.names]
    return []


@cache
def _names(path: Path) -> list[tuple[str, int]]:
    """The same, and what is imported by a text: `import_module("x")`, `sys.modules["x"]`."""
    return [found for node in ast.walk(parse(path)) for found in (*_imported(node), *_texts(node))]


def _texts(node: ast.AST) -> list[tuple[str, int]]:
    if isinstance(node, ast.Call) and _last_name(node.func).endswith(("import_module", "__import__")):
        texts = node.args[:1]
    elif isinstance(node, ast.Subscript) and _last_name(node.value).endswith("modules"):
        texts = [node.slice]
    else:
        return []
    return [(str(text.value), text.lineno) for text in texts if isinstance(text, ast.Constant)]


def _last_name(node: ast.expr) -> str:
    """Return `c` of `a.b.c`."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def test_the_contracts_of_import_linter_hold() -> None:
    needs_lint_group("importlinter")
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as run; run()", "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_room_has_its_layer() -> None:
    contracts = settings()["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["id"] == "layers")
    placed = {room.strip(" ()") for layer in layers for room in layer.split("|")}
    rooms = {module(path) for folder in (PACKAGE, PACKAGE / "stdlib") for path in _rooms(folder)}
    missing = rooms - placed - {"mellea.stdlib"}
    assert not missing, f"say in pyproject.toml, in the contract 'layers', where these stand: {missing}"


def _rooms(folder: Path) -> list[Path]:
    """The modules of a folder, and its folders by their front doors."""
    return [path for path in FILES if folder == (path.parent.parent if path.name == "__init__.py" else path.parent)]


NAMES_ALL = {
    "mellea/__init__.py": "the front door is above all rooms",
    "mellea/_mellea_08.py": "the table of Mellea 0.8's names",
    "mellea/core/backend.py": "one method of Mellea 0.8's backends, which was a verb",
}
"""Files that name modules of higher layers, and why."""


def test_no_file_names_a_module_of_a_higher_layer() -> None:
    contracts = settings()["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["id"] == "layers")
    ranks = {room.strip(" ()"): rank for rank, layer in enumerate(layers) for room in layer.split("|")}
    modules = {module(path) for path in FILES}

    def find_rank(named: str) -> int:
        return ranks[max((room for room in ranks if f"{named}.".startswith(f"{room}.")), key=len)]

    found = [
        f"{name(path)}:{node.lineno} {node.value}"
        for path in FILES
        if name(path) not in NAMES_ALL and module(path) != "mellea.stdlib"
        for node in ast.walk(parse(path))
        if isinstance(node, ast.Constant) and node.value in modules - {"mellea", "mellea.stdlib"}
        if find_rank(str(node.value)) < find_rank(module(path))
    ]
    assert not found, f"a module is named by those above it, as register_kind is called by the front door: {found}"


@pytest.mark.parametrize("package", OWNERS)
def test_only_one_file_names(package: str) -> None:
    found = [
        f"{name(path)}:{line}"
        for path in FILES
        if name(path) != OWNERS[package]
        for imported, line in _names(path)
        if imported.split(".")[0] == package
    ]
    assert not found, f"only {OWNERS[package]} names {package}: {found}"


def test_codecs_import_no_io() -> None:
    found = [
        f"{name(path)}:{line} {imported}"
        for path in FILES
        if path.name in PURE
        for imported, line in _imports(parse(path))
        if imported.split(".")[0] in IMPURE
    ]
    assert not found, f"a codec turns requests into payloads and bytes into events, and does no I/O: {found}"


SWITCHES = (PACKAGE / "__init__.py", PACKAGE / "traces.py")


def test_no_other_room_imports_telemetry() -> None:
    found = [
        f"{name(path)}:{line}"
        for path in FILES
        if not any(path.is_relative_to(PACKAGE / room) for room in ("cli", "telemetry")) and path not in SWITCHES
        for imported, line in _imports(parse(path))
        if imported.startswith("mellea.telemetry")
    ]
    assert not found, f"telemetry hangs on core/observer.py and is switched on by the user: {found}"


def test_a_local_import_says_why() -> None:
    found = []
    for path in FILES:
        lines = path.read_text("utf-8").splitlines()
        functions = (node for node in ast.walk(parse(path)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
        for line in sorted({line for function in functions for _, line in _imports(function)}):
            why = (lines[line - 2] + lines[line - 1]).partition("#")[2].lower()
            if "lazy" not in why and "optional" not in why:
                found.append(f"{name(path)}:{line}")
    assert not found, (
        "an import inside a function is there for an optional dependency or a lazy one, and a comment on its line or "
        f"the line above says so; an import cycle is mended, not hidden: {found}"
    )


def test_imports_are_absolute() -> None:
    found = [
        f"{name(path)}:{line}" for path in FILES for imported, line in _imports(parse(path)) if imported.startswith(".")
    ]
    assert not found, f"write the whole name of the module: {found}"


AT_HOME = ("tests.house", "tests.docs", "tests.typing", "tests.web", "benchmarks", "docs")
"""What isn't there where the wheel is tested."""


def test_tests_of_the_wheel_import_nothing_that_stays_in_the_checkout() -> None:
    stays = tuple(ROOT / "tests" / folder for folder in ("house", "docs", "typing", "web"))
    found = [
        f"{name(path)}:{line}"
        for path in python_files(ROOT / "tests")
        if not any(path.is_relative_to(folder) for folder in stays)
        for imported, line in _names(path)
        if imported.startswith(tuple(f"{each}." for each in AT_HOME)) or imported in AT_HOME
    ]
    assert found == []
