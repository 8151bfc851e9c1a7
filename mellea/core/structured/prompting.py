"""Put the JSON Schema into the prompt, for backends without structured output."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mellea.core.backend import Request
from mellea.core.blocks import CBlock
from mellea.core.messages import Message

__all__ = ["prompt_for_schema"]


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
    first, *others = request.messages or (Message("system"),)
    if first.role != "system":
        return replace(request, messages=(Message("system", asked), first, *others))
    blocks = [*first.blocks, CBlock(f"\n\n{asked}" if first.blocks else asked)]
    return replace(request, messages=(Message("system", blocks), *others))
