"""What is read behind an answer's end mark, and what it means when the connection breaks."""

from __future__ import annotations

import logging
from contextlib import suppress

import anyio

from mellea.backends.http.decoding import Decoder
from mellea.backends.http.failure import root_of
from mellea.backends.http.response import Response
from mellea.core.events import Event, StreamEnd
from mellea.errors import InterruptedStreamError, MelleaError, WireError

__all__ = ["last_events", "late_events"]

_log = logging.getLogger("mellea")


async def late_events(response: Response, decoder: Decoder, seconds: float) -> list[Event]:
    """Read on behind the answer's end mark, for the usage and the like, and return the events that end the answer.

    The answer is complete: nothing that happens here fails it.

    Args:
        response: has been read up to the end mark.
        decoder: has been fed all that came.
        seconds: how long it may take.
    """
    events: list[Event] = []
    harmless: tuple[type[BaseException], ...] = (MelleaError, *response.errors)
    try:
        with anyio.move_on_after(seconds):
            async for data in response.reads():
                events += decoder.feed(data)
                if (events and type(events[-1]) is StreamEnd) or decoder.error is not None:
                    break
    except harmless as error:
        _log.info("an answer was complete when this came behind its end: %s", error)
    return events if events and type(events[-1]) is StreamEnd else events + decoder.close()


def last_events(decoder: Decoder, cut: BaseException | None) -> list[Event]:
    """Return the events that end an answer.

    Args:
        decoder: has been fed all that came.
        cut: what broke the connection, if anything did.

    Raises:
        InterruptedStreamError: the provider's own end hasn't come.
    """
    if cut is None:
        return decoder.close()
    with suppress(InterruptedStreamError, WireError):  # half a line is no fault of the provider's then
        return decoder.close()
    root = root_of(cut)
    raise InterruptedStreamError(
        f"the connection broke before the answer was complete ({str(root) or type(root).__name__}); "
        "what had arrived is in .partial",
        is_retryable=True,
    )
