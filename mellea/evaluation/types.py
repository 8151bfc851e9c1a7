"""The types of a function's parameters and result, with which cases are read."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from enum import Enum
from typing import Any, Literal, get_args, get_origin

from mellea.core.structured.kinds import format_type, unwrap_type
from mellea.core.structured.output_format import explain_error
from mellea.errors import UsageError
from mellea.evaluation.cases import Case
from mellea.stdlib.agents import Agent
from mellea.stdlib.tools.signature import resolve_type_hints

__all__ = ["FunctionTypes", "read_types"]


class FunctionTypes:
    """The types of a function's parameters and result.

    Args:
        parameters: the types of its parameters by name, if known.
        result: the type of its result, `None` if unknown.
    """

    def __init__(self, parameters: Mapping[str, Any], result: Any) -> None:
        self._parameters = parameters
        self.result = result
        self._adapters: dict[int, Any] = {}

    @property
    def labels(self) -> list[Any] | None:
        """The values of a result that is a choice among a few, as an enum or a `Literal`; `None` for others."""
        kind = unwrap_type(self.result)
        if kind is bool:
            return [True, False]
        if get_origin(kind) is Literal:
            return list(get_args(kind))
        return list(kind) if isinstance(kind, type) and issubclass(kind, Enum) else None

    def read_expected(self, case: Case) -> Any:
        """Return a case's expected value as a value of the result's type, such as an enum member for text from a file.

        Raises:
            UsageError: it isn't one.
        """
        expected = case.expected
        if not case.has_expected or self.result in (None, Any, str):
            return expected
        adapter = self._adapter(self.result)
        try:
            return adapter.validate_python(expected)
        except ValueError as error:
            try:
                return adapter.validate_json(expected)  # of a field of a CSV file
            except (ValueError, TypeError):
                raise UsageError(
                    f"the case {case.id!r} expects {expected!r}, which is not a valid {format_type(self.result)}: "
                    f"{explain_error(error)}"
                ) from None

    def read_inputs(self, case: Case) -> Any:
        """Return the inputs of a case, with named arguments converted to the parameters' types where they fit."""
        if not isinstance(case.inputs, Mapping):
            return case.inputs
        return {name: self._read_input(name, value) for name, value in case.inputs.items()}

    def _read_input(self, name: str, value: Any) -> Any:
        wanted = self._parameters.get(name)
        if wanted in (None, Any, str) or not isinstance(value, (str, dict, list)):
            return value
        try:
            return self._adapter(wanted).validate_python(value)
        except ValueError:  # the function itself declares what it takes
            return value

    def _adapter(self, kind: Any) -> Any:
        from pydantic import TypeAdapter  # lazy: cases of text don't need it

        found = self._adapters.get(id(kind))
        if found is None:
            found = self._adapters[id(kind)] = TypeAdapter(kind)
        return found


def read_types(function: Any) -> FunctionTypes:
    """Return the types of an evaluated object: a function, a session's verb, an agent, or a partial of one."""
    if isinstance(function, Agent):
        return FunctionTypes({}, None if function.format is None else function.format.kind)
    given = function.keywords if isinstance(function, functools.partial) else {}
    if "format" in given:  # a session's verb
        return FunctionTypes({}, given["format"])
    name = str(getattr(function, "__name__", type(function).__name__))
    bare = function.func if isinstance(function, functools.partial) else function
    names = [each for each in getattr(bare, "__annotations__", {}) if each != "return"]
    return FunctionTypes(
        {each: hint for each in names if (hint := _find_hint(function, name, each)) is not None},
        _find_hint(function, name, "return"),
    )


def _find_hint(function: Any, name: str, of: str) -> Any:
    try:
        return resolve_type_hints(function, name, of=(of,)).get(of)
    except UsageError:  # a name that isn't known here; then the value isn't converted
        return None
