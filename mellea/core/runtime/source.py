"""Closing the iterator of events that a backend gave."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Any

import anyio

from mellea.core.backend import Batches
from mellea.core.events import Event
from mellea.core.runtime.record import CLOSE_SECONDS

__all__ = ["close_source", "is_open"]

_log = logging.getLogger("mellea")


def is_open(source: AsyncIterator[Event]) -> bool:
    """Whether there is anything to close: a generator that has come to its end has no frame any more."""
    generator: Any = source.batches if isinstance(source, Batches) else source
    return hasattr(source, "aclose") and getattr(generator, "ag_frame", generator) is not None


async def close_source(source: AsyncIterator[Event]) -> None:
    """Close it, within `CLOSE_SECONDS`; whatever that raises, what the generation came to stays as it is."""
    if not is_open(source):
        return
    with anyio.move_on_after(CLOSE_SECONDS, shield=True):
        try:
            await source.aclose()  # type: ignore[attr-defined]
        except anyio.get_cancelled_exc_class():
            raise
        except BaseException:  # noqa: BLE001 - readers get the generation's own outcome
            _log.debug("a backend failed to close its stream", exc_info=True)
