"""Rewrite a user's type into one that pydantic accepts and validates strictly.

TypedDicts and dataclasses are rewritten, with their names resolved, as TypedDicts of `typing_extensions` that forbid
other keys and convert nothing; a dataclass is then built from the validated fields by its own constructor. Enums and
literals whose values have no native JSON form are read by the form in the schema. Pydantic's own classes, and the types
inside them, keep their configuration.
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Callable, Mapping
from typing import Annotated, Any, ForwardRef, Literal, Never, NoReturn, NotRequired, Union, get_args, get_origin

from mellea.core.structured.annotations import (
    complete_class,
    is_alias,
    is_typed_dict,
    resolve_alias,
    resolve_annotation,
)
from mellea.core.structured.core_schema import is_known
from mellea.core.structured.kinds import (
    LISTS,
    Field,
    find_choices,
    format_type,
    get_fields,
    is_own_dataclass,
    make_json_key,
)
from mellea.errors import UsageError

__all__ = ["StrictTypes", "make_strict"]


def make_strict(kind: Any) -> Any:
    """Return the rewritten type for pydantic.

    Raises:
        UsageError: a name in the annotations can't be found.
    """
    return StrictTypes().rewrite(kind)


class StrictTypes:
    """Rewrites types. A class is rewritten once, however often it occurs, also inside itself."""

    def __init__(self) -> None:
        self._done: dict[Any, Any] = {}
        self._open_aliases: list[Any] = []

    def rewrite(self, kind: Any) -> Any:
        """Return the rewritten type for pydantic; raises `UsageError` for a name that can't be found."""
        if isinstance(kind, (str, ForwardRef)):
            return self.rewrite(resolve_annotation(kind))
        if is_alias(kind):
            return self._rewrite_alias(kind)
        if kind in (Never, NoReturn):
            raise UsageError(f"{format_type(kind)} has no values, so no answer can be one")
        origin = get_origin(kind)
        if origin is Annotated:
            return Annotated[(self.rewrite(kind.__origin__), *kind.__metadata__)]
        # Pydantic reads these laxly and silently drops unknown keys, so an answer with a misspelt key would lose a
        # value.
        if is_typed_dict(origin or kind) or is_own_dataclass(origin or kind):
            return self._rewrite_object(kind)
        if hasattr(kind, "__supertype__"):
            return self.rewrite(kind.__supertype__)
        if (choices := find_choices(kind)) is not None:
            return _make_choice_type(kind, choices)
        if origin is None or origin in (Literal, Callable):
            # Without arguments, like a bare `Sequence`; pydantic would refuse it or read it lazily.
            return LISTS.get(kind, complete_class(kind)) if isinstance(kind, type) else complete_class(kind)
        return self._rewrite_generic(kind, origin)

    def _rewrite_generic(self, kind: Any, origin: Any) -> Any:
        args = tuple(self.rewrite(arg) for arg in get_args(kind))
        if origin in (Union, types.UnionType):
            return _parametrise(Union, args)
        if origin in LISTS:
            return _parametrise(LISTS[origin], args[:1]) if args else LISTS[origin]
        # Unchanged: the same object, for which pydantic already has a schema.
        if args == get_args(kind):
            return kind
        return origin[args if len(args) > 1 else args[0]]

    def _rewrite_alias(self, kind: Any) -> Any:
        """Replace an alias by its rewritten value; inside itself a recursive alias stays, and pydantic resolves it."""
        if kind in self._open_aliases:
            return kind
        self._open_aliases.append(kind)
        value = resolve_alias(kind)
        new = self.rewrite(value)
        self._open_aliases.pop()
        return kind if new == value and _is_recursive(value, kind) else new

    def _rewrite_object(self, kind: Any) -> Any:
        from typing_extensions import TypedDict  # lazy: it comes with pydantic, which plain text doesn't need

        if kind in self._done:
            return self._done[kind]
        from pydantic import AfterValidator, ConfigDict  # lazy: as above

        origin = get_origin(kind) or kind
        fields = [field for field in get_fields(kind) or () if getattr(field.info, "init", True) is not False]
        # Created with the names alone, and completed below, so that a class may contain itself.
        make: Any = TypedDict
        twin = make(_make_name(kind), dict.fromkeys([field.name for field in fields], Any))
        # A dataclass is read as a dict of its fields and built from that, so both follow the same rules.
        self._done[kind] = twin if is_typed_dict(origin) else Annotated[twin, AfterValidator(_make_builder(origin))]
        for field in fields:
            twin.__annotations__[field.name] = self._rewrite_annotation(field)
        own = getattr(origin, "__pydantic_config__", {})
        # The user's configuration takes precedence over ours: if it allows more, that is deliberate.
        twin.__pydantic_config__ = ConfigDict(extra="forbid", strict=True) | own
        twin.__doc__ = _get_own_docstring(origin)
        twin.__module__ = origin.__module__
        return self._done[kind]

    def _rewrite_annotation(self, field: Field) -> Any:
        hint = self.rewrite(field.type)
        if field.default is not None:
            hint = Annotated[hint, field.default]
        return hint if field.is_required else NotRequired[hint]


