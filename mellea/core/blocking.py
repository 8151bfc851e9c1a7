"""Synchronous verbs that take a `format`."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

from mellea.core.runtime import portal

__all__ = ["blocking"]

P = ParamSpec("P")
R = TypeVar("R")


def blocking(verb: Callable[P, Coroutine[Any, Any, R]]) -> Callable[P, R]:
    """Make the synchronous twin of an async verb, as `portal.blocking` does, and read its `format` first."""
    return portal.blocking(verb, _read_format)


def _read_format(arguments: dict[str, Any]) -> None:
    # In the caller's thread: annotations may name classes that only the calling function knows.
    if arguments.get("format") is not None:
        from mellea.core.structured.output_format import make_output_format  # lazy: plain text needs no pydantic

        arguments["format"] = make_output_format(arguments["format"])
