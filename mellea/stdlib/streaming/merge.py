"""Several streams as one, each event with the label of its stream."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from functools import partial
from types import TracebackType
from typing import Any, Protocol

from mellea.core.events import Event, NestedEvent, StreamEnd
from mellea.core.runtime import Run, launch
from mellea.core.runtime.tasks import together
from mellea.core.thunk import ModelOutputThunk
from mellea.errors import UsageError
from mellea.stdlib.streaming.stream import AsyncStream, Stream

__all__ = ["EventSource", "amerge_streams", "merge_streams"]


class EventSource(Protocol):
    """A stream that can be one of several: what `astream` of a session or an agent returns."""

    def events(self) -> AsyncIterator[Event]:
        """Read its events."""

    async def __aenter__(self) -> Any:
        """Begin it."""

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Leave it, which cancels what it still does."""


def amerge_streams(streams: Mapping[str, EventSource]) -> AsyncStream[str]:
    """Make one stream of several, which are read at the same time.

    Its `events()` are those of all of them, in the order in which they come, as `NestedEvent`s with the label as the
    path; an agent's step or tool follows it, as in `"left/researcher/2"`. What each of them comes to is in its own
    `result`. It has no text of its own. Leaving it leaves all of them, and so does an error of one, which is raised.

    Args:
        streams: what `astream` returns, by labels. They begin when this one does.

    Raises:
        UsageError: there are none, a label isn't a text, or a value isn't such a stream.
    """
    return AsyncStream(_launcher(streams), has_format=False)


def merge_streams(streams: Mapping[str, EventSource]) -> Stream[str]:
    """Make one stream of several for plain code; see `amerge_streams`. It takes what `astream` returns, too."""
    return Stream(_launcher(streams), has_format=False)


def _launcher(streams: Mapping[str, EventSource]) -> Callable[[], ModelOutputThunk[Any]]:
    if not isinstance(streams, Mapping) or not streams:
        raise UsageError(f"a merged stream takes a dict of streams by their labels, not {streams!r}")
    for label, stream in streams.items():
        if not isinstance(label, str) or not label:
            raise UsageError(f"the label of a stream is a text, not {label!r}")
        if not hasattr(stream, "__aenter__") or not hasattr(stream, "events") or isinstance(stream, Stream):
            raise UsageError(f"{label!r} takes a stream as astream(…) returns it, not {stream!r}")
    known = dict(streams)

    async def work(run: Run) -> str:
        relays: list[Callable[[], Awaitable[None]]] = [partial(_relay, run, *each) for each in known.items()]
        await together(relays)
        run.emit([StreamEnd("stop")])
        return run.text()

    return lambda: ModelOutputThunk(launch(work=work, kind="work", label="merged streams"))


async def _relay(run: Run, label: str, stream: EventSource) -> None:
    async with stream:
        async for event in stream.events():
            if isinstance(event, NestedEvent):
                run.emit([NestedEvent(event.tool_call_id, f"{label}/{event.path}", event.event)])
            else:
                run.emit([NestedEvent("", label, event)])
