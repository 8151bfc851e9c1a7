"""`@generative`: a function without a body, whose docstring is the prompt and whose annotations are the schema."""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, Protocol, TypeVar, Unpack, overload

from mellea.core.tracebacks import short_errors
from mellea.stdlib.generative.function import AsyncPromptFunction, PromptFunction, make
from mellea.stdlib.generative.output import ReturnType
from mellea.stdlib.generative.wording import DocstringWording
from mellea.stdlib.session import MelleaSession
from mellea.stdlib.verb import FunctionArguments, document

__all__ = ["generative"]

P = ParamSpec("P")
R = TypeVar("R")


class _Decorator(Protocol):
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, function: Callable[P, Coroutine[Any, Any, R]], /
    ) -> AsyncPromptFunction[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> PromptFunction[P, R]: ...


@overload
def generative(  # type: ignore[overload-overlap]
    function: Callable[P, Coroutine[Any, Any, R]], /
) -> AsyncPromptFunction[P, R]: ...
@overload
def generative(function: Callable[P, R], /) -> PromptFunction[P, R]: ...
@overload
def generative(*, session: MelleaSession | None = None, **options: Unpack[FunctionArguments]) -> _Decorator: ...
@document(FunctionArguments)
def generative(
    function: Any = None, /, *, session: MelleaSession | None = None, **options: Unpack[FunctionArguments]
) -> Any:
    """Make a function that a model answers: the docstring says what to do, the return annotation what comes out.

    It is called like the function that it is made of, positionally or by name, with a session as first argument
    or as `session=`, or with the current session. The body is never run. Options may also be given at a call, or
    by `with_options`. Thunks may be arguments. Of a method, the object is said too if it is a component, a
    dataclass or a pydantic model.

    Args:
        function: sync or async; a sync one waits, an async one is awaited.
        tools: tools that the model may call; they are run, and the model is asked again.

    Raises:
        UsageError: an option is wrong, or a parameter has a name that calls keep for themselves: `m`, `session`,
            or that of an option.
    """
    names = sys._getframe(1).f_locals

    @short_errors
    def decorate(function: Callable[..., Any]) -> Any:
        return make(function, DocstringWording(function), ReturnType(function, names), session, options)

    return decorate if function is None else decorate(function)
