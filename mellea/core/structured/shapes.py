"""What an answer of a type looks like at the top: which bracket opens it, and which keys or elements tell it apart."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Union, get_args, get_origin

from mellea.core.structured.conform import check
from mellea.core.structured.hints import completed
from mellea.core.structured.kinds import NO_ELEMENTS, element_of, fields_of, is_root_model, plain
from mellea.core.structured.schema import Schema, branches

__all__ = ["Shape", "shapes_of"]

Check = Callable[[str], Any]
"""Raises if a JSON text isn't what is asked for."""

_DEPTH = 50  # unions inside one another


@dataclass(frozen=True, slots=True)
class Shape:
    """One shape that an answer may have; of a union there are several.

    Args:
        opening: the bracket that it begins with; `""` for numbers, texts and words.
        keys: the top-level keys that an object is read by, under every alias.
        required: for each required field, the keys of which one has to be there.
        is_open: an object may have any keys, and none are known.
        item: raises if a JSON text isn't an element of a list; `None` where elements differ from place to place.
        is_text: it may be a text.
    """

    opening: str
    keys: frozenset[str] = frozenset()
    required: tuple[frozenset[str], ...] = ()
    is_open: bool = False
    item: Check | None = None
    is_text: bool = False


ANYTHING = (Shape("{", is_open=True), Shape("[", item=lambda raw: raw), Shape("", is_text=True))


def shapes_of(kind: Any, schema: Schema, item: Check) -> tuple[Shape, ...]:
    """Return the shapes that an answer of a type may have.

    Args:
        kind: the type; a JSON Schema given as a dict has none of its own.
        schema: its JSON Schema.
        item: raises if a JSON text isn't an element of the lists that the type takes; not asked for a JSON Schema.
    """
    if isinstance(kind, Mapping):
        return tuple(_of_schema(schema, schema))
    found = list(_of_type(kind, item, _DEPTH))
    if Shape("") not in found and found:
        return tuple(found)
    # Of these types only the schema says something.
    others = [shape for shape in _of_schema(schema, schema) if shape.opening not in [known.opening for known in found]]
    known = [shape for shape in found if shape != Shape("")]
    return (*known, *others, *(shape for shape in _of_schema(schema, schema) if not shape.opening))


def _of_type(kind: Any, item: Check, depth: int) -> Iterator[Shape]:
    kind = plain(kind)
    origin = get_origin(kind) or kind
    if depth and origin in (Union, types.UnionType):
        for option in get_args(kind):
            yield from _of_type(option, item, depth - 1)
    elif element_of(kind) is not NO_ELEMENTS:
        yield Shape("[", item=item)
    elif depth and is_root_model(origin):
        yield from _of_type(completed(origin).model_fields["root"].annotation, item, depth - 1)
    elif (fields := fields_of(kind)) is not None:
        keys = [frozenset(str(path[0]) for path in field.paths) for field in fields]
        needed = tuple(names for names, field in zip(keys, fields, strict=True) if field.is_required)
        yield Shape("{", frozenset().union(*keys), needed, is_open=not fields)
    elif kind is not type(None):
        yield Shape("")


def _of_schema(schema: Schema, root: Schema) -> Iterator[Shape]:
    for branch in branches(schema, root):
        kinds = branch.get("type")
        names = set(kinds if isinstance(kinds, list) else [kinds]) - {None, "null"}
        if not names and not {"properties", "enum", "const", "items", "prefixItems"} & branch.keys():
            yield from ANYTHING
            continue
        if "object" in names or "properties" in branch:
            yield _object(branch)
        if "array" in names or "items" in branch or "prefixItems" in branch:
            yield _array(branch, root)
        if names - {"object", "array"} or {"enum", "const"} & branch.keys():
            is_text = "string" in names or (not names and _has_words(branch))
            yield Shape("", is_text=is_text)


def _has_words(branch: Schema) -> bool:
    words = branch.get("enum", [branch.get("const")])
    return isinstance(words, list) and any(isinstance(word, str) for word in words)


def _object(branch: Schema) -> Shape:
    keys = branch.get("properties")
    keys = frozenset(keys) if isinstance(keys, Mapping) else frozenset()
    needed = branch.get("required", ())
    required = tuple(frozenset((name,)) for name in needed if isinstance(name, str))
    return Shape("{", keys.union(*required), required, is_open=not keys and not required)


def _array(branch: Schema, root: Schema) -> Shape:
    element = branch.get("items", True)
    if branch.get("prefixItems") or element is False:
        return Shape("[")

    def item(raw: str) -> None:
        from pydantic_core import from_json  # lazy: plain text needs no pydantic

        value = from_json(raw)
        if isinstance(element, Mapping):
            check(value, element, root)

    return Shape("[", item=item)
