"""Queries on JSON Schemas: sub-schemas, references, unions, the shape of the values."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

__all__ = [
    "KEYS",
    "Elements",
    "Schema",
    "Shape",
    "follow_pointer",
    "follow_references",
    "get_elements",
    "get_openings",
    "get_property",
    "get_shapes",
    "iterate_parts",
    "list_branches",
    "map_parts",
    "resolve_reference",
]

KEYS = "x-mellea-keys"
"""Keyword for the alternative paths that a property is read from; each is a list of keys and indexes."""

Schema = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Shape:
    """What the JSON of a value, or of one member of a union, looks like at the top level.

    Args:
        opening: the bracket that it begins with; `""` if that isn't certain.
        keys: all keys that the object is read from: every alias, and field names where pydantic accepts them.
        required: for each required property the set of its keys, one of which has to be present.
        is_open: the object may have other keys as well, whose values are used.
        is_text: the value may be a string.
    """

    opening: str
    keys: frozenset[str] = frozenset()
    required: tuple[frozenset[str], ...] = ()
    is_open: bool = False
    is_text: bool = False


SCHEMAS = frozenset(
    {"additionalItems", "additionalProperties", "contains", "else", "if", "items", "not", "propertyNames", "then"}
    | {"unevaluatedItems", "unevaluatedProperties"}
)
"""Keywords whose value is a schema."""

SCHEMA_LISTS = frozenset({"allOf", "anyOf", "items", "oneOf", "prefixItems"})
"""Keywords whose value is a list of schemas; `items` may be one in old drafts."""

SCHEMA_DICTS = frozenset(
    {"$defs", "definitions", "dependencies", "dependentSchemas", "patternProperties", "properties"}
)
"""Keywords whose value maps names to schemas; `dependencies` of old drafts has lists of names, too."""


def iterate_parts(schema: Schema) -> Iterator[tuple[str, Any]]:
    """Yield the direct sub-schemas of a schema, each with its place."""
    for name, value in schema.items():
        if name in SCHEMA_DICTS and isinstance(value, Mapping):
            yield from ((f"{name}.{key}", part) for key, part in value.items())
        elif name in SCHEMA_LISTS and isinstance(value, list):
            yield from ((f"{name}.{index}", part) for index, part in enumerate(value))
        elif name in SCHEMAS:
            yield name, value


def map_parts(schema: Schema, change: Callable[[Any], Any]) -> dict[str, Any]:
    """Return a copy of a schema with `change` applied to its direct sub-schemas."""
    new = dict(schema)
    for name, value in schema.items():
        if name in SCHEMA_DICTS and isinstance(value, Mapping):
            new[name] = {key: change(part) for key, part in value.items()}
        elif name in SCHEMA_LISTS and isinstance(value, list):
            new[name] = [change(part) for part in value]
        elif name in SCHEMAS:
            new[name] = change(value)
    return new


def follow_pointer(root: Any, pointer: str) -> Any:
    """Return the target of a JSON Pointer (RFC 6901) in the form of a URI fragment, or `None`."""
    target = root
    # The first piece is what is before the first slash: nothing.
    for step in pointer.removeprefix("#").split("/")[1:]:
        # In this order (RFC 6901, section 4): the other order would turn `~01` into a slash.
        name = unquote(step).replace("~1", "/").replace("~0", "~")
        if isinstance(target, list):
            target = target[int(name)] if name.isdecimal() and int(name) < len(target) else None
        else:
            target = target.get(name) if isinstance(target, Mapping) else None
    return target


def resolve_reference(pointer: Any, root: Schema) -> Any:
    """Return the target of a reference such as `#/$defs/Person`; `True`, which allows anything, if there is none."""
    target = follow_pointer(root, str(pointer))
    # A dangling reference is treated as unrestricted, rather than failing a schema that the provider may understand.
    return target if isinstance(target, (Mapping, bool)) else True


def follow_references(schema: Schema, root: Schema) -> Schema:
    """Replace a schema's `$ref` by its target in `root`; keywords beside it are kept."""
    seen: set[str] = set()
    while isinstance(pointer := schema.get("$ref"), str) and pointer not in seen:
        # A reference to itself would never end.
        seen.add(pointer)
        target = resolve_reference(pointer, root)
        beside = {name: value for name, value in schema.items() if name != "$ref"}
        schema = {**(target if isinstance(target, Mapping) else {}), **beside}
    return schema


