"""Generate JSON Schemas from Python types, with every key that a field can be read from.

Pydantic's own schema has one key per field. Here a field with several aliases lists them all under `KEYS`, which is
removed before a schema is sent; a field read from inside another value (`AliasPath`) is described there, where pydantic
looks for it.

This module imports pydantic, so import it only where a format is made.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from mellea.core.structured.kinds import Path, get_alias_paths
from mellea.core.structured.schema import KEYS

__all__ = ["MarkedJsonSchema"]


class MarkedJsonSchema(GenerateJsonSchema):
    """Pydantic's generator, which also records the aliases of each field."""

    _configs: tuple[Mapping[str, Any], ...] = ({},)  # the models that are being written, the innermost last

    def model_schema(self, schema: Any) -> dict[str, Any]:
        """Generate the schema of a model."""
        return self._generate_inside(schema, super().model_schema)

    def dataclass_schema(self, schema: Any) -> dict[str, Any]:
        """Generate the schema of a pydantic dataclass."""
        return self._generate_inside(schema, super().dataclass_schema)

    def typed_dict_schema(self, schema: Any) -> dict[str, Any]:
        """Generate the schema of a TypedDict."""
        config = schema.get("config") or self._configs[-1]
        return self._mark(super().typed_dict_schema(schema), schema["fields"].items(), config)

    def model_fields_schema(self, schema: Any) -> dict[str, Any]:
        """Generate the schema of a model's fields."""
        return self._mark(super().model_fields_schema(schema), schema["fields"].items(), self._configs[-1])

    def dataclass_args_schema(self, schema: Any) -> dict[str, Any]:
        """Generate the schema of a dataclass's fields."""
        fields = [(field["name"], field) for field in schema["fields"]]
        return self._mark(super().dataclass_args_schema(schema), fields, self._configs[-1])

    def _generate_inside(self, schema: Any, generate: Any) -> dict[str, Any]:
        around, self._configs = self._configs, (*self._configs, schema.get("config") or {})
        try:
            made: dict[str, Any] = generate(schema)
        finally:
            self._configs = around
        return made

    def _mark(
        self, made: dict[str, Any], fields: Iterable[tuple[str, Any]], config: Mapping[str, Any]
    ) -> dict[str, Any]:
        properties = made.get("properties", {})
        for name, field in fields:
            paths = get_alias_paths(name, field.get("validation_alias"), config)
            key = str(paths[0][0]) if len(paths[0]) == 1 else name
            if key not in properties:  # left out on purpose, as by SkipJsonSchema
                continue
            if len(paths[0]) > 1:
                _move(made, key, paths[0])
            elif len(paths) > 1:
                properties[key] = {**properties[key], KEYS: [list(path) for path in paths]}
        return made


def _move(made: dict[str, Any], key: str, path: Path) -> None:
    """Move a property into the value that it is read from."""
    part = made["properties"].pop(key)
    is_required = key in made.get("required", ())
    first = str(path[0])
    made["required"] = [name for name in made.get("required", ()) if name != key]
    if first not in made["properties"]:
        made["properties"][first] = {}
    if _put(made["properties"][first], path[1:], part, is_required) and is_required and first not in made["required"]:
        made["required"].append(first)
    if not made["required"]:
        del made["required"]


def _put(holder: dict[str, Any], path: Path, part: Any, is_required: bool) -> bool:
    """Add a property to the schema of another value; return `False` if that is described already."""
    step = path[0]
    wanted = "object" if isinstance(step, str) else "array"
    if holder.setdefault("type", wanted) != wanted or "$ref" in holder:
        return False
    if isinstance(step, str):
        inner = holder.setdefault("properties", {}).setdefault(step, {})
        if is_required and step not in holder.setdefault("required", []):
            holder["required"].append(step)
    else:
        first = holder.setdefault("prefixItems", [])
        first += [{} for _ in range(step + 1 - len(first))]
        inner = first[step]
        if is_required:
            holder["minItems"] = max(step + 1, holder.get("minItems", 0))
    if len(path) > 1:
        return _put(inner, path[1:], part, is_required)
    inner.update(part)
    return True
