"""Resolve the annotations of a class, in its module and in the function that defines it.

A class that a function defines may refer to its neighbours by name only (`from __future__ import annotations`, forward
references). Python keeps those names nowhere but in the function's own frame, so they are looked up on the stack of the
thread that hands the class over, while that function still runs. A synchronous verb therefore reads its `format` before
it hands the work to its thread.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from types import FrameType
from typing import Any, ForwardRef, Self, TypeVar, get_args, get_origin, get_type_hints

from mellea.errors import UsageError

__all__ = [
    "complete_class",
    "find_local_names",
    "get_class_annotations",
    "get_generic_annotations",
    "is_alias",
    "is_typed_dict",
    "resolve_alias",
    "resolve_annotation",
]

_BETWEEN = frozenset({"anyio", "mellea", "pydantic", "pydantic_core", "trio"})
"""Packages whose frames lie between the user's code and this module."""


def is_typed_dict(kind: Any) -> bool:
    """Whether a type is a TypedDict, from `typing` or `typing_extensions`."""
    return isinstance(kind, type) and issubclass(kind, dict) and hasattr(kind, "__total__")


def get_class_annotations(kind: type) -> dict[str, Any]:
    """Return the resolved annotations of a class and its parents, including `Annotated` and `NotRequired`.

    Raises:
        UsageError: a name can't be found.
    """
    try:
        return get_type_hints(kind, localns=find_local_names(kind), include_extras=True)
    except NameError as error:
        raise _make_unknown_name_error(kind.__name__, error) from error.with_traceback(None)


def get_generic_annotations(kind: Any) -> dict[str, Any]:
    """Return the resolved annotations of a class; for `Box[int]` the type variables are replaced.

    Raises:
        UsageError: a name can't be found.
    """
    given = _collect_arguments(kind)
    return {
        name: _substitute(hint, given, kind) for name, hint in get_class_annotations(get_origin(kind) or kind).items()
    }


def _collect_arguments(kind: Any) -> dict[Any, Any]:
    """Return the arguments for the type variables of a generic class and of its generic parents."""
    origin = get_origin(kind) or kind
    given: dict[Any, Any] = dict(zip(getattr(origin, "__parameters__", ()), get_args(kind), strict=False))
    for parent in getattr(origin, "__orig_bases__", ()):
        for variable, value in _collect_arguments(parent).items() if get_args(parent) else ():
            # The class's own arguments take precedence over those that it passes to its bases.
            given.setdefault(variable, given.get(value, value) if isinstance(value, TypeVar) else value)
    return given


def _substitute(hint: Any, given: Mapping[Any, Any], kind: Any) -> Any:
    if hint is Self:
        return kind
    if isinstance(hint, TypeVar):
        return given.get(hint, hint)
    parameters = getattr(hint, "__parameters__", ())
    if given and parameters and not isinstance(hint, type):
        return hint[tuple(given.get(parameter, parameter) for parameter in parameters)]
    return hint


def is_alias(kind: Any) -> bool:
    """Whether a type is an alias: `type X = …`, a `TypeAliasType`, or a generic alias with arguments."""
    # By name, because Python 3.11 has no such class, and typing_extensions has its own.
    return type(get_origin(kind) or kind).__name__ == "TypeAliasType"


def resolve_alias(kind: Any) -> Any:
    """Return the type that an alias stands for.

    Raises:
        UsageError: a name in it can't be found.
    """
    alias = get_origin(kind) or kind
    try:
        value = alias.__value__
    except NameError as error:
        raise _make_unknown_name_error(alias.__name__, error) from error.with_traceback(None)
    # An alias is resolved where it is defined; `sys` takes the place of a module that is gone.
    names = vars(sys.modules.get(alias.__module__, sys))
    holder = type("_", (), {"__annotations__": {"it": value}})
    try:
        # `get_type_hints` is the only public way to resolve forward references, and it wants a class.
        value = get_type_hints(holder, {**_get_caller_names(), **names}, include_extras=True)["it"]
    except NameError as error:
        raise _make_unknown_name_error(alias.__name__, error) from error.with_traceback(None)
    return _substitute(value, dict(zip(alias.__type_params__, get_args(kind), strict=False)), kind)


def complete_class(kind: Any) -> Any:
    """Rebuild a pydantic class whose annotations weren't resolvable when it was defined, and return it."""
    if getattr(kind, "__pydantic_complete__", True) is False:
        if hasattr(kind, "model_rebuild"):
            # Silently: the code that needs the type reports a name that is still missing.
            kind.model_rebuild(raise_errors=False, _types_namespace=find_local_names(kind))
        else:
            from pydantic.dataclasses import rebuild_dataclass  # lazy: such a class comes from there

            rebuild_dataclass(kind, raise_errors=False, _types_namespace=find_local_names(kind))
    return kind


def resolve_annotation(annotation: str | ForwardRef) -> Any:
    """Resolve an annotation written as text outside a class.

    Raises:
        UsageError: a name can't be found.
    """
    holder = type("_", (), {"__annotations__": {"it": annotation}})
    try:
        return get_type_hints(holder, globalns=_get_caller_names(), include_extras=True)["it"]
    except NameError as error:
        raise _make_unknown_name_error(str(annotation), error) from error.with_traceback(None)


def find_local_names(kind: type) -> dict[str, Any]:
    """Return the names a class can refer to besides its module's: its own, and locals of the functions around it.

    Code that was passed to `exec` with its own namespace, such as a documentation example, has no module; its globals
    are included.
    """
    outer = kind.__qualname__.split(".<locals>.")[:-1]
    functions = {".<locals>.".join(outer[: count + 1]) for count in range(len(outer))}
    module = getattr(sys.modules.get(kind.__module__), "__dict__", None)
    names: dict[str, Any] = {}
    namespace: dict[str, Any] = {}
    for frame in _iterate_frames():  # the innermost first, so that its names win
        # A function of another module may have an unrelated local of the same name.
        if frame.f_globals.get("__name__") != kind.__module__:
            continue
        if frame.f_globals is not module:
            namespace = namespace or frame.f_globals
        if frame.f_code.co_qualname in functions:
            names = {**frame.f_locals, **names}
    # Its own name last, since a class may refer to itself before it is assigned to anything.
    return {**namespace, **names, kind.__name__: kind}


def _iterate_frames() -> Iterator[FrameType]:
    """Yield the frames of this thread, the innermost first."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        yield frame
        frame = frame.f_back


def _get_caller_names() -> dict[str, Any]:
    """Return the names visible in the nearest function outside this package and the ones that call through it."""
    for frame in _iterate_frames():
        package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        # The event loop and the thread pool are on the stack between the user's function and us.
        if package not in _BETWEEN and package not in sys.stdlib_module_names:
            return {**frame.f_globals, **frame.f_locals}
    return {}


def _make_unknown_name_error(where: str, error: NameError) -> UsageError:
    return UsageError(
        f"the name {error.name!r} in the annotations of {where!r} can't be found; define it in the module, not in a "
        "function that has returned, and import it at run time, not under TYPE_CHECKING"
    )
