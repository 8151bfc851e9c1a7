"""What a provider's codec is: pure functions and a decoder that never sees a socket."""

from __future__ import annotations

from typing import Protocol

from mellea.core.events import Event
from mellea.errors import BackendError

__all__ = ["Decoder"]


class Decoder(Protocol):
    """Turns one response's bytes into events, wherever the bytes are split."""

    @property
    def error(self) -> BackendError | None:
        """What `feed` would raise now."""

    @property
    def is_complete(self) -> bool:
        """Whether the provider has said that the answer is complete; nothing that follows is waited for long."""

    def feed(self, data: bytes) -> list[Event]:
        """Take more bytes and return the events that they complete.

        Events that come before an error in the same bytes are returned first; the next call raises.

        Raises:
            BackendError: the provider reports an error, or its bytes make no sense.
        """

    def close(self) -> list[Event]:
        """Say that no more bytes will come; returns the last events.

        Raises:
            InterruptedStreamError: the provider's own end of the stream hasn't come.
            BackendError: an error that the last bytes held.
        """
