"""`@generative`: a function without a body; its docstring is the prompt, its annotations are the schema."""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, Protocol, TypeVar, Unpack, overload

from mellea.core.entrance import short_errors
from mellea.core.tracing import trace_like
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
    """Make a function that a model answers: the docstring is the task, the return annotation the type of the answer.

    It is called like the function that it is made from, positionally or by name. The session is the first argument,
    `session=`, or else the current one. The body is never run. Options may also be given at a call, or by
    `with_options`. Thunks may be arguments. For a method, its object goes into the prompt too if it is a component, a
    dataclass or a pydantic model.

    Args:
        function: a sync or an async function; a call of the result blocks, or is awaited, accordingly.
        tools: tools that the model may call; they are run, and the model is asked again.
        session: the session to use; the current one by default.
        model_options: options for the model, by their names in `ModelOption`.
        max_turns: if tools are run, the maximum number of requests to the model.
        requirements: what the answer has to meet; checked unless `strategy=None`.
        strategy: how to get an answer that meets them, by default in at most two attempts; `None` checks nothing.
        preconditions: what the arguments have to meet before the model is asked.
        release: `"step"` makes streams hold items back until the step that answers has ended.

    Raises:
        UsageError: an option is wrong, or a parameter has a reserved name: `m`, `session`, or that of an option.
    """
    names = sys._getframe(1).f_locals

    @short_errors
    def decorate(function: Callable[..., Any]) -> Any:
        made = make(function, DocstringWording(function), ReturnType(function, names), session, options)
        return trace_like(function, made)  # the body, which it would trace, is never run

    return decorate if function is None else decorate(function)
