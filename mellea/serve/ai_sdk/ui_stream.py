"""`mellea.serve.ui(stream, version=…)`: the UI message stream that the clients of the AI SDK read.

Rules:

- Every ending has `[DONE]`. It follows `finish` after a success, `error` after a failure, without a `finish` after
  it, and `abort` after a stop. Without these a stream looks complete to clients.
- A run that waits for approvals requests them, with a signature if there is a secret, and finishes with `tool-calls`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any, ClassVar, get_args

import anyio

from mellea.core.entrance import entrance
from mellea.core.events import Event
from mellea.core.serialise import json_value
from mellea.errors import UsageError
from mellea.serve.ai_sdk.approvals import sign_approval
from mellea.serve.ai_sdk.attempts import AttemptWriter
from mellea.serve.ai_sdk.parts import Part, PartWriter, Version, dump_usage
from mellea.serve.event_stream import DONE, write_data
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
from mellea.serve.served_stream import ServedStream, Streamable
from mellea.stdlib.agents import Pending
from mellea.stdlib.agents.signing import find_secret
from mellea.stdlib.tools import Question

__all__ = ["UI_HEADERS", "UiEncoder", "approval_id", "ui"]

UI_HEADERS: Mapping[str, str] = {
    "cache-control": "no-cache",
    "x-accel-buffering": "no",
    "x-vercel-ai-ui-message-stream": "v1",
}
"""Those of a UI message stream; without `connection`, which HTTP/2 forbids and HTTP/1.1 doesn't need."""

_DATA_SECONDS = 0.1
"""The shortest time between two partial objects, each of which is sent whole."""

_LONGEST_NAME = 64


Keep = Callable[[Pending, Mapping[str, str]], Awaitable[None]]


class UiEncoder(Encoder):
    """Writes a UI message stream.

    Args:
        version: the major version of the clients' `ai` package.
        data: send the typed result as parts `data-NAME` while it is written, instead of its text.
        message_id: the id of the message; by default the client chooses one.
        metadata: metadata of the message, from its beginning.
        secret: signs questions about approvals.
        error_text: makes the text of an error.
        shows_attempts: whether clients are notified of rejected attempts.
        denied: the calls that a person has just declined.
        calls: ids of calls in the message that this one continues, and the clients' ids for them.
        keep: called, and awaited, with a suspended run and such ids, before the client is asked.

    Raises:
        UsageError: an argument is wrong.
    """

    headers: ClassVar[Mapping[str, str]] = UI_HEADERS

    def __init__(
        self,
        version: Version = 6,
        *,
        data: str | None = None,
        message_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        secret: bytes | None = None,
        error_text: ErrorText = None,
        shows_attempts: bool = False,
        denied: Collection[str] = (),
        calls: Mapping[str, str] | None = None,
        keep: Keep | None = None,
    ) -> None:
        if version not in get_args(Version):
            raise UsageError(f"version takes 5, 6 or 7, the major version of the clients' package ai, not {version!r}")
        if data is not None and not _is_name(data):
            raise UsageError(f"data takes a name for the parts data-NAME, of letters, digits, - and _, not {data!r}")
        self._version, self._data, self._secret, self._error_text = version, data, secret, error_text
        self._keep = keep
        self._writer = PartWriter(version, shows_text=data is None, denied=denied, calls=calls)
        self._attempts = AttemptWriter(version, self._writer, shows_attempts=shows_attempts)
        start: Part = {"type": "start"}
        if message_id is not None:
            start["messageId"] = message_id
        if metadata:
            start["messageMetadata"] = json_value(dict(metadata))
        self._start: Part | None = start
        self._shown: Any = None  # the latest partial object, and whether it was sent
        self._is_sent, self._sent_at = True, -_DATA_SECONDS

    def read(self, source: ServedStream) -> Sequence[AsyncIterator[Any]]:
        """Read the events, and the partial objects if they are sent."""
        return [source.events()] if self._data is None else [source.events(), source.partials()]

    def feed(self, value: Any) -> bytes:
        """Return the parts of an event, or of a partial object."""
        parts = self._attempts.feed(value) if isinstance(value, Event) else self._feed_partial(value)
        return self._write(parts)

    async def settle(self, ending: Ending) -> None:
        """Store a suspended run."""
        if ending.pending is not None and self._keep is not None:
            await self._keep(ending.pending, self._writer.calls)

    def finish(self, ending: Ending) -> bytes:
        """Encode the ending and the end mark."""
        if ending.error is not None:
            said = describe_error(ending.error, self._error_text)
            return self._write([{"type": "error", "errorText": said}]) + DONE
        if ending.is_stopped:
            return self._write([{"type": "abort"}]) + DONE
        # The last partial object may have been held back by the rate limit.
        parts = [] if self._is_sent else [self._write_partial()]
        if ending.pending is not None:
            parts += self._ask(ending.pending)
        # Open text and reasoning parts have to end before the message does.
        parts += self._writer.end()
        finish: Part = {"type": "finish", "finishReason": self._writer.finish_reason}
        if ending.pending is not None:
            finish["finishReason"] = "tool-calls"
        if metadata := self._describe(ending):
            finish["messageMetadata"] = metadata
        return self._write([*parts, finish]) + DONE

    def _write(self, parts: list[Part]) -> bytes:
        if self._start is not None:
            parts, self._start = [self._start, *parts], None
        return b"".join(map(write_data, parts))

    def _describe(self, ending: Ending) -> Part:
        known: Part = {} if self._writer.model is None else {"model": self._writer.model}
        if ending.usage is not None and (usage := dump_usage(ending.usage)):
            known["usage"] = usage
        return known

    # -- typed values ---------------------------------------------------------------------------------

    def _feed_partial(self, partial: Any) -> list[Part]:
        self._shown, self._is_sent = partial, False
        now = anyio.current_time()
        # Each is sent in full, so a long object at full speed would cost quadratic time.
        if not partial.is_complete and now - self._sent_at < _DATA_SECONDS:
            return []
        self._sent_at = now
        return [self._write_partial()]

    def _write_partial(self) -> Part:
        self._is_sent = True
        return {"type": f"data-{self._data}", "id": self._data, "data": json_value(self._shown.data)}

    # -- approvals ------------------------------------------------------------------------------------

    def _ask(self, pending: Pending) -> list[Part]:
        return [self._ask_for(pending, question) for question in pending.questions if question.kind == "approval"]

    def _ask_for(self, pending: Pending, question: Question) -> Part:
        # A sub-agent's question is about a call that the clients don't know; they know the outer one.
        call = pending.state.calls.get(question.id.partition("/")[0], question.call)
        name, asked = self._writer.find_call(call.tool_call_id), approval_id(pending, question)
        tool_input = json_value(dict(call.tool_args))
        told: Part = {"toolCallId": name}
        if self._secret is not None:
            told["signature"] = sign_approval(self._secret, asked, name, call.tool_name, tool_input)
        # Version 5 has no part for this, so a data part carries everything that has to be sent back.
        if self._version > 5:
            return {"type": "tool-approval-request", "approvalId": asked, **told, "reason": question.text}
        told |= {"toolName": call.tool_name, "input": tool_input, "reason": question.text}
        return {"type": "data-approval", "id": asked, "data": {"approvalId": asked, **told}}


