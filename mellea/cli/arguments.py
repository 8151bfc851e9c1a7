"""Arguments that commands share: the model, and `NAME=VALUE` pairs."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from mellea.errors import UsageError

__all__ = ["Model", "read_value", "split"]

Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        envvar="MELLEA_MODEL",
        metavar="PROVIDER/MODEL",
        help="By default the embedded model.",
        show_default=False,
    ),
]


def split(what: str, given: str) -> tuple[str, str]:
    """Return the name and the value of `NAME=VALUE`.

    Args:
        what: what takes it, for errors.
        given: as the user wrote it.

    Raises:
        UsageError: it isn't of that form.
    """
    name, equals, value = given.partition("=")
    if not equals or not name:
        raise UsageError(f"{what} takes NAME=VALUE, not {given!r}")
    return name, value


def read_value(text: str) -> Any:
    """Return a value that was written as JSON; any other text stands for itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text
