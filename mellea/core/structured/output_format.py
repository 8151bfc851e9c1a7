"""Output formats: from a Python type to a JSON Schema, and from the model's text to a value of the type."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

from mellea.core.accumulator import Generation
from mellea.core.backend import OutputSchema
from mellea.errors import ParseError, UsageError

__all__ = ["OutputFormat", "output_format"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class OutputFormat(Generic[T]):
    """A type that the answer is to have.

    Args:
        schema: its JSON Schema, which goes to the backend.
        validator: pydantic's validator of the type, `None` for a plain JSON Schema.
    """

    schema: OutputSchema
    validator: Any

    def parse(self, generation: Generation) -> T:
        """Make a value of the type out of the complete answer.

        Raises:
            ParseError: the text is no such value; the message says whether it was cut off.
        """
        from pydantic_core import from_json  # lazy: plain text needs no pydantic

        text = generation.text
        try:
            if self.validator is None:
                return cast("T", from_json(text))
            return cast("T", self.validator.validate_json(text))
        except Exception as error:  # noqa: BLE001 - a validator of the user's may raise whatever it likes
            raise ParseError(_explain(self.schema.name, generation, error), partial=text) from error.with_traceback(
                None
            )


def output_format(format: Any) -> OutputFormat[Any]:
    """Take a type, or a JSON Schema as a dict, as an output format.

    Raises:
        UsageError: it is neither.
    """
    if isinstance(format, Mapping):
        name = format.get("title", "output")
        return OutputFormat(OutputSchema(str(name), dict(format)), None)
    from pydantic import PydanticUserError, TypeAdapter  # lazy: plain text needs no pydantic

    try:
        adapter = TypeAdapter(format)
        schema = adapter.json_schema()
    except (PydanticUserError, TypeError, NameError) as error:
        raise UsageError(
            f"format can't be {format!r}: it takes a dataclass, a pydantic model, a TypedDict of typing_extensions, a "
            "builtin such as int or list[str], or a JSON Schema as a dict"
        ) from error.with_traceback(None)
    return OutputFormat(OutputSchema(_name(format), schema), adapter)


def _name(format: Any) -> str:
    name = getattr(format, "__name__", "output")
    return "".join(letter if letter.isalnum() or letter in "_-" else "_" for letter in name)[:64]


def _explain(name: str, generation: Generation, error: Exception) -> str:
    if generation.finish_reason == "length":
        return (
            f"the answer was cut off at the token limit before the {name!r} was complete: {generation.text[-80:]!r}; "
            "raise model_options={'max_tokens': …}"
        )
    said = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
    reason = "; ".join(line.strip() for line in said.splitlines()[:3])
    return f"the answer is no {name!r}: {reason}; the text is {generation.text[:120]!r}"