def list_branches(schema: Schema, root: Schema) -> list[Schema]:
    """Return the alternatives for a value as schemas without references and unions; null is left out."""
    found: list[Schema] = []
    waiting, seen = [schema], 0
    while waiting and seen < 200:  # bounded, because a union may contain itself
        seen += 1
        one = follow_references(waiting.pop(), root)
        options = one.get("anyOf") or one.get("oneOf")
        if isinstance(options, list):
            beside = {name: value for name, value in one.items() if name not in ("anyOf", "oneOf")}
            # Reversed, because the last one is taken first; so branches come in the order in which they are written.
            waiting += [{**beside, **option} for option in reversed(options) if isinstance(option, Mapping)]
        # How pydantic writes a reference with a description beside it. Several parts aren't merged.
        elif isinstance(parts := one.get("allOf"), list) and len(parts) == 1 and isinstance(parts[0], Mapping):
            waiting.append({**parts[0], **{name: value for name, value in one.items() if name != "allOf"}})
        elif one.get("type") != "null":
            found.append(one)
    return found


def get_openings(schema: Schema, root: Schema | None = None) -> str:
    """Return the brackets that a value may begin with; `""` if it may begin with something else."""
    openings = {_get_opening(branch) for branch in list_branches(schema, schema if root is None else root)}
    return "" if "" in openings else "".join(sorted(openings))


def _get_opening(schema: Schema) -> str:
    if schema.get("type") == "object" or "properties" in schema:
        return "{"
    return "[" if schema.get("type") == "array" else ""


@dataclass(frozen=True, slots=True)
class Elements:
    """The schemas of an array's first elements, and of all others."""

    first: Sequence[Any]
    others: Any


def get_elements(schema: Any, root: Schema) -> Elements | None:
    """Return the elements of a schema that only allows arrays (or null), otherwise `None`."""
    found = list_branches(schema, root) if isinstance(schema, Mapping) else []
    kinds = found[0].get("type") if len(found) == 1 else None
    # An optional list is still a list: its items can be read one by one.
    if {*(kinds if isinstance(kinds, list) else [kinds])} - {"null"} != {"array"}:
        return None
    return Elements(found[0].get("prefixItems", ()), found[0].get("items", True))


def get_shapes(schema: Schema, root: Schema) -> tuple[Shape, ...]:
    """Return the possible shapes of a value, one or more for each member of a union; null is left out."""
    return tuple(shape for branch in list_branches(schema, root) for shape in _make_shapes(branch))


def _make_shapes(branch: Schema) -> Iterator[Shape]:
    kinds = branch.get("type")
    names = set(kinds if isinstance(kinds, list) else [kinds]) - {None, "null"}
    is_listed = "enum" in branch or "const" in branch
    if not names and not is_listed and "properties" not in branch:
        names = {"object", "array", "string"}  # the schema doesn't restrict the type
    if "object" in names or "properties" in branch:
        yield _make_object_shape(branch)
    if "array" in names:
        yield Shape("[")
    if names - {"object", "array"} or is_listed:
        words = branch.get("enum", [branch.get("const")])
        yield Shape("", is_text="string" in names or any(isinstance(word, str) for word in words))


def _make_object_shape(branch: Schema) -> Shape:
    properties = branch.get("properties", {})
    keys = {name: _collect_keys(name, part) for name, part in properties.items()}
    required = tuple(keys.get(name, frozenset({name})) for name in branch.get("required", ()))
    # A schema with properties that says nothing about others is taken to allow only those, which is how models mostly
    # read it.
    others = branch.get("additionalProperties", not properties) not in (None, False)
    is_open = others or bool(branch.get("patternProperties"))
    return Shape("{", frozenset().union(*keys.values()), required, is_open)


def _collect_keys(name: str, part: Any) -> frozenset[str]:
    paths = part.get(KEYS, ()) if isinstance(part, Mapping) else ()
    return frozenset({name, *(str(path[0]) for path in paths)})


def get_property(branch: Schema, key: str) -> Any:
    """Return the schema of the property with a key, which may be any of its aliases.

    Returns:
        `additionalProperties` for other keys; `None` if the schema doesn't restrict them.
    """
    properties = branch.get("properties", {})
    if key in properties:
        return properties[key]
    # An alias in one of our types: the schema has one key for each field, and the others are in the marker.
    named = (part for part in properties.values() if isinstance(part, Mapping) and [key] in part.get(KEYS, ()))
    return next(named, branch.get("additionalProperties"))
