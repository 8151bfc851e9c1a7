"""`mellea map`: calls a function of a Python file for each row of another file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from itertools import chain, islice
from pathlib import Path
from typing import Annotated, Any, TextIO, cast

import typer

from mellea.batch import Budget, Journal, Row, Rows
from mellea.batch import map as map_rows
from mellea.batch.row import find_id
from mellea.batch.sources import open_rows
from mellea.cli import output
from mellea.cli.files import check_files, claim_files
from mellea.cli.programs import load
from mellea.core.serialise import json_value
from mellea.errors import BudgetExceededError, MelleaError, UsageError
from mellea.stdlib.session import start_session

__all__ = ["map"]

_FIRST = 100
"""The number of rows that are looked up in the journal before a map continues."""


def map(
    function: Annotated[str, typer.Argument(metavar="FILE.py:NAME", help="What to call for each row.")],
    rows: Annotated[Path, typer.Argument(metavar="ROWS", help="A .csv, .tsv, .jsonl or .parquet file.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="Write the outcomes to this file, by default to stdout."),
    ] = None,
    journal: Annotated[
        Path | None, typer.Option("--journal", metavar="FILE", help="The journal, by default beside the rows.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue with an existing journal.")] = False,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="The maximum number of rows.")] = None,
    errors: Annotated[
        Path | None,
        typer.Option("--errors", metavar="FILE", help="Write the rows that failed to this file, as JSON lines."),
    ] = None,
    id: Annotated[str | None, typer.Option("--id", help="The field that identifies a row.")] = None,
    model: Annotated[str | None, typer.Option("-m", "--model", help="The model, such as openai/gpt-5-mini.")] = None,
    concurrency: Annotated[int | None, typer.Option(min=1, help="The maximum number of rows in flight.")] = None,
    cost: Annotated[float | None, typer.Option("--cost", help="The maximum cost, in US dollars.")] = None,
    tokens: Annotated[int | None, typer.Option("--tokens", help="The maximum number of tokens.")] = None,
    batch: Annotated[
        bool, typer.Option("--batch", help="Use the provider's batches, at half the price, if it has any.")
    ] = False,
) -> None:
    """Call a function for each row of a file.

    The outcomes are JSON lines with id and value, in the order of the rows. The journal keeps the answers, so that an
    interrupted map can continue with --resume.
    """
    # A journal by default: users rarely think of one before the first crash of a long map.
    kept = journal or rows.with_suffix(".journal.db")
    check_files({"the file of rows": rows, "the journal": kept}, {"-o": out, "--errors": errors})
    program = load(function)  # first: after a misspelt name nobody should think of deleting the journal
    # Not continued unless requested, since it may belong to other rows or an older prompt.
    if kept.is_dir():
        raise UsageError(f"the journal {str(kept)!r} is a folder; name a file")
    if kept.exists() and not resume:
        raise UsageError(
            f"the journal {str(kept)!r} already exists; continue it with --resume, or give another one with --journal"
        )
    source, _, _ = open_rows(rows)
    given: Iterator[Any] = islice(
        cast("Iterable[Any]", source), limit
    )  # limited here, so that further rows aren't even read
    if kept.exists():
        given = _check_ids(given, kept, id)
    budget = Budget(cost, tokens) if cost is not None or tokens is not None else None
    with (
        claim_files({"-o": out, "--errors": errors}),
        start_session(model) if model is not None else nullcontext(),
    ):
        mapped: Rows[Any] = map_rows(
            program,
            given,
            journal=kept,
            id=id,
            concurrency=concurrency,
            batch=batch,
            budget=budget,
        )
        failed, first = _write(mapped, out, errors, kept)
    if not mapped.done:
        output.note(f"mellea: {str(rows)!r} has no rows")
    if first is not None:
        many, them, the_first = ("1 row", "it", "") if failed == 1 else (f"{failed:,} rows", "them", "the first one: ")
        output.note(
            f"mellea: {many} failed; mellea journal failures {kept} lists {them}, --resume tries again; "
            f"{the_first}{type(first).__name__}: {first}"
        )
        raise typer.Exit(1)


def _check_ids(rows: Iterable[Any], kept: Path, id: str | None) -> Iterator[Any]:
    """Return the rows, after checking whether the journal knows some of the first ones.

    Raises:
        UsageError: it only knows others, so with these ids all rows would be requested, and paid for, again.
    """
    rest = iter(rows)
    first = list(islice(rest, _FIRST))
    try:
        # As the journal writes them: a lone surrogate is escaped.
        ids = {find_id(row, number, id).encode(errors="backslashreplace").decode() for number, row in enumerate(first)}
    except MelleaError:  # the map reports it, for the row that it concerns
        return chain(first, rest)
    journal = Journal(kept)
    if next(iter(journal.answers()), None) is None:  # then nothing would be requested again
        journal.close()
        return chain(first, rest)
    known = (each["id"] for each in chain(journal.answers(), journal.failures()))
    other = next(known, None)
    # The first rows are answered first, so one of them is found soon.
    is_known = other is None or other in ids or any(each in ids for each in known)
    journal.close()
    if first and not is_known:
        raise UsageError(
            f"the journal {str(kept)!r} has answers, but none for the ids of these rows, such as {min(ids)!r}; it "
            f"has {other!r}: with a different --id than before all rows would be requested again; give the same --id, "
            f"or another --journal for other rows"
        )
    return chain(first, rest)


def _write(mapped: Rows[Any], out: Path | None, errors: Path | None, kept: Path) -> tuple[int, BaseException | None]:
    """Write the outcomes, and return how many rows failed, and the error of the first of them."""
    try:
        return _write_each(mapped, out, errors, kept)
    except OSError as error:
        # The journal's errors say so themselves, and who closes a pipe wants no more. Caught out here, as closing a
        # file on a full disk fails once more.
        if isinstance(error, (MelleaError, BrokenPipeError)) or error.filename is not None:
            raise
        output.note(
            f"mellea: the outcomes can't be written: {error.strerror or error}; {mapped.done:,} answers are saved in "
            f"{str(kept)!r}, so --resume asks for none of them again"
        )
        raise typer.Exit(1) from None


def _write_each(
    mapped: Rows[Any], out: Path | None, errors: Path | None, kept: Path
) -> tuple[int, BaseException | None]:
    failed = 0
    first: BaseException | None = None
    with _open(out) as values, _open(errors) as failures, mapped:
        try:
            # Written as they arrive, so finished rows are in the file if the map is stopped.
            for row in mapped:
                if row.error is None:
                    _put(values, {"id": row.id, "value": _plain(row)})
                    continue
                failed += 1
                first = first or row.error
                if failures is not None:
                    _put(failures, {"id": row.id, "error": type(row.error).__name__, "message": str(row.error)})
        except KeyboardInterrupt:
            output.note(f"mellea: {mapped.done:,} rows are done and saved in {str(kept)!r}; --resume continues")
            raise
        except BudgetExceededError as error:
            # The error tells a program to run it again; on the command line that takes an option.
            spent = str(error).partition("; run it again")[0]
            output.note(f"mellea: {spent}; what is done is saved in {str(kept)!r}, and --resume continues")
            raise typer.Exit(1) from None
    return failed, first


def _open(path: Path | None) -> Any:
    # Line by line, so that a killed map leaves whole lines, which can also be read while it is running. Lone surrogates
    # become JSON escapes.
    return nullcontext() if path is None else path.open("w", encoding="utf-8", errors="backslashreplace", buffering=1)


def _put(file: TextIO | None, value: Any) -> None:
    if file is None:
        output.write_json([value])
    else:
        file.write(json.dumps(value, ensure_ascii=False) + "\n")


def _plain(row: Row[Any]) -> Any:
    value = row.value
    for name in ("parsed", "output"):  # of a thunk or of an agent's run
        if hasattr(value, name) and hasattr(value, "value"):
            value = getattr(value, name)
            break
    return json_value(value, serialize_unknown=True)
