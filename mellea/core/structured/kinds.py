"""Inspect Python types: sequences and their elements, fields and their keys, enums and literals, defaults.

Instructions, items, partial objects, generative functions, commands, tools and schemas all use this module, so they
can't disagree. `Annotated`, `NewType`, type aliases, forward references, root models and `| None` are looked through:
they don't change what a value looks like.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import re
import sys
import types
from collections import deque
from collections.abc import (
    Collection,
    Container,
    Generator,
    Iterable,
    Iterator,
    Mapping,
    MutableSequence,
    MutableSet,
    Reversible,
    Sequence,
    Set,
)
from typing import Annotated, Any, ForwardRef, Literal, NotRequired, Required, Union, get_args, get_origin

from mellea.core.structured.annotations import (
    complete_class,
    get_generic_annotations,
    is_alias,
    is_typed_dict,
    resolve_alias,
    resolve_annotation,
)
from mellea.core.structured.schema import get_elements
from mellea.errors import UsageError

__all__ = [
    "LISTS",
    "NO_ELEMENTS",
    "Field",
    "ItemSequence",
    "Path",
    "find_choices",
    "find_field_info",
    "find_sequence",
    "format_type",
    "get_alias_paths",
    "get_element_type",
    "get_fields",
    "is_own_dataclass",
    "is_root_model",
    "is_same_json",
    "is_sequence",
    "make_json_key",
    "unwrap_type",
]

Path = tuple[str | int, ...]
"""The keys and indexes that lead from an object to a value inside it."""

LISTS: Mapping[Any, Any] = {
    Sequence: list,
    MutableSequence: list,
    Iterable: list,
    Iterator: list,
    Generator: list,
    Collection: list,
    Container: list,
    Reversible: list,
    Set: set,
    MutableSet: set,
}
"""Abstract sequences and the types of their values. Pydantic rejects some of them, and reads an `Iterable` lazily."""

_SETS = frozenset({set, frozenset, Set, MutableSet})
_SEQUENCES = frozenset({list, deque, *_SETS, *LISTS})
_NATIVE = (str, int, float, bool, type(None))
_DEPTH = 100  # how many layers of aliases and similar are removed before a type counts as recursive
_CIRCLE = Any

_MODULE = re.compile(r"""('[^']*'|"[^"]*")|(?:\b\w++|<locals>)\.(?=[\w<])""")
"""The qualification before a class's name; the first alternative is a string literal, which is kept."""

NO_ELEMENTS: Any = type("NO_ELEMENTS", (), {"__repr__": lambda self: "NO_ELEMENTS"})()
"""What `get_element_type` returns for a type that isn't a sequence."""


@dataclasses.dataclass(frozen=True, slots=True)
class Field:
    """One field of an object.

    Args:
        name: its name in Python.
        type: its resolved annotation.
        paths: the alternative paths it is read from, each a tuple of keys; first the one in the JSON Schema.
        is_required: whether it has to be present.
        info: pydantic's `FieldInfo`, if there is one.
        default: the pydantic `Field(…)` that a dataclass has as this field's default.
    """

    name: str
    type: Any
    paths: tuple[Path, ...]
    is_required: bool = True
    info: Any = None
    default: Any = None


@dataclasses.dataclass(frozen=True, slots=True)
class ItemSequence:
    """The sequence in a format.

    Args:
        element: the type of one item.
        paths: the alternative paths from the top of the JSON to the sequence; `((),)` if it is the whole answer.
        name: the attribute or key of the parsed value that holds it; `None` if it is the whole value.
        is_set: whether it is a set.
    """

    element: Any
    paths: tuple[Path, ...]
    name: str | None
    is_set: bool

    def find_items(self, parsed: Any) -> list[Any]:
        """Return the items of a parsed value; an empty list if the sequence is optional and missing."""
        if self.name is not None:
            parsed = parsed.get(self.name) if isinstance(parsed, Mapping) else getattr(parsed, self.name, None)
        # Root models may be nested; the sequence is in the innermost one.
        while is_root_model(type(parsed)):
            parsed = parsed.root
        # A union of a sequence and something else may turn out to be the other; then there are no items.
        return list(parsed) if isinstance(parsed, Iterable) and not isinstance(parsed, (str, Mapping)) else []


def unwrap_type(kind: Any) -> Any:
    """Remove everything from a type that doesn't change the shape of its values.

    That is `Annotated`, `NewType`, type aliases, forward references, and `| None` beside a single other type.

    Raises:
        UsageError: a name can't be found.
    """
    for _ in range(_DEPTH):
        # One layer at a time, since they may come in any order: an alias of an `Annotated` of a forward reference.
        inner = _unwrap_once(kind)
        if inner is kind:
            return kind
        kind = inner
    return _CIRCLE


