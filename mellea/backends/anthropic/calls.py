"""One call of a tool while it is being written, by the model or by code that the provider runs."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace

from mellea.backends.anthropic.wire import SIGNATURE, Json, JsonObject, text_of
from mellea.core.blocks import ToolCall
from mellea.core.messages import parse_tool_call

__all__ = ["Call", "call_extras"]

_EXTRAS = ("caller", "server_name", "toolset_name")
"""What a call says beside its name and input. It has to go back with the call, and does so as its signature."""


@dataclass(slots=True)
class Call:
    """A call that has begun.

    Args:
        tool_call_id: the provider's id.
        tool_name: the name of the tool.
        kind: of its block; `tool_use` is for the user's tools, all others the provider runs.
        extras: what goes back with it.
        chunks: the arguments so far.
    """

    tool_call_id: str
    tool_name: str
    kind: str
    extras: JsonObject
    chunks: list[str] = field(default_factory=list)

    @classmethod
    def begun_by(cls, block: JsonObject) -> Call:
        """Return the call that a block begins."""
        kind = text_of(block["type"])
        extras = {name: block[name] for name in _EXTRAS if block.get(name)}
        if extras.get("caller", {}).get("type") == "direct":
            del extras["caller"]
        if kind not in ("tool_use", "server_tool_use"):
            extras["type"] = kind
        return cls(text_of(block["id"]), text_of(block["name"]), kind, extras)

    @property
    def is_builtin(self) -> bool:
        """Whether the provider runs the tool itself."""
        return self.kind != "tool_use"

    @property
    def is_unclear(self) -> bool:
        """Whether only what comes later tells if the call is complete, or which container waits for it."""
        return not self.is_builtin and (not "".join(self.chunks).strip() or "caller" in self.extras)

    def made(self, *, container: str | None, is_cut: bool) -> ToolCall:
        """Return the call as far as it is written; one that was cut off isn't valid."""
        call = parse_tool_call(self.tool_call_id, self.tool_name, "".join(self.chunks), is_builtin=self.is_builtin)
        extras: dict[str, Json] = dict(self.extras)
        if "caller" in extras and container is not None:
            extras["container"] = container
        if extras:
            call = replace(call, signature=SIGNATURE + json.dumps(extras, ensure_ascii=False))
        return replace(call, tool_args={}, is_valid=False) if is_cut else call


def call_extras(call: ToolCall) -> JsonObject:
    """Return what has to go back with a call, out of its signature."""
    signature = call.signature or ""
    return dict(json.loads(signature.removeprefix(SIGNATURE))) if signature.startswith(f"{SIGNATURE}{{") else {}
