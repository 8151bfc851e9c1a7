"""Arguments that are declared once, as the keys of a dict: what signatures and docstrings say of them.

A function takes them as `**arguments: Unpack[…Arguments]`. The type of a key carries the line that `help` shows, and
the default where that isn't `None`. A module that declares such a dict can't postpone its annotations.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from types import UnionType
from typing import Any, ForwardRef, Literal, TypeVar, Union, get_args, get_origin, is_typeddict

__all__ = ["Default", "document", "list_lines"]

F = TypeVar("F", bound=Callable[..., Any])


class Default:
    """A default that is made further up, shown in signatures by its name.

    Args:
        name: its name in `mellea.stdlib.functional`.
    """

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name


def document(arguments: type, shared: Mapping[str, str] = {}) -> Callable[[F], F]:
    """Make a decorator that gives a function the signature and the docstring with all declared arguments.

    Args:
        arguments: the dict that declares what the function takes as `**arguments`.
        shared: the lines of parameters in its own signature, by name.

    Raises:
        TypeError: `arguments` is not a `TypedDict`.
    """
    if not is_typeddict(arguments):
        raise TypeError(f"arguments are declared in a TypedDict, not in {arguments!r}")
    parameters, lines = _read_declaration(arguments)

    def decorate(function: F) -> F:
        signature = inspect.signature(function)
        own = [
            parameter.replace(annotation=_as_written(parameter.annotation))
            for parameter in signature.parameters.values()
            # `**arguments` itself isn't shown where its keys are.
            if parameter.kind is not _REST or not lines
        ]
        known = {parameter.name: line for parameter in own if (line := shared.get(parameter.name)) is not None}
        function.__signature__ = signature.replace(  # type: ignore[attr-defined]
            parameters=[*own, *parameters], return_annotation=_as_written(signature.return_annotation)
        )
        function.__doc__ = _with_lines(function.__doc__, {**known, **lines})
        return function

    return decorate


_REST = inspect.Parameter.VAR_KEYWORD


@functools.cache
def _read_declaration(arguments: type) -> tuple[list[inspect.Parameter], dict[str, str]]:
    """Return the parameters of declared arguments, and the line of each."""
    declared: Mapping[str, Any] = arguments.__annotations__
    parameters = [_make_parameter(name, kind) for name, kind in declared.items()]
    return parameters, {name: kind.__metadata__[0] for name, kind in declared.items()}


def _make_parameter(name: str, declared: Any) -> inspect.Parameter:
    # The dicts are `total=False`: a default describes what the function does without the key, and is only used in
    # signatures.
    default = declared.__metadata__[1] if len(declared.__metadata__) > 1 else None
    shown = _AsWritten(_write(declared.__origin__))
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=shown)


class _AsWritten(str):
    """A type as the source has it, which signatures show without quotation marks."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def _as_written(annotation: Any) -> Any:
    return _AsWritten(annotation) if isinstance(annotation, str) else annotation


_ALIASES: Sequence[tuple[Any, str]] = ((Any, "Any"), (type(None), "None"), (..., "..."))


def _write(annotation: Any) -> str:
    """Return a type in a few words: by the names that our modules give it, without those of the modules."""
    # Compared before it is taken apart, or a union would be shown member by member.
    for alias, name in _ALIASES:
        if annotation is alias or annotation == alias:
            return name
    if isinstance(annotation, ForwardRef):  # of an alias, or of classes that are loaded lazily
        return annotation.__forward_arg__
    kind, parts = get_origin(annotation), get_args(annotation)
    if kind is Literal:
        return f"Literal[{', '.join(map(repr, parts))}]"
    if kind in (Union, UnionType):
        return " | ".join(map(_write, parts))
    name = getattr(kind or annotation, "__name__", str(annotation))
    return f"{name}[{', '.join(map(_write, parts))}]" if parts else name


def list_lines(arguments: type) -> dict[str, str]:
    """Return the line of each declared argument."""
    return _read_declaration(arguments)[1]


def _with_lines(doc: str | None, lines: Mapping[str, str]) -> str | None:
    """Add a line for each argument to a docstring, but for those that it explains itself."""
    if doc is None:  # as under `python -OO`
        return None
    text, raises, rest = inspect.cleandoc(doc).partition("\nRaises:\n")
    text = text.rstrip()
    title = "" if "\nArgs:\n" in text else "\n\nArgs:"
    more = [f"\n    {name}: {line}" for name, line in lines.items() if f"\n    {name}: " not in text]
    return "".join([text, title if more else "", *more, f"\n{raises}{rest}" if raises else ""])
