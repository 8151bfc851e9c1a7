"""Prompt functions: called like the functions that they are made from, and answered by a model."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, Concatenate, Generic, NamedTuple, ParamSpec, Self, TypeVar, Unpack, cast, overload

from mellea.core.backend import Backend
from mellea.core.context import Context
from mellea.core.entrance import short_errors
from mellea.core.runtime.portal import blocking
from mellea.core.thunk import ModelOutputThunk
from mellea.stdlib import functional
from mellea.stdlib.functional import Verb
from mellea.stdlib.generative.conditions import await_thunks, check_arguments, find_pending
from mellea.stdlib.generative.deferred import defer
from mellea.stdlib.generative.items import AsyncItemStream, ItemStream, as_async_items, as_items
from mellea.stdlib.generative.output import check_output
from mellea.stdlib.generative.settings import RESERVED, Settings
from mellea.stdlib.generative.wording import BoundArguments, Prompt, Wording
from mellea.stdlib.session import MelleaSession, current_session
from mellea.stdlib.streaming import AsyncStream, Stream
from mellea.stdlib.verb import FunctionArguments, InstructArguments, document

__all__ = ["AsyncPromptFunction", "PromptFunction", "is_text_function", "make", "prepare_verb", "trace_rows"]

F = TypeVar("F", bound=Callable[..., Any])
P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
T = TypeVar("T")

_NO_OWNER: Any = object()


@short_errors
class _Prompted(Generic[P, R]):
    """Base class of sync and async prompt functions.

    Args:
        function: the function that it is made from.
        wording: makes the prompt of a call.
        output: returns the type of the result.
        settings: the options.
    """

    # Of the class, so that copies and other processes find the same ones, unless a function has its own.
    _owner: Any = _NO_OWNER
    _traced: _Traced | None = None

    def __init__(
        self, function: Callable[..., Any], wording: Wording, output: Callable[[], Any], settings: Settings
    ) -> None:
        self._wording = wording
        self._output = output
        self._settings = settings
        functools.update_wrapper(cast("Callable[..., Any]", self), function, updated=())

    @document(FunctionArguments)
    def with_options(self, *, session: MelleaSession | None = None, **options: Unpack[FunctionArguments]) -> Self:
        """Return the same function with other options.

        Conditions are added to those of the function, model options are merged, all else is replaced.

        Args:
            session: the session to use; the current one by default.
            model_options: options for the model, by their names in `ModelOption`.
            tools: tools that the model may call; plain functions work as well.
            max_turns: if tools are run, the maximum number of requests to the model.
            requirements: what the answer has to meet; checked unless `strategy=None`.
            strategy: how to get an answer that meets them, by default in at most two attempts; `None` checks nothing.
            preconditions: what the arguments have to meet before the model is asked.
            release: `"step"` makes streams hold items back until the step that answers has ended.

        Raises:
            UsageError: an option is unknown or wrong.
        """
        twin = copy.copy(self)
        twin._settings = self._settings.update(f"{self._wording.name}.with_options()", _merge_given(session, options))
        return twin

    def _bind_owner(self, owner: Any) -> Any:
        """Bind it to an object, as a method is bound; accessed through the class it stays unbound."""
        if owner is None:
            return self
        twin = copy.copy(self)
        twin._owner = owner
        return twin

    @property
    def _how(self) -> _Ways:
        return _WAYS if self._traced is None else self._traced.ways

    def _traced_(self, trace: Callable[[Any], Any]) -> Self:
        """Return the same function, with a span around each call and stream, and each row of a map."""
        twin, before = copy.copy(self), self._traced
        both = trace if before is None else lambda function: trace(before.trace(function))
        twin._traced = _Traced(both, _Ways._make(map(both, _WAYS)))
        return twin

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._wording.name!r}>"

    async def _answer(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> R:
        if (alone := _take_context(args, kwargs)) is not None:
            session, args, kwargs = alone
            # Typed as the plain result: type checkers only know our own way, a session.
            return cast("R", (await self._answer((session, *args), kwargs), session.ctx))
        session, settings, bound = self._bind(args, kwargs)
        prompt = await self._prompt(session, settings, bound)
        arguments = _make_arguments(settings, prompt)
        thunk = await session.ainstruct(prompt.description, format=self._format(), **arguments)
        return cast("R", thunk.value if self._is_text() else thunk.parsed)

    def _bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[MelleaSession, Settings, BoundArguments]:
        what = f"{self._wording.name}()"
        # Parameters can't have these names (the definition rejects them), so the function's own arguments are safe.
        options = {name: value for name, value in kwargs.items() if name in RESERVED}
        # As in Mellea, the session may come first. It can't be an argument of the function, since it can't be rendered.
        if args and isinstance(args[0], MelleaSession):
            settings = self._settings.update(what, {"m": args[0], **options})
            args = args[1:]
        else:
            settings = self._settings.update(what, options)
        # A bound method: its object is the first argument, as Python itself would pass it.
        if self._owner is not _NO_OWNER:
            args = (self._owner, *args)
        bound = self._wording.bind(args, {name: value for name, value in kwargs.items() if name not in RESERVED})
        return settings.session or current_session(), settings, bound

    async def _prompt(self, session: MelleaSession, settings: Settings, bound: BoundArguments) -> Prompt:
        """Await the thunks that the prompt needs, check the preconditions, and make the prompt."""
        # Without either, thunks stay as they are: the call waits for them itself, all at once, and they aren't copied.
        if settings.preconditions or self._wording.needs_values:
            bound = await await_thunks(bound)
        await check_arguments(self._wording.name, settings.preconditions, bound, session.backend)
        return await self._wording.prompt(bound)

    def _format(self) -> Any:
        return None if self._is_text() else self._output()

    def _is_text(self) -> bool:
        return self._output() is str

    @overload
    def stream(self: _Prompted[P, list[T]], *args: P.args, **kwargs: P.kwargs) -> ItemStream[T]: ...
    @overload
    def stream(
        self: _Prompted[P, list[T]], m: MelleaSession, /, *args: P.args, **kwargs: P.kwargs
    ) -> ItemStream[T]: ...
    @overload
    def stream(self, *args: P.args, **kwargs: P.kwargs) -> Stream[R]: ...
    @overload
    def stream(self, m: MelleaSession, /, *args: P.args, **kwargs: P.kwargs) -> Stream[R]: ...
    def stream(self, *args: Any, **kwargs: Any) -> Any:  # type: ignore[misc]  # mypy can't match a ParamSpec
        """Make a stream for plain code, of whole items if the result is a sequence, of text otherwise.

        The arguments are those of the function. It is launched at the first read.

        Raises:
            UsageError: an argument is missing or wrong.
        """
        return self._how.stream(self, args, kwargs)

    @overload
    def astream(self: _Prompted[P, list[T]], *args: P.args, **kwargs: P.kwargs) -> AsyncItemStream[T]: ...
    @overload
    def astream(
        self: _Prompted[P, list[T]], m: MelleaSession, /, *args: P.args, **kwargs: P.kwargs
    ) -> AsyncItemStream[T]: ...
    @overload
    def astream(self, *args: P.args, **kwargs: P.kwargs) -> AsyncStream[R]: ...
    @overload
    def astream(self, m: MelleaSession, /, *args: P.args, **kwargs: P.kwargs) -> AsyncStream[R]: ...
    def astream(self, *args: Any, **kwargs: Any) -> Any:  # type: ignore[misc]  # mypy can't match a ParamSpec
        """Make a stream for async code, of whole items if the result is a sequence, of text otherwise.

        It isn't awaited itself; otherwise like `stream`.
        """
        return self._how.astream(self, args, kwargs)

    def _prepare_launch(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Callable[[], ModelOutputThunk[Any]]:
        """Check the arguments now, and return a function that launches the call on the running loop."""
        session, settings, bound = self._bind(args, kwargs)

        def ask(prompt: Prompt) -> Callable[[], ModelOutputThunk[Any]]:
            arguments = _make_arguments(settings, prompt)
            return session.astream(prompt.description, format=self._format(), **arguments)._ensure_started

        # Nothing has to be awaited first, so this is the call's own stream, without an outer run.
        if not (settings.preconditions or self._wording.needs_values):
            return ask(self._wording.prompt_now(bound))

        async def begin() -> ModelOutputThunk[Any]:
            return ask(await self._prompt(session, settings, bound))()

        start = defer(
            f"{self._wording.name}()",
            begin,
            format=self._format(),
            backend=session.backend,
            # What `begin` will wait for, so that a deadlock is detected at the launch.
            dependencies=[thunk.record for thunk in find_pending(bound)],
        )

        def launch() -> ModelOutputThunk[Any]:
            # Closing the session has to cancel the preconditions, too, and not only the generation after them.
            with session.registering():
                return start()

        return launch


@short_errors
class PromptFunction(_Prompted[P, R]):
    """A prompt function of a plain function: calling it waits for the result and returns it."""

    @overload
    def __get__(self, owner: None, kind: type | None = None) -> Self: ...
    @overload
    def __get__(
        self: PromptFunction[Concatenate[Any, Q], R], owner: object, kind: type | None = None
    ) -> PromptFunction[Q, R]: ...
    def __get__(self, owner: Any, kind: type | None = None) -> Any:
        return self._bind_owner(owner)

    @overload
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R: ...
    @overload
    def __call__(self, m: MelleaSession, /, *args: P.args, **kwargs: P.kwargs) -> R: ...
    def __call__(self, *args: Any, **kwargs: Any) -> Any:  # type: ignore[misc]  # mypy can't match a ParamSpec
        """Ask the model, and return the result.

        Args:
            args: a session, if it isn't the current one, then the function's own arguments.
            kwargs: the function's own arguments, and options as in `with_options`.

        Raises:
            UsageError: an argument is missing or wrong.
            RequirementError: the arguments fail a precondition, or every answer fails a requirement.
            ParseError: the answer isn't a value of the type.
            MelleaError: the generation failed.
        """
        return self._how.answer(self, args, kwargs)


@short_errors
class AsyncPromptFunction(_Prompted[P, R]):
    """A prompt function of an async function: awaiting its call gives the result."""

    @overload
    def __get__(self, owner: None, kind: type | None = None) -> Self: ...
    @overload
    def __get__(
        self: AsyncPromptFunction[Concatenate[Any, Q], R], owner: object, kind: type | None = None
    ) -> AsyncPromptFunction[Q, R]: ...
    def __get__(self, owner: Any, kind: type | None = None) -> Any:
        return self._bind_owner(owner)

    @overload
    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R: ...
    @overload
    async def __call__(self, m: MelleaSession, /, *args: P.args, **kwargs: P.kwargs) -> R: ...
    async def __call__(self, *args: Any, **kwargs: Any) -> Any:  # type: ignore[misc]  # mypy can't match a ParamSpec
        """Ask the model, and return the result; otherwise like `PromptFunction`."""
        return cast("R", await self._how.aanswer(self, args, kwargs))


def _take_context(
    args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[MelleaSession, tuple[Any, ...], Mapping[str, Any]] | None:
    """Take a context and a backend from the arguments, which replace a session in Mellea 0.8.

    They can't be arguments of the function, since neither can be rendered.
    """
    if len(args) >= 2 and isinstance(args[0], Context) and isinstance(args[1], Backend):
        return MelleaSession(args[1], args[0]), args[2:], kwargs
    context, backend = kwargs.get("context"), kwargs.get("backend")
    if isinstance(context, Context) and isinstance(backend, Backend):
        rest = {name: value for name, value in kwargs.items() if name not in ("context", "backend")}
        return MelleaSession(backend, context), args, rest
    return None


def _make_arguments(settings: Settings, prompt: Prompt) -> InstructArguments:
    return {**prompt.parts, **settings.arguments()}


async def _aanswer(function: _Prompted[..., R], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> R:
    return await function._answer(args, kwargs)


def _open_stream(function: _Prompted[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    launch, by_step = function._prepare_launch(args, kwargs), function._settings.waits_for_steps
    stream: Stream[Any] = Stream(launch, has_format=not function._is_text(), by_step=by_step)
    return as_items(stream, function._output())


def _open_astream(function: _Prompted[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    launch, by_step = function._prepare_launch(args, kwargs), function._settings.waits_for_steps
    stream: AsyncStream[Any] = AsyncStream(launch, has_format=not function._is_text(), by_step=by_step)
    return as_async_items(stream, function._output())


class _Ways(NamedTuple):
    """The ways in which a prompt function is asked: each takes it, and the arguments of the call."""

    answer: Callable[..., Any]
    aanswer: Callable[..., Any]
    stream: Callable[..., Any]
    astream: Callable[..., Any]


class _Traced(NamedTuple):
    """What makes a span of each call."""

    trace: Callable[[Any], Any]
    ways: _Ways


_answer = blocking(_aanswer)

_WAYS = _Ways(_answer, _aanswer, _open_stream, _open_astream)


def trace_rows(function: _Prompted[..., Any], ask: F) -> F:
    """Return what asks for one row, with a span around it if the prompt function is traced."""
    return ask if function._traced is None else cast("F", function._traced.trace(ask))


async def prepare_verb(
    function: _Prompted[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[MelleaSession, Verb]:
    """Return the request of a prompt function's call, and its session, without sending it.

    Raises:
        UsageError: an argument is missing or wrong.
        RequirementError: the arguments fail a precondition.
        MelleaError: a thunk among the arguments failed.
    """
    session, settings, bound = function._bind(args, kwargs)
    prompt = await function._prompt(session, settings, bound)
    arguments = _make_arguments(settings, prompt)
    instruction = functional.instruction(prompt.description, arguments)
    return session, functional.prepare(instruction, session, arguments, format=function._format())


def is_text_function(function: _Prompted[..., Any]) -> bool:
    """Whether a prompt function returns the text of the answer."""
    return function._is_text()


@short_errors
def make(
    function: Callable[..., Any],
    wording: Wording,
    output: Callable[[], Any],
    session: MelleaSession | None,
    options: FunctionArguments,
) -> PromptFunction[Any, Any] | AsyncPromptFunction[Any, Any]:
    """Make a prompt function, sync or async like the function.

    Raises:
        UsageError: an option is unknown or wrong, or no answer can have the type of the result.
    """
    # First of all: a type that no answer can have is an error of the definition, not of the first call.
    check_output(output)
    kind = AsyncPromptFunction if inspect.iscoroutinefunction(function) else PromptFunction
    return kind(function, wording, output, Settings().update(f"{wording.name}()", _merge_given(session, options)))


def _merge_given(session: MelleaSession | None, options: FunctionArguments) -> dict[str, Any]:
    return {**({} if session is None else {"session": session}), **options}
