"""Data frames, tables and arrays as rows: of the libraries that are installed, and of stand-ins where none is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import mellea
from mellea.batch import map as map_rows
from mellea.errors import UsageError


def read(rows: Any) -> list[Any]:
    """Return the rows as a function gets them."""
    return [row.value for row in map_rows(_keep, rows)]


def _keep(*args: Any, **named: Any) -> Any:
    return named or (args[0] if len(args) == 1 else args)


class Scalar:
    """A number of NumPy, or an array."""

    dtype = "int64"

    def __init__(self, value: Any) -> None:
        self._value = value

    def tolist(self) -> Any:
        return self._value


class NAType:
    """What pandas has for a missing value."""

    def __bool__(self) -> bool:
        raise TypeError("boolean value of NA is ambiguous")


class Frame:
    """A data frame of pandas."""

    def __init__(self, columns: list[Any], *rows: tuple[Any, ...]) -> None:
        self.columns, self._rows = columns, rows

    def __len__(self) -> int:
        return len(self._rows)

    def itertuples(self, *, index: bool, name: None) -> Iterator[tuple[Any, ...]]:
        assert (index, name) == (False, None)
        return iter(self._rows)


def test_what_is_missing_in_a_frame_is_none_and_its_numbers_are_pythons() -> None:
    frame = Frame(["a", 1], (float("nan"), Scalar(3)), (NAType(), Scalar([1, 2])), ("", 0.0))
    assert read(frame) == [{"a": None, "1": 3}, {"a": None, "1": [1, 2]}, {"a": "", "1": 0.0}]


def test_a_missing_id_is_no_id() -> None:
    [row] = map_rows(_keep, Frame(["key"], (float("nan"),)), id="key")
    assert isinstance(row.error, UsageError)
    assert "row 0 has no id" in str(row.error)


def test_a_column_that_occurs_twice_is_refused() -> None:
    with pytest.raises(UsageError, match="the data frame has the column 'a' twice"):
        read(Frame(["a", "b", "a"], (1, 2, 3)))


def test_a_lazy_frame_says_how_it_gets_rows() -> None:
    class LazyFrame:
        def collect(self) -> None: ...
        def collect_schema(self) -> None: ...

    with pytest.raises(UsageError, match=r"a LazyFrame has no rows yet; give rows\.collect\(\)"):
        read(LazyFrame())


def test_arrays_are_lists_of_plain_values() -> None:
    class Array(Scalar):
        shape = (3,)

        def __len__(self) -> int:
            return 3

    assert read(Array([1.0, float("nan"), "x"])) == [1.0, None, "x"]
    assert read(Array([("a", 1), ("b", 2), ("c", 3)])) == [("a", 1), ("b", 2), ("c", 3)], "records are arguments"


def test_record_batches_and_arrays_of_arrow_are_rows() -> None:
    class Batch:
        def to_pylist(self) -> list[Any]:
            return [{"a": 1}, {"a": 2}]

        def __len__(self) -> int:
            return 2

    assert read(Batch()) == [{"a": 1}, {"a": 2}]


@pytest.mark.parametrize("content", [b"", b"PAR1 and then nothing of the kind"])
def test_a_file_that_is_no_parquet_is_refused(tmp_path: Path, content: bytes) -> None:
    pytest.importorskip("pyarrow")
    path = tmp_path / "rows.parquet"
    path.write_bytes(content)
    with pytest.raises(UsageError, match="can't be read: Parquet"):
        map_rows(_keep, path)


def test_frames_tables_and_files_of_the_real_libraries_are_the_same_rows(tmp_path: Path) -> None:
    pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    columns = {"text": ["a", None, "c"], "n": [1, 2, 3], "many": [[1], None, [2, 3]]}
    table = pyarrow.table(columns)
    parquet.write_table(table, tmp_path / "rows.parquet")
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    many = [pandas.DataFrame(columns), polars.DataFrame(columns), table, table.to_batches()[0], table.to_reader()]
    for source in [*many, tmp_path / "rows.parquet"]:
        assert read(source) == rows
    assert read(pandas.Series([1.5, None])) == [1.5, None]
    assert read(pandas.DataFrame(columns)["n"].to_numpy()) == [1, 2, 3]


def test_rows_with_arrays_have_answers_in_a_journal(tmp_path: Path) -> None:
    def add(many: list[int]) -> int:
        return sum(many)

    for is_cached in (False, True):
        [row] = mellea.map(add, Frame(["many"], (Scalar([1, 2]),)), journal=tmp_path / "run.db")
        assert (row.value, row.cached) == (3, is_cached)
