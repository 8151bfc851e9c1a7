"""The events of a backend on their way to a run: past the hooks of observers, and closed at their end.

Rules:

- Every request passes the hooks that `send` (`launch.py`) sends for a run which has some, and no other.
- The hooks are those of the observers of the request's span, so they hold wherever the span is told.
- A hook that fails ends the request with its error. What was changed is what `run.sent` shows.
- A hook that takes long isn't taken for a silent provider: meanwhile only the total deadline counts.
- A close is shielded and bounded, and whatever it raises, what the generation came to stays as it is.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import anyio

from mellea.core.accumulator import join_deltas
from mellea.core.backend import Backend, Batches, Request
from mellea.core.events import Event, KeepAlive
from mellea.core.runtime.failure import Exit
from mellea.core.runtime.record import CLOSE_SECONDS
from mellea.core.runtime.tasks import find_outcome
from mellea.core.tracebacks import add_note
from mellea.errors import MelleaError, OutputError, UsageError

if TYPE_CHECKING:
    from mellea.core.observer import Span
    from mellea.core.runtime.record import Record

__all__ = ["Hooks", "change_request", "close_source", "is_open"]

_log = logging.getLogger("mellea")

Hook = Callable[..., Any]


class Hooks:
    """What the observers of a span change in a request and its answer, and whom they send it to.

    Args:
        span: of the request.
        at_work: makes the block that a hook is called in.
    """

    __slots__ = ("_after", "_at_work", "_before", "_choosing")

    def __init__(self, span: Span, at_work: Callable[[], AbstractContextManager[None]] = nullcontext) -> None:
        self._at_work = at_work
        told = span.observers
        self._before: Sequence[Hook] = told.before_request
        # In reverse, so the observer that saw the request last sees the answer first, like wrappers around it.
        self._after: Sequence[Hook] = told.after_response[::-1]
        self._choosing: Sequence[Hook] = told.choose_backend

    async def change_request(self, request: Request) -> Request:
        """Return the request that is to be sent in place of one.

        Raises:
            MelleaError: a hook refuses it, or failed.
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
        """Return whom to ask in place of a backend: the one that the last hook names."""
        for hook in self._choosing:
            chosen = await self._ask(hook, backend, request)
            if chosen is not None and not isinstance(chosen, Backend):
                raise UsageError(f"{_name(hook)} returns a backend, or None, not {chosen!r}")
            backend = backend if chosen is None else chosen
        return backend

    async def pass_events(
        self, backend: Backend, request: Request, send: Callable[[Backend, Request], AsyncIterator[Event]]
    ) -> AsyncIterator[Event]:
        """Change a request, have it sent to whom it should go, and yield the events of its answer, changed as well."""
        request = await self.change_request(request)
        source = send(await self._choose_backend(backend, request), request)
        held: list[Event] = []
        try:
            async for event in source:
                if not self._after or isinstance(event, KeepAlive):
                    yield event
                else:
                    held.append(event)
                    yield KeepAlive()  # so that a held back answer isn't taken for a silent provider
        finally:
            # In `finally`, as readers may leave between two events; the connection has to close then, not at the next
            # collection.
            await close_source(source)
        # Joined, so a hook sees the text of an answer and not how the network has cut it.
        for event in await self._change_events(join_deltas(held)) if self._after else ():
            yield event

    async def _change_events(self, events: list[Event]) -> list[Event]:
        for hook in self._after:
            changed = await self._ask(hook, events)
            if changed is None:
                continue
            if not isinstance(changed, (list, tuple)) or not all(isinstance(event, Event) for event in changed):
                raise UsageError(f"{_name(hook)} returns a list of events, or None, not {changed!r}")
            events = list(changed)
        return events

    async def _ask(self, hook: Hook, *values: Any) -> Any:
        try:
            with self._at_work():
                return await find_outcome(hook, *values)
        except MelleaError as error:
            add_note(error, f"raised by {_name(hook)}")
            raise
        except (SystemExit, KeyboardInterrupt) as error:  # an exit of the program's, and no fault of the backend's
            raise Exit(error) from None
        except Exception as error:
            raise OutputError(f"{_name(hook)} failed: {type(error).__name__}: {error}") from error


async def change_request(run: Record, request: Request) -> Request:
    """Return a request as the hooks of a run's observers change it, where the answer isn't made of events.

    Raises:
        MelleaError: a hook refuses it, or failed.
    """
    return request if run.spans is None else await Hooks(run.spans.innermost).change_request(request)


def _name(hook: Hook) -> str:
    return f"{getattr(hook, '__qualname__', type(hook).__name__)}()"


# -- its end -----------------------------------------------------------------------------------------------


def is_open(source: AsyncIterator[Event]) -> bool:
    """Whether there is anything to close: a generator that has come to its end has no frame any more."""
    generator: Any = source.batches if isinstance(source, Batches) else source
    return hasattr(source, "aclose") and getattr(generator, "ag_frame", generator) is not None


async def close_source(source: AsyncIterator[Event]) -> None:
    """Close it, within `CLOSE_SECONDS`; whatever that raises, what the generation came to stays as it is."""
    if not is_open(source):
        return
    # Shielded, as most closes happen because of a cancellation; bounded, since a backend of the user's may hang.
    with anyio.move_on_after(CLOSE_SECONDS, shield=True):
        try:
            await source.aclose()  # type: ignore[attr-defined]
        except anyio.get_cancelled_exc_class():
            raise
        except BaseException:  # noqa: BLE001 - readers get the generation's own outcome
            _log.debug("a backend failed to close its stream", exc_info=True)
