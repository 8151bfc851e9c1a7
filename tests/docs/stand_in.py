"""A stand-in for the embedded model, with which the documentation's programs run in a moment.

It answers at once: a few words, or JSON of the form that is asked for. What is asked is checked and encoded as for the
model, so a program that the backend refuses fails with the stand-in, too. What it says isn't worth a look, so what such
a program prints isn't compared. In CI the same programs ask the model itself, and all is compared.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pydantic_core

from mellea.backends.llama_cpp import LlamaCppBackend
from mellea.backends.llama_cpp.encode import encode, encode_messages
from mellea.core.backend import EmbeddingResult, Request, check_supported
from mellea.core.events import Event, StreamEnd, TextDelta, Usage, UsageEvent

__all__ = ["has_answered", "install"]

_TEXT = "The sea is wide and blue. It is quiet today, and a boat comes home. "
_FORMATS = {
    "date": "2026-01-31",
    "date-time": "2026-01-31T12:00:00Z",
    "email": "ann@example.com",
    "time": "12:00:00Z",
    "uri": "https://example.com/",
    "uuid": "12345678-1234-4234-8234-123456789abc",
}


_note: Path | None = None


def install(note: Path) -> None:
    """Have the stand-in answer for every embedded model of this process; it makes that file once it is asked."""
    global _note
    _note = note
    LlamaCppBackend.run = _run  # type: ignore[method-assign,assignment]
    LlamaCppBackend.embed = _embed  # type: ignore[method-assign,assignment]


def has_answered() -> bool:
    """Whether something that this process has printed may be the stand-in's."""
    return _note is not None and _note.exists()


async def _run(self: LlamaCppBackend, request: Request) -> AsyncIterator[Event]:
    check_supported(self, request)
    _take_note()
    limit = encode(request)["max_tokens"]
    prompt = encode_messages(request)
    if request.output_schema is None:
        text = _TEXT
    else:
        # A tool is called once: behind a turn of its own it takes the last choice, which is the answer.
        choice = -1 if any(message.role == "assistant" for message in request.messages) else 0
        schema = request.output_schema.schema
        text = pydantic_core.to_json(_make_value(schema, schema, choice)).decode()
    pieces = re.findall(r"\S+\s*", text)
    for piece in pieces[:limit]:
        yield TextDelta(piece)
    yield UsageEvent(Usage(len(str(prompt).split()), len(pieces[:limit])))
    yield StreamEnd("length" if len(pieces) > limit else "stop", None, self.model_id)


async def _embed(self: LlamaCppBackend, texts: Sequence[str]) -> EmbeddingResult:
    _take_note()
    vectors = tuple((float(len(text)), float(text.count(" ")), 1.0) for text in texts)
    return EmbeddingResult(vectors, Usage(sum(len(text.split()) for text in texts)), self.model_id)


def _take_note() -> None:
    if _note is not None:
        _note.touch()


def _make_value(schema: Any, root: Mapping[str, Any], choice: int) -> Any:
    """Return a value that a schema allows, as far as its parts are those that the documentation's programs have."""
    if not isinstance(schema, Mapping):
        return _TEXT
    if (reference := schema.get("$ref")) is not None:
        target: Any = root
        for name in reference.removeprefix("#").strip("/").split("/"):
            target = target[name]
        return _make_value(target, root, choice)
    for choices in ("anyOf", "oneOf", "allOf"):
        if choices in schema:
            return _make_value(schema[choices][choice], root, choice)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    kind = schema.get("type", "object" if "properties" in schema else "string")
    return _MAKERS[kind if isinstance(kind, str) else kind[0]](schema, root, choice)


def _make_object(schema: Mapping[str, Any], root: Mapping[str, Any], choice: int) -> Any:
    return {name: _make_value(each, root, choice) for name, each in schema.get("properties", {}).items()}


def _make_array(schema: Mapping[str, Any], root: Mapping[str, Any], choice: int) -> Any:
    given = [_make_value(each, root, choice) for each in schema.get("prefixItems", ())]
    wanted = min(max(2, schema.get("minItems", 0)), schema.get("maxItems", 2))
    return given + [_make_value(schema.get("items"), root, choice) for _ in range(wanted - len(given))]


def _make_text(schema: Mapping[str, Any], *_: Any) -> Any:
    text = _FORMATS.get(schema.get("format", ""), _TEXT.strip())
    least = schema.get("minLength", 0)
    return (text * (least // len(text) + 1) if least > len(text) else text)[: schema.get("maxLength")]


def _make_number(schema: Mapping[str, Any], *_: Any) -> Any:
    least = schema.get("minimum", schema.get("exclusiveMinimum", 0) + 1)
    return min(max(1, least), schema.get("maximum", max(1, least)))


_MAKERS = {
    "object": _make_object,
    "array": _make_array,
    "string": _make_text,
    "number": _make_number,
    "integer": _make_number,
    "boolean": lambda *_: True,
    "null": lambda *_: None,
}
