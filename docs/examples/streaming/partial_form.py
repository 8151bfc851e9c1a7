"""Fill in a form while a model is still writing it: at a terminal with rich, elsewhere line by line.

The embedded model fills the fields with nonsense of the right types. A bigger model invents a booking that makes
sense.
"""

import sys
from collections.abc import Iterable
from time import perf_counter
from typing import Annotated, Any, Literal, TypedDict

from pydantic import Field

import mellea
from mellea.stdlib.streaming import HoldBack

try:
    from rich.live import Live
    from rich.markup import escape
    from rich.table import Table
except ImportError:
    has_rich = False
else:
    has_rich = True


class Guest(TypedDict):
    name: Annotated[str, Field(max_length=30)]
    email: Annotated[str, Field(max_length=40), HoldBack()]  # nobody wants to watch an address grow


class Booking(TypedDict):
    guest: Guest
    room: Literal["single", "double", "suite"]
    nights: Annotated[int, Field(ge=1, le=30)]
    breakfast: bool
    wishes: Annotated[list[Annotated[str, Field(max_length=30)]], Field(min_length=1, max_length=3)]
    note: Annotated[str, Field(max_length=160)]


ROWS = ["guest.name", "guest.email", "room", "nights", "breakfast", "wishes", "note"]
MARKS = {"pending": "[dim]·[/]", "incomplete": "[yellow]✎[/]", "complete": "[green]✓[/]"}


def shown(data: Any, path: str) -> str:
    """Return what the form has at a path, as text; fields that aren't there yet are missing."""
    for key in path.split("."):
        if not isinstance(data, dict) or key not in data:
            return ""
        data = data[key]
    return ", ".join(data) if isinstance(data, list) else str(data)


def form(partial: Any) -> Any:
    table = Table(title="A booking", width=78, show_header=False)
    table.add_column(width=12)
    table.add_column(width=1)
    table.add_column(min_width=50)
    for path in ROWS:
        state = partial.state(path) if partial else "pending"
        text = shown(partial.data, path) if partial else ""
        table.add_row(path.split(".")[-1], MARKS[state], escape(text))
    table.caption = f"writing {partial.path}" if partial and not partial.is_complete else ""
    return table


def at_a_terminal(partials: Iterable[Any]) -> None:
    with Live(form(None), auto_refresh=False) as live:
        for partial in partials:
            live.update(form(partial), refresh=True)


def line_by_line(partials: Iterable[Any]) -> None:
    """Print text where it belongs, as it comes, and numbers and the like once they are known."""
    place = ""
    for partial in partials:
        new = partial.text
        if partial.path in ("room", "nights", "breakfast"):
            new = shown(partial.data, partial.path)
        if new and partial.path != place:
            place = partial.path
            print(f"\n{place}: ", end="")
        print(new, end="", flush=True)
    print()


def main() -> None:
    show = line_by_line
    if sys.stdout.isatty():
        if has_rich:
            show = at_a_terminal
        else:
            print("The form is drawn by rich, which isn't installed (pip install rich); here it is line by line.")
    with mellea.start_session(model_options={"seed": 6, "temperature": 0.7, "max_tokens": 300}) as m:
        m.instruct("Say hello.", model_options={"max_tokens": 1})  # loads the model
        started = perf_counter()
        stream = m.stream("Invent a booking at a hotel by the sea. Its note has two sentences.", format=Booking)
        show(stream.partials())
        room, nights = stream.output["room"], stream.output["nights"]
        print(f"\nAfter {perf_counter() - started:.1f} s: a {room} for {nights} night(s).")


if __name__ == "__main__":
    main()
