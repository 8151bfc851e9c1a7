"""What a run does about an answer that can't be parsed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from mellea.core.events import Event, StreamEnd
from mellea.errors import ParseError

__all__ = ["Corrector"]


class Corrector(Protocol):
    """What goes on in a run whose answer can't be parsed."""

    before: Sequence[Event]
    """What readers get before the answer."""

    after: Sequence[Event]
    """What readers get before the end of an answer that could be parsed."""

    async def correct(self, run: Any, end: StreamEnd, error: ParseError) -> Any:
        """Emit the rest of the events, a `StreamEnd` last, and return the result.

        Args:
            run: what it goes on in.
            end: the end of the answer that can't be parsed, which readers haven't got.
            error: why it can't.
        """
