"""Where rows come from: iterables of any kind, files, data frames, tables and cursors, read piece by piece.

Anything that isn't recognised is simply iterated. Nothing is imported for data frames; they are recognised by their
methods.
"""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import AsyncIterable, Iterable, Iterator, Sequence, Sized
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mellea.errors import MissingExtraError, UsageError

__all__ = ["open_rows"]

_FORMS = (".csv", ".jsonl", ".ndjson", ".parquet", ".tsv")

_LONGEST_FIELD = 64 * 2**20


def open_rows(rows: Any) -> tuple[Iterable[Any] | AsyncIterable[Any], int | None, bool]:
    """Return rows to iterate, how many there are if that is known, and whether they are in memory already.

    Args:
        rows: any iterable or async iterable; the path of a `.csv`, `.tsv`, `.jsonl`, `.ndjson` or `.parquet` file; a
            data frame of pandas or Polars, a table of Arrow, an open cursor. Missing values in a pandas data frame
            become `None`.

    Raises:
        UsageError: it is none of these, or the file can't be read.
        MissingExtraError: the file is Parquet, and there is no pyarrow.
    """
    if isinstance(rows, (str, os.PathLike)):
        return _open_file(Path(rows)), None, False
    if isinstance(rows, dict):
        raise UsageError("rows are a list of dicts, or another iterable of rows, not one dict")
    if (table := _open_table(rows)) is not None:
        return *table, False
    if isinstance(rows, AsyncIterable):
        return rows, None, False
    if not isinstance(rows, Iterable):
        raise UsageError(f"rows= takes an iterable of rows, the path of a file, or a data frame, not {rows!r}")
    is_ready = isinstance(rows, (list, tuple, range, set, frozenset))
    return rows, len(rows) if isinstance(rows, (Sized, Sequence)) else None, is_ready


def _open_table(rows: Any) -> tuple[Iterable[Any], int | None] | None:
    """Return the rows of a data frame, a table or an array, and how many there are; `None` if it is something else."""
    if hasattr(rows, "collect_schema") and hasattr(rows, "collect"):
        raise UsageError(f"a {type(rows).__name__} has no rows yet; give rows.collect()")
    if hasattr(rows, "iter_rows") and hasattr(rows, "columns"):  # Polars
        return rows.iter_rows(named=True), len(rows)
    if hasattr(rows, "itertuples") and hasattr(rows, "columns"):  # pandas
        return _read_pandas(rows), len(rows)
    if hasattr(rows, "to_batches"):  # pyarrow: a table, a data set
        return _read_batches(rows.to_batches()), getattr(rows, "num_rows", None)
    if hasattr(rows, "read_next_batch"):
        return _read_batches(rows), None
    if hasattr(rows, "to_pylist"):  # a record batch or an array of pyarrow
        return rows.to_pylist(), len(rows)
    if hasattr(rows, "tolist") and hasattr(rows, "dtype") and getattr(rows, "shape", None):  # NumPy; a column of pandas
        return map(_make_plain, rows.tolist()), len(rows)
    return None


def _open_file(path: Path) -> Iterator[Any]:
    kind = path.suffix.lower()
    if str(path) == "-":
        raise UsageError(
            "rows aren't read from standard input, since a resumed map has to read them again; write them to a file"
        )
    if kind in _FORMS and not path.is_fifo():  # a pipe can only be read once
        try:
            with path.open("rb"):
                pass  # a missing file is reported now
        except OSError as error:
            raise UsageError(f"the rows of {str(path)!r} can't be read: {error.strerror or error}") from error
    readers = {".csv": _read_csv, ".tsv": _read_csv, ".jsonl": _read_jsonl, ".ndjson": _read_jsonl}
    if kind == ".parquet":
        with _explaining(path):  # a file that isn't Parquet is reported now
            rows = _read_parquet(path)
        return _read(rows, path)
    if kind not in readers:
        raise UsageError(f"{str(path)!r} is not a .csv, .tsv, .jsonl, .ndjson or .parquet file; give its rows instead")
    return _read(readers[kind](path), path)


def _read(rows: Iterator[Any], path: Path) -> Iterator[Any]:
    with _explaining(path):
        yield from rows


@contextmanager
def _explaining(path: Path) -> Iterator[None]:
    try:
        yield
    # Bytes that aren't UTF-8, input that the format's reader rejects, a disk error, or a truncated file.
    except (ValueError, csv.Error, OSError) as error:
        raise UsageError(f"the rows of {str(path)!r} can't be read: {error}") from error


def _read_csv(path: Path) -> Iterator[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        csv.field_size_limit(max(csv.field_size_limit(), _LONGEST_FIELD))
        # Strict, because an unclosed quote would turn everything after it into one field.
        reader = csv.DictReader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",", strict=True)
        names = list(reader.fieldnames or ())
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise UsageError(f"the first line of {str(path)!r} has the name {twice!r} twice; rename one of the columns")
        if "" in names:
            raise UsageError(
                f"column {names.index('') + 1} of {str(path)!r} has no name; give it one, or leave it out (pandas "
                f"writes its index like this unless you pass index=False to to_csv)"
            )
        for row in reader:
            if None in row or None in row.values():
                # A record may span several lines; this is the last one.
                raise UsageError(
                    f"line {reader.line_num} of {str(path)!r} has more or fewer fields than the first line has names"
                )
            yield row


def _read_jsonl(path: Path) -> Iterator[Any]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                yield json.loads(line)
            except (ValueError, RecursionError) as error:
                raise UsageError(f"line {number} of {str(path)!r} is not JSON: {error}") from None


def _read_parquet(path: Path) -> Iterator[dict[str, Any]]:
    try:
        from pyarrow.parquet import ParquetFile  # lazy: an optional dependency
    except ImportError:
        raise MissingExtraError(f"to read {str(path)!r}, install pyarrow: pip install pyarrow") from None
    return _read_batches(ParquetFile(path).iter_batches())


def _read_batches(batches: Iterable[Any]) -> Iterator[dict[str, Any]]:
    for batch in batches:
        yield from batch.to_pylist()


def _read_pandas(frame: Any) -> Iterator[dict[str, Any]]:
    names = [str(name) for name in frame.columns]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UsageError(f"the data frame has the column {twice!r} twice; rename one of them")
    for values in frame.itertuples(index=False, name=None):
        yield {name: _make_plain(value) for name, value in zip(names, values, strict=True)}


def _make_plain(value: Any) -> Any:
    """Return NumPy numbers and arrays as Python values that JSON can hold, and pandas' missing values as `None`."""
    if hasattr(value, "dtype") and hasattr(value, "tolist"):
        value = value.tolist()
    is_missing = type(value).__name__ in _MISSING or (isinstance(value, float) and math.isnan(value))
    return None if is_missing else value


_MISSING = ("NAType", "NaTType")
