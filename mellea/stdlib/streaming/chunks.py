"""The text of an agent's run as chunks: only the answer's, or with `live` those of every step.

Rules:

- A step may turn out to call tools, and then its text isn't the answer. So without `live` the text of a step is held
  back until the run has ended; then it is the answer's text, without that of calls.
- The chunks are the provider's deltas, or have `size` graphemes each. Together they are the answer.
- Only the last chunk is final; for an empty answer it is empty. With `live` the final chunk is empty.
- A suspended run, which waits for answers, has no final chunk, and neither has a failed one.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import pairwise

from mellea.core.events import Event, StepEnd, StepStart, TextDelta, ToolEnd
from mellea.core.graphemes import cut_graphemes, find_grapheme_ends
from mellea.core.numbers import check_whole

__all__ = ["ChunkFold", "StreamChunk"]


@dataclass(frozen=True, slots=True)
class StreamChunk:
    """A piece of an agent's answer.

    Attributes:
        text: the piece; the pieces together are the answer.
        step: the step that wrote it, from 1.
        is_final: whether it is the last one of the run.
    """

    text: str
    step: int
    is_final: bool = False


class ChunkFold:
    """Converts a run's events to chunks: `feed` it, `finish` it at the end, and take chunks from `ready`.

    Args:
        live: release the text of every step as it arrives.
        size: graphemes of a chunk; by default the chunks are the deltas.

    Raises:
        UsageError: the size is not a whole number from 1.
    """

    def __init__(self, *, live: bool = False, size: int | None = None) -> None:
        check_whole("chunk_size", size, of="characters", or_none=True)
        self.ready: deque[StreamChunk] = deque()
        self._live = live
        self._size = size
        self._step = 1
        self._held: list[str] = []  # the text of the step that is being written
        self._has_calls = self._is_whole = False  # of that step
        self._rest = _Rest(size) if size is not None and live else None
        self._last: tuple[int, list[str]] = (1, [])  # the last complete step with text

    def feed(self, event: Event) -> None:
        """Take the next event."""
        kind = type(event)
        if kind is TextDelta:
            self._write(event.chunk)  # type: ignore[attr-defined]
        elif kind is StepStart:
            self._step = event.step  # type: ignore[attr-defined]
            # A step's text before its tools isn't the answer, unless no step follows.
            self._held, self._has_calls, self._is_whole = [], False, False
        elif kind is ToolEnd:
            self._has_calls = True
        elif kind is StepEnd:
            self._is_whole = True
            if self._held:
                self._last = (self._step, self._held)
            self._flush()

    def finish(self, *, is_suspended: bool = False) -> None:
        """Handle the end of a run that hasn't failed.

        Args:
            is_suspended: whether the run is suspended.
        """
        self._flush()
        if is_suspended:
            return
        # A run that a limit has stopped ends with a step that calls tools; then the last text is the answer.
        step, pieces = (self._step, self._held) if self._is_whole and not self._has_calls else self._last
        if self._live:
            self.ready.append(StreamChunk("", self._step, is_final=True))
            return
        if self._size is not None:
            pieces = cut_graphemes("".join(pieces), self._size)
        *others, last = pieces or [""]
        self.ready += [StreamChunk(text, step) for text in others]
        self.ready.append(StreamChunk(last, step if pieces else self._step, is_final=True))

    def _write(self, chunk: str) -> None:
        if not chunk:
            return
        if not self._live:
            self._held.append(chunk)
        elif self._rest is None:
            self.ready.append(StreamChunk(chunk, self._step))
        else:
            self.ready += [StreamChunk(text, self._step) for text in self._rest.add(chunk)]

    def _flush(self) -> None:
        if self._rest is not None:
            self.ready += [StreamChunk(text, self._step) for text in self._rest.take()]


class _Rest:
    """Text that isn't a complete chunk yet. The last grapheme may continue, so a chunk needs text after it."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._text = ""
        self._enough = size + 1  # the length from which on there may be a complete chunk

    def add(self, text: str) -> list[str]:
        """Add text, and return the whole chunks."""
        self._text += text
        if len(self._text) < self._enough:
            return []
        ends, size = list(find_grapheme_ends(self._text)), self._size
        # Not at the very end: a combining mark may follow.
        cuts = [end for end in ends[size - 1 :: size] if end < len(self._text)]
        whole = [self._text[start:end] for start, end in pairwise([0, *cuts])]
        self._text = self._text[cuts[-1] :] if cuts else self._text
        held = len(self._text)
        missing = size * (len(cuts) + 1) + 1 - len(ends)
        # Graphemes may be long, even endless: then checks get rarer, so that the cost isn't quadratic.
        self._enough = max(held + missing, 2 * held if held > 8 * size else 0)
        return whole

    def take(self) -> list[str]:
        """Return the chunks that are left, at the end of a step."""
        text, self._text, self._enough = self._text, "", self._size + 1
        return cut_graphemes(text, self._size)
