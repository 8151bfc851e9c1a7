"""Draw a form with rich while a model fills it in: strings grow in their cells, numbers and choices appear at once.

Run it: uv run docs/examples/streaming/form_at_a_terminal.py
Needs: rich and the embedded model

The embedded model fills every field with a valid value, but these don't always make sense. A bigger model invents a
consistent booking. `partial_form.py` has the form, and prints it line by line.
"""

from time import perf_counter
from typing import Any

from partial_form import start_stream
from rich.live import Live
from rich.markup import escape
from rich.table import Table

import mellea

ROWS = ["guest.name", "guest.email", "room", "nights", "breakfast", "wishes", "note"]
MARKS = {"pending": "[dim]·[/]", "incomplete": "[yellow]✎[/]", "complete": "[green]✓[/]"}


def read_cell(data: Any, path: str) -> str:
    """Return what the form has at a path, as text; fields that aren't there yet are missing."""
    for key in path.split("."):
        if not isinstance(data, dict) or key not in data:
            return ""
        data = data[key]
    return ", ".join(data) if isinstance(data, list) else str(data)


def draw(partial: Any) -> Table:
    table = Table(title="A booking", width=78, show_header=False)
    table.add_column(width=12)
    table.add_column(width=1)
    table.add_column(min_width=50)
    for path in ROWS:
        state = partial.state(path) if partial else "pending"
        text = read_cell(partial.data, path) if partial else ""
        table.add_row(path.split(".")[-1], MARKS[state], escape(text))
    table.caption = f"writing {partial.path}" if partial and not partial.is_complete else ""
    return table


def main() -> None:
    with mellea.start_session(model_options={"seed": 7, "temperature": 0.3, "max_tokens": 300}) as m:
        m.instruct("Say hello.", model_options={"max_tokens": 1})  # loads the model
        started = perf_counter()
        stream = start_stream(m)
        with Live(draw(None), auto_refresh=False) as live:
            for partial in stream.partials():
                live.update(draw(partial), refresh=True)
        room, nights = stream.output["room"], stream.output["nights"]
        print(f"\nAfter {perf_counter() - started:.1f} s: a {room} for {nights} night(s).")


if __name__ == "__main__":
    main()
