"""`mellea.serve.sse(stream)`: the typed events of an answer, as JSON, in server-sent events.

Each event is one line `data: …` with an object whose `type` names it; `docs/saved_state.md` has their fields. There
are also `start`, `error`, `abort`, `pending`, and the end mark `[DONE]`, which follows every ending.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from mellea.core.entrance import entrance
from mellea.core.events import Event, NestedEvent, ToolProgress
from mellea.core.serialise import VERSION, json_value, to_jsonable
from mellea.core.surrogates import replace_surrogates
from mellea.errors import UsageError
from mellea.serve.response import (
    KEEP_ALIVE_SECONDS,
    RESPONSE_WAYS,
    STALL_SECONDS,
    Encoder,
    Ending,
    ErrorText,
    StreamResponse,
    describe_error,
)
from mellea.serve.served_stream import Streamable

__all__ = ["DONE", "SseEncoder", "dump_event", "sse", "write_data"]

DONE = b"data: [DONE]\n\n"
"""The end mark."""


def write_data(value: Any) -> bytes:
    """Return a JSON value as one server-sent event."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return b"data: %b\n\n" % replace_surrogates(text).encode()


def dump_event(event: Event) -> Any:
    """Return an event as a JSON value. A tool's progress is written as text if it has no JSON form.

    Raises:
        UsageError: it has none.
    """
    try:
        return to_jsonable(event)
    # A tool may report any object, and a stream that failed because of one would lose the answer.
    except UsageError:
        if isinstance(event, ToolProgress):
            return to_jsonable(replace(event, value=json_value(event.value, serialize_unknown=True)))
        if isinstance(event, NestedEvent):
            # Dumped with a placeholder first, since the inner event may have no JSON form.
            return {**to_jsonable(replace(event, event=ToolProgress("", "", None))), "event": dump_event(event.event)}
        raise


class SseEncoder(Encoder):
    """Writes events as JSON.

    Args:
        error_text: makes the text of an error.
    """

    # A comment first, so that proxies and browsers pass on the headers immediately.
    opening: ClassVar[bytes] = b": stream-open\n\n" + write_data(
        {"type": "start", "format": "mellea", "version": VERSION}
    )

    def __init__(self, error_text: ErrorText = None) -> None:
        self._error_text = error_text

    def feed(self, value: Event) -> bytes:
        """Return the event as a server-sent one."""
        return write_data(dump_event(value))

    def finish(self, ending: Ending) -> bytes:
        """Encode the ending and the end mark."""
        if ending.error is not None:
            return write_data({"type": "error", "error": describe_error(ending.error, self._error_text)}) + DONE
        if ending.is_stopped:
            return write_data({"type": "abort"}) + DONE
        if ending.pending is not None:
            questions = [
                {"id": each.id, "kind": each.kind, "text": each.text, "path": each.path, "call": to_jsonable(each.call)}
                for each in ending.pending.questions
            ]
            return write_data({"type": "pending", "questions": questions}) + DONE
        # Also after errors and stops, so that a client can tell an end from a cut connection.
        return DONE


@entrance("sse", **RESPONSE_WAYS)
def sse(
    stream: Streamable,
    *,
    headers: Mapping[str, str] | None = None,
    error_text: ErrorText = None,
    keep_alive: float = KEEP_ALIVE_SECONDS,
    stall: float = STALL_SECONDS,
) -> StreamResponse:
    """Make a response from the typed events of an answer: server-sent events with JSON, sent as they arrive.

    It is a Starlette response, also for FastAPI, if Starlette is installed, and always an ASGI application. When the
    client leaves, the model is stopped.

    Args:
        stream: a thunk, a stream of a session, a function or an agent, or an iterator of events.
        headers: additional headers.
        error_text: makes the text of an error for the client, such as `str`; by default it only learns that there was
            one. The log of `mellea.serve` has the error.
        keep_alive: seconds of silence after which a comment is sent as a keep-alive.
        stall: seconds without reading after which a client counts as gone.

    Raises:
        UsageError: an argument is wrong.
    """
    return StreamResponse(stream, SseEncoder(error_text), headers=headers, keep_alive=keep_alive, stall=stall)
