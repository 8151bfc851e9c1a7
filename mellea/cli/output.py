"""Output of commands: data on stdout, everything else on stderr.

Rules:

- On a terminal, data is a table or a tree, in colours unless `NO_COLOR` is set; otherwise, and with `--json`, it is
  JSON, one value per line.
- A reader that has left (`| head -1`) ends the command silently, as if it were complete.
- Text from elsewhere can't control the terminal.
"""

from __future__ import annotations

import io
import json
import os
import select
import shutil
import sys
import textwrap
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mellea.core.terminal import make_lines_visible
from mellea.errors import UsageError

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

__all__ = [
    "Json",
    "draw",
    "draw_indented",
    "end_line",
    "explain",
    "has_reader",
    "has_room",
    "is_for_people",
    "note",
    "prepare",
    "progress",
    "table",
    "write",
    "write_json",
    "write_value",
]

Json = Annotated[bool, typer.Option("--json", help="Print JSON lines, as in a pipe.")]


def is_for_people(as_json: bool = False) -> bool:
    """Whether data is drawn rather than written as JSON lines.

    Args:
        as_json: whether the user asked for JSON.
    """
    return sys.stdout.isatty() and not as_json


def write(text: str) -> None:
    """Write data to stdout at once."""
    with _while_somebody_reads():
        sys.stdout.write(text)
        sys.stdout.flush()


def end_line(written: str) -> None:
    """End the line that a text left open, if it did."""
    if not written.endswith("\n"):
        write("\n")


def write_json(values: Iterable[Any]) -> None:
    """Write values as JSON lines."""
    for value in values:
        line = json.dumps(value, ensure_ascii=False)
        write(f"{line if line.isprintable() and _can_write(line) else json.dumps(value)}\n")


def write_value(value: Any) -> None:
    """Write a value: text unchanged, anything else as a line of JSON."""
    if isinstance(value, str):
        write(f"{value}\n")
        return
    from pydantic_core import to_jsonable_python  # lazy: plain text needs no pydantic

    write_json([to_jsonable_python(value, fallback=str)])


def draw(*what: RenderableType) -> None:
    """Draw tables and texts on stdout."""
    from rich.console import Console  # lazy: text doesn't need it

    with _while_somebody_reads():
        console = Console(file=sys.stdout, highlight=False)
        for each in what:
            console.print(each, overflow="ellipsis")


def draw_indented(text: Text, indent: int, *, hang: int = 0, is_cut: bool = False) -> None:
    """Draw an indented line on stdout, without blanks at its end; what doesn't fit continues below, or is cut.

    Args:
        text: the line.
        indent: of its first character.
        hang: how much further the lines are indented on which it continues.
        is_cut: whether it ends at the edge of the terminal.
    """
    from rich.console import Console  # lazy: text doesn't need it

    console = Console(file=sys.stdout, highlight=False)
    room = max(console.width - indent, _LEAST_ROOM)
    if is_cut or text.cell_len <= room:
        text.truncate(room, overflow="ellipsis")
        lines = [text]
    else:
        lines = [*text.wrap(console, max(room - hang, _LEAST_ROOM))]
    with _while_somebody_reads():
        for number, line in enumerate(lines):
            line.rstrip()
            blanks = " " * (indent + (hang if number else 0)) if line else ""
            console.print(blanks, line, sep="", soft_wrap=True)


_LEAST_ROOM = 20  # deeper trees than the terminal can show run over its edge


def table(*titles: str, right: Collection[str] = ()) -> Table:
    """Return a table for `draw`, whose last column takes the remaining width; no other column is ever cut.

    Args:
        titles: of its columns.
        right: the columns of figures, which are right-aligned.
    """
    from rich.table import Table  # lazy: text doesn't need it

    made = Table(box=None, header_style="bold", pad_edge=False)
    for title in titles:
        is_last = title == titles[-1]
        made.add_column(
            title,
            justify="right" if title in right else "left",
            no_wrap=not is_last,
            overflow="fold" if is_last else "ellipsis",
        )
    return made


def has_room(table: Table) -> bool:
    """Return whether the terminal is wide enough for a table."""
    from rich.console import Console  # lazy: text doesn't need it

    console = Console(file=sys.stdout)
    return console.measure(table, options=console.options.update(width=10_000)).minimum <= console.width


def note(text: str) -> None:
    """Write a message to stderr without terminal control characters; on a terminal, wrap it between words."""
    explain("\n".join(map(_break, make_lines_visible(text).split("\n"))))


def explain(text: str) -> None:
    """Write our own text to stderr with its layout unchanged."""
    # Some hosts have no stderr, or its reader may be gone; there is nowhere to report that.
    with suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()


def _break(line: str) -> str:
    if sys.stderr is None or not sys.stderr.isatty():
        return line
    # Not inside words: addresses and paths are copied from a terminal.
    width = max(shutil.get_terminal_size().columns, 20)
    return textwrap.fill(line, width, break_long_words=False, break_on_hyphens=False, drop_whitespace=True) or line


def prepare() -> None:
    """Make stdout and stderr accept every text, even where the locale isn't UTF-8.

    Raises:
        UsageError: stdout is closed.
    """
    if sys.stdout is None:
        raise UsageError("stdout is closed, so there is nowhere to write to; >/dev/null discards the output")
    for stream in (sys.stdout, sys.stderr):
        if not isinstance(stream, io.TextIOWrapper):
            continue
        # The locale "C" has the handler for names of files, which can't write other characters either.
        if stream.errors == "strict" or (stream.errors == "surrogateescape" and not _is_utf8(stream)):
            stream.reconfigure(errors="replace")


def has_reader() -> bool:
    """Flush stdout, and return whether it still has a reader."""
    try:
        with _while_somebody_reads():
            sys.stdout.flush()
    except typer.Exit:
        return False
    # Without a buffer there is nothing to flush, and only the operating system knows whether a pipe still has a reader.
    try:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), 0)
    except (AttributeError, OSError):  # no such system, or no file
        return True
    return not any(event & select.POLLERR for _, event in poll.poll(0))


def _is_utf8(stream: Any) -> bool:
    return (getattr(stream, "encoding", None) or "utf-8").lower().replace("-", "") == "utf8"


def _can_write(text: str) -> bool:
    if _is_utf8(sys.stdout):
        return True
    try:
        text.encode(sys.stdout.encoding)
    except UnicodeEncodeError:
        return False
    return True


@contextmanager
def progress(label: str) -> Iterator[Callable[[int, int | None], None]]:
    """Show a download's progress on stderr, if that is a terminal; yields a function to call with the bytes.

    Args:
        label: what is downloaded.
    """
    from rich import progress as bars  # lazy: no other command needs it
    from rich.console import Console  # lazy

    columns = (
        bars.TextColumn("{task.description}"),
        bars.BarColumn(bar_width=None),
        bars.DownloadColumn(),
        bars.TransferSpeedColumn(),
        bars.TimeRemainingColumn(compact=True),
    )
    console = Console(stderr=True)
    with bars.Progress(*columns, console=console, disable=not console.is_terminal, expand=False) as shown:
        task = shown.add_task(label, total=None)
        # The part downloaded earlier counts towards progress, not towards the speed.
        yield lambda done, total: shown.update(task, completed=done, total=total)


@contextmanager
def _while_somebody_reads() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        # Buffered output can't be written when Python exits either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(0) from None