def _parametrise(generic: Any, args: tuple[Any, ...]) -> Any:
    return generic[args]


def _is_recursive(value: Any, alias: Any) -> bool:
    return value is alias or any(_is_recursive(arg, alias) for arg in get_args(value))


def _make_choice_type(kind: Any, choices: Mapping[str, tuple[Any, Any]]) -> Any:
    """Return a type that reads each value of an enum or a literal by its JSON form."""
    from pydantic import AfterValidator, WithJsonSchema  # lazy: plain text needs no pydantic

    def choose(form: Any) -> Any:
        try:
            return choices[make_json_key(form)][1]
        except (KeyError, TypeError):
            raise ValueError(f"it should be {' or '.join(repr(form) for form, _ in choices.values())}") from None

    choose.is_quick = True  # type: ignore[attr-defined]
    forms = [form for form, _ in choices.values()]
    # These may be in a `Literal`; other forms are checked by the function and described by a schema.
    if all(form is None or isinstance(form, (str, int)) for form in forms):
        return Annotated[_parametrise(Literal, tuple(forms)), AfterValidator(choose)]
    title = {"title": kind.__name__} if isinstance(kind, type) else {}
    return Annotated[Any, AfterValidator(choose), WithJsonSchema({**title, "enum": forms})]


def _make_builder(kind: Any) -> Callable[[dict[str, Any]], Any]:
    """Return a function that builds a dataclass from validated fields, with pydantic's defaults for missing ones."""
    unread = {field.name: field.info for field in get_fields(kind) or () if getattr(field.info, "init", True) is False}

    def build(fields: dict[str, Any]) -> Any:
        defaults = {
            name: info.get_default(call_default_factory=True, validated_data=fields) for name, info in unread.items()
        }
        return kind(**fields, **defaults)

    # `dataclass` compiles its constructors from a string; a user's own constructor comes from a file and may do
    # anything.
    made_up = getattr(getattr(kind.__init__, "__code__", None), "co_filename", "") == "<string>"
    factories = [getattr(field.info, "default_factory", None) for field in get_fields(kind) or ()]
    factories += [field.default_factory for field in dataclasses.fields(kind)]
    build.is_quick = (  # type: ignore[attr-defined]
        made_up
        and not hasattr(kind, "__post_init__")
        and all(factory in (None, dataclasses.MISSING) or is_known(factory) for factory in factories)
    )
    return build


def _make_name(kind: Any) -> str:
    inner = [getattr(arg, "__name__", str(arg)) for arg in get_args(kind)]
    name = str(getattr(kind, "__name__", "") or getattr(get_origin(kind), "__name__", "output"))
    return "_".join([name, *inner])


def _get_own_docstring(kind: Any) -> str | None:
    """Return the docstring that the user wrote, not a generated or inherited one."""
    said = kind.__dict__.get("__doc__")
    is_made_up = isinstance(said, str) and said.startswith(f"{kind.__name__}(") and dataclasses.is_dataclass(kind)
    return None if is_made_up else said
