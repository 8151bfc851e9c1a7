"""Traces in memory: `with start("name") as t` collects the spans in it, and `@trace` makes spans of functions.

Rules:

- A decorated function is a span while it runs. Without observers it costs one look at `listening.count`.
- A decorated generator is a span from its first step to its end. The span's parent is what is current at the first
  step. It is current only while the body runs: it is set and reset at each step, on whatever thread and in whatever
  context that is, and so is what the body itself has made current.
- A function that returns a coroutine or a generator, such as one that another decorator has wrapped, is a span until
  that has ended. The same applies to a function that returns a stream, a thunk, or anything else that may continue
  (`held_span.py`).
- A function object that is more than a call, such as a prompt function with its streams, makes a traced copy of
  itself by `_traced_(trace)`, which it passes everything to that it can be asked; another object stands behind one
  that only adds the span of its call.
- A generator that is left early, closed or dropped ends as cancelled, even where its code can't run any more
  because its loop has gone.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterator, Mapping
from types import (
    AsyncGeneratorType,
    BuiltinFunctionType,
    CoroutineType,
    FunctionType,
    GeneratorType,
    MethodType,
    TracebackType,
)
from typing import TYPE_CHECKING, Any, Self, TypeVar, overload

from mellea.core.displayed import Displayed
from mellea.core.entrance import entrance
from mellea.core.held_span import SpanHold, end_with
from mellea.core.masking import scrub_label
from mellea.core.observer import Observer, Span, begin_span, current_span, listening
from mellea.errors import UsageError

if TYPE_CHECKING:
    from mellea.core.card import Card

__all__ = ["Trace", "Tree", "start", "trace", "trace_like", "wrap_generator"]

F = TypeVar("F", bound=Callable[..., Any])


class Tree(Displayed):
    """The spans of a trace; as text, one line per span, indented by two spaces per level.

    Args:
        spans: in the order in which they began.
        figures: whether a line shows seconds, tokens and cost.
    """

    __slots__ = ("_figures", "spans")

    def __init__(self, spans: tuple[Span, ...], *, figures: bool) -> None:
        self.spans = spans
        self._figures = figures

    def __str__(self) -> str:
        from mellea.core.span_tree import draw_tree  # lazy: most traces are never drawn

        return draw_tree(self.spans, figures=self._figures)

    def __repr__(self) -> str:
        return str(self)

    def _card_(self) -> Card:
        from mellea.core.card import Card, Code, count_of  # lazy: only a frontend needs it

        return Card("Tree", count_of(len(self.spans), "span"), parts=[Code(str(self))])

    def __len__(self) -> int:
        return len(self.spans)

    def __iter__(self) -> Iterator[Span]:
        return iter(self.spans)


class Trace(Observer, Displayed):
    """What happens in a `with` block, collected in memory; `start` makes it.

    What was launched in the block is part of it, even if it continues after the end of the block.

    Args:
        name: what to call it.
    """

    def __init__(self, name: str) -> None:
        if not isinstance(name, str) or not name:
            raise UsageError(f"a trace's name is a string, not {name!r}")
        self.name = name
        self._spans: list[Span] = []
        self._root: Span | None = None
        self._entered: Any = None

    @property
    def spans(self) -> tuple[Span, ...]:
        """The spans so far, in the order in which they began; the first is the block itself."""
        return tuple(self._spans)

    @property
    def cost(self) -> float | None:
        """The cost of its requests in US dollars, including judges; `None` if any is unknown or still running."""
        from mellea.core.span_tree import sum_costs  # lazy: it needs the table of prices

        return sum_costs(self.spans)

    def tree(self, *, figures: bool = True) -> Tree:
        """Return a tree of everything so far, for printing.

        Args:
            figures: whether to show seconds, tokens and cost as well.

        Raises:
            UsageError: it wasn't started, so nothing is in it.
        """
        if not self._spans and self._root is None:
            raise UsageError(
                f"the trace {self.name!r} was never entered: with mellea.traces.start({self.name!r}) as t: …, and then "
                "print(t.tree())"
            )
        return Tree(self.spans, figures=figures)

    def begin(self, span: Span) -> None:
        """Collect a span."""
        self._spans.append(span)

    def __enter__(self) -> Self:
        if self._root is not None:
            raise UsageError(f"the trace {self.name!r} has already started; start another one")
        self._root = begin_span("trace", self.name, observers=(self,))
        if self._root is not None:
            self._entered = self._root.enter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._root is not None:
            self._root.leave(self._entered)
            self._root.end(error, is_cancelled=_is_cancellation(error))

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, traceback)

    def _card_(self) -> Card:
        from mellea.core.card import Card, Code, count_of  # lazy: only a frontend needs it

        if not self._spans:
            return Card(f"Trace {self.name}", "not started")
        is_running = any(span.ended is None for span in self._spans)
        tree = Code(str(self.tree()))
        return Card(f"Trace {self.name}", "running" if is_running else "", [count_of(len(self.spans), "span")], [tree])

    def __repr__(self) -> str:
        return f"<Trace {scrub_label(self.name)!r}, {len(self.spans)} spans>"


@entrance("start")
def start(name: str) -> Trace:
    """Start a trace: `with start("name") as t`, or `async with`; `print(t.tree())` shows what happened.

    Args:
        name: what to call it.

    Raises:
        UsageError: the name isn't a string.
    """
    return Trace(name)


@overload
def trace(function: F, /, *, name: str | None = None) -> F: ...
@overload
def trace(*, name: str | None = None) -> Callable[[F], F]: ...
def trace(function: Any = None, /, *, name: str | None = None) -> Any:
    """Decorate a function or generator, sync or async: each call is a span in the enclosing traces.

    The span of a generator lasts from its first step to its end. If a function returns a stream, a thunk or the rows of
    a map, alone or in a list, tuple or dict, its span lasts until all of these have ended: read to the end, left,
    closed or dropped. One that is never read ends as cancelled when it is dropped.

    A prompt function or a tool stays one, with all its methods; each call, each stream and each row of a map is a span.
    Above or below `@generative` makes no difference. Below `@command` and `@tool` the span is that of the function's
    body.

    Args:
        function: what to decorate.
        name: what to call the span; by default the function's name.

    Raises:
        UsageError: the decorated object isn't a function.
    """
    if name is not None and (not isinstance(name, str) or not name):
        raise UsageError(f"the name of a span is a string, not {name!r}")
    if function is None:
        return functools.partial(trace, name=name)
    # What makes something of a method has the function inside, so the wrapper has to go inside as well.
    for kind, rebuild in _INSIDE.items():
        if isinstance(function, kind):
            return rebuild(function, functools.partial(trace, name=name))
    if not callable(function) or isinstance(function, type):
        below = "" if isinstance(function, type) or not hasattr(function, "__get__") else "; put @trace below it"
        raise UsageError(f"@trace is for functions, not for {function!r}{below}")
    label = name or _find_name(function)
    if hasattr(type(function), "_traced_"):
        return function._traced_(functools.partial(trace, name=label))
    call = functools.wraps(function)(_wrap(function, label))
    call._traced_as_ = label  # type: ignore[attr-defined]
    is_plain = isinstance(function, _PLAIN) or inspect.iscoroutinefunction(function)
    return call if is_plain else _TracedObject(function, call)


def trace_like(function: Callable[..., Any], made: F) -> F:
    """Return what was made from a function, traced as the function is: for what never runs the function itself.

    Args:
        function: one that `trace` may have decorated.
        made: what was made from it.
    """
    label = getattr(function, "_traced_as_", None)
    return trace(made, name=label) if isinstance(label, str) else made


def _rebuild_property(given: property, wrap: Callable[[Any], Any]) -> property:
    get, set_, delete = (None if part is None else wrap(part) for part in (given.fget, given.fset, given.fdel))
    return type(given)(get, set_, delete, given.__doc__)


_INSIDE: Mapping[type, Callable[[Any, Callable[[Any], Any]], Any]] = {
    staticmethod: lambda given, wrap: type(given)(wrap(given.__func__)),
    classmethod: lambda given, wrap: type(given)(wrap(given.__func__)),
    property: _rebuild_property,
    functools.cached_property: lambda given, wrap: type(given)(wrap(given.func)),
    functools.partialmethod: lambda given, wrap: type(given)(wrap(given.func), *given.args, **given.keywords),
}
"""How each of these is made again with its function traced."""

_PLAIN = (FunctionType, BuiltinFunctionType, MethodType, functools.partial)
"""What has nothing besides its call that a program would ask it for."""


class _TracedObject:
    """An object that can be called, with a span around each call; in everything else it is the object.

    Args:
        function: the object.
        call: calls it in a span.
    """

    def __init__(self, function: Any, call: Callable[..., Any]) -> None:
        for name, value in (("_function", function), ("_call", call)):
            object.__setattr__(self, name, value)
        for name in functools.WRAPPER_ASSIGNMENTS:
            if hasattr(function, name):
                object.__setattr__(self, name, getattr(function, name))
        object.__setattr__(self, "__wrapped__", function)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._call(*args, **kwargs)

    def __get__(self, owner: Any, kind: type | None = None) -> Any:
        """Bind it as the object itself would be bound, if it can be."""
        bind = getattr(type(self._function), "__get__", None)
        bound = self._function if bind is None else bind(self._function, owner, kind)
        return self if bound is self._function else trace(bound, name=self._traced_as_)

    def __getattr__(self, name: str) -> Any:
        if name in ("_function", "_call"):  # it is being copied or unpickled
            raise AttributeError(name)
        return getattr(self._call if name == "_traced_as_" else self._function, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._function, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._function, name)

    def __eq__(self, other: object) -> bool:
        return bool(self._function == (other._function if isinstance(other, _TracedObject) else other))

    def __hash__(self) -> int:
        return hash(self._function)

    def __repr__(self) -> str:
        return repr(self._function)


def _find_name(function: Any) -> str:
    while isinstance(function, functools.partial):
        function = function.func
    return str(getattr(function, "__name__", type(function).__name__))


def _wrap(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    # Taken from the function where possible, because the span of a generator begins with its first step.
    if inspect.isasyncgenfunction(function):
        return _wrap_async_generator(function, lambda: _Steps(name))
    if inspect.isgeneratorfunction(function):
        return _wrap_generator(function, lambda: _Steps(name))
    if inspect.iscoroutinefunction(function):

        async def call_async(*args: Any, **kwargs: Any) -> Any:
            if not listening.count:
                return await function(*args, **kwargs)
            steps = _Steps(name)
            steps.begin()
            with steps:
                result = await function(*args, **kwargs)
            return steps.hand_on(result)

        return call_async

    def call(*args: Any, **kwargs: Any) -> Any:
        # The path without observers costs one attribute look-up.
        if not listening.count:
            return function(*args, **kwargs)
        steps = _Steps(name)
        steps.begin()
        with steps:
            result = function(*args, **kwargs)
        return steps.hand_on(result)

    return call


def wrap_generator(generator: Any, hold: SpanHold) -> Any:
    """Return a generator, plain or async, whose steps are a part of the function that has returned it.

    Args:
        generator: which nobody has begun to read.
        hold: of the function's span; it ends with the generator.
    """
    return _Steps("", hold).hand_on(generator)


class _Steps:
    """The span of a generator, entered for each of its steps.

    Args:
        name: what to call the span.
        hold: in its place, of a span that has begun and that others may hold, too.
    """

    __slots__ = ("_entered", "_hold", "_inside", "_name", "span")

    def __init__(self, name: str, hold: SpanHold | None = None) -> None:
        self._name = name
        self._hold = hold
        self.span: Span | None = None if hold is None else hold.span
        self._inside = self.span  # what the body had made current when it yielded

    def begin(self) -> None:
        """Begin the span, unless it has begun."""
        if self.span is None:
            self.span = self._inside = begin_span("function", self._name)

    def __enter__(self) -> None:
        """Begin a step of the body."""
        span = self.span
        if span is not None:
            self._entered = span.enter(), current_span.set(self._inside)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End a step; what leaves it is the end of the span."""
        span = self.span
        if span is None:
            return
        self._inside = current_span.get()
        entered, inside = self._entered
        current_span.reset(inside)
        span.leave(entered)
        if isinstance(error, (StopIteration, StopAsyncIteration)):
            self._end(span)
        elif error is not None:
            self._end(span, error)

    def hand_on(self, result: Any) -> Any:
        """Return what a body has returned; it has the span from now on where it goes on, such as a stream."""
        # Another decorator or a callable object may hide what kind of function it is; then the work is still to come,
        # and belongs to the span.
        wrap = _KINDS.get(type(result))
        if wrap is not None:
            return wrap(lambda: result, lambda: self)()
        span, self.span = self.span, None
        if span is not None:
            end_with(span, result)
        return result

    def _end(self, span: Span, error: BaseException | None = None) -> None:
        (span if self._hold is None else self._hold).end(error, is_cancelled=_is_cancellation(error))

    def close(self) -> None:
        """End the span of a body that was closed; after its end this does nothing."""
        if self.span is not None:
            self._end(self.span, GeneratorExit())

    def __del__(self) -> None:  # the generator was dropped, and its code can't run any more
        self.close()


