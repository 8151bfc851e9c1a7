"""What commands print: data on stdout, everything else on stderr.

Rules:

- On a terminal, data is a table or a tree, in colours unless `NO_COLOR` is set; otherwise, and with `--json`, it is
  JSON, a value a line.
- A reader that has left (`| head -1`) ends the command without a word, as if it were complete.
- Texts from elsewhere can't command the terminal.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.console import Console, RenderableType

from mellea.core.terminal import visible_lines

__all__ = ["Json", "draw", "is_for_people", "note", "progress", "write", "write_json", "write_value"]

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


def write_json(values: Iterable[Any]) -> None:
    """Write values as JSON lines."""
    for value in values:
        line = json.dumps(value, ensure_ascii=False)
        write(f"{line if line.isprintable() else json.dumps(value)}\n")


def write_value(value: Any) -> None:
    """Write a value: a text as it is, anything else as a line of JSON."""
    if isinstance(value, str):
        write(f"{value}\n")
        return
    from pydantic_core import to_jsonable_python  # lazy: plain text needs no pydantic

    write_json([to_jsonable_python(value, fallback=str)])


def draw(*what: RenderableType) -> None:
    """Draw tables and texts on stdout."""
    with _while_somebody_reads():
        console = Console(file=sys.stdout, highlight=False)
        for each in what:
            console.print(each, overflow="ellipsis")


def note(text: str) -> None:
    """Tell the user something, on stderr."""
    sys.stderr.write(f"{visible_lines(text)}\n")


@contextmanager
def progress(label: str) -> Iterator[Callable[[int, int | None], None]]:
    """Show on stderr, if that is a terminal, how many bytes of a download have come; call what it gives with them.

    Args:
        label: what is downloaded.
    """
    from rich import progress as bars  # lazy: no other command needs it

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
        # What was there before counts as done, not as fast.
        yield lambda done, total: shown.update(task, completed=done, total=total)


@contextmanager
def _while_somebody_reads() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        # What is buffered still can't be written when Python ends, either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(0) from None
