"""From a user's type to one that pydantic takes as it stands, and holds strictly.

TypedDicts and dataclasses are written anew, their names resolved, as TypedDicts of `typing_extensions` that
allow no other keys and convert nothing; a dataclass is made of the validated fields afterwards, by its own
constructor. Pydantic's own classes keep their configuration, and so does what stands inside of them.
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import (
    Annotated,
    Any,
    ForwardRef,
    Literal,
    NotRequired,
    Required,
    Self,
    TypeVar,
    Union,
    get_args,
    get_origin,
)

from mellea.core.structured.hints import class_hints, is_typed_dict, names_around, resolved

__all__ = ["Field", "fields_of", "strict"]

_LISTS = (Sequence, Iterable, Collection, Iterator)
"""Kinds of sequence that are lists in JSON; pydantic would leave an `Iterable` unread."""


@dataclasses.dataclass(frozen=True, slots=True)
class Field:
    """One field of an object.

    Args:
        key: its name in JSON.
        name: its name in Python.
        type: its resolved annotation.
        is_required: whether it has to be there.
    """

    key: str
    name: str
    type: Any
    is_required: bool = True


def fields_of(kind: Any) -> list[Field] | None:
    """Return the fields of a dataclass, a TypedDict or a pydantic model; `None` of anything else.

    Raises:
        UsageError: a name in the annotations can't be found.
    """
    origin = get_origin(kind) or kind
    if is_typed_dict(origin):
        return [_typed_dict_field(origin, name, hint) for name, hint in _hints(kind).items()]
    if _is_own_dataclass(origin):
        hints = _hints(kind)
        return [
            Field(field.name, field.name, _bare(hints[field.name]), _has_no_default(field))
            for field in _constructor_fields(origin)
            if field.name in hints
        ]
    if isinstance(origin, type) and hasattr(origin, "model_fields"):
        return [_model_field(name, field) for name, field in origin.model_fields.items()]
    return None


def strict(kind: Any) -> Any:
    """Return the type as pydantic has to see it.

    Raises:
        UsageError: a name in the annotations can't be found.
    """
    return _Rewriter().rewritten(kind)


class _Rewriter:
    """Writes types anew. A class that names itself meets what it has become."""

    def __init__(self) -> None:
        self._done: dict[Any, Any] = {}

    def rewritten(self, kind: Any) -> Any:
        if isinstance(kind, (str, ForwardRef)):
            return self.rewritten(resolved(kind))
        if kind in _LISTS:
            return list
        origin = get_origin(kind)
        if origin is Annotated:
            return Annotated[(self.rewritten(kind.__origin__), *kind.__metadata__)]
        if is_typed_dict(origin or kind) or _is_own_dataclass(origin or kind):
            return self._object(kind)
        if hasattr(kind, "__supertype__"):
            return self.rewritten(kind.__supertype__)
        if origin is None or origin in (Literal, Callable):
            return _completed(kind)
        return self._generic(kind, origin)

    def _generic(self, kind: Any, origin: Any) -> Any:
        args = tuple(self.rewritten(arg) for arg in get_args(kind))
        if origin in (Union, types.UnionType):
            return _filled_in(Union, args)
        if origin in _LISTS:
            return _filled_in(list, args)
        if args == get_args(kind):
            return kind
        return origin[args if len(args) > 1 else args[0]]

    def _object(self, kind: Any) -> Any:
        from typing import NotRequired as MayBeMissing  # lazy: it comes with pydantic

        from pydantic import AfterValidator, ConfigDict  # lazy: plain text needs no pydantic
        from typing_extensions import TypedDict

        if kind in self._done:
            return self._done[kind]
        origin = get_origin(kind) or kind
        names = [field.key for field in fields_of(kind) or ()]
        # Made with the names alone first, so that a class may contain itself.
        make: Any = TypedDict
        twin = make(_name(kind), dict.fromkeys(names, Any))
        self._done[kind] = twin if is_typed_dict(origin) else Annotated[twin, AfterValidator(_made_by(origin))]
        for field in fields_of(kind) or ():
            hint = self.rewritten(field.type)
            twin.__annotations__[field.key] = hint if field.is_required else MayBeMissing[hint]
        own = getattr(origin, "__pydantic_config__", {})
        twin.__pydantic_config__ = ConfigDict(extra="forbid", strict=True) | own
        twin.__doc__ = _said_of(origin)
        twin.__module__ = origin.__module__
        return self._done[kind]


def _filled_in(generic: Any, args: tuple[Any, ...]) -> Any:
    return generic[args]


def _completed(kind: Any) -> Any:
    """Have a pydantic model that waits for names find them; pydantic itself does so at the first use."""
    if getattr(kind, "__pydantic_complete__", True) is False and hasattr(kind, "model_rebuild"):
        kind.model_rebuild(raise_errors=False, _types_namespace=names_around(kind))
    return kind


def _made_by(kind: Any) -> Callable[[dict[str, Any]], Any]:
    def made(fields: dict[str, Any]) -> Any:
        return kind(**fields)

    made_up = getattr(getattr(kind.__init__, "__code__", None), "co_filename", "") == "<string>"
    made.is_quick = made_up and not hasattr(kind, "__post_init__")  # type: ignore[attr-defined]
    return made


def _hints(kind: Any) -> dict[str, Any]:
    """Return the annotations of a class, with the arguments of a generic one put in."""
    origin = get_origin(kind) or kind
    hints = class_hints(origin)
    given = _given(kind)
    return {name: _filled(hint, given, kind) for name, hint in hints.items()}


def _given(kind: Any) -> dict[Any, Any]:
    """Return what stands for the type variables of a generic class, and of the generic ones that it is made from."""
    origin = get_origin(kind) or kind
    given: dict[Any, Any] = dict(zip(getattr(origin, "__parameters__", ()), get_args(kind), strict=False))
    for parent in getattr(origin, "__orig_bases__", ()):
        for variable, value in _given(parent).items() if get_args(parent) else ():
            given.setdefault(variable, given.get(value, value) if isinstance(value, TypeVar) else value)
    return given


def _filled(hint: Any, given: Mapping[Any, Any], kind: Any) -> Any:
    if hint is Self:
        return kind
    if isinstance(hint, TypeVar):
        return given.get(hint, hint)
    parameters = getattr(hint, "__parameters__", ())
    if given and parameters and not isinstance(hint, type):
        return hint[tuple(given.get(parameter, parameter) for parameter in parameters)]
    return hint


def _typed_dict_field(kind: Any, name: str, hint: Any) -> Field:
    is_required = name in kind.__required_keys__
    inner = hint
    while (wrapper := get_origin(inner)) is not None:
        if _is_same(wrapper, "Required", Required):
            is_required = True
        elif _is_same(wrapper, "NotRequired", NotRequired):
            is_required = False
        elif wrapper is not Annotated:
            break
        inner = inner.__origin__ if wrapper is Annotated else get_args(inner)[0]
    return Field(name, name, _bare(hint), is_required)


def _bare(hint: Any) -> Any:
    """Take off what stands around an annotation and says nothing of the value."""
    origin = get_origin(hint)
    if origin is Annotated:
        return Annotated[(_bare(hint.__origin__), *hint.__metadata__)]
    if isinstance(hint, dataclasses.InitVar):
        return hint.type
    is_wrapper = any(
        _is_same(origin, *pair) for pair in (("Required", Required), ("NotRequired", NotRequired), ("ReadOnly", None))
    )
    return _bare(get_args(hint)[0]) if is_wrapper else hint


def _is_same(origin: Any, name: str, ours: Any) -> bool:
    """Whether it is that wrapper, of typing or of typing_extensions."""
    return origin is not None and (origin is ours or getattr(origin, "_name", getattr(origin, "__name__", "")) == name)


def _model_field(name: str, field: Any) -> Field:
    alias = field.validation_alias
    key = alias if isinstance(alias, str) else name
    kind = Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation
    return Field(key, name, kind, field.is_required())


def _is_own_dataclass(kind: Any) -> bool:
    """Whether it is a dataclass of the standard library; pydantic's hold themselves."""
    return isinstance(kind, type) and dataclasses.is_dataclass(kind) and "__pydantic_validator__" not in kind.__dict__


def _constructor_fields(kind: Any) -> list[dataclasses.Field[Any]]:
    fields: list[dataclasses.Field[Any]] = list(kind.__dataclass_fields__.values())  # with the InitVars
    kinds = ("_FIELD", "_FIELD_INITVAR")
    return [field for field in fields if field.init and str(field._field_type) in kinds]  # type: ignore[attr-defined]


def _has_no_default(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _name(kind: Any) -> str:
    inner = [getattr(arg, "__name__", str(arg)) for arg in get_args(kind)]
    name = str(getattr(kind, "__name__", "") or getattr(get_origin(kind), "__name__", "output"))
    return "_".join([name, *inner])


def _said_of(kind: Any) -> str | None:
    """Return the docstring that somebody wrote; a dataclass makes itself one, and dict has one."""
    said = kind.__dict__.get("__doc__")
    is_made_up = isinstance(said, str) and said.startswith(f"{kind.__name__}(") and dataclasses.is_dataclass(kind)
    return None if is_made_up else said
