"""Handle pydantic's `Field(…)` as the default of a parameter, with the meaning it has in pydantic.

Otherwise the function would receive the `FieldInfo` object as its argument.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Annotated, Any, cast

from mellea.core.structured.kinds import find_field_info
from mellea.errors import UsageError

if TYPE_CHECKING:
    from pydantic import ConfigDict

__all__ = ["FieldDefaults", "make_adapter"]


class FieldDefaults:
    """The parameters of a function whose default is `Field(…)`.

    Args:
        what: the name of the function in error messages.
        signature: the function's signature.
        hints: returns the types of some parameters; called when a value is first checked.

    Attributes:
        descriptions: descriptions of the parameters.
        shown: the signature for error messages.
    """

    def __init__(
        self, what: str, signature: inspect.Signature, hints: Callable[[Collection[str]], Mapping[str, Any]]
    ) -> None:
        self._what = what
        self._hints = hints
        found = {name: find_field_info(None, each.default) for name, each in signature.parameters.items()}
        self._infos = {name: info for name, info in found.items() if info is not None}
        self.shown = signature.replace(parameters=[self._write_default(each) for each in signature.parameters.values()])
        self.descriptions = {name: info.description for name, info in self._infos.items() if info.description}

    def __bool__(self) -> bool:
        return bool(self._infos)

    def _write_default(self, parameter: inspect.Parameter) -> inspect.Parameter:
        info = self._infos.get(parameter.name)
        return parameter if info is None else parameter.replace(default=_ShortField(info))

    def fill(self, bound: inspect.BoundArguments) -> None:
        """Fill in pydantic's defaults for arguments that a call doesn't pass.

        Raises:
            UsageError: a required argument is missing.
        """
        for name, info in self._infos.items():
            default = bound.signature.parameters[name].default
            if bound.arguments.get(name, default) is not default:
                continue
            if info.is_required():
                raise UsageError(f"{self._what} needs the argument {name!r}; it is {self._what[:-2]}{self.shown}")
            bound.arguments[name] = info.get_default(call_default_factory=True, validated_data=dict(bound.arguments))
        order = [name for name in bound.signature.parameters if name in bound.arguments]
        bound.arguments = {name: bound.arguments[name] for name in order}

    def check(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the validated values of these parameters, without the other ones.

        Raises:
            UsageError: a value isn't valid.
        """
        from pydantic import ValidationError  # lazy: there is a `Field`, so pydantic is already loaded

        checked = {}
        for name in self._infos.keys() & values.keys():
            try:
                checked[name] = self._adapters[name].validate_python(values[name])
            except ValidationError as error:
                why = error.errors(include_url=False)[0]["msg"]
                raise UsageError(f"{self._what}: {values[name]!r} isn't a valid {name!r}: {why}") from None
        return checked

    @functools.cached_property
    def _adapters(self) -> dict[str, Any]:
        hints = self._hints(self._infos)
        adapters = {}
        for name, info in self._infos.items():
            kind: Any = Annotated[(hints.get(name, Any), *info.metadata)] if info.metadata else hints.get(name, Any)
            adapters[name] = make_adapter(kind)
        return adapters


def make_adapter(kind: Any, config: Mapping[str, Any] = {}) -> Any:
    """Make pydantic's `TypeAdapter` for a type, in which any class may occur.

    Args:
        kind: the type.
        config: more of pydantic's configuration; a class that has its own is read by that.
    """
    from pydantic import PydanticUserError, TypeAdapter  # lazy: plain functions need no pydantic

    try:
        return TypeAdapter(kind, config=cast("ConfigDict", {"arbitrary_types_allowed": True, **config}))
    except PydanticUserError:  # a class with a configuration of its own doesn't accept another one
        return TypeAdapter(kind)


class _ShortField:
    """A `Field(…)` with a short repr."""

    def __init__(self, info: Any) -> None:
        self._info = info

    def __repr__(self) -> str:
        if self._info.default_factory is not None:
            return "Field(default_factory=…)"
        return "Field(…)" if self._info.is_required() else f"Field({self._info.default!r})"
