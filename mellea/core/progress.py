"""Progress of a piece of work: as a value for a function, as a line on a terminal, as an output of a notebook's cell.

Rules:

- `progress=` takes `True` (show it, where somebody looks), `False`, or a function, which is called with a `Progress` on
  the event loop: it must not block.
- It is shown on stderr, if that is a terminal, or in the cell of a notebook; nowhere else.
- It is drawn at most five times a second, and only for work that takes over a second. It is drawn by a separate thread,
  so that its seconds advance while there is no news, or the event loop is blocked.
- Work inside a piece of work that is shown is silent; so is work parallel to it on a terminal, which has one such line.
- When the work ends, a terminal's line is erased, or left as it is; a notebook's output says how it ended.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextvars import ContextVar, Token
from dataclasses import dataclass, replace
from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO

from mellea.core.displayed import Displayed
from mellea.core.terminal import draw_bar, make_visible
from mellea.errors import UsageError

if TYPE_CHECKING:
    from mellea.core.card import Card
    from mellea.core.screens import Screen

__all__ = [
    "Drawer",
    "Progress",
    "ProgressOption",
    "ProgressPlace",
    "Reporter",
    "TerminalLine",
    "find_place",
    "format_time",
]

_REDRAW_SECONDS = 0.2
_QUICK_SECONDS = 1.0
_LEAVE_SECONDS = 1.0
"""How long to wait for the last drawing at the end: a terminal may be stopped."""

_USUAL_COLUMNS = 80


@dataclass(frozen=True, slots=True)
class Progress(Displayed):
    """The progress of a piece of work.

    Args:
        what: the work, such as `"video"`.
        done: how much is done.
        total: how much there is to do; `None` if unknown.
        seconds: the time so far.
        state: the current state, such as a provider's `"in_progress"`.
    """

    what: str
    done: float = 0.0
    total: float | None = None
    seconds: float = 0.0
    state: str = ""

    @property
    def fraction(self) -> float | None:
        """The share that is done, from 0 to 1; `None` if unknown."""
        return None if not self.total else min(max(self.done / self.total, 0.0), 1.0)

    def __str__(self) -> str:
        bar = [] if self.fraction is None else [draw_bar(self.fraction)]
        return "  ".join(filter(None, [self.what, *bar, self.state, format_time(self.seconds)]))

    def _card_(self) -> Card:
        from mellea.core.card import Bar, Card  # lazy: only a frontend needs it

        parts = [] if self.fraction is None else [Bar(self.fraction)]
        return Card(self.what, self.state, [format_time(self.seconds)], parts)


ProgressOption = bool | Callable[[Progress], object]
"""The argument `progress=`: whether a terminal shows progress, or the function to call."""


class ProgressPlace(ABC):
    """Where the progress of one piece of work is shown.

    Attributes:
        is_shared: whether there is only one such place, which parallel work can't use as well.
    """

    is_shared = False

    @abstractmethod
    def draw(self, shown: Displayed | str) -> None:
        """Replace what is shown."""

    @abstractmethod
    def finish(self, last: Displayed | str, *, is_kept: bool) -> None:
        """Show how the work has ended, or nothing any more where that would disturb the program's output.

        Args:
            last: the last state.
            is_kept: whether it is kept in any place.
        """

    def make_thread(self, work: Callable[[], None]) -> threading.Thread:
        """Return a thread that may draw; it ends with the program."""
        return threading.Thread(target=work, name="mellea-progress", daemon=True)


class CellOutput(ProgressPlace):
    """An output of a notebook's cell.

    Args:
        screen: draws it.
    """

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._is_shown = False

    def draw(self, shown: Displayed | str) -> None:
        """Replace what is shown."""
        from mellea.core.card import Card  # lazy: only a notebook needs it

        self._is_shown = True
        self._screen.draw(Card(shown) if isinstance(shown, str) else shown._card_(), is_final=False)

    def finish(self, last: Displayed | str, *, is_kept: bool) -> None:
        """Show how the work has ended, if anything was shown of it: an output can't be taken away."""
        if self._is_shown:
            self.draw(last)

    def make_thread(self, work: Callable[[], None]) -> threading.Thread:
        """Return a thread that may draw into the cell; it ends with the program."""
        return self._screen.make_thread(work)


class TerminalLine(ProgressPlace):
    """A line on a terminal that is redrawn in place.

    Args:
        stream: by default stderr.
    """

    is_shared = True

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream: TextIO | None = stream if stream is not None else sys.stderr
        self._width = 0  # length of the line: a shorter one is padded, or the rest of the longer one would remain

    @property
    def is_terminal(self) -> bool:
        """Whether the stream is a terminal."""
        return self._stream is not None and self._stream.isatty()

    @property
    def is_there(self) -> bool:
        """Whether there is a stream at all; a program without a console has no stderr."""
        return self._stream is not None

    @property
    def is_shown(self) -> bool:
        """Whether a line is shown."""
        return self._width > 0

    def draw(self, shown: Displayed | str) -> None:
        """Replace the text of the line."""
        # The terminal would wrap a longer line, and a carriage return only goes back to the wrap.
        text = str(shown)[: self._columns()]
        # A carriage return works everywhere, even in terminals that know no escape sequences.
        self._write("\r" + text.ljust(self._width))
        self._width = len(text)

    def finish(self, last: Displayed | str, *, is_kept: bool) -> None:
        """Leave the line with the last state, or erase it."""
        if is_kept and self.is_shown:
            self.draw(last)
            self.leave()
        else:
            self.erase()

    def leave(self) -> None:
        """Continue on the next line."""
        if self._width:
            self._write("\n")
            self._width = 0

    def erase(self) -> None:
        """Erase the line, and return to its start."""
        if self._width:
            self._write("\r" + " " * self._width + "\r")
            self._width = 0

    def _columns(self) -> int | None:
        if self._stream is None:
            return None
        try:
            columns = os.get_terminal_size(self._stream.fileno()).columns
        except (OSError, ValueError):  # not a terminal
            return None
        return (columns or _USUAL_COLUMNS) - 1  # some don't know their size, and report 0

    def _write(self, text: str) -> None:
        if self._stream is None:
            return
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):  # the terminal is gone, or the stream is closed: the work goes on without a line
            self._stream = None


