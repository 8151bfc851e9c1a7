"""Output formats: from a Python type to a JSON Schema, and from the model's text to a value of the type."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import FunctionType
from typing import Any, Generic, TypeVar, cast

from mellea.core.accumulator import Generation
from mellea.core.backend import OutputSchema
from mellea.core.structured.extract import json_values
from mellea.core.structured.markers import unmarked
from mellea.core.structured.strict import strict
from mellea.errors import ParseError, UsageError

__all__ = ["OutputFormat", "output_format", "validator_of"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class OutputFormat(Generic[T]):
    """A type that the answer is to have.

    Args:
        schema: its JSON Schema, which goes to the backend.
        validator: pydantic's validator of the type, `None` for a plain JSON Schema.
        kind: the type, or the JSON Schema, as it was given.
        marked: the JSON Schema with the marks of `HoldBack` and `Needed`.
    """

    schema: OutputSchema
    validator: Any = field(repr=False)
    kind: Any = None
    marked: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def parse(self, generation: Generation) -> T:
        """Make a value of the type out of the complete answer.

        The whole text is taken first; if it is no value, the JSON that stands in it, between fences or
        among prose.

        Raises:
            ParseError: there is no such value; the message says whether the text was cut off.
        """
        text = generation.text
        said: Exception | None = None
        for candidate in self._candidates(text):
            try:
                return self.value(candidate)
            except Exception as error:  # noqa: BLE001 - a validator of the user's may raise whatever it likes
                # What is wrong with the JSON says more than that there is something around it.
                said = error if said is None or _is_no_json(said) else said
        raise ParseError(_explain(self.schema.name, generation, said), partial=text) from said and said.with_traceback(
            None
        )

    def value(self, text: str) -> T:
        """Make a value of the type out of a text that is JSON and nothing else; raises whatever its validator raises."""
        if self.validator is None:
            from pydantic_core import from_json  # lazy: plain text needs no pydantic

            return cast("T", from_json(text))
        return cast("T", self.validator.validate_json(text))

    def _candidates(self, text: str) -> Iterator[str]:
        yield text
        yield from json_values(text)
        if _takes_words(self.schema.schema):
            yield json.dumps(text.strip())

    def __reduce__(self) -> Any:
        return output_format, (self.kind,)


def output_format(format: Any) -> OutputFormat[Any]:
    """Take a type, or a JSON Schema as a dict, as an output format.

    Dataclasses and TypedDicts refuse unknown keys and wrong JSON types; pydantic's own classes do as they
    are configured.

    Raises:
        UsageError: it is neither, or a name in its annotations can't be found.
    """
    if isinstance(format, Mapping):
        name = format.get("title", "output")
        return OutputFormat(OutputSchema(str(name), dict(format)), None, format, format)
    from pydantic import PydanticUserError  # lazy: plain text needs no pydantic

    try:
        if isinstance(format, (str, FunctionType)):
            raise TypeError("it is no type")
        validator = validator_of(format)
        marked = validator.json_schema()
    except (PydanticUserError, TypeError, NameError) as error:
        raise UsageError(
            f"format can't be {format!r}: {str(error).splitlines()[0]}; it takes a pydantic model, a dataclass, a "
            "TypedDict, list[…], dict[str, …], a Literal, an enum, a union, a builtin such as int, or a JSON Schema as "
            "a dict"
        ) from error.with_traceback(None)
    return OutputFormat(OutputSchema(_name(format), unmarked(marked)), validator, format, marked)


def validator_of(kind: Any) -> Any:
    """Make pydantic's validator of a type; what is no class of pydantic's is held strictly."""
    from pydantic import ConfigDict, PydanticUserError, TypeAdapter  # lazy: plain text needs no pydantic

    rewritten = strict(kind)
    try:
        return TypeAdapter(rewritten, config=ConfigDict(strict=True))
    except PydanticUserError as error:
        if error.code != "type-adapter-config-unused":
            raise
        return TypeAdapter(rewritten)  # it has a configuration of its own


def _name(format: Any) -> str:
    name = getattr(format, "__name__", "output")
    return "".join(letter if letter.isalnum() or letter in "_-" else "_" for letter in name)[:64]


def _takes_words(schema: Mapping[str, Any]) -> bool:
    """Whether values are one of some words, which a model may well write without the quotes."""
    options = schema.get("enum", [schema["const"]] if "const" in schema else [])
    return any(isinstance(option, str) for option in options)


def _is_no_json(error: Exception) -> bool:
    errors = getattr(error, "errors", None)
    return not callable(errors) or any(each.get("type") == "json_invalid" for each in errors())


def _explain(name: str, generation: Generation, error: Exception | None) -> str:
    if generation.finish_reason == "length":
        return (
            f"the answer was cut off at the token limit before the {name!r} was complete: {generation.text[-80:]!r}; "
            "raise model_options={'max_tokens': …}"
        )
    said = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
    reason = "; ".join(line.strip() for line in said.splitlines()[:3])
    return f"the answer is no {name!r}: {reason}; the text is {generation.text[:120]!r}"
