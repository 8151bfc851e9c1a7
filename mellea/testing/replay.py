"""Feed a recorded response to a decoder again, split wherever a test wants."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from mellea.backends.http.codec import Decoder
from mellea.core.events import Event
from mellea.errors import UsageError

__all__ = ["replay"]


def replay(decoder: Decoder, body: bytes, splits: Iterable[int] = ()) -> Iterator[Event]:
    """Feed a body to a decoder, close it, and yield its events.

    Args:
        decoder: a new decoder of any backend.
        body: the bytes of the response as received, including the framing.
        splits: offsets at which one read ends and the next begins; `range(1, len(body))` is byte by byte.

    Raises:
        BackendError: what the decoder raises, after the events before it.
        UsageError: an offset lies outside the body.
    """
    start = 0
    for end in (*sorted(set(splits)), len(body)):
        if not 0 <= end <= len(body):
            raise UsageError(f"splits takes offsets from 0 to {len(body)}, the length of the body, not {end!r}")
        yield from decoder.feed(body[start:end])
        start = end
    yield from decoder.close()
    if decoder.error is not None:
        raise decoder.error
