"""Fields of Gemini's JSON, each looked at once: what isn't the protocol is a `WireError` that says where."""

from __future__ import annotations

from typing import TypeVar

from pydantic_core import from_json

from mellea.backends.gemini.wire import Json, JsonObject
from mellea.core.events import Usage
from mellea.errors import WireError

__all__ = ["expect", "optional_text", "parse", "read_usage"]

T = TypeVar("T")


def parse(data: bytes) -> JsonObject:
    """Parse a JSON object.

    Raises:
        WireError: it is none.
    """
    try:
        value = from_json(data)
    except ValueError as error:
        raise WireError(f"Gemini sent what is no JSON ({error}): {data[:80]!r}") from error
    return value if type(value) is dict else expect(dict, value, "an object")


def expect(kind: type[T], value: Json, what: str) -> T:
    """Return the value if it is of that kind.

    Raises:
        WireError: it isn't.
    """
    if isinstance(value, kind):
        return value
    raise WireError(f"Gemini's answer has {value!r:.80} where {what} should be")


def optional_text(where: JsonObject, name: str) -> str | None:
    """Return the text of a field that may be missing."""
    value = where.get(name)
    return None if value is None else expect(str, value, name)


def read_usage(usage: JsonObject) -> Usage:
    """Return the counts of tokens; what a tool of the provider's found is part of the prompt."""

    def total(*names: str) -> int | None:
        counts = [count for name in names if (count := usage.get(name)) is not None]
        return sum(expect(int, count, "a count of tokens") for count in counts) if counts else None

    return Usage(
        input_tokens=total("promptTokenCount", "toolUsePromptTokenCount"),
        output_tokens=total("candidatesTokenCount", "thoughtsTokenCount"),
        cached_tokens=total("cachedContentTokenCount"),
        reasoning_tokens=total("thoughtsTokenCount"),
    )
