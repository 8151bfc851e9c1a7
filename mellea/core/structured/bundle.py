"""One form for the JSON Schemas that users write.

References may be JSON Pointers with escapes (`~0 ~1 %20`), anchors, ids, or `#` alone; they may lead into lists and
out of nested definitions; and drafts before 2020-12 spell some keywords otherwise. What comes out of here has nothing
but `#/$defs/name`, and the words of 2020-12, so that it can be moved into an object, cut up and sent anywhere. A
schema that has this form already is returned as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote, urldefrag, urljoin

from mellea.core.structured.schema import Schema, follow_pointer, iterate_parts, map_parts

__all__ = ["SchemaError", "bundle_schema"]

_PLAIN = re.compile(r"#/(\$defs|definitions)/[^/~%]+")
_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")
_ANCHORS = ("$anchor", "$dynamicAnchor")
_PLACES = frozenset({"$id", "id", *_ANCHORS, "$recursiveAnchor", "$defs", "definitions", "$vocabulary"})
_OLD = frozenset({"additionalItems", "dependencies", "nullable", "$dynamicRef", "$recursiveRef"})


class SchemaError(ValueError):
    """A dict isn't a JSON Schema, or refers to what isn't there."""


def bundle_schema(schema: Schema) -> dict[str, Any]:
    """Return the schema with every reference as `#/$defs/name`, in the words of draft 2020-12.

    Raises:
        SchemaError: a reference leads nowhere, or out of the schema.
    """
    nodes = list(_walk(schema))
    if all(_has_this_form(node, schema) for node in nodes):
        return dict(schema)
    return _Bundler(schema).rewrite()


def _walk(schema: Any) -> Iterator[Schema]:
    waiting = [schema]
    while waiting:
        node = waiting.pop()
        if isinstance(node, Mapping):
            yield node
            waiting += [part for _, part in iterate_parts(node)]


def _has_this_form(node: Schema, root: Schema) -> bool:
    if node is not root and _PLACES & node.keys():
        return False
    is_old = isinstance(node.get("items"), list) or any(
        isinstance(node.get(name), bool) for name in ("exclusiveMinimum", "exclusiveMaximum")
    )
    pointer = node.get("$ref", "#/$defs/x")
    is_plain = isinstance(pointer, str) and _PLAIN.fullmatch(pointer) is not None
    return not is_old and is_plain and not _OLD & node.keys() and ("$ref" not in node or _is_defined(pointer, root))


def _is_defined(pointer: str, root: Schema) -> bool:
    _, place, name = pointer.split("/")
    return name in root.get(place, {})


class _Bundler:
    """Writes a schema anew, and what its references lead to below `$defs`."""

    def __init__(self, root: Schema) -> None:
        self._root = root
        self._resources: dict[str, Schema] = {}  # schemas that have an id, by it
        self._anchors: dict[tuple[str, str], Any] = {}  # by id and name
        self._bases: dict[int, str] = {}  # the id that counts at each part, by the part's own address
        self._names: dict[int, str] = {}
        self._definitions: dict[str, Any] = {}
        self._index(root)

    def _index(self, root: Schema) -> None:
        """Note the ids and anchors of all parts; `id` and `#name` as id are those of old drafts."""
        self._resources[""] = root
        waiting: list[tuple[Any, str]] = [(root, "")]
        while waiting:
            node, base = waiting.pop()
            if not isinstance(node, Mapping):
                continue
            own = node.get("$id", node.get("id"))
            if isinstance(own, str) and not own.startswith("#"):
                base = urldefrag(urljoin(base, own))[0]
                self._resources[base] = node
            elif isinstance(own, str):
                self._anchors[base, own[1:]] = node
            for name in _ANCHORS:
                if isinstance(node.get(name), str):
                    self._anchors[base, node[name]] = node
            self._bases[id(node)] = base
            waiting += [(part, base) for _, part in iterate_parts(node)]

    def rewrite(self) -> dict[str, Any]:
        """Return the schema anew; one that holds itself stands once at the top and once below `$defs`."""
        body = self._rewrite(self._root)
        return {**body, "$defs": self._definitions} if self._definitions else body

    def _rewrite(self, schema: Any) -> Any:
        if not isinstance(schema, Mapping):
            return schema
        kept = {name: value for name, value in schema.items() if name not in _PLACES and name not in _REFERENCES}
        new = map_parts(_modernise(kept), self._rewrite)
        for name in _REFERENCES:
            if name in schema:
                target = self._resolve(schema[name], self._bases.get(id(schema), ""))
                new["$ref"] = f"#/$defs/{self._define(target, schema[name])}"
        return new

    def _define(self, target: Any, pointer: str) -> str:
        if id(target) in self._names:
            return self._names[id(target)]
        steps = [step for step in re.split(r"[^A-Za-z0-9_.-]+", unquote(pointer)) if step not in ("", "defs")]
        wanted = "_".join(steps[1:] if steps[:1] == ["definitions"] else steps) or "root"
        name, count = wanted, 1
        while name in self._definitions:
            count += 1
            name = f"{wanted}_{count}"
        self._names[id(target)] = name
        self._definitions[name] = {}
        self._definitions[name] = self._rewrite(target)
        return name

    def _resolve(self, pointer: Any, base: str) -> Any:
        if not isinstance(pointer, str):
            raise SchemaError(f"a reference is a text, not {pointer!r}")
        where, _, fragment = pointer.partition("#")
        place = urljoin(base, where) if where else base
        if place not in self._resources:
            raise SchemaError(f"the reference {pointer!r} leads out of the schema; put what it names below '$defs'")
        if fragment and not fragment.startswith("/"):
            found = self._anchors.get((place, unquote(fragment)))
        else:
            found = follow_pointer(self._resources[place], fragment)
        if not isinstance(found, (Mapping, bool)):
            raise SchemaError(f"the reference {pointer!r} leads nowhere")
        return found


def _modernise(schema: dict[str, Any]) -> dict[str, Any]:
    """Write the words of older drafts, and OpenAPI's `nullable`, in those of 2020-12."""
    others = schema.pop("additionalItems", None)
    if isinstance(schema.get("items"), list):
        schema["prefixItems"] = schema.pop("items")
        schema |= {} if others is None else {"items": others}
    for limit, strict in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if isinstance(schema.get(strict), bool):
            is_strict = schema.pop(strict)
            schema |= {strict: schema.pop(limit)} if is_strict and limit in schema else {}
    wishes = schema.pop("dependencies", None)
    for name, wish in wishes.items() if isinstance(wishes, Mapping) else ():
        keyword = "dependentRequired" if isinstance(wish, list) else "dependentSchemas"
        schema[keyword] = {**schema.get(keyword, {}), name: wish}
    if schema.pop("nullable", False) is True and isinstance(schema.get("type"), str):
        schema["type"] = [schema["type"], "null"]
        schema |= {"enum": [*schema["enum"], None]} if isinstance(schema.get("enum"), list) else {}
    return schema
