"""The type of a prompt function's result, from its annotation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mellea.core.structured import make_output_format
from mellea.errors import UsageError
from mellea.stdlib.tools.signature import get_name, resolve_type_hints

__all__ = ["ReturnType", "check_output"]

_UNKNOWN: Any = object()


class ReturnType:
    """The return annotation of a function: resolved at once if it can be, else at the first use.

    `names` isn't kept, since it holds all variables of the calling function.

    Args:
        function: the function.
        names: names that the annotation may use, besides those of its module.
    """

    def __init__(self, function: Callable[..., Any], names: Mapping[str, Any]) -> None:
        self._function = function
        self._what = f"{get_name(function)}()"
        self._type = _UNKNOWN
        try:
            # The caller's variables are only available now, while the function is being defined.
            self._resolve(names)
        except UsageError:
            return

    def __call__(self) -> Any:
        """Return the type; `str` without an annotation.

        Raises:
            UsageError: the annotation can't be resolved, or is `None`.
        """
        if self._type is _UNKNOWN:
            self._resolve(None)
        if self._type is None or self._type is type(None):
            raise UsageError(f"{self._what} is annotated to return None; annotate it with the type of the answer")
        return self._type

    def _resolve(self, names: Mapping[str, Any] | None) -> None:
        self._type = resolve_type_hints(self._function, self._what, names, of=("return",)).get("return", str)


def check_output(output: Callable[[], Any]) -> None:
    """Reject a type that no answer can have, when the function is defined.

    A type with names that aren't defined yet is checked when the function is called.

    Raises:
        UsageError: it isn't a type for an answer.
    """
    try:
        kind = output()
    except UsageError:  # a name that isn't known yet, or None
        return
    if kind is str:
        return
    try:
        make_output_format(kind)
    except UsageError as error:
        # A class that is defined later in the file may exist when the function is called.
        code = getattr(error.__cause__, "code", None)
        if not isinstance(error.__cause__, NameError) and code != "class-not-fully-defined":
            raise
