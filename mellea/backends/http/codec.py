"""What the parts of a codec promise: a decoder, and the filters behind it. They do no I/O."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from mellea.core.events import Event
from mellea.errors import BackendError

__all__ = ["Decoder", "Filter"]


class Filter(Protocol):
    """Changes events before they are returned.

    What it holds back is returned before the `StreamEnd`. Without an end it is dropped on purpose: undecided text, such
    as the beginning of a tag, might not be part of the answer.
    """

    def feed(self, events: Sequence[Event]) -> list[Event]:
        """Return the changed events."""


class Decoder(Protocol):
    """Turns one response's bytes into events, wherever the bytes are split; it never sees a socket.

    Attributes:
        media_type: the response's content type, for errors; set before the first bytes.
    """

    media_type: str

    @property
    def error(self) -> BackendError | None:
        """What `feed` would raise now."""

    @property
    def is_complete(self) -> bool:
        """Whether the provider has said that the answer is complete; there is no long wait for anything after it."""

    def feed(self, data: bytes) -> list[Event]:
        """Take more bytes and return the events that they complete.

        Events that come before an error in the same bytes are returned first; the next call raises.

        Raises:
            BackendError: the provider reports an error, or its bytes are invalid.
        """

    def close(self) -> list[Event]:
        """Signal the end of the bytes; returns the last events, those before an error first, as `feed` does.

        Raises:
            InterruptedStreamError: the provider's end mark is missing.
            BackendError: an error in the last bytes.
        """
