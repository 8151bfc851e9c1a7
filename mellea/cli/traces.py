"""`mellea traces`: what programs did, from the record that `mellea.traces.record` or `MELLEA_TRACES` keeps."""

from __future__ import annotations

import os
import webbrowser
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from mellea.cli import output
from mellea.core.masking import scrub_text
from mellea.core.span_tree import draw_lines
from mellea.core.terminal import make_lines_visible, make_visible
from mellea.errors import UsageError
from mellea.telemetry.export import export_runs
from mellea.telemetry.run_file import read_run, read_runs

__all__ = ["app"]

Database = Annotated[
    Path,
    typer.Option(
        "--db", envvar="MELLEA_TRACES", metavar="FILE", help="The file with the recorded runs.", show_default=True
    ),
]


_MOST_DIGITS = 18  # of a number that SQLite takes


def _read_number(given: str) -> int:
    if not given.isascii() or not given.isdigit() or len(given) > _MOST_DIGITS:
        raise typer.BadParameter(f"{given[:40]!r} is not the number of a run; --db FILE names the record")
    return int(given)


Run = Annotated[
    int | None,
    typer.Argument(
        metavar="ID", help="The id of the run, by default the newest.", show_default=False, parser=_read_number
    ),
]

_DEFAULT = Path("runs.db")

_COLOURS = {"cancelled": "yellow", "error": "red", "lost": "magenta", "ok": "green", "running": "cyan"}

app = typer.Typer(help="List, show, open and export recorded runs.")


@app.callback(invoke_without_command=True)
def start(context: typer.Context, database: Database = _DEFAULT, as_json: output.Json = False) -> None:
    """List, show, open and export recorded runs."""
    # `mellea traces` on its own is the most used command.
    if context.invoked_subcommand is None:
        list_runs(database=database, as_json=as_json)


@app.command("list")
def list_runs(
    database: Database = _DEFAULT,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many to list.")] = 20,
    as_json: output.Json = False,
) -> None:
    """List recorded runs, the newest first."""
    runs = read_runs(database, limit=limit)
    if not output.is_for_people(as_json):
        output.write_json(runs)
        return
    titles = ["id", "began", "name", "status", "took", "spans", "tokens", "cost", "models"]
    rows = [dict(zip(titles, _row(run), strict=True)) for run in runs]
    widest = min(max((len(row["name"]) for row in rows), default=0), _NAME_WIDTH)
    table = _lay_out(titles, rows, widest)
    empty = [title for title in _EXPENDABLE if not any(len(row[title]) for row in rows)]
    for title in [*empty, *(title for title in _EXPENDABLE if title not in empty)]:
        if output.has_room(table):
            break
        titles.remove(title)
        table = _lay_out(titles, rows, widest)
    output.draw(table if output.has_room(table) else _lay_out(titles, rows))


_EXPENDABLE = ("models", "cost", "tokens", "spans", "began", "took")
"""The columns that a narrow terminal leaves out, empty ones first, then in this order.

`mellea traces show` and `--json` have them all.
"""

_NAME_WIDTH = 24  # columns are left out rather than names wrapped, up to this width


def _lay_out(titles: Sequence[str], rows: Sequence[Mapping[str, str | Text]], name_width: int | None = None) -> Table:
    table = output.table(*titles, right=["id", "took", "spans", "tokens", "cost"])
    for title, column in zip(titles, table.columns, strict=True):
        column.no_wrap = title not in ("name", "models")
        if title == "name":
            column.min_width = name_width
    for row in rows:
        table.add_row(*[row[title] for title in titles])
    return table


def _row(run: Mapping[str, Any]) -> Iterator[str | Text]:
    yield str(run["id"])
    yield _time(run["started"])
    # This shows text that models wrote, so control characters are made visible; otherwise a terminal would obey them.
    yield Text(make_visible(run["name"]))
    yield Text(run["status"], style=_COLOURS[run["status"]])
    yield f"{run['seconds']:.3f} s" if "seconds" in run else ""
    yield str(run["spans"])
    counts = [run.get(name) for name in ("input_tokens", "output_tokens")]
    is_known = any(count is not None for count in counts)
    yield " + ".join("?" if count is None else str(count) for count in counts) if is_known else ""
    yield f"${run['cost']:.6f}".rstrip("0").rstrip(".") if "cost" in run else ""
    yield Text(make_visible(", ".join(run["models"])))


def _time(seconds: float) -> str:
    then = datetime.fromtimestamp(seconds)
    return then.strftime("%H:%M:%S" if then.date() == datetime.now().date() else "%Y-%m-%d %H:%M")


