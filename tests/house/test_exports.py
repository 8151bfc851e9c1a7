"""Front doors: each room's `__init__` says what it holds, and exports a sorted list of names that exist."""

from __future__ import annotations

import ast
import importlib
import re
from itertools import takewhile
from pathlib import Path

import pytest

from mellea.errors import MissingExtraError
from tests.house.tree import PACKAGE, ROOT, module, name, python_files

DOORS = [path for path in python_files(PACKAGE) if path.name == "__init__.py"]
FOLDERS = sorted({path.parent for path in python_files(PACKAGE)})

READ_FIRST = re.compile(r"\bRead\s+`([^`]+)`")


@pytest.mark.parametrize("folder", FOLDERS, ids=name)
def test_a_room_has_a_front_door(folder: Path) -> None:
    assert (folder / "__init__.py").is_file(), f"{name(folder)} has no __init__.py"


@pytest.mark.parametrize("door", DOORS, ids=name)
def test_a_front_door_says_what_lives_there(door: Path) -> None:
    text = door.read_text("utf-8")
    docstring = ast.parse(text).body[0]
    purpose, _, _ = (ast.get_docstring(ast.parse(text)) or "").partition("\n\n")
    assert purpose.endswith(".") and "\n" not in purpose, "its docstring opens with one sentence on what lives here"
    # For those who work on the room, not for those who read `help()` and the reference: a comment.
    below = text.splitlines()[docstring.end_lineno :]
    note = " ".join(line.removeprefix("# ") for line in takewhile(str.strip, below[1:]) if line.startswith("# "))
    assert re.search(r"\bimports?\b", note), "a comment below its docstring says what this room may import"
    first = READ_FIRST.search(note)
    assert first, "that comment says which file to read first: Read `file.py` first"
    file = first[1]
    assert (door.parent / file).is_file() or (ROOT / file).is_file(), f"there is no file {file!r} to read first"


def _exported(door: Path) -> list[str]:
    for node in ast.parse(door.read_text("utf-8")).body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets):
            names = ast.literal_eval(node.value)  # type: ignore[attr-defined]
            assert isinstance(names, list), "__all__ is a plain list of names"
            return names
    pytest.fail("it has no __all__")


def _rank(exported: str) -> tuple[int, str]:
    """Constants, then classes, then the rest: the order that ruff keeps."""
    return (0 if exported.isupper() else 1 if exported[:1].isupper() else 2), exported


@pytest.mark.parametrize("door", DOORS, ids=name)
def test_a_front_door_exports_a_sorted_list_of_names_that_exist(door: Path) -> None:
    exported = _exported(door)
    assert exported == sorted(set(exported), key=_rank)
    try:
        room = importlib.import_module(module(door))
        missing = [exported_name for exported_name in exported if not hasattr(room, exported_name)]
    except MissingExtraError as error:
        pytest.skip(f"an optional dependency of this room isn't installed: {error}")
    assert not missing, f"{module(door)}.__all__ names what isn't there: {missing}"


@pytest.mark.parametrize("door", DOORS, ids=name)
def test_no_name_of_a_front_door_is_also_a_module_in_it(door: Path) -> None:
    """Whoever imports the module first would make the name mean the module, for everybody."""
    homes = re.findall(r'^        "(\w+)": "(\w[\w.]*)",$', door.read_text("utf-8"), re.MULTILINE)
    taken = [
        given
        for given, _ in homes
        if (door.parent / given / "__init__.py").is_file() or (door.parent / f"{given}.py").is_file()
    ]
    assert not taken, f"{taken} are loaded at their first use, and modules of that name are there, too"
