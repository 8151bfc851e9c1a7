"""Put the JSON Schema into the prompt, for backends without structured output."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mellea.core.backend import Request
from mellea.core.blocks import CBlock
from mellea.core.messages import Message

__all__ = ["add_to_system", "prompt_for_schema"]


def prompt_for_schema(request: Request, schema: Mapping[str, Any] | None = None) -> Request:
    """Return the request with its schema added to the system message.

    Args:
        request: a request; without an `output_schema` it is returned unchanged.
        schema: the schema to add instead, such as one with the value wrapped in an object.
    """
    if request.output_schema is None:
        return request
    wanted = json.dumps(request.output_schema.schema if schema is None else schema, ensure_ascii=False)
    asked = f"Answer with JSON only, no other text. It has to match this JSON Schema:\n{wanted}"
    return replace(request, messages=add_to_system(request.messages, asked))


def add_to_system(messages: tuple[Message, ...], text: str) -> tuple[Message, ...]:
    """Return the messages with a text at the end of the system message, which is made if there is none."""
    first, *others = messages or (Message("system"),)
    if first.role != "system":
        return (Message("system", text), first, *others)
    blocks = [*first.blocks, CBlock(f"\n\n{text}" if first.blocks else text)]
    return (Message("system", blocks), *others)