@app.command("show")
def show_run(
    run: Run = None,
    database: Database = _DEFAULT,
    full: Annotated[
        bool, typer.Option("--full", help="Show whole prompts and answers, not only their first lines.")
    ] = False,
    as_json: output.Json = False,
) -> None:
    """Show the spans of a run as a tree.

    It includes prompts and answers if they were recorded.
    """
    spans = read_run(database, _find(database, run))
    if not output.is_for_people(as_json):
        output.write_json(spans)
        return
    for level, data, line in draw_lines(spans, figures=True):
        output.draw_indented(Text(line, style=_choose_style(data)), 2 * level, hang=_HANG)
        for text in _show_conversation(data, is_full=full):
            for part in text.split("\n"):
                output.draw_indented(Text(part, style="dim"), 2 * level + 4, is_cut=not full)


_HANG = 6
"""How far in a line of the tree continues: further than its children, which would otherwise look like a part of it."""


def _choose_style(data: Mapping[str, Any]) -> str:
    if data["status"] != "ok":
        return _COLOURS[data["status"]]
    return "yellow" if data.get("is_accepted") is False or data.get("is_met") is False else ""


def _describe_part(part: Mapping[str, Any]) -> str:
    """Return a part of a message as text: what was written, the call of a tool, its result, or its fields."""
    if "name" in part and isinstance(arguments := part.get("arguments"), Mapping):
        return f"calls {part['name']}({', '.join(f'{name}={value!r}' for name, value in arguments.items())})"
    said = part.get("content") or part.get("response")
    return str(said) if said else ", ".join(f"{name}: {value}" for name, value in part.items())


def _show_conversation(data: Mapping[str, Any], *, is_full: bool) -> Iterator[str]:
    """Yield the content of a span: the last message of its request, or all messages, and the answer."""
    # The last message is the question; the ones before it are history.
    messages = [*data.get("messages", ())[0 if is_full else -1 :]]
    messages += [data["answer"]] if "answer" in data else []
    for message in messages:
        for part in message["parts"]:
            text = _describe_part(part)
            yield f"{message['role']}: {make_lines_visible(text) if is_full else make_visible(text)}"
    error = data.get("error")
    known = [("arguments", data.get("arguments"))]
    # The model is often told the error itself, and the line of the span has its first words already.
    known += [("result", data.get("result") if data.get("result") != error else None)]
    known += [("error", error if is_full else None)]
    for name, value in known:
        if value is not None:
            yield f"{name}: {make_lines_visible(str(value)) if is_full else make_visible(str(value))}"


@app.command("open")
def open_run(
    run: Run = None,
    database: Database = _DEFAULT,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE.html", help="Write the page to a file instead.")
    ] = None,
    browser: Annotated[bool, typer.Option(help="Whether to open a browser.")] = True,
) -> None:
    """Open the page of a run in a browser.

    The page updates while the run continues.
    """
    from mellea.telemetry.page import render_page, serve_page  # lazy: other commands don't need it

    id = _find(database, run)
    if out is not None:
        out.write_text(render_page(read_run(database, id)), "utf-8")
        output.note(f"mellea: run {id} is in {os.fspath(out)!r}")
        return
    # The page reads the file while it is open, so it follows a running program.
    with serve_page(database, run=id) as server:
        output.write(f"{server.url}\n")
        if browser:
            webbrowser.open(server.url)
        output.note("mellea: the page is served until Ctrl-C")
        server.wait()


@app.command("export")
def export(
    runs: Annotated[
        list[int] | None,
        typer.Argument(metavar="ID", help="The ids of the runs, by default all.", parser=_read_number),
    ] = None,
    endpoint: Annotated[
        str, typer.Option("--otlp", envvar="OTEL_EXPORTER_OTLP_ENDPOINT", help="The URL of the receiver.")
    ] = "http://localhost:4318",
    database: Database = _DEFAULT,
) -> None:
    """Send runs to an OpenTelemetry collector.

    Any other server that accepts OTLP over HTTP works, too.
    """
    sent = export_runs(database, endpoint, runs or None)
    output.note(f"mellea: sent {sent} spans to {scrub_text(endpoint)}")


def _find(database: Path, run: int | None) -> int:
    if run is not None:
        return run
    newest = read_runs(database, limit=1)
    if not newest:
        raise UsageError(f"the record {os.fspath(database)!r} is empty")
    return int(newest[0]["id"])
