"""Sending a request: the one way to a backend's `run`, past the hooks of observers.

Rules:

- Every request for text passes here once, whoever makes it: verbs, attempts, steps, judges, compactors, agents.
- The hooks are those of the observers of the request's span, so they hold wherever the span is told.
- A hook that fails ends the request with its error. What was changed is what `run.sent` shows.
- Without hooks nothing is added between the backend and the run.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from mellea.core.accumulator import join_deltas
from mellea.core.backend import Backend, Request, narrow_tools
from mellea.core.events import Event, KeepAlive
from mellea.core.runtime.call_log import log_request
from mellea.core.runtime.source import close_source
from mellea.core.runtime.tasks import outcome_of
from mellea.core.sent import SentRequest
from mellea.core.tracebacks import add_note
from mellea.errors import MelleaError, OutputError, UsageError

if TYPE_CHECKING:
    from mellea.core.runtime.producer import Run

__all__ = ["change_request", "send"]

Hook = Callable[..., Any]


def send(run: Run, backend: Backend, request: Request, *, whole: Run | None = None) -> AsyncIterator[Event]:
    """Send a request for a run, and return the backend's events.

    Args:
        run: makes the request.
        backend: whom to ask.
        request: what to ask; of several tools that a `tool_choice` names, these alone are offered.
        whole: the run that this request is a step of, which shows it too.
    """
    request = narrow_tools(request)
    if run.spans is None:
        return _open(run, backend, whole, request)
    span = run.spans.innermost
    before, after = span.hooks("before_request"), span.hooks("after_response")
    if not before and not after:
        return _open(run, backend, whole, request)
    return _send_past(request, before, after[::-1], partial(_open, run, backend, whole))


def _open(run: Run, backend: Backend, whole: Run | None, request: Request) -> AsyncIterator[Event]:
    run.sent = SentRequest(backend, request)
    if whole is not None:
        whole.sent = run.sent
    log_request(run)
    return backend.run(request)


async def change_request(run: Run, request: Request) -> Request:
    """Return a request as the hooks of a run's observers change it, where the answer isn't made of events.

    Raises:
        MelleaError: a hook refuses it, or failed.
    """
    hooks = [] if run.spans is None else run.spans.innermost.hooks("before_request")
    return await _change_request(request, hooks)


async def _change_request(request: Request, hooks: Sequence[Hook]) -> Request:
    for hook in hooks:
        changed = await _ask(hook, request)
        if changed is None:
            continue
        if not isinstance(changed, Request):
            raise UsageError(
                f"{_name(hook)} returns a Request, as dataclasses.replace(request, …) makes one, or None, "
                f"not {changed!r}"
            )
        request = changed
    return request


async def _send_past(
    request: Request, before: Sequence[Hook], after: Sequence[Hook], open: Callable[[Request], AsyncIterator[Event]]
) -> AsyncIterator[Event]:
    source = open(await _change_request(request, before))
    held: list[Event] = []
    try:
        async for event in source:
            if not after or isinstance(event, KeepAlive):
                yield event
            else:
                held.append(event)
                yield KeepAlive()  # so that a held back answer isn't taken for a silent provider
    finally:
        await close_source(source)
    for event in await _change_events(join_deltas(held), after) if after else ():
        yield event


async def _change_events(events: list[Event], hooks: Sequence[Hook]) -> list[Event]:
    for hook in hooks:
        changed = await _ask(hook, events)
        if changed is None:
            continue
        if not isinstance(changed, (list, tuple)) or not all(isinstance(event, Event) for event in changed):
            raise UsageError(f"{_name(hook)} returns a list of events, or None, not {changed!r}")
        events = list(changed)
    return events


async def _ask(hook: Hook, value: Any) -> Any:
    try:
        return await outcome_of(hook, value)
    except MelleaError as error:
        add_note(error, f"raised by {_name(hook)}")
        raise
    except Exception as error:
        raise OutputError(f"{_name(hook)} failed: {type(error).__name__}: {error}") from error


def _name(hook: Hook) -> str:
    return f"{getattr(hook, '__qualname__', type(hook).__name__)}()"
