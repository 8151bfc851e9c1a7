"""Passes the events of a backend to a run: applies the hooks of observers, and closes the source at the end.

Rules:

- Every request that `send` (`launch.py`) sends for a run with hooks passes these hooks, and no other request does.
- The hooks are those of the observers of the request's span, so they apply wherever the span is reported. What a hook
  sends itself doesn't pass the hooks of its own observer, or it would ask itself forever.
- A hook that fails ends the request with its error. `run.sent` shows the changed request.
- While a hook runs, only the total deadline counts: a slow hook isn't a silent provider.
- A close is shielded and has a time limit, and whatever it raises doesn't change the generation's outcome.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import anyio

from mellea.core.accumulator import join_deltas
from mellea.core.backend import Backend, Batches, Request
from mellea.core.events import Event, KeepAlive, StreamEnd
from mellea.core.runtime.failure import Exit, describe_error
from mellea.core.runtime.record import CLOSE_SECONDS
from mellea.core.runtime.tasks import find_outcome
from mellea.core.tracebacks import add_note
from mellea.errors import MelleaError, OutputError, UsageError

if TYPE_CHECKING:
    from mellea.core.observer import Hook, Span
    from mellea.core.runtime.record import Record

__all__ = ["Hooks", "change_request", "close_source", "is_open"]

_log = logging.getLogger("mellea")


class Hooks:
    """The hooks of a span's observers, which may change a request, its backend and its answer.

    Args:
        span: of the request.
        at_work: makes the block that a hook is called in.
    """

    __slots__ = ("_after", "_at_work", "_before", "_choosing")

    def __init__(self, span: Span, at_work: Callable[[], AbstractContextManager[None]] = nullcontext) -> None:
        self._at_work = at_work
        observers, asked = span.observers, _asked.get()
        self._before = _leave_out(asked, observers.before_request)
        # In reverse, so the observer that saw the request last sees the answer first, like wrappers around it.
        self._after = _leave_out(asked, observers.after_response[::-1])
        self._choosing = _leave_out(asked, observers.choose_backend)

    async def change_request(self, request: Request) -> Request:
        """Return the request to send in place of one.

        Raises:
            MelleaError: a hook rejects it, or failed.
        """
        for hook in self._before:
            changed = await self._ask(hook, request)
            if changed is None:
                continue
            if not isinstance(changed, Request):
                raise UsageError(
                    f"{_name(hook)} returns a Request, as dataclasses.replace(request, …) makes one, or None, "
                    f"not {changed!r}"
                )
            request = changed
        return request

    async def _choose_backend(self, backend: Backend, request: Request) -> Backend:
        """Return the backend to use in place of one: the one that the last hook returns."""
        for hook in self._choosing:
            chosen = await self._ask(hook, backend, request)
            if chosen is not None and not isinstance(chosen, Backend):
                raise UsageError(f"{_name(hook)} returns a backend, or None, not {chosen!r}")
            backend = backend if chosen is None else chosen
        return backend

    async def pass_events(
        self, backend: Backend, request: Request, send: Callable[[Backend, Request], AsyncIterator[Event]]
    ) -> AsyncIterator[Event]:
        """Apply the hooks to a request, send it, and yield the events of its answer as the hooks change them."""
        request = await self.change_request(request)
        source = send(await self._choose_backend(backend, request), request)
        held: list[Event] = []
        try:
            async for event in source:
                if not self._after or isinstance(event, KeepAlive):
                    yield event
                else:
                    held.append(event)
                    yield KeepAlive()  # so that a held answer isn't mistaken for a silent provider
        finally:
            # In `finally`, as readers may leave between two events; the connection has to close then, not at garbage
            # collection.
            await close_source(source)
        # Joined, so that a hook sees the text of an answer and not how the network split it.
        for event in await self._change_events(join_deltas(held)) if self._after else ():
            yield event

    async def _change_events(self, events: list[Event]) -> list[Event]:
        for hook in self._after:
            changed = await self._ask(hook, events)
            if changed is None:
                continue
            if not isinstance(changed, (list, tuple)) or not all(isinstance(event, Event) for event in changed):
                raise UsageError(f"{_name(hook)} returns a list of events, or None, not {changed!r}")
            if _has_end(events) and not _has_end(changed):
                raise UsageError(
                    f"{_name(hook)} left out the StreamEnd, with which every answer ends; return it last, or raise an "
                    "error to reject the answer"
                )
            events = list(changed)
        return events

    async def _ask(self, hook: Hook, *values: Any) -> Any:
        observer, function = hook
        token = _asked.set((*_asked.get(), observer))
        try:
            with self._at_work():
                return await find_outcome(function, *values)
        except MelleaError as error:
            add_note(error, f"raised by {_name(hook)}")
            raise
        except (SystemExit, KeyboardInterrupt) as error:  # the program's own exit, not the backend's fault
            raise Exit(error) from None
        except Exception as error:
            raise OutputError(f"{_name(hook)} failed: {describe_error(error)}") from error
        finally:
            with suppress(ValueError):  # the garbage collector closes a generator in another context
                _asked.reset(token)


def _has_end(events: Sequence[Event]) -> bool:
    return any(isinstance(event, StreamEnd) for event in events)


async def change_request(run: Record, request: Request) -> Request:
    """Apply the hooks of a run's observers to a request whose answer isn't a stream of events.

    Raises:
        MelleaError: a hook rejects it, or failed.
    """
    return request if run.spans is None else await Hooks(run.spans.innermost).change_request(request)


_asked: ContextVar[tuple[Any, ...]] = ContextVar("mellea_asked", default=())
"""The observers one of whose hooks runs now."""


def _leave_out(asked: tuple[Any, ...], hooks: Sequence[Hook]) -> Sequence[Hook]:
    """Return the hooks without those of the observers that are being asked."""
    return [hook for hook in hooks if not any(hook[0] is each for each in asked)] if asked else hooks


def _name(hook: Hook) -> str:
    function = hook[1]
    return f"{getattr(function, '__qualname__', type(function).__name__)}()"


# -- its end -----------------------------------------------------------------------------------------------


def is_open(source: AsyncIterator[Event]) -> bool:
    """Whether there is anything to close: a finished generator has no frame."""
    generator: Any = source.batches if isinstance(source, Batches) else source
    return hasattr(source, "aclose") and getattr(generator, "ag_frame", generator) is not None


async def close_source(source: AsyncIterator[Event]) -> None:
    """Close it, within `CLOSE_SECONDS`; whatever that raises doesn't change the generation's outcome."""
    if not is_open(source):
        return
    # Shielded, as most closes are caused by a cancellation; with a time limit, since a user's backend may hang.
    with anyio.move_on_after(CLOSE_SECONDS, shield=True):
        try:
            await source.aclose()  # type: ignore[attr-defined]
        except anyio.get_cancelled_exc_class():
            raise
        except BaseException:  # noqa: BLE001 - readers get the generation's own outcome
            _log.debug("a backend failed to close its stream", exc_info=True)
