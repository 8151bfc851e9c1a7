"""Corrects an answer that can't be parsed, in the same run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from mellea.core.events import Event, StreamEnd
from mellea.errors import ParseError

__all__ = ["Corrector"]


class Corrector(Protocol):
    """Continues a run whose answer can't be parsed."""

    before: Sequence[Event]
    """What readers get before the answer."""

    after: Sequence[Event]
    """What readers get before the end of an answer that could be parsed."""

    async def correct(self, run: Any, end: StreamEnd, error: ParseError) -> Any:
        """Emit the rest of the events, a `StreamEnd` last, and return the result.

        Args:
            run: the run that continues.
            end: the end of the invalid answer, which readers haven't seen.
            error: why it is invalid.
        """
