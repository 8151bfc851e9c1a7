"""`show` and `ashow`: a value on the screen, drawn again while it is being written.

Rules:

- A thunk is followed by a thread of its own, so showing it waits for nothing. The thread holds the thunk's record and
  not the thunk: a thunk that is shown can still be dropped, which cancels it, and its output says so.
- A stream is a verb, so showing it reads it to its end; an interrupt, or a cancelled wait, ends the generation.
- Changes are drawn at most ten times a second, and the last state always.
"""

from __future__ import annotations

import inspect
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from mellea.core.card import Card, show_value
from mellea.core.displayed import Displayed
from mellea.core.entrance import short_errors
from mellea.core.run_card import RunCard
from mellea.core.runtime import Record
from mellea.core.runtime.tasks import run_in_thread
from mellea.core.thunk import ModelOutputThunk
from mellea.errors import UsageError
from mellea.notebook.screens import Screen, find_screen
from mellea.stdlib.agents.stream import AgentStream, AsyncAgentStream
from mellea.stdlib.streaming import AsyncStream, Stream

__all__ = ["ashow", "show"]

_OURS = __name__.partition(".")[0]

SECONDS = 0.1
"""How long a drawing stays at least, before the next one takes its place."""


@short_errors
def show(value: Any) -> None:
    """Show a value, and keep what is shown up to date while it is being written.

    In Jupyter and marimo that is an output of the cell, at a terminal some lines, and in a pipe or a file the final
    state. A thunk is shown without waiting for it: where outputs can't be replaced later, as at a terminal, as it is
    now. A stream (of a session, a function or an agent) is read to its end, and has its `.result` afterwards. Other
    values are shown as they are.

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
        _follow_thunk(value)
    else:
        _check(value)
        find_screen().draw(_card(value), is_final=True)


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
    if inspect.iscoroutine(value):
        value.close()  # or Python would warn that it was never awaited
        raise UsageError("a coroutine has no value before it is awaited: show(await …)")
    if isinstance(value, (Iterator, AsyncIterator)) and type(value).__module__.partition(".")[0] == _OURS:
        raise UsageError(
            f"a {type(value).__name__} gives values one by one; show the stream it reads: show(m.stream(…))"
        )


def _card(value: Any) -> Card:
    return value._card_() if isinstance(value, Displayed) else Card(type(value).__name__, parts=[show_value(value)])


def _follow_thunk(thunk: ModelOutputThunk[Any]) -> None:
    run = RunCard(thunk.record)
    screen = find_screen()
    if run.is_final or not screen.stays:
        screen.draw(run.draw(), is_final=True)
    else:
        _Follower(thunk.record, run.draw, screen).start()


def _follow_stream(stream: Any) -> threading.Thread:
    """Follow a stream that has been launched, and return the thread that does."""
    is_agent = isinstance(stream, (AgentStream, AsyncAgentStream))
    draw = stream._card_ if is_agent else RunCard(stream.record).draw
    return _Follower(stream.record, draw, find_screen()).start()


class _Follower:
    """Draws a generation until it ends.

    Args:
        record: the generation.
        draw: returns its card.
        screen: where to draw it.
    """

    def __init__(self, record: Record, draw: Callable[[], Card], screen: Screen) -> None:
        self._record = record
        self._draw = draw
        self._screen = screen
        self._seen = 0
        self._drawn: Card | None = None
        self._is_over = False

    def start(self) -> threading.Thread:
        """Draw once, and have a thread do the rest; return that."""
        # Here and not in the thread, so that the output appears in the program's own cell.
        self._look()
        thread = self._screen.make_thread(self._follow)
        thread.start()
        return thread

    def _follow(self) -> None:
        while not self._is_over:
            time.sleep(SECONDS)
            self._record.wait_until_blocking(self._has_news)
            self._look()

    def _look(self) -> None:
        """Draw what has changed, and note whether anything will change any more."""
        is_final, self._seen = self._record.is_final, len(self._record.events)
        card = self._draw()
        if is_final or card != self._drawn:
            self._screen.draw(card, is_final=is_final)
            self._drawn = card
        self._is_over = is_final

    def _has_news(self) -> bool:
        return self._record.is_final or len(self._record.events) != self._seen
