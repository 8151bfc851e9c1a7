"""The outcome that `map` yields for each row, and how a row becomes arguments."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from mellea.batch.identity import find_form, make_digest
from mellea.core.attributes import ROW_WAYS, find_attribute
from mellea.core.entrance import short_errors
from mellea.core.events import Usage
from mellea.errors import UsageError

__all__ = ["Row", "RowId", "digest_row", "find_id", "make_arguments"]

T = TypeVar("T")

RowId = str | Callable[[Any], Any] | None


@dataclass(frozen=True, slots=True)
class Row(Generic[T]):
    """The outcome of one row.

    Attributes:
        index: the row's number, from 0.
        id: its id, as text.
        value: what the function returned; `None` if it failed.
        error: why it failed, `None` if it didn't.
        usage: the tokens that it used, `None` if no provider reported any.
        cost: what it cost in US dollars, `None` if that is unknown. For a cached row, the original cost.
        cached: whether the answer came from the journal, without a request.
    """

    index: int
    id: str
    value: T | None
    error: Exception | None
    usage: Usage | None
    cost: float | None
    cached: bool

    if not TYPE_CHECKING:  # hidden from type checkers, which then report names that don't exist

        @short_errors
        def __getattr__(self, name: str) -> Any:
            return find_attribute(self, name, ROW_WAYS)


def find_id(row: Any, index: int, id: RowId) -> str:
    """Return the id of a row: the value of the named field, the function's result, or the row's number.

    Raises:
        UsageError: the row has no such field, or it is empty.
    """
    if id is None:
        return str(index)
    if callable(id):
        found = id(row)
    elif hasattr(row, "keys"):
        if id not in row.keys():  # noqa: SIM118 - an sqlite3.Row looks through its values
            raise UsageError(f"row {index} has no field {id!r} for its id; it has {', '.join(map(repr, row.keys()))}")
        found = row[id]
    else:
        found = getattr(row, id, None)
    # 0 and False are valid ids; only `None` and an empty string can't distinguish rows.
    if found is None or found == "":
        raise UsageError(f"row {index} has no id: {id!r} gives {found!r}")
    return str(found)


_DIGEST_BYTES = 8
"""The length of a row's digest in bytes; it only has to distinguish rows with the same id."""

_PLAIN = frozenset({str, int, float, bool, type(None)})


def digest_row(row: Any) -> bytes | None:
    """Return a digest of only the row, not of the function; `None` if it contains something without a JSON form."""
    # Nearly all rows are a string, or a few plain values by name, whose `repr` is the same everywhere and cheap.
    if type(row) is str or (type(row) is dict and _PLAIN.issuperset(map(type, row.values()))):
        written = repr(row).encode("ascii", "backslashreplace")
        return hashlib.sha256(written).digest()[:_DIGEST_BYTES]
    try:
        return make_digest("row", find_form(row))[:_DIGEST_BYTES]
    except UsageError:
        return None


def make_arguments(row: Any, id: RowId, parameters: frozenset[str] | None) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
    """Return a row as positional and named arguments.

    Args:
        row: a row with keys becomes named arguments, a tuple positional ones, and anything else the only one.
        id: the field with the id, which is left out if the function has no parameter of that name.
        parameters: the names of the function's parameters, `None` if it takes any.
    """
    # A named tuple has no `keys`, so it counts as positional, like any tuple.
    if isinstance(row, tuple) and not hasattr(row, "keys"):
        return row, {}
    if isinstance(row, Mapping) or (hasattr(row, "keys") and type(row).__module__ == "sqlite3"):
        named = {str(name): row[name] for name in row.keys()}  # noqa: SIM118
        # The id is often a column of a table that the function doesn't care about.
        if isinstance(id, str) and parameters is not None and id not in parameters:
            named.pop(id, None)
        return (), named
    return (row,), {}
