"""Sending a request: the one way to a backend's `run`, past the hooks of observers; its log, and its close.

Rules:

- Every request for text passes here once, whoever makes it: verbs, attempts, steps, judges, compactors, agents.
- The hooks are those of the observers of the request's span, so they hold wherever the span is told.
- A hook that fails ends the request with its error. What was changed is what `run.sent` shows.
- Without hooks nothing is added between the backend and the run.
- The log has a line at INFO when a request is over, its request and its end at DEBUG; never any content.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING, Any

import anyio

from mellea.core.accumulator import join_deltas
from mellea.core.backend import Backend, Batches, Request, SentRequest, narrow_tools
from mellea.core.events import Event, KeepAlive
from mellea.core.options import ModelOption
from mellea.core.runtime.ledger import enter_request
from mellea.core.runtime.record import CLOSE_SECONDS
from mellea.core.runtime.tasks import outcome_of
from mellea.core.tracebacks import add_note
from mellea.errors import MelleaError, OutputError, UsageError

if TYPE_CHECKING:
    from mellea.core.accumulator import Generation
    from mellea.core.runtime.ledger import Ledger
    from mellea.core.runtime.record import Record

__all__ = ["change_request", "close_source", "is_open", "log_end", "send"]

_log = logging.getLogger("mellea")

Hook = Callable[..., Any]


def send(
    run: Record, backend: Backend, request: Request, *, whole: Record | None = None, has_passed: bool = False
) -> AsyncIterator[Event]:
    """Send a request for a run, and return the backend's events.

    Args:
        run: makes the request.
        backend: whom to ask.
        request: what to ask; of several tools that a `tool_choice` names, these alone are offered.
        whole: the run that this request is a step of, which shows it too.
        has_passed: whether it has passed the hooks.
    """
    if ModelOption.TOOL_CHOICE in request.options:
        request = narrow_tools(request)
    if run.spans is not None and not has_passed:
        told = run.spans.innermost.observers
        before, after = told.before_request, told.after_response
        if before or after:
            # In reverse, so the observer that saw the request last sees the answer first, like wrappers around it.
            return _send_past(run, backend, request, before, after[::-1], whole)
    run.sent = SentRequest(backend, request)
    if run.spans is not None:
        run.spans.innermost.request = run.sent
    if whole is not None:
        whole.sent = run.sent
    if _log.isEnabledFor(logging.DEBUG):
        _log.debug("request: %r", run.sent)
    return backend.run(request)


async def change_request(run: Record, request: Request) -> Request:
    """Return a request as the hooks of a run's observers change it, where the answer isn't made of events.

    Raises:
        MelleaError: a hook refuses it, or failed.
    """
    hooks = () if run.spans is None else run.spans.innermost.observers.before_request
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
    run: Record, backend: Backend, request: Request, before: Sequence[Hook], after: Sequence[Hook], whole: Record | None
) -> AsyncIterator[Event]:
    source = send(run, backend, await _change_request(request, before), whole=whole, has_passed=True)
    held: list[Event] = []
    try:
        async for event in source:
            if not after or isinstance(event, KeepAlive):
                yield event
            else:
                held.append(event)
                yield KeepAlive()  # so that a held back answer isn't taken for a silent provider
    finally:
        # In `finally`, as readers may leave between two events; the connection has to close then, not at the next
        # collection.
        await close_source(source)
    # Joined, so a hook sees the text of an answer and not how the network has cut it.
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


def log_end(run: Record, said: Generation, opened: float, ledger: Ledger | None) -> None:
    """Say how a request ended: the model, seconds, tokens, why it stopped or failed; and enter what it cost.

    Args:
        run: has ended, or goes on with another request.
        said: what the request came to.
        opened: when its request was sent, as `time.monotonic()` tells.
        ledger: that of the session.
    """
    # Counted before the log is asked: the cost has to be right even if nothing is logged.
    if ledger is not None:
        enter_request(ledger, run, said)
    if not opened or not _log.isEnabledFor(logging.INFO):
        return
    seconds = time.monotonic() - opened
    usage = said.usage
    tokens = "? + ? tokens" if usage is None else f"{usage.input_tokens} + {usage.output_tokens} tokens"
    end = said.finish_reason if run.error is None else type(run.error).__name__
    _log.info("%s/%s: %.2f s, %s, %s", run.backend, said.model or run.model, seconds, tokens, end)
    if run.time_to_first_token is not None:
        _log.debug(
            "%s: first token after %.3f s, %d events", said.response_id, run.time_to_first_token, len(run.events)
        )
