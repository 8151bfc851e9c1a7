"""The output items of tools that the provider runs itself, as events.

What an item says beyond its id goes back in the next turn, since a reasoning item may only be followed by
the item that it led to: the whole item is the call's signature. An image is left out of it (it is in the
message as a file, and is put back from there).
"""

from __future__ import annotations

import json

from mellea.backends._transport.fields import bytes_of, mapping_of, mappings_of, text_of, wrong_type
from mellea.backends.openai.responses.wire import BUILTIN_NAMES, JsonObject
from mellea.core.blocks import ToolCall, ToolOutput
from mellea.core.events import BuiltinToolEnd, BuiltinToolResult, BuiltinToolStart, Event, FileEvent

__all__ = ["end_builtin", "is_builtin", "output_of", "start_builtin"]

_ARGUMENTS = ("queries", "code", "container_id", "revised_prompt", "server_label", "operation", "pending_safety_checks")
_RESULTS = ("results", "outputs", "output", "tools", "error")
_NEEDS_AN_ANSWER = frozenset(
    {"mcp_approval_request", "computer_call", "local_shell_call", "shell_call", "apply_patch_call"}
)
"""Calls that wait for the caller; the provider has no result of them."""


def is_builtin(kind: str) -> bool:
    """Tell whether an item of this type is a tool of the provider's own."""
    return kind in BUILTIN_NAMES or (kind.endswith("_call") and kind not in ("function_call", "custom_tool_call"))


def start_builtin(item: JsonObject, events: list[Event]) -> None:
    """Add the events of an item that has been begun."""
    events.append(BuiltinToolStart(text_of(item, "id"), _name(item)))


def end_builtin(item: JsonObject, backend: str, events: list[Event]) -> None:
    """Add the events of an item that is done."""
    kind, item_id, name = text_of(item, "type"), text_of(item, "id"), _name(item)
    args = _arguments(item)
    kept = {key: value for key, value in item.items() if not (kind == "image_generation_call" and key == "result")}
    signature = f"{backend}:{json.dumps(kept, ensure_ascii=False, separators=(',', ':'))}"
    raw = json.dumps(args, ensure_ascii=False)
    events.append(BuiltinToolEnd(ToolCall(item_id, name, args, raw, is_builtin=True, signature=signature)))
    if kind == "image_generation_call" and (image := text_of(item, "result")):
        media_type = f"image/{text_of(item, 'output_format') or 'png'}"
        events.append(FileEvent(media_type, data=bytes_of(image, "result")))
    elif kind == "code_interpreter_call":
        _draw(item, events)
    if kind in _NEEDS_AN_ANSWER or item.get("execution") == "client":
        return
    is_error = item.get("status") == "failed" or item.get("error") is not None
    events.append(BuiltinToolResult(ToolOutput(item_id, name, _result(item), is_error, is_builtin=True)))


def output_of(item: JsonObject, events: list[Event]) -> None:
    """Add the result of a call that has an item of its own, such as `tool_search_output`."""
    name = text_of(item, "type").removesuffix("_output").removesuffix("_call")
    call_id = text_of(item, "call_id") or text_of(item, "id")
    events.append(BuiltinToolResult(ToolOutput(call_id, name, _result(item), is_builtin=True)))


def _name(item: JsonObject) -> str:
    kind = text_of(item, "type")
    return (
        (text_of(item, "name") if kind == "mcp_call" else "") or BUILTIN_NAMES.get(kind) or kind.removesuffix("_call")
    )


def _arguments(item: JsonObject) -> JsonObject:
    given = item.get("arguments")
    if isinstance(given, str):
        try:
            given = json.loads(given) if given.strip() else {}
        except (ValueError, RecursionError):
            given = {"arguments": given}
    if given is None:
        given = mapping_of(item, "action") or {name: item[name] for name in _ARGUMENTS if item.get(name) is not None}
    if not isinstance(given, dict):
        raise wrong_type("arguments", "an object", given)
    return given


def _result(item: JsonObject) -> object:
    found = [item[name] for name in _RESULTS if item.get(name) is not None]
    sources = mapping_of(item, "action").get("sources")
    return found[0] if found else sources


def _draw(item: JsonObject, events: list[Event]) -> None:
    """Add the images that the code has drawn."""
    for output in mappings_of(item, "outputs"):
        url = text_of(output, "url") if output.get("type") == "image" else ""
        if url.startswith("data:"):
            head, _, payload = url.removeprefix("data:").partition(",")
            events.append(FileEvent(head.partition(";")[0] or "image/png", data=bytes_of(payload, "url")))
        elif url:
            events.append(FileEvent("image/png", url=url))