def _unwrap_once(kind: Any) -> Any:
    if isinstance(kind, (str, ForwardRef)):
        return resolve_annotation(kind)
    if is_alias(kind):
        return resolve_alias(kind)
    if hasattr(kind, "__supertype__"):
        return kind.__supertype__
    origin = get_origin(kind)
    if origin is Annotated:
        # By name, without importing pydantic: `Json[…]` is a string in the answer, whatever is inside the string.
        return str if any(type(mark).__name__ == "Json" for mark in kind.__metadata__) else kind.__origin__
    if origin in (Union, types.UnionType):
        options = [option for option in get_args(kind) if option is not type(None)]
        # `T | None` is read like `T`; a real union has no single shape.
        return options[0] if len(options) == 1 else kind
    return kind


def format_type(kind: Any) -> str:
    """Return the name of a type as a person would write it, such as `list[Person]`; `int` for an annotated one."""
    while get_origin(kind) is Annotated:
        kind = kind.__origin__
    if isinstance(kind, type) and not get_args(kind):
        return kind.__name__
    if not get_args(kind) and hasattr(kind, "__name__") and (is_alias(kind) or hasattr(kind, "__supertype__")):
        return str(kind.__name__)
    return _MODULE.sub(lambda found: found[1] or "", str(kind) if get_args(kind) else repr(kind))


def get_element_type(kind: Any) -> Any:
    """Return the type of a sequence's elements, or `NO_ELEMENTS` if the type isn't a sequence.

    Strings, bytes, mappings and tuples of fixed length don't count as sequences, and neither does pydantic's
    `Json[list[T]]`, whose JSON form is a string.

    Raises:
        UsageError: a name can't be found.
    """
    kind = _unwrap_root_models(kind)
    origin, args = get_origin(kind) or kind, get_args(kind)
    if origin is tuple:
        is_bare = kind is tuple or (not args and getattr(kind, "_name", "") == "Tuple")  # tuple[()] is empty
        return Any if is_bare else _resolve_text(args[0]) if args[1:] == (Ellipsis,) else NO_ELEMENTS
    # Annotations may contain anything, including dicts, which would break the look-up.
    if not _is_hashable(origin) or origin not in _SEQUENCES:
        return NO_ELEMENTS
    return _resolve_text(args[0]) if args else Any


def _resolve_text(kind: Any) -> Any:
    return resolve_annotation(kind) if isinstance(kind, (str, ForwardRef)) else kind


def is_sequence(kind: Any) -> bool:
    """Whether the values of a type, or of a JSON Schema, are sequences of any length."""
    if isinstance(kind, Mapping):
        return get_elements(kind, kind) is not None
    return get_element_type(kind) is not NO_ELEMENTS


def _is_set(kind: Any) -> bool:
    kind = _unwrap_root_models(kind)
    return (get_origin(kind) or kind) in _SETS


def _unwrap_root_models(kind: Any) -> Any:
    for _ in range(_DEPTH):
        kind = unwrap_type(kind)
        if not is_root_model(get_origin(kind) or kind):
            return kind
        # The fields of a class with forward references are only known once it is complete.
        kind = complete_class(kind).model_fields["root"].annotation
    return _CIRCLE


def _is_hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def is_root_model(kind: Any) -> bool:
    """Whether a type is a pydantic `RootModel`, whose JSON is that of its content."""
    return isinstance(kind, type) and getattr(kind, "__pydantic_root_model__", False) is True


def find_sequence(kind: Any) -> ItemSequence | None:
    """Return the sequence that a type is, or the only sequence among its fields.

    Fields that the JSON Schema leaves out (`SkipJsonSchema`) don't count, because the model isn't asked for them.

    Returns:
        `None` if there is none, or more than one.

    Raises:
        UsageError: a name can't be found.
    """
    if (element := get_element_type(kind)) is not NO_ELEMENTS:
        return ItemSequence(element, ((),), None, _is_set(kind))
    found = [
        ItemSequence(element, field.paths, field.name, _is_set(field.type))
        for field in get_fields(_unwrap_root_models(kind)) or ()
        if not _is_hidden(field.type) and (element := get_element_type(field.type)) is not NO_ELEMENTS
    ]
    return found[0] if len(found) == 1 else None


def _is_hidden(kind: Any) -> bool:
    return any(type(mark).__name__ == "SkipJsonSchema" for mark in getattr(kind, "__metadata__", ()))


