"""The annotations of a class, with their names resolved: in its module, and in the function that defines it.

A class that a function defines may name its neighbours only (`from __future__ import annotations`, forward
references). Python keeps those nowhere but in the function's own frame, so they are found while the function
runs: in the asking thread, or in the one that waits for a synchronous verb.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any, ForwardRef, get_type_hints

from mellea.core.loop import asking_thread
from mellea.errors import UsageError

__all__ = ["class_hints", "is_typed_dict", "names_around", "resolved"]


def is_typed_dict(kind: Any) -> bool:
    """Whether it is a TypedDict, of whichever module."""
    return isinstance(kind, type) and issubclass(kind, dict) and hasattr(kind, "__total__")


def class_hints(kind: type) -> dict[str, Any]:
    """Return the annotations of a class and its parents, `Annotated` and `NotRequired` included.

    Raises:
        UsageError: a name can't be found.
    """
    try:
        return get_type_hints(kind, localns=names_around(kind), include_extras=True)
    except NameError as error:
        raise _unknown(kind.__name__, error) from error.with_traceback(None)


def resolved(annotation: str | ForwardRef) -> Any:
    """Resolve an annotation that stands as text outside a class.

    Raises:
        UsageError: a name can't be found.
    """
    holder = type("_", (), {"__annotations__": {"it": annotation}})
    try:
        return get_type_hints(holder, globalns=_caller_names(), include_extras=True)["it"]
    except NameError as error:
        raise _unknown(str(annotation), error) from error.with_traceback(None)


def names_around(kind: type) -> dict[str, Any]:
    """Return the names that a class sees besides those of its module: the functions' it is defined in, and its own.

    Code that is executed in a namespace of its own, as documentation's is, sees that in place of a module.
    """
    outer = kind.__qualname__.split(".<locals>.")[:-1]
    functions = {".<locals>.".join(outer[: count + 1]) for count in range(len(outer))}
    module = getattr(sys.modules.get(kind.__module__), "__dict__", None)
    names: dict[str, Any] = {}
    namespace: dict[str, Any] = {}
    for frame in _frames():  # the innermost comes first
        if frame.f_globals.get("__name__") != kind.__module__:
            continue
        if frame.f_globals is not module:
            namespace = namespace or frame.f_globals
        if frame.f_code.co_qualname in functions:
            names = {**frame.f_locals, **names}
    return {**namespace, **names, kind.__name__: kind}


def _frames() -> Iterator[FrameType]:
    waiting = asking_thread.get()
    starts = [sys._getframe(1)]
    if waiting is not None and waiting != threading.get_ident():
        starts += [frame for frame in [sys._current_frames().get(waiting)] if frame is not None]
    for start in starts:
        frame: FrameType | None = start
        while frame is not None:
            yield frame
            frame = frame.f_back


def _caller_names() -> dict[str, Any]:
    """Return the names that the nearest function outside this package sees."""
    for frame in _frames():
        if not str(frame.f_globals.get("__name__", "")).startswith("mellea."):
            return {**frame.f_globals, **frame.f_locals}
    return {}


def _unknown(where: str, error: NameError) -> UsageError:
    return UsageError(
        f"the name {error.name!r} in the annotations of {where!r} can't be found; define it in the module, not in a "
        "function that has returned, and import it at run time, not under TYPE_CHECKING"
    )
