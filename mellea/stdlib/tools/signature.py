"""Signatures: a function's parameters with resolved types, as a JSON Schema and as a validator of arguments."""

from __future__ import annotations

import functools
import inspect
import json
import typing
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Annotated, Any

from mellea.core.structured.kinds import find_field_info
from mellea.core.structured.strict import StrictTypes
from mellea.core.structured.visibility import strip_marks
from mellea.errors import ToolError, UsageError

__all__ = ["ArgumentValidator", "Parameter", "get_docstring", "get_name", "get_parameters", "resolve_type_hints"]

EMPTY = inspect.Parameter.empty

_VARIADIC: dict[Any, str] = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a function.

    Attributes:
        name: its name.
        kind: how it is passed, as in `inspect.Parameter`.
        default: its default; `inspect.Parameter.empty` without one.
    """

    name: str
    kind: Any
    default: Any


def get_name(function: Any) -> str:
    """Return the name of a function, a partial function or a callable object."""
    if isinstance(function, functools.partial):
        return get_name(function.func)
    return str(getattr(function, "__name__", type(function).__name__))


def get_docstring(function: Any) -> str | None:
    """Return the docstring of a function, a partial function or a callable object."""
    if isinstance(function, functools.partial):
        return get_docstring(function.func)
    if inspect.isroutine(function):
        return inspect.getdoc(function)
    return inspect.getdoc(type(function).__call__) or inspect.getdoc(type(function))


def get_parameters(function: Callable[..., Any], what: str) -> tuple[Parameter, ...]:
    """Return a function's parameters, without the `self` of a bound method and arguments that a partial sets.

    Args:
        function: the function.
        what: its name in error messages.

    Raises:
        UsageError: it takes `*args` or `**kwargs`, or has no readable signature.
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{what} has no signature to read ({error}); wrap it in a function of your own") from None
    is_set = function.keywords if isinstance(function, functools.partial) else {}
    parameters = [parameter for parameter in signature.parameters.values() if parameter.name not in is_set]
    for parameter in parameters:
        if stars := _VARIADIC.get(parameter.kind):
            raise UsageError(
                f"{what} takes {stars}{parameter.name}, which has no names and types to describe to the model; "
                "write out its parameters"
            )
    return tuple(Parameter(parameter.name, parameter.kind, parameter.default) for parameter in parameters)


def resolve_type_hints(
    function: Any, what: str, names: Mapping[str, Any] | None = None, *, of: Collection[str]
) -> dict[str, Any]:
    """Return some of a function's annotations, with texts and forward references resolved.

    Args:
        function: the function.
        what: its name in error messages.
        names: names that the annotations may use in addition to the function's module and closure.
        of: the wanted parameters, and `"return"`; other annotations aren't resolved, so they may be unavailable at run
            time.

    Raises:
        UsageError: a name in one of these annotations can't be found.
    """
    function = _unwrap_function(function)
    closure = getattr(function, "__closure__", None) or ()
    free = zip(getattr(getattr(function, "__code__", None), "co_freevars", ()), closure, strict=False)
    wanted = SimpleNamespace(
        __annotations__={name: hint for name, hint in getattr(function, "__annotations__", {}).items() if name in of},
        __type_params__=getattr(function, "__type_params__", ()),
    )
    try:
        local = {**(names or {}), **{name: cell.cell_contents for name, cell in free if _is_filled(cell)}}
        known = getattr(function, "__globals__", {})
        return typing.get_type_hints(wanted, globalns=known, localns=local or None, include_extras=True)
    except NameError as error:
        raise UsageError(
            f"{what} has an annotation with an unknown name: {error}; define it at the top level of its module, and "
            "import it at run time, not under TYPE_CHECKING"
        ) from None
    except (TypeError, SyntaxError) as error:
        raise UsageError(f"{what} has an annotation that is not a type: {error}") from None


def _unwrap_function(function: Any) -> Any:
    while isinstance(function, functools.partial):
        function = function.func
    if not hasattr(function, "__annotations__") and not inspect.isroutine(function):
        function = type(function).__call__
    return inspect.unwrap(getattr(function, "__func__", function))


def _is_filled(cell: Any) -> bool:
    try:
        _ = cell.cell_contents
    except ValueError:
        return False
    return True


