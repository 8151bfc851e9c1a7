"""The examples are found and run by what is written about them: their docstrings, the index, the page of outputs."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest

from docs.site import outputs
from tests.docs.fences import ROOT, fences
from tests.docs.programs import EXAMPLES

PROGRAMS = sorted([*outputs.list_programs(), *outputs.SILENT])
INDEX = EXAMPLES / "README.md"


@pytest.mark.parametrize("name", PROGRAMS)
def test_an_example_says_how_to_run_it_and_what_it_needs(name: str) -> None:
    """First its purpose, then the command and the needs, each in a line of its own, so that they can be copied."""
    purpose, how, *_ = _read_docstring(name).split("\n\n")
    assert purpose.strip()
    run_it, needs = how.split("\n")
    assert run_it.startswith("Run it: uv run ")
    assert re.fullmatch(r"Needs: \S.*[^.]", needs)


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_command_of_an_example_runs_that_example(name: str) -> None:
    words = outputs.read_command(name).split()
    if "uvicorn" in words:
        folder, app = words[words.index("--app-dir") + 1 :]
        path = f"{folder}/{app.removesuffix(':app')}.py"
        assert re.search(r"^app = ", (ROOT / path).read_text("utf-8"), re.MULTILINE)
    else:
        (path,) = (word for word in words if word.endswith(".py"))
    assert path == f"docs/examples/{name}"
    assert ("pytest" in words) == Path(name).name.startswith("test_")


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_command_of_an_example_installs_what_it_imports(name: str) -> None:
    """What isn't in every checkout comes with a group that the command names."""
    command = outputs.read_command(name)
    available = _find_packages("dev", "local", *re.findall(r"--group (\S+)", command))
    used = {package for package in _find_imports(name) if package not in ("mellea", "pydantic")}
    used |= {word for word in command.split() if word in ("pytest", "uvicorn")}
    assert used <= available
    needs = outputs.read_needs(name)
    assert not [package for package in used if not re.search(rf"\b{package}\b", needs)]


def test_the_index_has_each_example_once_and_says_what_one_learns() -> None:
    rows = re.findall(r"^\| \[`([\w.]+)`\]\((\S+)\) \| (.+) \|$", INDEX.read_text("utf-8"), re.MULTILINE)
    assert sorted(path for _, path, _ in rows) == PROGRAMS
    assert all(path.endswith(name) and learned[0].islower() for name, path, learned in rows)


def test_the_index_goes_from_the_first_text_to_other_libraries() -> None:
    tasks = re.findall(r"^## (.*)", INDEX.read_text("utf-8"), re.MULTILINE)
    assert tasks == [
        "First text",
        "Typed values",
        "Checking and repairing",
        "Tools and agents",
        "On the web",
        "Many rows and long jobs",
        "Tracing",
        "Testing and evaluation",
        "Coming from another library",
        "Commands that are different",
        "See also",
    ]


def test_the_index_has_every_command_that_is_more_than_uv_run_and_the_path() -> None:
    shown = {line for fence in fences(INDEX) if fence.language == "bash" for line in fence.code.splitlines()}
    commands = {name: outputs.read_command(name) for name in PROGRAMS}
    different = {command for name, command in commands.items() if command != f"uv run docs/examples/{name}"}
    assert shown == different | {commands["streaming/basic_streaming.py"]}


def test_the_page_of_outputs_shows_the_command_of_each_example() -> None:
    for name, printed in outputs.read_outputs().items():
        assert printed.startswith(f"$ {outputs.show_command(name)}\n"), name


def _read_docstring(name: str) -> str:
    return ast.get_docstring(ast.parse((EXAMPLES / name).read_text("utf-8"))) or ""


def _find_imports(name: str) -> set[str]:
    """Name what an example imports from elsewhere, as packages are called; `mellea[mcp]` is one of them."""
    found = set()
    for node in ast.walk(ast.parse((EXAMPLES / name).read_text("utf-8"))):
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            modules = [node.module or ""]
            found |= {"mcp"} & {alias.name for alias in node.names}  # from mellea.serve, from mellea.tools
        found |= {module.partition(".")[0] for module in modules}
    beside = {path.stem for path in (EXAMPLES / name).parent.glob("*.py")}
    return {module.replace("_", "-") for module in found - beside - sys.stdlib_module_names}


def _find_packages(*groups: str) -> set[str]:
    """Name the packages of dependency groups, and of the extras of mellea that are in them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    found: set[str] = set()
    for group in groups:
        wanted = list(project["dependency-groups"][group])
        while wanted:
            requirement = wanted.pop()
            package, extras = re.match(r"([\w.-]+)(?:\[([\w,]+)\])?", requirement).groups()  # type: ignore[union-attr]
            found.add(package)
            for extra in (extras or "").split(",") if package == "mellea" and extras else ():
                wanted += project["project"]["optional-dependencies"][extra]
    return found
