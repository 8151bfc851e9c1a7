"""`mellea journal`: the contents of a journal of `mellea.map`, and the failures."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from mellea.batch import Journal, cancel_batches
from mellea.cli import output
from mellea.core.terminal import make_visible
from mellea.errors import UsageError

__all__ = ["app"]

File = Annotated[Path, typer.Argument(metavar="FILE", help="The journal file.", show_default=False)]
Job = Annotated[
    str | None, typer.Option("--job", metavar="NAME", help="Only those of this function.", show_default=False)
]

app = typer.Typer(help="Show, export and merge the journals of maps.", no_args_is_help=True)


@app.command("show")
def show(file: File, as_json: output.Json = False) -> None:
    """Show which functions a journal has answers for, and how many."""
    counts = _open(file).count()
    if not output.is_for_people(as_json):
        output.write_json({"job": job, "answers": found[0], "failures": found[1]} for job, found in counts.items())
        return
    table = output.table("function", "answers", "failures", right=["answers", "failures"])
    for job, (answers, failures) in counts.items():
        table.add_row(Text(make_visible(job)), f"{answers:,}", f"{failures:,}")
    output.draw(table)


@app.command("export")
def export(file: File, job: Job = None) -> None:
    """Write the answers as JSON lines, oldest first.

    Each line has job, id, value, usage, cost and at.
    """
    output.write_json(_open(file, job).answers(job))


@app.command("failures")
def failures(file: File, job: Job = None) -> None:
    """Write failed rows that have no answer yet as JSON lines.

    Each line has job, id, row, error, message and attempts.
    """
    output.write_json(_open(file, job).failures(job))


@app.command("compact")
def compact(file: File) -> None:
    """Delete superseded answers, and free their space."""
    output.note(f"mellea: dropped {_open(file).compact():,} entries")


@app.command("merge")
def merge(
    file: File,
    others: Annotated[list[Path], typer.Argument(metavar="OTHER...", help="The journals whose answers to add.")],
) -> None:
    """Merge the answers of other journals into this one.

    They may be the journals of an engine's tasks.
    """
    output.note(f"mellea: merged {Journal(file).merge(*others):,} answers")


@app.command("cancel")
def cancel(
    file: File,
    ids: Annotated[
        list[str] | None,
        typer.Option("--id", metavar="ID", help="The id of a batch that this command listed as a candidate."),
    ] = None,
    as_json: output.Json = False,
) -> None:
    """Cancel unfinished batches at the provider.

    The answers that they already have are fetched when the map is resumed.
    """
    cancelled = cancel_batches(_open(file), ids=ids or ())
    if not output.is_for_people(as_json):
        output.write_json(asdict(batch) for batch in cancelled)
        return
    table = output.table("batch", "model", "rows", "state", right=["rows"])
    for batch in cancelled:
        table.add_row(
            Text(make_visible(batch.id or "-")),
            Text(make_visible(f"{batch.provider}/{batch.model}")),
            f"{batch.rows:,}",
            Text(make_visible(batch.state)),
        )
    output.draw(table)
    for batch in cancelled:
        if batch.candidates:
            output.note(
                f"mellea: the id of a batch with {batch.rows:,} rows at {batch.provider} is not known, since its "
                f"program was killed; it may be {' or '.join(batch.candidates)}. If it is yours, cancel it with --id, "
                "or wait until it has ended"
            )


def _open(file: Path, job: str | None = None) -> Journal:
    # Opening a journal creates it, and a typo shouldn't leave an empty file behind.
    if not file.is_file():
        raise UsageError(f"there is no journal {str(file)!r}")
    journal = Journal(file)
    if job is not None and job not in (known := journal.count()):
        names = ", ".join(map(repr, known)) or "none"
        raise UsageError(f"the journal {str(file)!r} has no answers of {job!r}; it has those of: {names}")
    return journal
