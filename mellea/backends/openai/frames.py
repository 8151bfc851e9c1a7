"""What the decoders of both of OpenAI's formats share: from bytes to JSON objects, and how a stream ends.

Rules:

- The events that come before an error in one read are returned; the error is raised by the next call.
- What comes after the end is ignored, whatever it is.
- An event that wasn't ended by an empty line doesn't count, so it is missing and not malformed.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from mellea.backends._transport.sse import SseDecoder
from mellea.backends.openai.failure import error_of
from mellea.backends.openai.fields import parse_object
from mellea.core.events import Event, TextDelta
from mellea.core.structured.wrapped import Unwrapper
from mellea.errors import BackendError, InterruptedStreamError

__all__ = ["DONE", "StreamDecoder"]

DONE = b"[DONE]"
"""What OpenAI's chat completions end with; others leave it out, or put it behind everything."""


class StreamDecoder:
    """Turns one response's bytes into events, wherever the bytes are split.

    Args:
        model: the model that was asked for, until the provider names the one that answers.
        backend: name of the service, for errors and in front of what it signs.
        is_wrapped: whether the answer is JSON in an object of our own making.
    """

    def __init__(self, model: str = "", *, backend: str = "openai", is_wrapped: bool = False) -> None:
        self._model: str | None = model or None
        self._asked = model
        self._backend = backend
        self._response_id: str | None = None
        self._sse = SseDecoder()
        self._said: list[str] = []
        self._wrap = Unwrapper() if is_wrapped else None
        self.error: BackendError | None = None
        self._has_ended = False

    def feed(self, data: bytes) -> list[Event]:
        """Take more bytes and return the events that they complete.

        Raises:
            BackendError: the provider reports an error, or its bytes make no sense.
        """
        if self.error is not None:
            raise self.error
        events: list[Event] = []
        try:
            if not self._has_ended:
                self._frames(self._sse.payloads(data), events)
        except BackendError as error:
            self._fail(error)
            if not events:
                raise
        return events

    def close(self) -> list[Event]:
        """Say that no more bytes will come; returns the last events.

        Raises:
            InterruptedStreamError: the provider's own end of the stream hasn't come.
        """
        if self.error is not None:
            raise self.error
        if self._has_ended:
            return []
        events: list[Event] = []
        try:
            self._end(events)
        except BackendError as error:
            self._fail(error)
            raise
        return events

    def plain(self, body: bytes) -> list[Event]:
        """Return the events of an answer that came as one JSON body.

        Raises:
            BackendError: the body holds an error, or makes no sense.
        """
        events: list[Event] = []
        try:
            self._plain(parse_object(body), events)
        except BackendError as error:
            self._fail(error)
            raise
        return events

    @abstractmethod
    def _frames(self, frames: list[bytes], events: list[Event]) -> None:
        """Take the data of some of the stream's events, up to the answer's end; empty data say nothing."""

    @abstractmethod
    def _plain(self, body: dict[str, Any], events: list[Event]) -> None:
        """Take a whole answer."""

    @abstractmethod
    def _end(self, events: list[Event]) -> None:
        """End the stream where its bytes end."""

    def _say(self, text: str, events: list[Event]) -> None:
        if self._wrap is not None:
            text = self._wrap.feed(text)
            if not text:
                return
        self._said.append(text)
        events.append(TextDelta(text))

    def _say_rest(self, events: list[Event]) -> None:
        if self._wrap is not None and (rest := self._wrap.close()):
            self._said.append(rest)
            events.append(TextDelta(rest))

    def _fail(self, error: BackendError) -> None:
        error.backend = error.backend or self._backend
        error.model = error.model or self._asked or self._model
        error.partial = error.partial or "".join(self._said)
        self.error = error

    def _reported(self, error: Any) -> BackendError:
        return error_of(error)

    def _interrupted(self, missing: str) -> InterruptedStreamError:
        return InterruptedStreamError(f"the stream was cut: it ended without {missing}", is_retryable=True)
