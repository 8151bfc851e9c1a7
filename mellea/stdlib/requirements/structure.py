"""Requirements on the structure of an output: JSON, and values of a type."""

from __future__ import annotations

import json
from typing import Any

from mellea.core.entrance import entrance
from mellea.core.requirement import Requirement, ValidationResult
from mellea.core.structured import make_output_format
from mellea.errors import ParseError
from mellea.stdlib.requirements.markdown import strip_fence
from mellea.stdlib.requirements.shorthand import simple_validate

__all__ = ["valid_json"]


@entrance("valid_json")
def valid_json(format: Any = None, *, description: str | None = None, check_only: bool = False) -> Requirement:
    """Make a requirement that the output is JSON, or the JSON of a value of some type, and nothing else.

    A code fence around it is accepted. The argument `format=` of a verb does more: the backend is made to write such a
    value, and `.parsed` holds it.

    Args:
        format: a pydantic model, dataclass, TypedDict, `list[…]`, a JSON Schema as a dict, or whatever else `format=`
            takes.
        description: the text for the prompt, instead of the default.
        check_only: keep it out of the prompt.

    Raises:
        UsageError: it is not a type.
    """
    form = None if format is None else make_output_format(format)

    def validate(text: str) -> ValidationResult:
        inner = strip_fence(text).strip()
        if not inner:
            return ValidationResult(False, "it is empty")
        try:
            _load(inner)
            if form is not None:
                form.validate(inner)
        except RecursionError:
            return ValidationResult(False, "it is nested too deeply")
        except (ValueError, AssertionError, ParseError) as error:  # pydantic's is a ValueError
            return ValidationResult(False, _format_error(error))
        return ValidationResult(True)

    if description is None:
        schema = "" if form is None else f" that matches this schema: {json.dumps(form.schema.schema)}"
        description = f"Answer with JSON{schema}{'' if schema else ', and nothing else.'}"
    return Requirement(description, simple_validate(validate), check_only)


def _load(text: str) -> Any:
    def refuse(word: str) -> Any:
        raise ValueError(f"{word} is not JSON")

    return json.loads(text, parse_constant=refuse)


def _format_error(error: Exception) -> str:
    """Return an error as one line; pydantic's messages have several, and a link."""
    lines = [line.strip() for line in str(error).splitlines() if "errors.pydantic.dev" not in line]
    return "; ".join(filter(None, lines[:5])) or type(error).__name__
