"""The part of reading items and partial objects that async iterators and sync ones have in common."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, Literal, Protocol, TypeVar

from mellea.core.iterators import Pieces
from mellea.core.structured.items import ItemDecoder, make_item_format
from mellea.core.structured.output_format import SeveralError
from mellea.core.structured.partials import Partial, PartialDecoder
from mellea.errors import MelleaError, OutputError, ParseError, UsageError

__all__ = ["ItemReading", "OnError", "PartialReading", "ReadRun"]

T = TypeVar("T")

OnError = Literal["raise", "skip"]


class ReadRun(Protocol):
    """What a reading has to know about the run whose text it reads."""

    @property
    def format(self) -> Any:
        """The output format, if there is one."""

    @property
    def is_composite(self) -> bool:
        """Whether the run consists of other runs, so that its text may have several steps."""

    @property
    def error(self) -> MelleaError | None:
        """The error that the run failed with."""

    @property
    def is_misread(self) -> bool:
        """Whether the model finished, but its answer isn't a value of the requested type."""

    @property
    def parsed(self) -> Any:
        """The typed result."""

    def text(self) -> str:
        """Return the text so far."""


_STEP = str(b"step", "ascii")  # marks the end of a step in the queue; not interned, so that `is` tells it from text


class _Decoder(Protocol):
    """Turns pieces of text into values."""

    @property
    def is_settled(self) -> bool:
        """Whether `feed` calls no validator any more."""

    @property
    def has_more(self) -> bool:
        """Whether there is a value to read without more text."""

    def feed(self, text: str) -> None:
        """Take more text."""

    def end_step(self) -> None:
        """End a step."""

    def close(self) -> None:
        """End the text."""


class _Reading:
    """Passes text to a decoder: at once, or in a worker thread if that may call user code.

    If the wait for the thread is cancelled, the thread runs on; therefore text is queued until the thread is done.

    Args:
        run: the run whose text is read.
        deliver: called at the end; raises the error that the run failed with.
        is_quick: validation calls no user code.
        by_step: read nothing before the end, since a later step may replace what a step has written.
    """

    __slots__ = (
        "_by_step",
        "_decoder",
        "_deliver",
        "_has_closed",
        "_is_held",
        "_lock",
        "_run",
        "_waiting",
        "is_over",
        "is_quick",
    )

    def __init__(
        self, run: ReadRun, deliver: Callable[[], Any], decoder: _Decoder, *, is_quick: bool, by_step: bool
    ) -> None:
        self._run = run
        self._deliver = deliver
        self._decoder = decoder
        self._waiting: deque[str | None] = deque()
        self._by_step = self._is_held = by_step
        self._has_closed = False
        self._lock = threading.Lock()
        self.is_over = False
        self.is_quick = is_quick

    @property
    def _has_waiting(self) -> bool:
        """Whether queued text can be decoded. The end of a step has to wait until the step's values were read."""
        if not self._waiting or self._is_held:
            return False
        return self._by_step or self._waiting[0] is not _STEP or not self._decoder.has_more

    def _put(self, text: str | None) -> None:
        """Take more text; `None` is the end."""
        # The path of nearly every piece: nothing is queued, and validation calls no user code.
        if self.is_quick and type(text) is str and not self._waiting and not self._is_held:
            self._decoder.feed(text)
            return
        if text is None:
            self._is_held = False
        if type(text) is Pieces:
            # Steps are queued together with the text, so that a value is never read across two steps.
            self._waiting += [_STEP if part is None else part for part in text.parts]
        else:
            self._waiting.append(text)
        if self._lock.acquire(blocking=False):  # otherwise a thread whose wait was cancelled is still working
            try:
                while self._has_waiting and self._needs_no_thread(self._waiting[0]):
                    self._take()
            finally:
                self._lock.release()

    def _needs_no_thread(self, text: str | None) -> bool:
        return self.is_quick or (text is not None and text is not _STEP and self._decoder.is_settled)

    def _take(self) -> None:
        """Decode the oldest queued text."""
        text = self._waiting.popleft()
        if text is None:
            self._has_closed = True
            self._close()
        # Compared by identity: a model may write the same characters.
        elif text is _STEP:
            self._decoder.end_step()
        else:
            self._decoder.feed(text)

    def _close(self) -> None:
        self._decoder.close()


