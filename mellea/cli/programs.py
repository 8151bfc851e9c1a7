"""Things in a user's Python files, named as `FILE.py:NAME`."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any

from mellea.errors import UsageError

__all__ = ["find_programs", "load", "run_file"]


def load(named: str) -> Any:
    """Run a Python file and return what a name in it refers to.

    Args:
        named: as in `"people.py:Person"`, or `"people.py:list[Person]"`: the part after the colon is an expression.

    Raises:
        UsageError: there is no such file, or no such name in it.
    """
    path, colon, name = named.rpartition(":")
    if not colon or not path or not name:
        raise UsageError(f"{named!r} should be FILE.py:NAME, such as people.py:Person")
    module = run_file(Path(path))
    try:
        # The user's own file and command line; a type is often an expression, such as list[Person].
        return eval(name, vars(module))  # noqa: S307
    except NameError as error:
        raise UsageError(f"{path!r} doesn't define {error.name!r}{_suggest(module, error.name or name)}") from error
    except Exception as error:  # an expression can do anything
        raise UsageError(f"{name!r} fails in {path!r}: {type(error).__name__}: {error}") from error


def _suggest(module: ModuleType, missing: str) -> str:
    if near := get_close_matches(missing, vars(module), n=1):
        return f"; did you mean {near[0]!r}?"
    own = [name for name, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__]
    return f"; it has {', '.join(own)}" if own else ""


def run_file(path: Path) -> ModuleType:
    """Run a Python file, and return it as a module.

    Raises:
        UsageError: there is no such file, or it isn't Python.
    """
    if not path.is_file():
        near = path.with_name(f"{path.name}.py")
        hint = f"; did you mean {str(near)!r}?" if near.is_file() else ""
        raise UsageError(f"there is no file {str(path)!r}{hint}")
    name = path.stem if path.stem not in sys.modules else str(path.resolve())  # another module has that name
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    if spec is None or spec.loader is None:
        raise UsageError(f"{str(path)!r} isn't a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where dataclasses look up annotations
    sys.path.insert(0, str(path.resolve().parent))  # as in a script
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]  # a half-executed module
        if isinstance(error, SyntaxError):
            raise _explain(path, error) from error
        raise
    return module


def _explain(path: Path, error: SyntaxError) -> UsageError:
    # This may be in a file that this one imports. There are no frames of the program to show, because it never ran.
    place = repr(error.filename or str(path)) + (f", line {error.lineno}" if error.lineno else "")
    line = f": {error.text.strip()[:80]!r}" if error.text else ""
    return UsageError(f"{place} isn't valid Python: {error.msg}{line}")


def find_programs(file: str, kinds: tuple[type, ...], what: str) -> tuple[ModuleType, dict[str, Any]]:
    """Run a Python file, and return it with the programs that it serves, by name.

    Args:
        file: `FILE.py`, or `FILE.py:NAME,NAME` for only these, which may also be plain functions. By default the names
            in `__all__`, or else every public value of the given kinds.
        kinds: the classes whose instances are served without being named.
        what: the name of the kinds in errors.

    Raises:
        UsageError: there is nothing to serve, a name doesn't exist, or it can't be served.
    """
    path, _, named = file.partition(".py:")
    module = run_file(Path(f"{path}.py" if named else file))
    values = vars(module)
    names = [name.strip() for name in named.split(",")] if named else None
    found = {name: value for name, value in values.items() if not name.startswith("_") and isinstance(value, kinds)}
    chosen = names or getattr(module, "__all__", None)
    if chosen is not None:
        missing = next((name for name in chosen if name not in values), None)
        if missing is not None:
            known = ", ".join(found) or "nothing that can be served"
            raise UsageError(f"{module.__file__} doesn't define {missing!r}; it has {known}")
        found = {name: values[name] for name in chosen if names or _can_be_served(values[name], kinds)}
    if not found:
        raise UsageError(f"{module.__file__} has no {what}; name other functions, as in FILE.py:f")
    return module, found


def _can_be_served(value: Any, kinds: tuple[type, ...]) -> bool:
    return isinstance(value, kinds) or inspect.isroutine(value)
