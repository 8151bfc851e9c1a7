"""How a run ends its spans, and those of the functions that last as long as it does."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from mellea.core.held_span import SpanHold
    from mellea.core.observer import Span

__all__ = ["RunObserver", "hold_until_end"]

R = TypeVar("R")


class RunObserver(ABC, Generic[R]):
    """Reports a run to the observers.

    Attributes:
        outer: the span of the run.
        innermost: the span of the request, or of the work, that is going on.
    """

    __slots__ = ()

    outer: Span
    innermost: Span

    @abstractmethod
    def end(self, run: R) -> None:
        """Report that it has ended; a second time does nothing."""

    @abstractmethod
    def hold(self, hold: SpanHold) -> None:
        """Hold the span of a function until that of the run has ended."""


def hold_until_end(spans: RunObserver[Any] | None, hold: SpanHold) -> None:
    """Hold the span of a function until a run has ended; a run without observers isn't waited for.

    Args:
        spans: of the run.
        hold: of the function's span.
    """
    if spans is None:
        hold.end()
    else:
        spans.hold(hold)
