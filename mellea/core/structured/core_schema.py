"""Facts from pydantic's core schemas: whether validation calls user code, and which values it can never read."""

from __future__ import annotations

import enum
from types import BuiltinFunctionType
from typing import Any

__all__ = ["calls_user_code", "explain_unreadable", "is_known"]

_NOT_INSIDE = ("metadata", "serialization")
_VALUES = (*_NOT_INSIDE, "default", "expected", "members")
_CALLED = ("function", "default_factory")
_CONVERTERS = ("function-before", "function-wrap", "function-plain", "json-or-python", "json")


def calls_user_code(schema: Any) -> bool:
    """Whether validation by a core schema calls functions that are neither ours nor pydantic's.

    Those are validators, factories of defaults, discriminators, an enum's `_missing_`, and what a class does when an
    instance is made.
    """
    if isinstance(schema, (list, tuple)):
        return any(calls_user_code(each) for each in schema)
    if not isinstance(schema, dict):
        # A class in a core schema is only compared with, not called; callables are stored under other keys.
        return callable(schema) and not isinstance(schema, type) and not is_known(schema)
    if getattr(schema.get("function"), "__module__", None) == "builtins":
        return True  # a builtin as a validator, such as `sorted`, changes the value and calls methods of the items
    # These are names of methods, not functions, so the walk below wouldn't find them.
    if schema.get("post_init") or schema.get("custom_init"):
        return True
    if isinstance(cls := schema.get("cls"), type) and _makes_instances(schema["type"], cls):
        return True
    if any(isinstance(made := schema.get(key), type) and not is_known(made) for key in _CALLED):
        return True
    return any(calls_user_code(value) for key, value in schema.items() if key not in _VALUES)


def is_known(function: Any) -> bool:
    """Whether a function or class is quick and calls no user code: it is ours, pydantic's, or a builtin."""
    if isinstance(function, type) and issubclass(function, tuple):
        return not _has_own_new(function)
    module = str(getattr(function, "__module__", ""))
    return module.startswith("pydantic") or module == "builtins" or bool(getattr(function, "is_quick", False))


def _makes_instances(kind: str, cls: type) -> bool:
    """Whether code of the class itself makes its instances."""
    if kind == "enum":
        return getattr(cls._missing_, "__module__", None) != "enum"  # type: ignore[attr-defined]
    return kind in ("model", "dataclass", "named-tuple") and _has_own_new(cls)


def _has_own_new(cls: type) -> bool:
    """Whether a class has a `__new__` other than that of a named tuple."""
    return not isinstance(cls.__new__, BuiltinFunctionType) and not str(cls.__new__.__module__).startswith(
        "namedtuple_"
    )


def explain_unreadable(schema: Any) -> str | None:
    """Return which value is in the JSON Schema although no JSON makes its validator accept it, or `None`.

    Inside pydantic's own classes that is true of classes, of enum members in a `Literal` and of enums of tuples. A
    value that a user function converts first isn't examined, nor is a union in which another member is readable.
    """
    if isinstance(schema, (list, tuple)):
        return next(filter(None, map(explain_unreadable, schema)), None)
    if not isinstance(schema, dict) or schema.get("type") in _CONVERTERS:
        return None
    if schema.get("type") in ("literal", "enum") and ("expected" in schema or "members" in schema):
        return _find_unreadable_value(schema)
    if schema.get("type") == "is-subclass":
        return f"pydantic accepts a class such as {schema['cls'].__name__} only from Python, and JSON has no classes"
    if schema.get("type") == "union":
        whys = [explain_unreadable(choice) for choice in schema.get("choices", ())]
        return whys[0] if all(whys) else None
    return next(
        filter(None, (explain_unreadable(value) for key, value in schema.items() if key not in _NOT_INSIDE)), None
    )


def _find_unreadable_value(schema: dict[str, Any]) -> str | None:
    from pydantic_core import SchemaValidator, ValidationError, to_json  # lazy: plain text needs no pydantic

    values = schema.get("expected") or schema.get("members", ())
    # A schema with a name is a definition, which can't be used on its own.
    plain = {key: value for key, value in schema.items() if key != "ref"}
    for value in values:
        try:
            SchemaValidator(plain).validate_json(to_json(value.value if isinstance(value, enum.Enum) else value))
        except ValidationError:
            return f"pydantic accepts {value!r} only from Python, not in its JSON form"
        except Exception:  # noqa: BLE001 - user code: a value may have no JSON form, or an enum's `_missing_` fail
            continue
    return None
