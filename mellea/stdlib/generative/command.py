"""`@command`: a function whose body returns the prompt."""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar, Unpack, overload

from mellea.core.entrance import short_errors
from mellea.errors import UsageError
from mellea.stdlib.generative.function import AsyncPromptFunction, PromptFunction, make
from mellea.stdlib.generative.output import ReturnType
from mellea.stdlib.generative.wording import BodyWording
from mellea.stdlib.session import MelleaSession
from mellea.stdlib.tools.signature import get_name
from mellea.stdlib.verb import FunctionArguments, document

if TYPE_CHECKING:
    from typing_extensions import TypeForm  # unions, `Literal` and `Annotated` besides classes

__all__ = ["command"]

P = ParamSpec("P")
T = TypeVar("T")


class _Decorator(Protocol[T]):
    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, Any]], /) -> AsyncPromptFunction[P, T]: ...
    @overload
    def __call__(self, function: Callable[P, Any], /) -> PromptFunction[P, T]: ...


@overload
def command(function: Callable[P, Coroutine[Any, Any, Any]], /) -> AsyncPromptFunction[P, str]: ...
@overload
def command(function: Callable[P, Any], /) -> PromptFunction[P, str]: ...
@overload
def command(
    *, output: TypeForm[T], session: MelleaSession | None = None, **options: Unpack[FunctionArguments]
) -> _Decorator[T]: ...
@overload
def command(
    *, output: None = None, session: MelleaSession | None = None, **options: Unpack[FunctionArguments]
) -> _Decorator[str]: ...
@overload
def command(
    *, output: Any, session: MelleaSession | None = None, **options: Unpack[FunctionArguments]
) -> _Decorator[Any]: ...
@document(FunctionArguments)
def command(
    function: Any = None,
    /,
    *,
    output: Any = None,
    session: MelleaSession | None = None,
    **options: Unpack[FunctionArguments],
) -> Any:
    """Make a function that a model answers: its body returns the prompt.

    If the body returns nothing, the prompt is the docstring, or else the function's name, followed by the arguments.
    Thunks among the arguments are awaited; the body gets their results. Otherwise like `generative`.

    Args:
        function: sync (its body runs in a worker thread) or async.
        output: the type of the result; text by default.
        tools: tools that the model may call; they are run, and the model is asked again.
        session: the session to use; the current one by default.
        model_options: options for the model, by their names in `ModelOption`.
        max_turns: if tools are run, the maximum number of requests to the model.
        requirements: what the answer has to meet; checked unless `strategy=None`.
        strategy: how to get an answer that meets them, by default in at most two attempts; `None` checks nothing.
        preconditions: what the arguments have to meet before the model is asked.
        release: `"step"` makes streams hold items back until the step that answers has ended.

    Raises:
        UsageError: an option is wrong; or the function is annotated with another type than text, and `output` is
            missing.
    """
    names = sys._getframe(1).f_locals

    @short_errors
    def decorate(function: Callable[..., Any]) -> Any:
        wording = BodyWording(function)
        if output is None:
            _check_annotation(function, ReturnType(function, names))
        return make(function, wording, lambda: str if output is None else output, session, options)

    return decorate if function is None else decorate(function)


def _check_annotation(function: Callable[..., Any], annotation: ReturnType) -> None:
    """Reject `-> int` without `output=int`: the result would be a text anyway."""
    try:
        kind = annotation()
    except UsageError:  # the annotation is None, or has a name that isn't known yet
        return
    if kind not in (str, Any):
        shown = kind.__name__ if isinstance(kind, type) and not hasattr(kind, "__args__") else str(kind)
        raise UsageError(
            f"{get_name(function)}() is annotated with {shown}, but a command's output is text by default; "
            f"write @command(output={shown})"
        )
