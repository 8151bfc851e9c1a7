"""Asking for a schema in the prompt, where a model can be held to it by nothing else."""

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
    """Return the request with the wish for its schema in the system message; for backends that need it there.

    Args:
        request: one with an `output_schema`; without one it is returned as it is.
        schema: what to ask for in place of it, such as an object around the value.
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