def _wrap_generator(
    function: Callable[..., Generator[Any, Any, Any]], make_steps: Callable[[], _Steps]
) -> Callable[..., Any]:
    def generate(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        body, steps = function(*args, **kwargs), make_steps()
        steps.begin()
        advance: Callable[[], Any] = functools.partial(next, body)
        try:
            while True:
                try:
                    with steps:
                        value = advance()
                except StopIteration as end:
                    return end.value
                try:
                    sent = yield value
                except GeneratorExit:
                    raise
                except BaseException as error:  # noqa: BLE001 - thrown in, for the body to handle
                    advance = functools.partial(body.throw, error)
                else:
                    advance = functools.partial(body.send, sent)
        finally:
            _close(body, steps)

    return generate


def _close(body: Generator[Any, Any, Any], steps: _Steps) -> None:
    try:
        if inspect.getgeneratorstate(body) != inspect.GEN_CLOSED:
            with steps:
                body.close()
    finally:
        steps.close()


def _wrap_async_generator(
    function: Callable[..., AsyncGenerator[Any, Any]], make_steps: Callable[[], _Steps]
) -> Callable[..., Any]:
    async def generate(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        body, steps = function(*args, **kwargs), make_steps()
        steps.begin()
        advance: Callable[[], Any] = body.__anext__
        try:
            while True:
                try:
                    with steps:
                        value = await advance()
                except StopAsyncIteration:
                    return
                try:
                    sent = yield value
                except GeneratorExit:
                    raise
                except BaseException as error:  # noqa: BLE001 - thrown in, for the body to handle
                    advance = functools.partial(body.athrow, error)
                else:
                    advance = functools.partial(body.asend, sent)
        finally:
            try:
                if getattr(body, "ag_frame", None) is not None:  # it hasn't ended by itself
                    with steps:
                        await body.aclose()
            finally:
                steps.close()

    return generate


def _wrap_coroutine(
    function: Callable[[], Coroutine[Any, Any, Any]], make_steps: Callable[[], _Steps]
) -> Callable[[], Coroutine[Any, Any, Any]]:
    async def call() -> Any:
        steps = make_steps()
        with steps:
            result = await function()
        return steps.hand_on(result)

    return call


_KINDS: Mapping[type, Callable[..., Callable[..., Any]]] = {
    AsyncGeneratorType: _wrap_async_generator,
    CoroutineType: _wrap_coroutine,
    GeneratorType: _wrap_generator,
}
"""How what a function returned goes on in its span."""


def _is_cancellation(error: BaseException | None) -> bool:
    """Whether what left a block is a cancellation, Ctrl-C or the end of a generator, and not a failure."""
    return error is not None and not isinstance(error, Exception)
