"""`show` and `ashow`: a value on the screen, drawn again while it is being written.

Rules:

- A thunk is followed by a thread of its own, so showing it waits for nothing. The thread holds the thunk's record and
  not the thunk: a thunk that is shown can still be dropped, which cancels it, and its output says so. A trace is
  followed in the same way, until its block and everything that began in it have ended.
- A stream is a verb, so showing it reads it to its end; an interrupt, or a cancelled wait, ends the generation.
- Changes are drawn at most ten times a second, and less often if drawing takes long; the last state always.
"""

from __future__ import annotations

import inspect
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Protocol

from mellea.core.card import Card
from mellea.core.displayed import Displayed
from mellea.core.entrance import short_errors
from mellea.core.run_card import RunCard
from mellea.core.runtime import Record
from mellea.core.runtime.tasks import run_in_thread
from mellea.core.screens import Screen, find_screen
from mellea.core.thunk import ModelOutputThunk
from mellea.core.tracing import Trace
from mellea.errors import UsageError
from mellea.stdlib.agents.stream import AgentStream, AsyncAgentStream
from mellea.stdlib.streaming import AsyncStream, Stream

__all__ = ["ashow", "show"]

_OURS = __name__.partition(".")[0]

SECONDS = 0.1
"""How long a drawing stays at least, before the next one takes its place."""

_REST = 5
"""How many times as long as a drawing has taken it stays: long trees must not keep the program from its work."""


@short_errors
def show(value: Any) -> None:
    """Show a value, and keep what is shown up to date while it is being written.

    In Jupyter and marimo that is an output of the cell, at a terminal some lines, and in a pipe or a file the final
    state. A thunk is shown without waiting for it, and so is a trace in its `with` block: where outputs can't be
    replaced later, as at a terminal, as it is now. A stream (of a session, a function or an agent) is read to its end,
    and has its `.result` afterwards. Other values are shown once, as they are. Attempts that are rejected while a
    value is shown stay visible, with the reason.

    Args:
        value: a thunk, a plain stream, a result, a trace, or any other value.

    Raises:
        UsageError: it is an async stream, which takes `await ashow(…)`; a reader of a stream, or a coroutine.
        MelleaError: what the stream failed with; the output shows how far it came.
    """
    if isinstance(value, (AsyncStream, AsyncAgentStream)):
        raise UsageError(f"an {type(value).__name__} is read by async code: await mellea.notebook.ashow(…)")
    if isinstance(value, (Stream, AgentStream)):
        with value:
            follower = _follow_stream(value)
            try:
                for _ in value:
                    pass
            finally:
                value.close()  # for a stream that was left early: the follower waits for its end
                follower.join()
    elif isinstance(value, ModelOutputThunk):
        run = RunCard(value.record)
        _follow(_RunNews(value.record), run.draw)
    elif isinstance(value, Trace):
        _follow(_TraceNews(value), value._card_)
    elif isinstance(value, Displayed):
        find_screen().draw(value._card_(), is_final=True)
    else:
        _check(value)
        find_screen().show_as_it_is(value)


@short_errors
async def ashow(value: Any) -> None:
    """Show a value like `show`, in async code: async streams are read to their end, too.

    Args:
        value: a thunk, a stream, a result, a trace, or any other value.

    Raises:
        MelleaError: what the stream failed with; the output shows how far it came.
    """
    if isinstance(value, (Stream, AgentStream)):
        value = value.to_async()
    if not isinstance(value, (AsyncStream, AsyncAgentStream)):
        show(value)
        return
    async with value:
        follower = _follow_stream(value)
        try:
            async for _ in value:
                pass
        finally:
            await value.aclose()
    await run_in_thread(follower.join)


def _check(value: Any) -> None:
    """Refuse what isn't a value yet: all that could be shown of it is its address in memory."""
    if inspect.isroutine(value):
        name = getattr(value, "__name__", repr(value))
        raise UsageError(f"{name} is a function, and show takes what it returns: show({name}(…))")
    if inspect.iscoroutine(value):
        value.close()  # or Python would warn that it was never awaited
        raise UsageError("a coroutine has no value before it is awaited: show(await …)")
    if isinstance(value, (Iterator, AsyncIterator)) and type(value).__module__.partition(".")[0] == _OURS:
        raise UsageError(
            f"{type(value).__name__} gives values one by one; show each, or show the stream it reads: show(m.stream(…))"
        )


class _News(Protocol):
    """What changes while it is shown."""

    @property
    def is_final(self) -> bool:
        """Whether it won't change any more."""

    def count(self) -> int:
        """Return a number that grows with each change."""

    def wait(self, seen: int) -> None:
        """Wait until there is a change after this number, or for a while."""


class _RunNews:
    """The news of a generation."""

    def __init__(self, record: Record) -> None:
        self._record = record

    @property
    def is_final(self) -> bool:
        return self._record.is_final

    def count(self) -> int:
        return len(self._record.events)

    def wait(self, seen: int) -> None:
        record = self._record
        record.wait_until_blocking(lambda: record.is_final or len(record.events) != seen)


class _TraceNews:
    """The news of a trace: spans that begin, and spans that end."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace

    @property
    def is_final(self) -> bool:
        spans = self._trace.spans
        # The first one is the block; one that hasn't begun has nothing to wait for.
        return all(span.ended is not None for span in reversed(spans))

    def count(self) -> int:
        spans = self._trace.spans
        return len(spans) + sum(span.ended is not None for span in spans)

    def wait(self, seen: int) -> None:
        # Looked at between the drawings, so that spans, which are many, have nobody to wake.
        if self.count() == seen:
            time.sleep(SECONDS)


def _follow(news: _News, draw: Callable[[], Card]) -> None:
    """Show something without waiting for it, and keep it up to date where that is possible."""
    screen = find_screen()
    if news.is_final or not screen.stays:
        screen.draw(draw(), is_final=True)
    else:
        _Follower(news, draw, screen).start()


def _follow_stream(stream: Any) -> threading.Thread:
    """Follow a stream that has been launched, and return the thread that does."""
    is_agent = isinstance(stream, (AgentStream, AsyncAgentStream))
    draw = stream._card_ if is_agent else RunCard(stream.record).draw
    return _Follower(_RunNews(stream.record), draw, find_screen()).start()


class _Follower:
    """Draws something that changes until it ends.

    Args:
        news: tells when it has changed.
        draw: returns its card.
        screen: where to draw it.
    """

    def __init__(self, news: _News, draw: Callable[[], Card], screen: Screen) -> None:
        self._news = news
        self._draw = draw
        self._screen = screen
        self._seen = 0
        self._drawn: Card | None = None
        self._rest = SECONDS
        self._is_over = False

    def start(self) -> threading.Thread:
        """Draw once, and have a thread do the rest; return that."""
        # Here and not in the thread, so that the output appears in the program's own cell.
        self._look()
        thread = self._screen.make_thread(self._follow)
        thread.start()
        return thread

    def _follow(self) -> None:
        while not self._is_over and not self._screen.is_gone:
            time.sleep(self._rest)
            self._news.wait(self._seen)
            self._look()

    def _look(self) -> None:
        """Draw what has changed, and note whether anything will change any more."""
        began = time.thread_time()
        is_final, self._seen = self._news.is_final, self._news.count()
        card = self._draw()
        if is_final or card != self._drawn:
            self._screen.draw(card, is_final=is_final)
            self._drawn = card
        self._is_over = is_final
        self._rest = max(SECONDS, _REST * (time.thread_time() - began))
