"""Spans of functions that last as long as what the functions return: thunks, streams, maps, responses.

Rules:

- A value that may go on after a function has returned it has a method `_go_on_in_(hold)`. It calls `hold.end(…)` when
  it has ended, and begins what it hasn't begun yet inside `with hold.entered()`.
- The span ends with the last of them: also where they stand in a list, a tuple or a dict that the function returns.
- A hold that is dropped has ended, as cancelled: nobody reads that stream any more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol, TypeGuard

from mellea.core.observer import Span

__all__ = ["SpanHold", "end_with", "hold_with"]


class _GoingOn(Protocol):
    """A value that may go on after a function has returned it."""

    def _go_on_in_(self, hold: SpanHold) -> None: ...


class _Held:
    """The span of a function, and what it still waits for.

    Args:
        span: the span.
        count: how many values go on.
    """

    __slots__ = ("errors", "span", "waits_for")

    def __init__(self, span: Span, count: int) -> None:
        self.span = span
        # Removing a dict entry is atomic, so one of two threads finds it empty, and neither takes a lock.
        self.waits_for = dict.fromkeys(range(count))
        self.errors: list[tuple[bool, BaseException | None]] = []

    def end(self, number: int, error: BaseException | None, *, is_cancelled: bool) -> None:
        """Note that a value has ended; the last one ends the span."""
        if number not in self.waits_for:
            return
        if error is not None or is_cancelled:
            self.errors.append((is_cancelled, error))  # before the entry is removed, for the last one to arrive
        self.waits_for.pop(number, None)
        if not self.waits_for:
            # A failure says more than a cancellation, which often follows from it.
            was_cancelled, why = min(self.errors, key=lambda each: each[0], default=(False, None))
            self.span.end(why, is_cancelled=was_cancelled)


class SpanHold:
    """What a value that goes on holds of a function's span.

    Args:
        held: the span, and what else it waits for.
        number: which of the values this is.
    """

    __slots__ = ("__weakref__", "_held", "_number")

    def __init__(self, held: _Held, number: int) -> None:
        self._held, self._number = held, number

    @property
    def span(self) -> Span:
        """The function's span."""
        return self._held.span

    def end(self, error: BaseException | None = None, *, is_cancelled: bool = False) -> None:
        """Note that the value has ended; a second time does nothing.

        Args:
            error: why it failed.
            is_cancelled: whether it was cancelled, and `error` is nobody's fault.
        """
        self._held.end(self._number, error, is_cancelled=is_cancelled)

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Begin the value's work in a `with` block, as a part of the function; a failure there is the value's end."""
        entered = self.span.enter()
        try:
            yield
        except BaseException as error:
            self.end(error, is_cancelled=not isinstance(error, Exception))
            raise
        finally:
            self.span.leave(entered)

    def __del__(self) -> None:
        self.end(GeneratorExit(), is_cancelled=True)


def hold_with(value: Any, hold: SpanHold) -> None:
    """Have one value hold a function's span, if it is one that goes on; else it has ended."""
    if _goes_on(value):
        value._go_on_in_(hold)
    else:
        hold.end()


def end_with(span: Span, value: Any) -> None:
    """End the span of a function that has returned a value: now, or when everything in it that goes on has ended.

    Args:
        span: the function's.
        value: what it has returned.
    """
    found = _find_going_on(value)
    if not found:
        span.end()
        return
    held = _Held(span, len(found))
    for number, each in enumerate(found):
        each._go_on_in_(SpanHold(held, number))


def _find_going_on(value: Any) -> list[_GoingOn]:
    inside = value.values() if isinstance(value, Mapping) else value if isinstance(value, (list, tuple)) else (value,)
    return [each for each in inside if _goes_on(each)]


def _goes_on(value: Any) -> TypeGuard[_GoingOn]:
    return hasattr(type(value), "_go_on_in_")  # of the type: an instance may answer to any name
