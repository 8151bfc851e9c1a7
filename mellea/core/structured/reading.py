"""What a reader of items or partial objects does with each piece of text, whether it waits as a task or as a thread."""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, Literal, Protocol, TypeVar

from mellea.core.accumulator import Generation
from mellea.core.structured.items import ItemDecoder, item_format
from mellea.core.structured.partials import Partial, PartialDecoder
from mellea.errors import MelleaError, OutputError, ParseError, UsageError

__all__ = ["ItemReading", "OnError", "PartialReading", "ReadRun"]

T = TypeVar("T")

OnError = Literal["raise", "skip"]


class ReadRun(Protocol):
    """What has to be known of a run whose text is read."""

    @property
    def format(self) -> Any:
        """Its output format, if it has one."""

    @property
    def is_composite(self) -> bool:
        """Whether it is made of other runs."""

    @property
    def error(self) -> MelleaError | None:
        """What it failed with."""

    @property
    def parsed(self) -> Any:
        """Its result."""

    def text(self) -> str:
        """Return the text so far."""

    def so_far(self) -> Generation:
        """Return what has arrived so far."""


class ItemReading(Generic[T]):
    """Items out of pieces of text: `feed` it, `validate` while `has_work`, and take what is `ready`.

    A bad item is a `ParseError`, after which there are no more; or it is passed over.

    Args:
        run: whose text it is.
        deliver: what to do at the end; it raises what the run failed with.
        on_error: `"raise"`, or `"skip"` to pass over bad items.

    Attributes:
        ready: items that nobody has taken yet.
        is_over: there are no more.
        is_quick: validating an item calls nobody's code, so that it needs no thread.
    """

    __slots__ = ("_decoder", "_deliver", "_has_closed", "_lock", "_run", "_skips", "is_over", "is_quick", "ready")

    def __init__(self, run: ReadRun, deliver: Callable[[], Any], on_error: OnError) -> None:
        if on_error not in ("raise", "skip"):
            raise UsageError(f"on_error takes 'raise' or 'skip', not {on_error!r}")
        items = item_format(run.format)
        self._run = run
        self._deliver = deliver
        self._skips = on_error == "skip"
        self._decoder: ItemDecoder[T] = ItemDecoder(items, may_restart=run.is_composite)
        self._has_closed = False
        self._lock = threading.Lock()  # a wait for a worker thread may be cancelled, and the thread still goes on
        self.ready: deque[T] = deque()
        self.is_over = False
        self.is_quick = items.is_quick

    @property
    def has_work(self) -> bool:
        """Whether `validate` has something to do."""
        return not self.is_over and (self._decoder.has_raw or self._decoder.is_broken)

    def feed(self, text: str | None) -> None:
        """Take more text; `None` says that there is no more.

        Raises:
            MelleaError: what the run failed with, at the end.
        """
        if text is not None:
            self._decoder.feed(text)
        elif not self._has_closed:
            self._has_closed = True
            self._decoder.close()
        if self._has_closed and not self._decoder.has_raw:
            self._finish()

    def validate(self) -> None:
        """Make an item out of the text of one.

        Raises:
            ParseError: it is none, or what stands between the items is no JSON.
        """
        with self._lock:
            can_go_on = not self._decoder.is_broken
            try:
                self.ready.append(self._decoder.next())
            except ParseError as error:
                if self._skips and can_go_on:
                    return
                self.is_over = True
                error.partial = self._run.text()
                raise

    def _finish(self) -> None:
        self.is_over = True
        is_read = self._skips and self._decoder.is_complete
        if not (is_read and isinstance(self._run.error, OutputError)):
            self._deliver()
        self.ready += self._decoder.rest_of(self._run.parsed)


class PartialReading(Generic[T]):
    """Partial objects out of pieces of text: `feed` it, and take what `next` gives.

    Args:
        run: whose text it is.
        deliver: what to do at the end; it raises what the run failed with.
    """

    __slots__ = ("_decoder", "_deliver", "_has_closed", "_run", "is_over")

    def __init__(self, run: ReadRun, deliver: Callable[[], Any]) -> None:
        self._run = run
        self._deliver = deliver
        self._decoder: PartialDecoder[T] = PartialDecoder(run.format, may_restart=run.is_composite)
        self._has_closed = False
        self.is_over = False

    def next(self) -> Partial[T] | None:
        """Return the next partial object, if there is one without more text."""
        return self._decoder.next()

    def feed(self, text: str | None) -> Partial[T] | None:
        """Take more text, `None` says that there is no more; returns the next partial object, if there is one.

        Raises:
            MelleaError: what the run failed with, at the end.
        """
        if text is not None:
            self._decoder.feed(text)
            return self._decoder.next()
        if not self._has_closed:
            self._has_closed = True
            if self._run.error is None:  # else a number that was cut off would be taken for a complete one
                self._decoder.close()
            if (partial := self._decoder.next()) is not None:
                return partial
        return self._finish()

    def _finish(self) -> Partial[T] | None:
        self.is_over = True
        self._deliver()
        if self._decoder.is_complete or self._run.parsed is None:  # nothing, as an answer that only calls tools
            return None
        # A text that only the tolerant parser could make something of.
        return self._decoder.finished(json.loads(self._run.format.found(self._run.so_far())[1]))
