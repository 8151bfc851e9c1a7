"""Normalise the JSON Schemas that users write.

References may be JSON Pointers with escapes (`~0 ~1 %20`), anchors, ids, or `#` alone; they may point into lists and
out of nested definitions; and drafts before 2020-12 spell some keywords differently. The result only has references of
the form `#/$defs/name` and the keywords of 2020-12, so it can be nested in another schema, cut up and sent to any
provider. A schema that already has this form is returned unchanged.
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
    """A dict isn't a JSON Schema, or a reference in it leads nowhere."""


def bundle_schema(schema: Schema) -> dict[str, Any]:
    """Return the schema with every reference as `#/$defs/name`, in the keywords of draft 2020-12.

    Raises:
        SchemaError: a reference leads nowhere, or out of the schema.
    """
    nodes = list(_walk(schema))
    # Pydantic writes this form, so nearly every schema stays unchanged.
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
    """Rewrites a schema and collects the targets of its references under `$defs`."""

    def __init__(self, root: Schema) -> None:
        self._root = root
        self._resources: dict[str, Schema] = {}  # schemas with an id, by id
        self._anchors: dict[tuple[str, str], Any] = {}  # by id and name
        self._bases: dict[int, str] = {}  # the base URI of each part, by id() of the part
        self._names: dict[int, str] = {}
        self._definitions: dict[str, Any] = {}
        self._index(root)

    def _index(self, root: Schema) -> None:
        """Collect the ids and anchors of all parts; drafts 4 to 7 have `id`, and `#name` as an id for an anchor."""
        self._resources[""] = root
        waiting: list[tuple[Any, str]] = [(root, "")]
        while waiting:
            node, base = waiting.pop()
            if not isinstance(node, Mapping):
                continue
            own = node.get("$id", node.get("id"))
            if isinstance(own, str) and not own.startswith("#"):
                # An id changes the base for everything inside it (2020-12, core, 8.2.1).
                base = urldefrag(urljoin(base, own))[0]
                self._resources[base] = node
            elif isinstance(own, str):
                self._anchors[base, own[1:]] = node
            for name in _ANCHORS:
                if isinstance(node.get(name), str):
                    self._anchors[base, node[name]] = node
            # By identity: equal parts in two places may have different bases. The root keeps all of them alive.
            self._bases[id(node)] = base
            waiting += [(part, base) for _, part in iterate_parts(node)]

    def rewrite(self) -> dict[str, Any]:
        """Return the rewritten schema; a recursive one appears twice, at the top and under `$defs`."""
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
            # Two parts of other documents may have the same name.
            name = f"{wanted}_{count}"
        self._names[id(target)] = name
        self._definitions[name] = {}  # reserves the name: the target may refer to itself
        self._definitions[name] = self._rewrite(target)
        return name

    def _resolve(self, pointer: Any, base: str) -> Any:
        if not isinstance(pointer, str):
            raise SchemaError(f"a reference has to be a string, not {pointer!r}")
        where, _, fragment = pointer.partition("#")
        place = urljoin(base, where) if where else base
        if place not in self._resources:
            raise SchemaError(f"the reference {pointer!r} points outside the schema; put its target under '$defs'")
        if fragment and not fragment.startswith("/"):
            found = self._anchors.get((place, unquote(fragment)))
        else:
            found = follow_pointer(self._resources[place], fragment)
        if not isinstance(found, (Mapping, bool)):
            raise SchemaError(f"the reference {pointer!r} points at nothing")
        return found


def _modernise(schema: dict[str, Any]) -> dict[str, Any]:
    """Replace keywords of older drafts, and OpenAPI's `nullable`, with those of 2020-12."""
    others = schema.pop("additionalItems", None)
    if isinstance(schema.get("items"), list):
        schema["prefixItems"] = schema.pop("items")
        schema |= {} if others is None else {"items": others}
    for limit, strict in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if isinstance(schema.get(strict), bool):
            is_strict = schema.pop(strict)
            # Draft 4: a flag beside the limit; from draft 6 on it is a number of its own.
            schema |= {strict: schema.pop(limit)} if is_strict and limit in schema else {}
    wishes = schema.pop("dependencies", None)
    for name, wish in wishes.items() if isinstance(wishes, Mapping) else ():
        keyword = "dependentRequired" if isinstance(wish, list) else "dependentSchemas"
        schema[keyword] = {**schema.get(keyword, {}), name: wish}
    if schema.pop("nullable", False) is True and isinstance(schema.get("type"), str):
        schema["type"] = [schema["type"], "null"]
        # OpenAPI 3.0: otherwise the list of values would exclude null again.
        schema |= {"enum": [*schema["enum"], None]} if isinstance(schema.get("enum"), list) else {}
    return schema
