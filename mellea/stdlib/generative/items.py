"""Streams of whole items: what a stream gives when the result is a sequence."""

from __future__ import annotations

import collections.abc
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any, TypeVar, cast, get_args, get_origin

from mellea.stdlib.streaming import AsyncStream, Stream

__all__ = ["AsyncItemStream", "ItemStream", "as_async_items", "as_items", "is_sequence"]

T = TypeVar("T")

_SEQUENCES = (
    list,
    set,
    frozenset,
    collections.abc.Sequence,
    collections.abc.MutableSequence,
    collections.abc.Collection,
    collections.abc.Iterable,
    collections.abc.Set,
)


def is_sequence(format: Any) -> bool:
    """Whether values of the type are made of any number of items of one type."""
    if get_origin(format) is Annotated:  # which may say how many
        return is_sequence(format.__origin__)
    origin = get_origin(format) or format
    return origin in _SEQUENCES or (origin is tuple and get_args(format)[1:] == (Ellipsis,))


class ItemStream(Stream[list[T]]):
    """A stream whose iteration gives items, each one whole and of its type; `.events()` and the rest are as ever."""

    def __iter__(self) -> Iterator[T]:  # type: ignore[override]
        """Read the items, each as soon as it is complete."""
        return cast("Iterator[T]", self.items())


class AsyncItemStream(AsyncStream[list[T]]):
    """The same for async code."""

    def __aiter__(self) -> AsyncIterator[T]:  # type: ignore[override]
        """Read the items, each as soon as it is complete."""
        return cast("AsyncIterator[T]", self.items())


def as_items(stream: Stream[Any], format: Any) -> Stream[Any]:
    """Return the stream, or one of items if the format is a sequence."""
    if not is_sequence(format):
        return stream
    return ItemStream(stream._launch, has_format=True, live=stream._live)


def as_async_items(stream: AsyncStream[Any], format: Any) -> AsyncStream[Any]:
    """Return the stream, or one of items if the format is a sequence."""
    if not is_sequence(format):
        return stream
    return AsyncItemStream(stream._launch, has_format=True, live=stream._live)
