"""One tool call while it is being written, by the model or by code that the provider runs."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace

from mellea.backends.anthropic.wire import SIGNATURE, Json, JsonObject
from mellea.backends.http.call_ids import CallIds
from mellea.backends.http.fields import find_id, find_mapping, read_arguments, read_text
from mellea.core.blocks import ToolCall
from mellea.core.messages import parse_tool_call
from mellea.errors import WireError

__all__ = ["CallBlock", "call_extras"]

_EXTRAS = ("caller", "server_name", "toolset_name")
"""Fields of a call other than its name and input; they have to be sent back, and are kept in its signature."""


@dataclass(slots=True)
class CallBlock:
    """A call that has started.

    Args:
        tool_call_id: the provider's id, unless another call has it already.
        tool_name: the name of the tool.
        kind: of its block; `tool_use` is for the user's tools, all others the provider runs.
        extras: fields to send back with it.
        sent_id: the provider's id.
        given: arguments from its start event; deltas replace them.
        chunks: the arguments so far.
        has_stopped: whether its block has.
    """

    tool_call_id: str
    tool_name: str
    kind: str
    extras: JsonObject
    sent_id: str = ""
    given: str = ""
    chunks: list[str] = field(default_factory=list)
    has_stopped: bool = False

    @classmethod
    def begin(cls, block: JsonObject, ids: CallIds, response_id: str | None) -> CallBlock:
        """Return the call that a block starts.

        Raises:
            WireError: the tool's name is missing, or the arguments aren't an object.
        """
        kind, name = read_text(block, "type"), read_text(block, "name")
        if not name:
            raise WireError(f"the provider sent a call that names no tool: {repr(block)[:120]}")
        extras = {key: block[key] for key in _EXTRAS if block.get(key)}
        if find_mapping(extras, "caller").get("type") == "direct":
            del extras["caller"]
        if kind not in ("tool_use", "server_tool_use"):
            extras["type"] = kind
        sent_id = find_id(block, "id")
        given = read_arguments(block["input"], "input") if block.get("input") else ""
        return cls(ids.make_id(sent_id, response_id, block), name, kind, extras, sent_id, given)

    @property
    def is_builtin(self) -> bool:
        """Whether the provider runs the tool itself."""
        return self.kind != "tool_use"

    @property
    def is_whole(self) -> bool:
        """Whether its arguments are complete as they are."""
        return (text := "".join(self.chunks) or self.given).strip() != "" and _is_json(text)

    @property
    def is_unclear(self) -> bool:
        """Whether later events decide if the call is complete, or which container waits for it."""
        return not self.is_whole or (not self.is_builtin and "caller" in self.extras)

    def make(self, *, container: str | None, is_cut: bool) -> ToolCall:
        """Return the call with the arguments so far; `is_valid` is false if it was cut off."""
        call = parse_tool_call(self.tool_call_id, self.tool_name, "".join(self.chunks), is_builtin=self.is_builtin)
        extras: dict[str, Json] = dict(self.extras)
        if "caller" in extras and container is not None:
            extras["container"] = container
        if extras:
            call = replace(call, signature=SIGNATURE + json.dumps(extras, ensure_ascii=False))
        return replace(call, tool_args={}, is_valid=False) if is_cut else call


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def call_extras(call: ToolCall) -> JsonObject:
    """Return the fields to send back with a call, from its signature."""
    signature = call.signature or ""
    return dict(json.loads(signature.removeprefix(SIGNATURE))) if signature.startswith(f"{SIGNATURE}{{") else {}