class ArgumentValidator:
    """The arguments that a model may pass to a function.

    Args:
        what: the function's name in error messages.
        parameters: its parameters.
        hints: their types; parameters without one accept anything.
        descriptions: their descriptions.

    Attributes:
        schema: the JSON Schema of an object with the arguments by name.

    Raises:
        UsageError: a type has no JSON form.
    """

    def __init__(
        self,
        what: str,
        parameters: tuple[Parameter, ...],
        hints: Mapping[str, Any],
        descriptions: Mapping[str, str],
    ) -> None:
        from pydantic import ConfigDict, PydanticUserError, create_model  # lazy: most programs have no tools

        self._parameters = parameters
        self._defaults: set[str] = set()  # parameters whose default pydantic provides
        types = StrictTypes()
        # The model's fields are p0, p1, …, because a parameter may be called `json`, `schema` or `_x`.
        fields: dict[str, Any] = {
            f"p{number}": self._make_field(parameter, types.rewrite(_get_hint(parameter, hints)), descriptions)
            for number, parameter in enumerate(parameters)
        }
        try:
            self._model = create_model("Arguments", __config__=ConfigDict(extra="forbid"), **fields)
            self._model.model_rebuild()
            self.schema: Mapping[str, Any] = _generate_schema(self._model)
        except (PydanticUserError, TypeError, NameError) as error:
            raise UsageError(
                f"a parameter of {what} has a type without a JSON form: {str(error).splitlines()[0]}"
            ) from error.with_traceback(None)

    def _make_field(self, parameter: Parameter, hint: Any, descriptions: Mapping[str, str]) -> tuple[Any, Any]:
        """Return the type and the `Field(…)` from which pydantic makes a field."""
        from pydantic import Field  # lazy: as above

        info = find_field_info(hint, parameter.default)
        if find_field_info(None, parameter.default) is not None:
            hint, has_default = Annotated[hint, parameter.default], False
        else:
            has_default = parameter.default is not EMPTY
        known: dict[str, Any] = {"default": parameter.default} if has_default else {}
        if info is not None and not has_default and not info.is_required():
            self._defaults.add(parameter.name)
        if parameter.name in descriptions and (info is None or not info.description):
            known["description"] = descriptions[parameter.name]
        if info is None or (info.alias is None and info.validation_alias is None):
            known["alias"] = parameter.name
        return hint, Field(**known)

    def check(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """Return the validated arguments; a missing one with a Python default stays missing.

        Raises:
            ToolError: an argument is missing, unknown or not valid; the message is written for the model.
        """
        from pydantic import ValidationError  # lazy: as above
        from pydantic_core import to_json

        try:
            found = self._model.model_validate_json(to_json(dict(args), inf_nan_mode="constants"))
        except ValidationError as error:
            raise ToolError("; ".join(map(_explain, error.errors(include_url=False)[:5]))) from None
        except Exception as error:
            # A user validator may raise anything, and a value may have no JSON form.
            raise ToolError(f"the arguments can't be read: {type(error).__name__}: {error}") from error
        is_given = found.model_fields_set
        return {
            parameter.name: getattr(found, f"p{number}")
            for number, parameter in enumerate(self._parameters)
            if f"p{number}" in is_given or parameter.name in self._defaults
        }

    def bind(self, values: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """Return checked arguments as positional and keyword arguments of the function."""
        by_name = dict(values)
        positional = [
            by_name.pop(parameter.name, parameter.default)
            for parameter in self._parameters
            if parameter.kind is inspect.Parameter.POSITIONAL_ONLY
        ]
        return positional, by_name


def _get_hint(parameter: Parameter, hints: Mapping[str, Any]) -> Any:
    hint = hints.get(parameter.name, Any)
    if hint is Any and isinstance(parameter.default, (bool, int, float, str)):
        return type(parameter.default)  # a default such as `limit=10` is as good as an annotation
    return hint


def _generate_schema(model: Any) -> dict[str, Any]:
    from mellea.core.structured.generator import MarkedJsonSchema  # lazy: it loads pydantic

    class _Terse(MarkedJsonSchema):
        """Without titles, which only repeat the names, and without warnings about unusual defaults."""

        ignored_warning_kinds = {"skipped-choice", "non-serializable-default"}  # noqa: RUF012 - as in pydantic

        def field_title_should_be_set(self, schema: Any) -> bool:
            return False

    schema: dict[str, Any] = strip_marks(model.model_json_schema(schema_generator=_Terse))
    schema.pop("title", None)
    return schema


def _explain(error: Any) -> str:
    """Return one of pydantic's errors as a message for the model."""
    path = ".".join(map(str, error["loc"]))
    if error["type"] == "missing":
        return f"the argument {path!r} is missing"
    if error["type"] == "extra_forbidden":
        return f"there is no argument {path!r}"
    given = json.dumps(error["input"], ensure_ascii=False, default=str)[:100]
    return f"the argument {path!r} is not valid: {error['msg']}; it was {given}"
