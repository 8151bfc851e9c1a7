"""Streams that iterate whole items, for results that are sequences."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any, TypeVar, cast

from mellea.core.structured.kinds import is_sequence
from mellea.stdlib.streaming import AsyncStream, Stream

__all__ = ["AsyncItemStream", "ItemStream", "as_async_items", "as_items"]

T = TypeVar("T")


class ItemStream(Stream[list[T]]):
    """A stream that iterates whole, validated items; `.events()` and the rest are those of `Stream`."""

    __slots__ = ()

    def __iter__(self) -> Iterator[T]:  # type: ignore[override]
        """Read the items, each as soon as it is complete."""
        return cast("Iterator[T]", self.items())


class AsyncItemStream(AsyncStream[list[T]]):
    """An async stream that iterates whole, validated items."""

    __slots__ = ()

    def __aiter__(self) -> AsyncIterator[T]:  # type: ignore[override]
        """Read the items, each as soon as it is complete."""
        return cast("AsyncIterator[T]", self.items())


def as_items(stream: Stream[Any], format: Any) -> Stream[Any]:
    """Return the stream, or one of items if the format is a sequence."""
    if not is_sequence(format):
        return stream
    # Created again rather than wrapped: the stream hasn't been launched, and all its readers should be those of a
    # stream.
    return ItemStream(stream._launch, has_format=True, live=stream._live, by_step=stream._by_step)


def as_async_items(stream: AsyncStream[Any], format: Any) -> AsyncStream[Any]:
    """Return the stream, or one of items if the format is a sequence."""
    if not is_sequence(format):
        return stream
    return AsyncItemStream(stream._launch, has_format=True, live=stream._live, by_step=stream._by_step)
