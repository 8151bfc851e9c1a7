"""Where a card is drawn and drawn again: in a cell of Jupyter or marimo, on a terminal, in a plain file.

A frontend is never imported here: a program that runs in one has loaded it already.
"""

from __future__ import annotations

import contextvars
import os
import shutil
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, TextIO

from mellea.core.card import Card, draw_bundle, draw_html, draw_text, show_value

__all__ = ["JupyterOutput", "MarimoOutput", "PlainOutput", "Screen", "Terminal", "find_notebook", "find_screen"]


class Screen(ABC):
    """A place where one card is shown.

    Attributes:
        stays: whether the card can be replaced later, whatever else the program shows meanwhile.
    """

    stays = False

    @property
    def is_gone(self) -> bool:
        """Whether nobody can see it any more."""
        return False

    @abstractmethod
    def draw(self, card: Card, *, is_final: bool) -> None:
        """Show a card in place of the one before."""

    def show_as_it_is(self, value: Any) -> None:
        """Show a value that isn't ours; by default in a card of its own."""
        self.draw(Card(type(value).__name__, parts=[show_value(value)]), is_final=True)

    def make_thread(self, work: Callable[[], None]) -> threading.Thread:
        """Return a thread that may draw; it ends with the program."""
        # A frontend finds the cell that an output belongs to in the context.
        context = contextvars.copy_context()
        return threading.Thread(target=context.run, args=(work,), name="mellea-show", daemon=True)


class JupyterOutput(Screen):
    """One output of a cell, which is replaced in place, also after the cell has ended.

    Args:
        display: IPython's `display`.
    """

    stays = True

    def __init__(self, display: Callable[..., Any]) -> None:
        self._display = display
        self._handle: Any = None

    def draw(self, card: Card, *, is_final: bool) -> None:
        """Show a card in place of the one before."""
        bundle = draw_bundle(card)
        if self._handle is None:
            self._handle = self._display(bundle, raw=True, display_id=True)
        else:
            self._handle.update(bundle, raw=True)

    def show_as_it_is(self, value: Any) -> None:
        """Leave the form to IPython: a data frame, for example, is a table."""
        self._display(value)


class MarimoOutput(Screen):
    """A part of the output of a marimo cell, which is replaced in place, also after the cell has ended.

    Args:
        marimo: the module.
    """

    stays = True

    def __init__(self, marimo: Any) -> None:
        self._marimo = marimo
        self._part: Any = None
        self._thread: Any = None

    @property
    def is_gone(self) -> bool:
        """Whether its cell was run again, interrupted or deleted."""
        return self._thread is not None and bool(self._thread.should_exit)

    def draw(self, card: Card, *, is_final: bool) -> None:
        """Show a card in place of the one before."""
        html = draw_html(card)
        if self.is_gone:
            return  # or it would replace what the cell shows by now
        if self._part is None:
            self._part = _make_part(self._marimo, html)
            self._marimo.output.append(self._part)
        else:
            self._part.html = html
            # What marimo's own progress bar uses, though it isn't among its public names.
            inner = sys.modules.get("marimo._runtime.output._output")
            if inner is not None:
                inner.flush()
            else:
                self._marimo.output.replace(self._part)

    def show_as_it_is(self, value: Any) -> None:
        """Leave the form to marimo."""
        self._marimo.output.append(value)

    def make_thread(self, work: Callable[[], None]) -> threading.Thread:
        """Return a thread that may draw: one that marimo knows."""
        thread: threading.Thread = self._marimo.Thread(target=work, daemon=True)
        self._thread = thread
        return thread


def _make_part(marimo: Any, html: str) -> Any:
    """Return a part of a cell's output whose HTML can be changed: what marimo reads again at each `flush`."""

    class Part(marimo.Html):  # type: ignore[misc]
        def __init__(self) -> None:
            self.html = html
            super().__init__(html)

        @property
        def text(self) -> str:
            return self.html

    return Part()


class Terminal(Screen):
    """Lines of a terminal, which are drawn over as long as they fit on it.

    Args:
        stream: what the terminal reads.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lines = 0

    def draw(self, card: Card, *, is_final: bool) -> None:
        """Show a card in place of the one before: its last lines while it changes, all of it at the end."""
        size = shutil.get_terminal_size()
        lines = [piece for line in draw_text(card).split("\n") for piece in _wrap(line, size.columns - 1)]
        if not is_final:
            lines = lines[-(size.lines - 1) :]
        # Move to the first line of the previous drawing and erase everything below it.
        back = f"\x1b[{self._lines}F\x1b[J" if self._lines else ""
        self._stream.write(back + "".join(f"{line}\n" for line in lines))
        self._stream.flush()
        self._lines = len(lines)


class PlainOutput(Screen):
    """A pipe or a file, which gets what the value came to.

    Args:
        stream: what to write to.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def draw(self, card: Card, *, is_final: bool) -> None:
        """Write the card if it is the last one."""
        if is_final:
            self._stream.write(draw_text(card) + "\n")
            self._stream.flush()


def find_notebook() -> Screen | None:
    """Return a new output of the notebook's cell that is at work; `None` outside of notebooks."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if shell is not None and hasattr(shell, "kernel"):
        return JupyterOutput(sys.modules["IPython.display"].display)
    marimo = sys.modules.get("marimo")
    if marimo is not None and marimo.running_in_notebook():
        return MarimoOutput(marimo)
    return None


def find_screen() -> Screen:
    """Return a new place to show something, of the frontend that the program runs in."""
    if (notebook := find_notebook()) is not None:
        return notebook
    if sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb":
        return Terminal(sys.stdout)
    return PlainOutput(sys.stdout)


def _wrap(line: str, width: int) -> list[str]:
    # Wrapped by characters: with words, the text would move while it is being written.
    return [line[start : start + width] for start in range(0, len(line), width)] or [""]
