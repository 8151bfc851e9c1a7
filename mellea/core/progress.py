"""Progress of a piece of work: as a value for a function, or as one line on a terminal.

Rules:

- `progress=` takes `True` (a line on stderr, if that is a terminal), `False`, or a function, which is called with a
  `Progress` on the event loop: it must not block.
- A line is drawn at most five times a second, and only for work that takes over a second. It is drawn by a separate
  thread, so that its seconds advance while there is no news, or the event loop is blocked.
- One piece of work at a time is shown: work inside it, or parallel to it, is silent.
- It is erased when the work ends, so that it doesn't disturb the program's output.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self, TextIO

from mellea.core.terminal import make_visible
from mellea.errors import UsageError

__all__ = ["Progress", "ProgressOption", "Reporter", "TerminalLine", "format_time"]

_REDRAW_SECONDS = 0.2
_QUICK_SECONDS = 1.0
_LEAVE_SECONDS = 1.0
"""How long to wait for erasing the line at the end: a terminal may be stopped."""

_USUAL_COLUMNS = 80

_BAR = 24


@dataclass(frozen=True, slots=True)
class Progress:
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
        fraction = self.fraction
        parts = [self.what]
        if fraction is not None:
            filled = int(fraction * _BAR)
            parts.append(f"[{'#' * filled}{'.' * (_BAR - filled)}] {fraction:4.0%}")
        parts += [self.state] if self.state else []
        return "  ".join([*parts, format_time(self.seconds)])


ProgressOption = bool | Callable[[Progress], object]
"""The argument `progress=`: whether a terminal shows progress, or the function to call."""


class TerminalLine:
    """A line on a terminal that is redrawn in place.

    Args:
        stream: by default stderr.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream: TextIO | None = stream if stream is not None else sys.stderr
        self._width = 0  # length of the line: a shorter one is padded, or the rest of the longer one would remain
        self._drawn = time.monotonic()

    @property
    def is_terminal(self) -> bool:
        """Whether the stream is a terminal; a program without a console has no stderr."""
        return bool(self._stream is not None and self._stream.isatty())

    @property
    def is_shown(self) -> bool:
        """Whether a line is shown."""
        return self._width > 0

    def is_due(self) -> bool:
        """Whether it is time to redraw: more often than a few times a second can't be read."""
        return time.monotonic() - self._drawn >= _REDRAW_SECONDS

    def draw(self, text: str) -> None:
        """Replace the text of the line."""
        # The terminal would wrap a longer line, and a carriage return only goes back to the wrap.
        text = text[: self._columns()]
        # A carriage return works everywhere, even in terminals that know no escape sequences.
        self._write("\r" + text.ljust(self._width))
        self._width, self._drawn = len(text), time.monotonic()

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


_is_shown = threading.Lock()
"""Held by the work that the terminal shows."""


class Reporter:
    """Reports the progress of the work in a `with` block.

    Args:
        what: the name of the work, as shown.
        progress: the caller's argument.
        total: how much there is to do, if that is known.
        stream: where the line is drawn, in place of stderr.

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
        line = TerminalLine(stream) if progress is True else None
        self._line = line if line is not None and line.is_terminal else None
        self._began = time.monotonic()
        self._last = Progress(what)
        self._ended = threading.Event()
        self._drawing: threading.Thread | None = None

    @property
    def is_heard(self) -> bool:
        """Whether progress is reported at all."""
        return self._tell is not None or self._line is not None

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

    def _draw(self, line: TerminalLine) -> None:
        pause = _QUICK_SECONDS
        while not self._ended.wait(pause):
            line.draw(str(replace(self._last, seconds=time.monotonic() - self._began)))
            pause = _REDRAW_SECONDS
        line.erase()

    def __enter__(self) -> Self:
        if self._line is not None and _is_shown.acquire(blocking=False):
            self._drawing = threading.Thread(target=self._draw, args=(self._line,), name="mellea-progress", daemon=True)
            self._drawing.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._drawing is not None:
            # So that nothing is drawn into the program's next output.
            self._drawing.join(_LEAVE_SECONDS)
            _is_shown.release()


def format_time(seconds: float) -> str:
    """Return a length of time as hours, minutes and seconds, such as `1:02:03` or `0:07`."""
    whole = int(max(seconds, 0))
    hours, minutes = whole // 3600, whole % 3600 // 60
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"