class ItemReading(_Reading, Generic[T]):
    """Turns pieces of text into items: `feed` it, call `work` while it `has_work`, and take items from `ready`.

    An invalid item raises a `ParseError` and ends the reading, unless invalid items are skipped.

    Args:
        run: the run whose text is read.
        deliver: called at the end; raises the error that the run failed with.
        on_error: `"raise"`, or `"skip"` to leave out invalid items.
        by_step: read nothing before the end, so that no later step can replace it.

    Attributes:
        ready: validated items that weren't taken yet.
        is_over: there are no more items.
        is_quick: validation calls no user code, so it needs no thread.
    """

    __slots__ = ("_has_skipped", "_items", "_skips", "ready")

    def __init__(self, run: ReadRun, deliver: Callable[[], Any], on_error: OnError, *, by_step: bool = False) -> None:
        if on_error not in ("raise", "skip"):
            raise UsageError(f"on_error takes 'raise' or 'skip', not {on_error!r}")
        items = make_item_format(run.format)
        self._items: ItemDecoder[T] = ItemDecoder(items, has_steps=run.is_composite)
        # This includes the whole: at the end the complete value is validated once more.
        is_quick = items.is_quick and items.whole.is_quick
        super().__init__(run, deliver, self._items, is_quick=is_quick, by_step=by_step)
        self._skips = on_error == "skip"
        self._has_skipped = False
        self.ready: deque[T] = deque()

    @property
    def has_work(self) -> bool:
        """Whether `work` has something to do."""
        return not self.is_over and (self._has_waiting or self._items.has_more or self._items.is_broken)

    @property
    def is_hopeless(self) -> bool:
        """Whether an invalid item means that the result is invalid, too, because no later step can replace it."""
        return not self._run.is_composite

    def feed(self, text: str | None) -> None:
        """Take more text; `None` says that there is no more.

        Raises:
            MelleaError: the run's error, at the end.
        """
        if not self._has_closed:
            self._put(text)
        if self._has_closed and not self.has_work:
            self._finish()

    def work(self) -> None:
        """Decode queued text, or validate one item.

        Raises:
            ParseError: the item isn't valid, or the text between the items isn't JSON.
            OutputError: a validator has a mistake in it.
        """
        with self._lock:
            if self._has_waiting:
                self._take()
                return
            # Broken JSON isn't a bad item that could be skipped, because nothing after it can be read.
            can_go_on = not self._items.is_broken
            try:
                self.ready.append(self._items.next())
            except OutputError as error:
                if self._skips and can_go_on and isinstance(error, ParseError):
                    self._has_skipped = True
                    return
                self.is_over = True
                error.partial = self._run.text()
                raise

    def _finish(self) -> None:
        self.is_over = True
        error = self._run.error
        is_ambiguous = error is not None and isinstance(error.__cause__, SeveralError)
        # After skipped items the result is naturally invalid; otherwise the error is worth raising.
        is_read = self._has_skipped and self._items.is_complete and self._run.is_misread and not is_ambiguous
        try:
            if not is_read:
                self._deliver()
                # The result was read by a more tolerant parser; the additional items that it found aren't lost.
                self.ready += self._items.find_rest(self._run.parsed)
        except ParseError as failed:
            # The items delivered before the failure, which a caller may want to keep.
            failed.items = failed.items or tuple(self._items.good)
            failed.partial = failed.partial or self._run.text()
            raise


class PartialReading(_Reading, Generic[T]):
    """Turns pieces of text into partial objects: `feed` it, call `work` while it `has_work`, then `next`.

    Args:
        run: the run whose text is read.
        deliver: called at the end; raises the error that the run failed with.
        by_step: read nothing before the end, so that no later step can replace it.
    """

    __slots__ = ("_partials",)

    def __init__(self, run: ReadRun, deliver: Callable[[], Any], *, by_step: bool = False) -> None:
        self._partials: PartialDecoder[T] = PartialDecoder(run.format, has_steps=run.is_composite)
        super().__init__(run, deliver, self._partials, is_quick=run.format.is_quick, by_step=by_step)

    @property
    def has_work(self) -> bool:
        """Whether `work` has something to do."""
        return not self.is_over and self._has_waiting

    def next(self) -> Partial[T] | None:
        """Return the next partial object, `None` if that takes more text.

        Raises:
            ParseError: a later step replaced what was read.
        """
        try:
            return self._partials.next()
        except ParseError as error:
            self.is_over = True
            error.partial = self._run.text()
            raise

    def feed(self, text: str | None) -> None:
        """Take more text; `None` says that there is no more.

        Raises:
            MelleaError: the run's error, at the end.
        """
        if not self._has_closed:
            self._put(text)
        elif not self._partials.has_more:
            self.is_over = True
            self._deliver()

    def work(self) -> None:
        """Decode all queued text."""
        with self._lock:
            # All at once: only the newest partial object is shown, so the ones in between needn't be made.
            while self._has_waiting:
                self._take()

    def _close(self) -> None:
        if self._run.error is None:  # otherwise a number that was cut off would count as a complete one
            self._partials.close()
