"""Shared by the decoders of both OpenAI formats: the last frame, and answers in an envelope."""

from __future__ import annotations

from collections.abc import Sequence

from mellea.core.events import Event, StreamEnd, TextDelta

__all__ = ["DONE", "Unwrapping"]

DONE = b"[DONE]"
"""The last event of OpenAI's chat completions; other services leave it out."""


class Unwrapping:
    """A filter that unwraps the answer from its envelope.

    Args:
        starts: the characters that the JSON in it may begin with; `""` for any.
    """

    def __init__(self, starts: str = "") -> None:
        from mellea.core.structured.envelope import Unwrapper  # lazy: text needs no envelope

        self._wrap = Unwrapper(starts)

    def feed(self, events: Sequence[Event]) -> list[Event]:
        """Return the events with the text that is inside the envelope."""
        out: list[Event] = []
        for event in events:
            if type(event) is TextDelta:
                event = TextDelta(self._wrap.feed(event.chunk))
                # All of it was held back, or belonged to the envelope.
                if not event.chunk:
                    continue
            elif type(event) is StreamEnd:
                # Text that only looked like the start of an envelope is emitted before the end.
                out += [TextDelta(rest)] if (rest := self._wrap.close()) else []
            out.append(event)
        return out
