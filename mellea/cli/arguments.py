"""Arguments that commands share: the model, and `NAME=VALUE` pairs."""

from __future__ import annotations

import inspect
import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from mellea.errors import UsageError

__all__ = ["Model", "read_argument", "read_pipe", "read_text", "read_value", "split"]

Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        envvar="MELLEA_MODEL",
        metavar="PROVIDER/MODEL",
        help="The model; by default the embedded one.",
        show_default=False,
    ),
]


def split(what: str, given: str) -> tuple[str, str]:
    """Return the name and the value of `NAME=VALUE`.

    Args:
        what: the option that takes it, for errors.
        given: as the user wrote it.

    Raises:
        UsageError: it isn't of that form.
    """
    name, equals, value = given.partition("=")
    if not equals or not name:
        raise UsageError(f"{what} takes NAME=VALUE, not {given!r}")
    return name, value


def read_value(text: str) -> Any:
    """Return a value that was written as JSON; any other text is returned as it is."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def read_argument(name: str, text: str, kind: Any) -> Any:
    """Return an argument of a function, converted as its annotation requires.

    Args:
        name: the parameter, for errors.
        text: as the user wrote it: JSON or text.
        kind: the annotation; `inspect.Parameter.empty` if there is none.

    Raises:
        UsageError: it isn't a value of that type.
    """
    if kind in (inspect.Parameter.empty, Any):
        return read_value(text)
    if kind is str:
        return text
    from pydantic import PydanticUserError, TypeAdapter, ValidationError  # lazy: strings don't need it

    try:
        adapter = TypeAdapter(kind)
    except PydanticUserError:
        return read_value(text)  # a class of the program's own, which only the program can create
    try:
        return adapter.validate_python(read_value(text))
    except ValidationError as error:
        try:
            # Such as `12` for a `str | None`, which isn't meant as a number.
            return adapter.validate_python(text)
        except ValidationError:
            raise UsageError(f"{name} is not a valid {_show(kind)}: {_explain(error)}; got {text!r}") from None


def _show(kind: Any) -> str:
    return repr(kind.__name__ if isinstance(kind, type) and not hasattr(kind, "__args__") else str(kind))


def _explain(error: Any) -> str:
    """Return the first problem, and where in the value it is."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    # The path also contains the members of a union, which mean nothing to the user.
    place = ".".join(str(part) for part in first["loc"] if str(part).isidentifier() or isinstance(part, int))
    said = str(first["msg"])
    return f"{place}: {said}" if place else said


def read_pipe() -> str | None:
    """Return the piped input; `None` if stdin is a terminal or closed.

    Raises:
        UsageError: it isn't text.
    """
    # Some hosts provide none at all.
    if sys.stdin is None or sys.stdin.isatty():
        return None
    try:
        binary = getattr(sys.stdin, "buffer", None)
        # In some locales Python lets bytes through that aren't text, and then the request couldn't be written.
        return sys.stdin.read() if binary is None else binary.read().decode(sys.stdin.encoding, "strict")
    except UnicodeDecodeError as error:
        raise UsageError(f"the piped input isn't text: {error}; mellea ask -a FILE attaches other files") from None


def read_text(what: str, path: Path) -> str:
    """Return the text of a file.

    Args:
        what: the kind of file, for errors.
        path: the file.

    Raises:
        UsageError: it isn't text in UTF-8.
    """
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"{what} {str(path)!r} isn't text in UTF-8: {error}") from None