def get_fields(kind: Any) -> list[Field] | None:
    """Return the fields of a dataclass, a TypedDict or a pydantic class; `None` for anything else.

    Raises:
        UsageError: a name in the annotations can't be found.
    """
    origin = get_origin(kind) or kind
    # Before dataclasses: a TypedDict is a plain dict at run time, so nothing else would recognise it.
    if is_typed_dict(origin):
        return [_make_typed_dict_field(origin, name, hint) for name, hint in get_generic_annotations(kind).items()]
    if is_own_dataclass(origin):
        hints = get_generic_annotations(kind)
        # `KW_ONLY` and similar have a field, but no annotation of their own.
        made = [field for field in _get_constructor_fields(origin) if field.name in hints]
        return [_make_dataclass_field(origin, field, hints[field.name]) for field in made]
    if not isinstance(origin, type) or is_root_model(origin):
        return None
    known = getattr(complete_class(origin), "__pydantic_fields__", None)
    if not isinstance(known, Mapping):
        return None
    # Models keep it under the first name, pydantic's dataclasses under the second.
    config = getattr(origin, "model_config", None) or getattr(origin, "__pydantic_config__", {})
    return [_make_pydantic_field(name, field, config) for name, field in known.items()]


def is_own_dataclass(kind: Any) -> bool:
    """Whether a type is a standard dataclass; pydantic's dataclasses have their own validator."""
    return isinstance(kind, type) and dataclasses.is_dataclass(kind) and "__pydantic_validator__" not in kind.__dict__


def _get_constructor_fields(kind: Any) -> list[dataclasses.Field[Any]]:
    fields: list[dataclasses.Field[Any]] = list(kind.__dataclass_fields__.values())  # unlike fields(), with InitVars
    kinds = ("_FIELD", "_FIELD_INITVAR")
    return [field for field in fields if field.init and str(field._field_type) in kinds]  # type: ignore[attr-defined]


def _make_dataclass_field(kind: Any, field: dataclasses.Field[Any], hint: Any) -> Field:
    hint = _strip_qualifiers(hint)
    info = find_field_info(hint, None if field.default is dataclasses.MISSING else field.default)
    if info is None:
        has_default = field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
        return Field(field.name, hint, ((field.name,),), not has_default)
    config = getattr(kind, "__pydantic_config__", {})
    given = field.default if find_field_info(None, field.default) is not None else None
    has_default = all(field.default is not other for other in (dataclasses.MISSING, given))
    has_own = has_default or field.default_factory is not dataclasses.MISSING
    is_required = info.is_required() and not has_own
    return Field(field.name, hint, _get_paths(field.name, info, config), is_required, info, given)


def _make_typed_dict_field(kind: Any, name: str, hint: Any) -> Field:
    is_required = name in kind.__required_keys__
    inner = hint
    # PEP 655 and PEP 705: the qualifiers nest in any order, and an inner one decides.
    while (wrapper := get_origin(inner)) is not None:
        if _is_wrapper(wrapper, "Required", Required):
            is_required = True
        elif _is_wrapper(wrapper, "NotRequired", NotRequired):
            is_required = False
        elif wrapper is not Annotated and not _is_wrapper(wrapper, "ReadOnly", None):
            break
        inner = inner.__origin__ if wrapper is Annotated else get_args(inner)[0]
    hint = _strip_qualifiers(hint)
    info = find_field_info(hint, None)
    if info is None:
        return Field(name, hint, ((name,),), is_required)
    config = getattr(kind, "__pydantic_config__", {})
    return Field(name, hint, _get_paths(name, info, config), is_required and info.is_required(), info)


def _make_pydantic_field(name: str, info: Any, config: Mapping[str, Any]) -> Field:
    kind = Annotated[(info.annotation, *info.metadata)] if info.metadata else info.annotation
    return Field(name, kind, _get_paths(name, info, config), info.is_required(), info)


def _get_paths(name: str, info: Any, config: Mapping[str, Any]) -> tuple[Path, ...]:
    return get_alias_paths(name, info.alias if info.validation_alias is None else info.validation_alias, config)


def get_alias_paths(name: str, alias: Any, config: Mapping[str, Any]) -> tuple[Path, ...]:
    """Return the paths that pydantic reads a field from; first a single key, as in the JSON Schema, if there is one.

    Args:
        name: the field's own name.
        alias: a key, an `AliasPath` or `AliasChoices`, or a list of them, as in core schemas; `None` without an alias.
        config: the configuration of the class.
    """
    # The second is the name up to pydantic 2.10; both are understood by later ones.
    is_by_name = bool(config.get("validate_by_name") or config.get("populate_by_name"))
    if alias is None or config.get("validate_by_alias", True) is False:
        return ((name,),)
    ways = [_make_path(choice) for choice in _list_choices(alias)]
    ways += [(name,)] if is_by_name else []
    # A schema can only name a key of the object itself, so a plain alias takes precedence over an `AliasPath`.
    first = next((way for way in ways if len(way) == 1), ways[0])
    return tuple(dict.fromkeys([first, *ways]))