def _is_name(name: Any) -> bool:
    if not (isinstance(name, str) and name.isascii() and name[:1].isalpha() and len(name) <= _LONGEST_NAME):
        return False
    return name.replace("-", "").replace("_", "").isalnum()


def approval_id(pending: Pending, question: Question) -> str:
    """Return the id of an approval: the unguessable id of the run's state, and the question's."""
    # The state's id changes with each state, so an earlier approval never matches a later question.
    return f"{pending.id}:{question.id}"


@entrance("ui", **RESPONSE_WAYS)
def ui(
    stream: Streamable,
    *,
    version: Version = 6,
    data: str | None = None,
    message_id: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    secret: str | bytes | None = None,
    shows_attempts: bool = False,
    error_text: ErrorText = None,
    headers: Mapping[str, str] | None = None,
    keep_alive: float = KEEP_ALIVE_SECONDS,
    stall: float = STALL_SECONDS,
) -> StreamResponse:
    """Make a response in the UI message stream of the AI SDK, for `useChat` and related clients.

    It is a Starlette response, also for FastAPI, if Starlette is installed, and always an ASGI application. When the
    client leaves, the model is stopped. Version 7 shows the attempts of a strategy live, since it can retract them;
    the others only get the accepted one.

    Args:
        stream: a thunk, a stream of a session, a function or an agent, or an iterator of strings or events.
        version: the major version of the clients' package `ai`: 5, 6 or 7.
        data: a name; the typed result is sent as parts `data-NAME` while it is written, instead of its text.
        message_id: the id of the message; by default the client chooses one.
        metadata: metadata of the message, from its beginning; `model` and `usage` are added at its end.
        secret: signs questions about approvals; by default `MELLEA_SECRET` from the environment.
        shows_attempts: whether clients are notified of rejected attempts, in transient parts `data-attempt` with the
            number, the requirement and the reason.
        error_text: makes the text of an error for the client, such as `str`; by default it only learns that there was
            one. The log of `mellea.serve` has the error. Errors of tools are sent as the model reads them.
        headers: additional headers.
        keep_alive: seconds of silence after which a comment is sent as a keep-alive.
        stall: seconds without reading after which a client counts as gone.

    Raises:
        UsageError: an argument is wrong.
    """
    encoder = UiEncoder(
        version,
        data=data,
        message_id=message_id,
        metadata=metadata,
        secret=find_secret(secret),
        error_text=error_text,
        shows_attempts=shows_attempts,
    )
    return StreamResponse(stream, encoder, headers=headers, keep_alive=keep_alive, stall=stall)
