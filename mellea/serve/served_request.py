"""A client's request to a served model, independent of its format."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mellea.core.backend import ToolSpec
from mellea.core.blocks import ToolCall
from mellea.core.messages import Message

__all__ = ["ServedRequest", "write_arguments"]


@dataclass(frozen=True, slots=True)
class ServedRequest:
    """One request to a served model.

    Args:
        messages: the conversation, oldest first.
        options: model options, by their names in `ModelOption`.
        tools: the client's own tools; it runs them itself.
        schema: a JSON Schema that the answer has to match.
    """

    messages: tuple[Message, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    tools: tuple[ToolSpec, ...] = ()
    schema: Mapping[str, Any] | None = None


def write_arguments(call: ToolCall) -> str:
    """Return the arguments of a call as JSON: as the model wrote them, if its text is known."""
    return call.raw_args or json.dumps(dict(call.tool_args or {}), ensure_ascii=False)
