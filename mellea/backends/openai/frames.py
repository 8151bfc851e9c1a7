"""What the decoders of both of OpenAI's formats share: wrapped answers over server-sent events."""

from __future__ import annotations

from collections.abc import Sequence

from mellea.backends.http.decoding import Filter
from mellea.backends.http.sse import SseWireDecoder
from mellea.core.events import Event, StreamEnd, TextDelta

__all__ = ["DONE", "StreamDecoder"]

DONE = b"[DONE]"
"""The last event of OpenAI's chat completions; other services leave it out."""


class StreamDecoder(SseWireDecoder):
    """Turns one response's bytes into events, wherever the bytes are split.

    Args:
        model: the model that was asked for, until the provider names the one that answers.
        backend: name of the service, for errors and in front of what it signs.
        is_wrapped: whether the answer is JSON inside the envelope that this request asked for.
        starts: the characters that the JSON in it may begin with; `""` for any.
        filters: as for `WireDecoder`.
    """

    def __init__(
        self,
        model: str = "",
        *,
        backend: str = "openai",
        is_wrapped: bool = False,
        starts: str = "",
        filters: Sequence[Filter] = (),
    ) -> None:
        super().__init__(model, backend=backend, filters=[*filters, *([_Unwrapping(starts)] if is_wrapped else ())])


class _Unwrapping:
    """Unwraps the answer from its envelope."""

    def __init__(self, starts: str) -> None:
        from mellea.core.structured.envelope import Unwrapper  # lazy: text needs no envelope

        self._wrap = Unwrapper(starts)

    def feed(self, events: Sequence[Event]) -> list[Event]:
        out: list[Event] = []
        for event in events:
            if type(event) is TextDelta:
                event = TextDelta(self._wrap.feed(event.chunk))
                # All of it was held back, or belonged to the envelope.
                if not event.chunk:
                    continue
            elif type(event) is StreamEnd:
                # What looked like the beginning of an envelope, and wasn't, comes before the end.
                out += [TextDelta(rest)] if (rest := self._wrap.close()) else []
            out.append(event)
        return out
