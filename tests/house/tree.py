"""The checkout as the house tests see it: its files, its modules, its settings."""

from __future__ import annotations

import ast
import subprocess
import tomllib
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "mellea"


@cache
def files() -> tuple[Path, ...]:
    """Every file that is, or would be, under version control."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listing = subprocess.run(command, cwd=ROOT, capture_output=True) if (ROOT / ".git").exists() else None
    if listing is not None and listing.returncode == 0:
        paths = [ROOT / name for name in listing.stdout.decode().split("\0") if name]
    else:
        paths = [path for path in ROOT.rglob("*") if not _is_made(path.relative_to(ROOT))]
    return tuple(sorted(path for path in paths if path.is_file()))


def _is_made(path: Path) -> bool:
    """Whether a tool made the file; asked where there is no git to know."""
    return any(part in {"__pycache__", "build", "dist"} or part.startswith(".") for part in path.parts)


def python_files(folder: Path) -> list[Path]:
    return [path for path in files() if path.suffix == ".py" and path.is_relative_to(folder)]


@cache
def parse(path: Path) -> ast.Module:
    """Return the syntax tree of a file, which several tests look at; nobody changes it."""
    return ast.parse(path.read_text("utf-8"))


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def module(path: Path) -> str:
    """The dotted name of a file of the package."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@cache
def settings() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def needs_lint_group(tool: str) -> None:
    if find_spec(tool) is None:
        pytest.skip(f"{tool} isn't installed; `uv sync --group lint` brings it, and `scripts/check` runs it too")
