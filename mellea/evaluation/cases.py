"""Cases: the inputs that functions are evaluated on, and the expected values."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from mellea.batch.identity import find_form, make_digest
from mellea.batch.sources import open_rows
from mellea.core.serialise import json_value
from mellea.errors import UsageError

__all__ = ["UNKNOWN", "Case", "read_cases"]


class _Unknown:
    """The expected value of a case that has none; `None` is a value like any other."""

    def __repr__(self) -> str:
        return "UNKNOWN"

    def __reduce__(self) -> str:
        return "UNKNOWN"


UNKNOWN: Final[Any] = _Unknown()

_ID_LENGTH = 10


@dataclass(frozen=True, slots=True)
class Case:
    """One case.

    Args:
        inputs: the function's input: a dict holds named arguments, a tuple positional ones, and anything else is the
            only argument.
        expected: the value that it should return; without it there is nothing to compare with.
        id: identifies it in reports and in the journal; by default a digest of the inputs, so that cases
            may be added and moved.
        data: other data about it, such as a label given by a person; checks can read it.
    """

    inputs: Any
    expected: Any = UNKNOWN
    id: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)

    @property
    def has_expected(self) -> bool:
        """Whether there is an expected value."""
        return self.expected is not UNKNOWN


async def read_cases(source: Any, parameters: frozenset[str] | None) -> list[Case]:
    """Read all cases, and give an id to those that have none.

    Args:
        source: `Case`s, pairs of inputs and expected value, dicts or dataclasses with a field `expected`, bare inputs;
            or the path of a file with such rows, or a data frame.
        parameters: the names of the function's parameters, `None` if it takes any. Fields of a row with these names are
            inputs; other fields are data of the case.

    Raises:
        UsageError: there are no cases, two have the same id, or something else is given.
        OSError: the file can't be read.
    """
    rows, _, _ = open_rows(source)
    if isinstance(rows, AsyncIterable):
        cases = [_as_case(row, parameters) async for row in rows]
    else:
        cases = [_as_case(row, parameters) for row in rows]
    if not cases:
        raise UsageError("there are no cases to evaluate")
    return _identify(cases)


def _as_case(row: Any, parameters: frozenset[str] | None) -> Case:
    if isinstance(row, Case):
        return row
    # A pair, as in a hand-written list; a named tuple has fields and is a row.
    if type(row) is tuple:
        if len(row) == 2:
            return Case(row[0], row[1])
        raise UsageError(f"a tuple among cases is (inputs, expected), not one of {len(row)}; Case(inputs) takes others")
    fields = _list_fields(row)
    return Case(row) if fields is None else _split(fields, parameters)


def _list_fields(row: Any) -> dict[str, Any] | None:
    """Return the fields of a row, `None` if it is a bare input."""
    if isinstance(row, Mapping):
        return {str(name): value for name, value in row.items()}
    if hasattr(row, "_asdict"):
        return dict(row._asdict())
    # A dataclass is one argument of the function, unless it has an expected value.
    if dataclasses.is_dataclass(row) and hasattr(row, "expected"):
        return {each.name: getattr(row, each.name) for each in dataclasses.fields(row)}
    return None


def _split(fields: dict[str, Any], parameters: frozenset[str] | None) -> Case:
    own = parameters or frozenset()
    expected = UNKNOWN if "expected" in own else fields.pop("expected", UNKNOWN)
    id = "" if "id" in own else fields.pop("id", "")
    if "inputs" in fields and "inputs" not in own:
        inputs = fields.pop("inputs")
        data = fields.pop("data", None)
        return Case(inputs, expected, str(id), data if isinstance(data, Mapping) and not fields else fields)
    if parameters is None:
        return Case(fields, expected, str(id))
    inputs = {name: value for name, value in fields.items() if name in parameters}
    if fields and parameters and not inputs:
        has = ", ".join(map(repr, fields))
        raise UsageError(f"a case has {has}, and the function has no parameter of that name: give both the same name")
    return Case(inputs, expected, str(id), {name: value for name, value in fields.items() if name not in parameters})


def _identify(cases: list[Case]) -> list[Case]:
    known: set[str] = set()
    found = []
    for number, case in enumerate(cases):
        if case.id in known:
            raise UsageError(f"case {number} has the id {case.id!r}, which an earlier case already has")
        id = case.id or _make_id(case.inputs, known)
        known.add(id)
        found.append(case if id == case.id else replace(case, id=id))
    return found


def _make_id(inputs: Any, known: set[str]) -> str:
    digest = make_digest("case", find_form(inputs)).hex()[:_ID_LENGTH]
    # Repeated inputs are separate cases, such as two samples from a stream of requests.
    id, times = digest, 1
    while id in known:
        times += 1
        id = f"{digest}-{times}"
    return id


def describe_inputs(case: Case) -> Any:
    """Return the inputs of a case as JSON values; a single named argument unwrapped."""
    inputs = case.inputs
    if isinstance(inputs, Mapping) and len(inputs) == 1:
        inputs = next(iter(inputs.values()))
    return json_value(inputs, serialize_unknown=True)
