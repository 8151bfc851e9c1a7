"""Decodes the engine's chunks, which look like streamed chat completions, into events."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from mellea.backends.http.thoughts import ThoughtTags
from mellea.backends.llama_cpp.marks import JOINER
from mellea.backends.llama_cpp.repetition import Repetition
from mellea.core.events import (
    Event,
    FinishReason,
    KeepAlive,
    ReasoningDelta,
    StreamEnd,
    TextDelta,
    Usage,
    UsageEvent,
)
from mellea.core.results import EmbeddingResult
from mellea.errors import BackendError, BadRequestError, InterruptedStreamError, MelleaError

__all__ = ["Decoder", "convert_error", "decode_embeddings"]

_FINISH: dict[str, FinishReason] = {"stop": "stop", "length": "length", "tool_calls": "tool_call"}

_JSON_STARTS = frozenset('{["-0123456789tfn')


class Decoder:
    """Turns one generation's chunks into events.

    Args:
        model: the model, for errors and for the end.
        is_json: whether a grammar restricts the answer to JSON, so that anything else means the grammar was lost.
        drops_joiners: whether to remove the character that breaks control tokens from an answer that repeats the
        prompt.
        stops_repetition: whether to end a text that only repeats itself; JSON is never ended.

    Attributes:
        is_over: whether the answer is complete, and the engine may stop.
    """

    def __init__(
        self, model: str, *, is_json: bool = False, drops_joiners: bool = False, stops_repetition: bool = False
    ) -> None:
        self.is_over = False
        self._repetition = Repetition() if stops_repetition and not is_json else None
        self._usage = Usage()
        self._written = 0
        self._model = model
        self._drops_joiners = drops_joiners
        self._must_be_json = is_json
        self._finish: str | None = None
        self._response_id: str | None = None
        self._has_ended = False
        self._tags = ThoughtTags()

    def feed(self, chunk: Mapping[str, Any]) -> list[Event]:
        """Return the events of one chunk.

        Raises:
            BadRequestError: the prompt is longer than the context window, or the engine rejected the request.
            BackendError: the engine failed.
        """
        if self.is_over:
            return []
        if "error" in chunk:
            raise _make_error(chunk["error"], self._model)
        # The tokens are counted in case the answer is stopped here, without usage.
        if (progress := chunk.get("prompt_progress")) is not None:
            self._usage = replace(self._usage, input_tokens=progress.get("total"))
            return [KeepAlive()]
        events: list[Event] = []
        for choice in chunk.get("choices", ()):
            self._read_choice(choice, events)
        self._response_id = chunk.get("id", self._response_id)
        if (usage := chunk.get("usage")) is not None:
            events.append(UsageEvent(_read_usage(usage)))
            # The usage is the engine's last chunk, after the finish reason.
            events += self._end()
        return events if self._tags.is_over else self._tags.feed(events)

    def close(self) -> list[Event]:
        """Return the last events.

        Raises:
            InterruptedStreamError: the engine never said why it stopped.
        """
        if self.is_over and not self._has_ended:
            # The engine only reports usage at its own end; a piece of text is a token, except for rare characters.
            self._finish = "length"
            usage = UsageEvent(replace(self._usage, output_tokens=self._written))
            return self._tags.feed([usage, *self._end()])
        return [] if self._has_ended else self._tags.feed(self._end())

    def _read_choice(self, choice: Mapping[str, Any], events: list[Event]) -> None:
        delta = choice.get("delta", {})
        text = delta.get("content")
        if text and self._drops_joiners:
            text = text.replace(JOINER, "")
        if text:
            if self._must_be_json:
                self._check(text)
            events.append(TextDelta(text))
            self._look_for_repetition(text)
        if thought := delta.get("reasoning_content"):
            events.append(ReasoningDelta(thought))
        if reason := choice.get("finish_reason"):
            self._finish = reason

    def _look_for_repetition(self, text: str) -> None:
        if self._repetition is not None:
            self._written += 1
            # The reader tells the engine to stop; here it is only recorded.
            self.is_over = self.is_over or self._repetition.feed(text)

    def _check(self, text: str) -> None:
        # If the engine can't compile a grammar, it ignores it without an error.
        self._must_be_json = False
        if text[0] not in _JSON_STARTS:
            raise BackendError(
                f"the engine didn't enforce the schema: the answer begins with {text[:20]!r}, which is not JSON; "
                "perhaps no value at all can match it",
                backend="llama_cpp",
                model=self._model,
            )

    def _end(self) -> list[Event]:
        if self._finish is None:
            raise InterruptedStreamError(
                "the embedded model was stopped before its answer was complete",
                backend="llama_cpp",
                model=self._model,
            )
        self._has_ended = True
        return [StreamEnd(_FINISH.get(self._finish, "other"), self._response_id, self._model)]


def decode_embeddings(answer: Mapping[str, Any], model: str, window: int) -> EmbeddingResult:
    """Return the vectors in the engine's answer, in the order of the texts.

    Raises:
        BadRequestError: a text is longer than the context window, in tokens.
        BackendError: the engine failed.
    """
    if "error" in answer:
        error = answer["error"]
        if "too large to process" in str(error.get("message")):
            raise BadRequestError(
                f"a text is too long to embed: {error['message']}; the context window has {window} tokens, so "
                "shorten it, or make the backend with a larger context_window",
                backend="llama_cpp",
                model=model,
            )
        raise _make_error(error, model)
    # Several texts are computed at once, and returned in order of completion.
    rows = sorted(answer["data"], key=lambda row: row["index"])
    usage = Usage(input_tokens=answer.get("usage", {}).get("prompt_tokens"))
    return EmbeddingResult(tuple(tuple(row["embedding"]) for row in rows), usage, model)


def convert_error(error: Exception, model: str) -> MelleaError:
    """Convert an error of the engine to one of mellea's."""
    if isinstance(error, MelleaError):
        return error
    # The binding raises ValueError for values that it can't convert, the engine a text for JSON that it can't parse.
    kind = BadRequestError if isinstance(error, ValueError) or "parse_error" in str(error) else BackendError
    return kind(f"the engine rejected the request: {error}", backend="llama_cpp", model=model)


def _make_error(error: Mapping[str, Any], model: str) -> BackendError:
    code = error.get("code")
    fields: dict[str, Any] = {"backend": "llama_cpp", "model": model, "status": code}
    if error.get("type") == "exceed_context_size_error":
        taken, room = error.get("n_prompt_tokens"), error.get("n_ctx")
        return BadRequestError(
            f"the prompt takes {taken} tokens, but the context window has {room}; "
            "shorten the prompt, keep fewer turns with ChatContext(window_size=…), or raise "
            "start_session(context_window=…)",
            **fields,
        )
    kind: Callable[..., BackendError] = BadRequestError if code in (400, 413, 422) else BackendError
    return kind(f"the engine failed: {error.get('message')}", **fields)


def _read_usage(usage: Mapping[str, Any]) -> Usage:
    details = usage.get("prompt_tokens_details") or {}
    return Usage(
        input_tokens=usage.get("prompt_tokens"),
        output_tokens=usage.get("completion_tokens"),
        cached_tokens=details.get("cached_tokens"),
    )
