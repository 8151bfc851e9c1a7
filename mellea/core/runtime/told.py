"""What a run knows of its spans: whom to tell of its end, and which functions' spans last as long as it does."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from mellea.core.held_span import SpanHold
    from mellea.core.observer import Span

__all__ = ["Told", "hold_until_end"]

R = TypeVar("R")


class Told(ABC, Generic[R]):
    """What observers are told of a run.

    Attributes:
        outer: the span of the run.
        innermost: the span of the request, or of the work, that is going on.
    """

    __slots__ = ()

    outer: Span
    innermost: Span

    @abstractmethod
    def end(self, run: R) -> None:
        """Tell that it has ended; a second time does nothing."""

    @abstractmethod
    def hold(self, hold: SpanHold) -> None:
        """SpanHold the span of a function until that of the run has ended."""


def hold_until_end(spans: Told[Any] | None, hold: SpanHold) -> None:
    """SpanHold the span of a function until a run has ended; one that nobody is told of isn't waited for.

    Args:
        spans: of the run.
        hold: of the function's span.
    """
    if spans is None:
        hold.end()
    else:
        spans.hold(hold)
