"""Prompt functions: called like the functions that they are made of, and answered by a model."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar, Unpack, cast, overload

from mellea.core.runtime.portal import blocking
from mellea.core.thunk import ModelOutputThunk
from mellea.core.tracebacks import short_errors
from mellea.stdlib.generative.conditions import check_arguments, computed, pending
from mellea.stdlib.generative.deferred import deferred
from mellea.stdlib.generative.items import AsyncItemStream, ItemStream, as_async_items, as_items
from mellea.stdlib.generative.output import check_output
from mellea.stdlib.generative.settings import RESERVED, FunctionOptions, Settings
from mellea.stdlib.generative.wording import Call, Prompt, Wording
from mellea.stdlib.session import MelleaSession, current_session
from mellea.stdlib.streaming import AsyncStream, Stream

__all__ = ["AsyncPromptFunction", "PromptFunction", "make"]

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
T = TypeVar("T")

_NO_OWNER: Any = object()


@short_errors
class _Prompted(Generic[P, R]):
    """What prompt functions have in common, sync or async.

    Args:
        function: what it is made of.
        wording: how a call becomes a prompt.
        output: returns the type of the result.
        settings: its options.
    """

    def __init__(
        self, function: Callable[..., Any], wording: Wording, output: Callable[[], Any], settings: Settings
    ) -> None:
        self._wording = wording
        self._output = output
        self._settings = settings
        self._owner: Any = _NO_OWNER
        functools.update_wrapper(cast("Callable[..., Any]", self), function, updated=())

    def with_options(self, *, session: MelleaSession | None = None, **options: Unpack[FunctionOptions]) -> Self:
        """Return the same function with other options.

        Args:
            session: the session to use.
            options: as for the decorator; conditions are added, model options merged, all else is replaced.

        Raises:
            UsageError: an option is unknown or wrong.
        """
        given = {**({} if session is None else {"session": session}), **options}
        twin = copy.copy(self)
        twin._settings = self._settings.updated(f"{self._wording.name}.with_options()", given)
        return twin

    def _bound(self, owner: Any) -> Any:
        """Bind it to an object, as a method itself would be bound; through its class it stays as it is."""
        if owner is None:
            return self
        twin = copy.copy(self)
        twin._owner = owner
        return twin

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._wording.name!r}>"

    async def _answer(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> R:
        session, settings, call = self._bind(args, kwargs)
        prompt = await self._prompt(session, settings, call)
        thunk = await session.ainstruct(prompt.description, **self._arguments(settings, prompt))
        return cast("R", thunk.value if self._is_text() else thunk.parsed)

    def _bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[MelleaSession, Settings, Call]:
        what = f"{self._wording.name}()"
        options = {name: value for name, value in kwargs.items() if name in RESERVED}
        if args and isinstance(args[0], MelleaSession):
            settings = self._settings.updated(what, {"m": args[0], **options})
            args = args[1:]
        else:
            settings = self._settings.updated(what, options)
        if self._owner is not _NO_OWNER:
            args = (self._owner, *args)
        call = self._wording.bind(args, {name: value for name, value in kwargs.items() if name not in RESERVED})
        return settings.session or current_session(), settings, call

    async def _prompt(self, session: MelleaSession, settings: Settings, call: Call) -> Prompt:
        """Wait for what the prompt needs, and check what the arguments have to meet."""
        if settings.preconditions or self._wording.needs_values:
            call = await computed(call)
        await check_arguments(self._wording.name, settings.preconditions, call, session.backend)
        return await self._wording.prompt(call)

    def _arguments(self, settings: Settings, prompt: Prompt) -> dict[str, Any]:
        return {**prompt.parts, **settings.arguments(), "format": None if self._is_text() else self._output()}

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

        The arguments are those of the function. It is launched when its reading begins.

        Raises:
            UsageError: an argument is missing or wrong.
        """
        by_step = self._settings.release is not None
        stream: Stream[Any] = Stream(self._launcher(args, kwargs), has_format=not self._is_text(), by_step=by_step)
        return as_items(stream, self._output())

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
        launch, by_step = self._launcher(args, kwargs), self._settings.release is not None
        stream: AsyncStream[Any] = AsyncStream(launch, has_format=not self._is_text(), by_step=by_step)
        return as_async_items(stream, self._output())

    def _launcher(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Callable[[], ModelOutputThunk[Any]]:
        """Check the arguments now; what is returned launches the call on the loop that it is called on."""
        session, settings, call = self._bind(args, kwargs)

        def ask(prompt: Prompt) -> Callable[[], ModelOutputThunk[Any]]:
            return session.astream(prompt.description, **self._arguments(settings, prompt))._started

        if not (settings.preconditions or self._wording.needs_values):
            return ask(self._wording.prompt_now(call))

        async def begin() -> ModelOutputThunk[Any]:
            return ask(await self._prompt(session, settings, call))()

        start = deferred(
            f"{self._wording.name}()",
            begin,
            format=None if self._is_text() else self._output(),
            backend=session.backend,
            dependencies=[thunk.record for thunk in pending(call)],
        )

        def launch() -> ModelOutputThunk[Any]:
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
        return self._bound(owner)

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
        return _answer(self, args, kwargs)


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
        return self._bound(owner)

    @overload
    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R: ...
    @overload
    async def __call__(self, m: MelleaSession, /, *args: P.args, **kwargs: P.kwargs) -> R: ...
    async def __call__(self, *args: Any, **kwargs: Any) -> Any:  # type: ignore[misc]  # mypy can't match a ParamSpec
        """Ask the model, and return the result; otherwise like `PromptFunction`."""
        return await self._answer(args, kwargs)


async def _aanswer(function: _Prompted[..., R], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> R:
    return await function._answer(args, kwargs)


_answer = blocking(_aanswer)


@short_errors
def make(
    function: Callable[..., Any], wording: Wording, output: Callable[[], Any], options: Mapping[str, Any]
) -> PromptFunction[Any, Any] | AsyncPromptFunction[Any, Any]:
    """Make a prompt function, sync or async as the function is.

    Raises:
        UsageError: an option is unknown or wrong, or no answer can have the type of the result.
    """
    check_output(output)
    kind = AsyncPromptFunction if inspect.iscoroutinefunction(function) else PromptFunction
    return kind(function, wording, output, Settings().updated(f"{wording.name}()", options))