def _list_choices(alias: Any) -> list[Any]:
    if isinstance(alias, list):
        # Core schemas have a path as a list, and several as a list of lists.
        return alias if isinstance(alias[0], list) else [alias]
    return list(getattr(alias, "choices", [alias]))


def _make_path(alias: Any) -> Path:
    return (alias,) if isinstance(alias, str) else tuple(getattr(alias, "path", alias))


def find_field_info(hint: Any, default: Any) -> Any:
    """Return pydantic's description of a field or parameter, if its default or its `Annotated` has a `Field(…)`.

    Returns:
        a `FieldInfo` whose `is_required()`, `get_default()` and constraints are the ones that pydantic uses; `None`
        without a `Field(…)`.
    """
    fields = sys.modules.get("pydantic.fields")  # not imported: anyone who wrote a `Field(…)` has already done that
    if fields is None:
        return None
    marks = getattr(hint, "__metadata__", ())
    if isinstance(default, fields.FieldInfo):
        return fields.FieldInfo.from_annotated_attribute(Any if hint is None else hint, default)
    return fields.FieldInfo.from_annotation(hint) if any(isinstance(mark, fields.FieldInfo) for mark in marks) else None


def find_choices(kind: Any) -> dict[str, tuple[Any, Any]] | None:
    """Return the values of an enum or a `Literal` with their JSON forms, where pydantic wouldn't accept these.

    That is the case for enum members in a `Literal`, and for values such as tuples, bytes and dates, whose JSON forms
    are lists and strings.

    Returns:
        pairs of JSON form and value, by `make_json_key` of the form; `None` if pydantic reads all of them.

    Raises:
        UsageError: the enum or `Literal` is empty, or a value has no JSON form.
    """
    if get_origin(kind) is Literal:
        values = list(get_args(kind))
        raws = [value.value if isinstance(value, enum.Enum) else value for value in values]
        # By type, not `isinstance`: a member of a `StrEnum` is a string, but pydantic takes only the member.
        is_native = all(type(value) in _NATIVE for value in values)
    # An enum with a schema of its own has said how it is read.
    elif isinstance(kind, type) and issubclass(kind, enum.Enum) and not hasattr(kind, "__get_pydantic_core_schema__"):
        values = list(kind)
        raws = [value.value for value in values]
        is_native = all(isinstance(value, _NATIVE) for value in raws)
    else:
        return None
    if not values:
        raise UsageError(f"{format_type(kind)} has no values, so no answer can be one")
    return None if is_native else _index_by_form(kind, raws, values)


def _index_by_form(kind: Any, raws: list[Any], values: list[Any]) -> dict[str, tuple[Any, Any]]:
    from pydantic_core import PydanticSerializationError, to_jsonable_python  # lazy: plain text needs no pydantic

    found: dict[str, tuple[Any, Any]] = {}
    for raw, value in zip(raws, values, strict=True):
        try:
            form = to_jsonable_python(raw)
        except PydanticSerializationError:
            raise UsageError(f"the value {raw!r} of {kind!r} has no JSON form, so no model can write it") from None
        # Two values may have the same form, as `(1, 2)` and `[1, 2]` do; the first one is used.
        found.setdefault(make_json_key(form), (form, value))
    return found


def make_json_key(value: Any) -> str:
    """Return a key that is the same for equal JSON values, such as `1` and `1.0`."""
    return json.dumps(_canonicalise(value), sort_keys=True)


def is_same_json(one: str, other: str) -> bool:
    """Whether two JSON texts have equal values; `False` if one of them isn't JSON."""
    try:
        return one == other or make_json_key(json.loads(one)) == make_json_key(json.loads(other))
    except ValueError:
        return False


def _canonicalise(value: Any) -> Any:
    # JSON has only one kind of number, so 1 and 1.0 are the same value.
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_canonicalise(each) for each in value]
    return {key: _canonicalise(each) for key, each in value.items()} if isinstance(value, dict) else value


def _strip_qualifiers(hint: Any) -> Any:
    """Remove the qualifiers of an annotation: `Required`, `NotRequired`, `ReadOnly`, `InitVar`."""
    origin = get_origin(hint)
    if origin is Annotated:
        return Annotated[(_strip_qualifiers(hint.__origin__), *hint.__metadata__)]
    if isinstance(hint, dataclasses.InitVar):
        return hint.type
    names = (("Required", Required), ("NotRequired", NotRequired), ("ReadOnly", None))
    return _strip_qualifiers(get_args(hint)[0]) if any(_is_wrapper(origin, *pair) for pair in names) else hint


def _is_wrapper(origin: Any, name: str, ours: Any) -> bool:
    """Whether a type's origin is that wrapper, from `typing` or from `typing_extensions`."""
    return origin is not None and (origin is ours or getattr(origin, "_name", getattr(origin, "__name__", "")) == name)