def find_place(stream: TextIO | None = None, *, is_wanted: bool | None = None) -> ProgressPlace | None:
    """Return where progress is shown; `None` where nobody looks.

    Args:
        stream: a terminal to use in place of stderr and of a notebook.
        is_wanted: whether to show it; by default, if there is a notebook or a terminal.
    """
    if is_wanted is False:
        return None
    if stream is None and ("IPython" in sys.modules or "marimo" in sys.modules):
        from mellea.core.screens import find_notebook  # lazy: only a notebook needs it

        if (screen := find_notebook()) is not None:
            return CellOutput(screen)
    line = TerminalLine(stream)
    return line if line.is_terminal or (is_wanted and line.is_there) else None


_is_line_used = threading.Lock()
"""Held by the work that the terminal shows."""

_is_inside: ContextVar[bool] = ContextVar("mellea_progress", default=False)
"""Whether the current code is part of a piece of work that is shown."""


class Drawer:
    """Draws a piece of work in a thread of its own, from `start` to `stop`.

    Args:
        place: where; nothing is drawn without one.
        look: returns the current state.
        is_kept: whether the last state is kept in any place.
    """

    def __init__(self, place: ProgressPlace | None, look: Callable[[], Displayed], *, is_kept: bool = False) -> None:
        self._place, self._look, self._is_kept = place, look, is_kept
        self._ended = threading.Event()
        self._is_left = False
        self._thread: threading.Thread | None = None

    def start(self) -> Token[bool] | None:
        """Begin to draw, unless the work is part of other work that is shown; `leave` takes what is returned."""
        place = self._place
        if place is None or _is_inside.get() or (place.is_shared and not _is_line_used.acquire(blocking=False)):
            return None
        thread = place.make_thread(lambda: self._draw(place))
        try:
            thread.start()
        except RuntimeError:  # the system starts no more threads: the work goes on without being shown
            if place.is_shared:
                _is_line_used.release()
            return None
        self._thread = thread
        return _is_inside.set(True)

    @staticmethod
    def leave(token: Token[bool] | None) -> None:
        """Undo what `start` has done to the current context: what follows isn't part of the work."""
        if token is not None:
            _is_inside.reset(token)

    def stop(self) -> None:
        """Draw the last state, so that nothing is drawn into the program's next output; a second call does nothing."""
        self._ended.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(_LEAVE_SECONDS)

    def stop_soon(self) -> None:
        """Let the thread end by itself. Takes no lock, so that a finaliser may call it anywhere."""
        self._is_left = True

    def _draw(self, place: ProgressPlace) -> None:
        try:
            until = time.monotonic() + _QUICK_SECONDS
            while not self._is_left and not self._ended.wait(_REDRAW_SECONDS):
                if time.monotonic() >= until:
                    place.draw(self._look())
            place.finish(self._look(), is_kept=self._is_kept)
        finally:
            if place.is_shared:
                _is_line_used.release()


class Reporter:
    """Reports the progress of the work in a `with` block.

    Args:
        what: the name of the work, as shown.
        progress: the caller's argument.
        total: how much there is to do, if that is known.
        stream: a terminal to draw on, in place of stderr and of a notebook.

    Raises:
        UsageError: `progress` is neither true or false nor a function.
    """

    def __init__(
        self, what: str, progress: ProgressOption, *, total: float | None = None, stream: TextIO | None = None
    ) -> None:
        if not isinstance(progress, bool) and not callable(progress):
            raise UsageError(f"progress takes True, False or a function of a Progress, not {progress!r}")
        self._what, self._total = what, total
        self._tell = None if isinstance(progress, bool) else progress
        self._place = find_place(stream) if progress is True else None
        self._drawer = Drawer(self._place, self._look)
        self._began = time.monotonic()
        self._last = Progress(what)
        self._end = ""  # how it has ended

    @property
    def is_heard(self) -> bool:
        """Whether progress is reported at all."""
        return self._tell is not None or self._place is not None

    def report(self, done: float = 0.0, *, total: float | None = None, state: str = "") -> None:
        """Report the progress of the work.

        Args:
            done: how much is done.
            total: how much there is to do, replacing the earlier value.
            state: the current state.

        Raises:
            UsageError: the caller's function failed; its error is the cause.
        """
        if not self.is_heard:
            return
        seconds = time.monotonic() - self._began
        total = self._total if total is None else total
        self._last = Progress(self._what, done, total, seconds, make_visible(state))
        if self._tell is not None:
            try:
                self._tell(self._last)
            except Exception as error:
                raise UsageError(
                    f"the function that was given as progress= failed: {type(error).__name__}: {error}"
                ) from error

    def _look(self) -> Progress:
        last = replace(self._last, seconds=time.monotonic() - self._began)
        return replace(last, state=self._end) if self._end else last

    def __enter__(self) -> Self:
        self._token = self._drawer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._drawer.leave(self._token)
        self._end = "done" if error is None else "failed" if isinstance(error, Exception) else "stopped"
        self._drawer.stop()


def format_time(seconds: float) -> str:
    """Return a length of time as hours, minutes and seconds, such as `1:02:03` or `0:07`."""
    whole = int(max(seconds, 0))
    hours, minutes = whole // 3600, whole % 3600 // 60
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"
