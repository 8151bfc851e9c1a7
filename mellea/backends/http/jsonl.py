"""JSON lines, sans-I/O: bytes in, one bytes object a line out, wherever the bytes are split."""

from __future__ import annotations

from collections.abc import Sequence

from mellea.backends.http.codec import Filter
from mellea.backends.http.decoding import WireDecoder
from mellea.core.events import Event
from mellea.errors import WireError

__all__ = ["MAX_LINE_BYTES", "JsonLinesDecoder", "JsonLinesWireDecoder"]

MAX_LINE_BYTES = 64 * 1024 * 1024
"""How large one line may become before the stream counts as broken."""


class JsonLinesDecoder:
    """Splits a byte stream into lines; empty ones are left out. The lines are for `from_json`."""

    __slots__ = ("_rest", "_size")

    def __init__(self) -> None:
        self._rest: list[bytes] = []  # of a line that isn't complete
        self._size = 0

    def feed(self, data: bytes) -> list[bytes]:
        """Take more bytes and return the lines that are complete now.

        Raises:
            WireError: a line grows beyond `MAX_LINE_BYTES`.
        """
        # Pieces of a long line are kept apart and joined once, since adding to bytes copies all of them each time.
        *lines, rest = data.split(b"\n")
        if lines and self._rest:
            lines[0] = b"".join([*self._rest, lines[0]])
            self._rest.clear()
            self._size = 0
        if rest:
            self._rest.append(rest)
            self._size += len(rest)
            if self._size > MAX_LINE_BYTES:
                raise WireError(f"one line of the stream is larger than {MAX_LINE_BYTES} bytes")
        return [line for line in lines if line and not line.isspace()]

    def close(self) -> list[bytes]:
        """Return the last line, if it came without its end."""
        line = b"".join(self._rest)
        self._rest.clear()
        self._size = 0
        return [] if not line or line.isspace() else [line]


class JsonLinesWireDecoder(WireDecoder):
    """Decodes one JSON object per line; add `read_chunk`. The arguments are `WireDecoder`'s."""

    is_lines = True

    def __init__(self, model: str = "", *, backend: str, filters: Sequence[Filter] = ()) -> None:
        super().__init__(model, backend=backend, filters=filters)
        self._lines = JsonLinesDecoder()

    def read_stream(self, data: bytes, events: list[Event]) -> None:
        """Split bytes into lines, and append the events of each one's JSON."""
        for line in self._lines.feed(data):
            # What comes after the provider's end isn't read.
            if self.has_end(events):
                break
            self.read_frame(line, events)

    def read_last_frame(self, events: list[Event]) -> None:
        """Take a line whose end is missing."""
        for line in self._lines.close():
            self.read_unended(line, events)
