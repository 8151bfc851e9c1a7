"""What can be read off pydantic's core schemas: whether validating calls the user's code, and what it never takes."""

from __future__ import annotations

import enum
from typing import Any

__all__ = ["calls_user_code", "explain_unreadable"]

_NOT_INSIDE = ("metadata", "serialization")
_CONVERTERS = ("function-before", "function-wrap", "function-plain", "json-or-python", "json")


def calls_user_code(schema: Any) -> bool:
    """Whether validating by a core schema calls functions that are neither ours nor pydantic's."""
    if isinstance(schema, (list, tuple)):
        return any(calls_user_code(each) for each in schema)
    if not isinstance(schema, dict):
        return False
    if schema.get("post_init") or schema.get("custom_init"):
        return True
    if str(schema.get("type", "")).startswith("function-"):
        function = schema["function"]["function"]
        is_pydantics = str(getattr(function, "__module__", "")).startswith("pydantic")
        if not is_pydantics and not getattr(function, "is_quick", False):
            return True
    return any(calls_user_code(value) for key, value in schema.items() if key not in _NOT_INSIDE)


def explain_unreadable(schema: Any) -> str | None:
    """Say which value a JSON Schema shows though its validator takes it in no JSON; `None` if there is none.

    Such are classes, members of an enum in a `Literal`, and enums of tuples, inside pydantic's own classes. What a
    function of the user's converts first, and a union that has another way, isn't looked into.
    """
    if isinstance(schema, (list, tuple)):
        return next(filter(None, map(explain_unreadable, schema)), None)
    if not isinstance(schema, dict) or schema.get("type") in _CONVERTERS:
        return None
    if schema.get("type") in ("literal", "enum") and ("expected" in schema or "members" in schema):
        return _find_unreadable_value(schema)
    if schema.get("type") == "is-subclass":
        return f"pydantic takes a class such as {schema['cls'].__name__} from Python only, and JSON has none"
    if schema.get("type") == "union":
        whys = [explain_unreadable(choice) for choice in schema.get("choices", ())]
        return whys[0] if all(whys) else None
    return next(
        filter(None, (explain_unreadable(value) for key, value in schema.items() if key not in _NOT_INSIDE)), None
    )


def _find_unreadable_value(schema: dict[str, Any]) -> str | None:
    from pydantic_core import SchemaValidator, ValidationError, to_json  # lazy: plain text needs no pydantic

    values = schema.get("expected") or schema.get("members", ())
    plain = {key: value for key, value in schema.items() if key != "ref"}
    for value in values:
        try:
            SchemaValidator(plain).validate_json(to_json(value.value if isinstance(value, enum.Enum) else value))
        except ValidationError:
            return f"pydantic takes {value!r} from Python only, and not in its form in JSON"
        except Exception:  # noqa: BLE001 - a value may have any form, or a method `_missing_` of the user's fail
            continue
    return None
