"""Converts the output items of tools that the provider runs itself to events.

The whole item is sent back in the next turn, since a reasoning item may only be followed by the item that it led
to: the item is the call's signature, without the fields that the provider rejects in an input. An image is
left out of it (it is in the message as a file, and is put back from there).
"""

from __future__ import annotations

import json
from typing import Any

from mellea.backends.http.fields import find_bytes, find_id, find_mapping, find_mappings, find_text
from mellea.backends.openai.responses.wire import ACTIONS_BACK, BUILTIN_NAMES, ITEMS_BACK, JsonObject
from mellea.core.blocks import ToolCall, ToolOutput
from mellea.core.events import BuiltinToolEnd, BuiltinToolResult, BuiltinToolStart, Event, FileEvent
from mellea.core.surrogates import replace_surrogates

__all__ = ["cut_builtin", "emit_output", "end_builtin", "is_builtin", "start_builtin"]

_ARGUMENTS = ("queries", "code", "container_id", "revised_prompt", "server_label", "operation", "pending_safety_checks")
_RESULTS = ("results", "outputs", "output", "tools", "error")
_NEEDS_AN_ANSWER = frozenset(
    {"mcp_approval_request", "computer_call", "local_shell_call", "shell_call", "apply_patch_call"}
)
"""Calls whose results the caller provides."""


def is_builtin(kind: str) -> bool:
    """Return whether an item of this type is a tool of the provider's own."""
    return kind in BUILTIN_NAMES or (kind.endswith("_call") and kind not in ("function_call", "custom_tool_call"))


def start_builtin(item: JsonObject, call_id: str, events: list[Event]) -> None:
    """Add the events of an item that has started."""
    events.append(BuiltinToolStart(call_id, _name(item)))


def end_builtin(item: JsonObject, call_id: str, backend: str, events: list[Event]) -> None:
    """Add the events of an item that is done."""
    kind, name, args = find_text(item, "type"), _name(item), _read_arguments(item)
    # In the signature, so that it is only sent back to this provider.
    sent_back = json.dumps(_encode_back(item, kind), ensure_ascii=False, separators=(",", ":"))
    signature = f"{backend}:{replace_surrogates(sent_back)}"
    raw = replace_surrogates(json.dumps(args, ensure_ascii=False))
    events.append(BuiltinToolEnd(ToolCall(call_id, name, args, raw, is_builtin=True, signature=signature)))
    if kind == "image_generation_call":
        _add_image(find_text(item, "result"), f"image/{find_text(item, 'output_format') or 'png'}", events)
    elif kind == "code_interpreter_call":
        _add_images(item, events)
    # The caller provides its result; an empty one here would be an answer.
    if kind in _NEEDS_AN_ANSWER or item.get("execution") == "client":
        return
    is_error = item.get("status") == "failed" or item.get("error") is not None
    events.append(BuiltinToolResult(ToolOutput(call_id, name, _read_result(item), is_error, is_builtin=True)))


def cut_builtin(item: JsonObject, call_id: str, events: list[Event]) -> None:
    """Add the end of an item that was started but never finished; it isn't sent back."""
    events.append(BuiltinToolEnd(ToolCall(call_id, _name(item), {}, "", is_valid=False, is_builtin=True)))


def emit_output(item: JsonObject, events: list[Event]) -> None:
    """Add the result of a call that has an item of its own, such as `tool_search_output`."""
    name = find_text(item, "type").removesuffix("_output").removesuffix("_call")
    call_id = find_id(item, "call_id") or find_id(item, "id")
    events.append(BuiltinToolResult(ToolOutput(call_id, name, _read_result(item), is_builtin=True)))


def _name(item: JsonObject) -> str:
    kind = find_text(item, "type")
    own = find_text(item, "name") if kind == "mcp_call" else ""
    return own or BUILTIN_NAMES.get(kind) or kind.removesuffix("_call")


def _encode_back(item: JsonObject, kind: str) -> JsonObject:
    fields = ITEMS_BACK.get(kind)
    kept = {name: value for name, value in item.items() if value is not None and (fields is None or name in fields)}
    if kind == "web_search_call" and isinstance(action := item.get("action"), dict):
        known = ACTIONS_BACK.get(find_text(action, "type"))
        kept["action"] = {
            name: value for name, value in action.items() if name != "sources" and (known is None or name in known)
        }
    return kept


def _read_arguments(item: JsonObject) -> JsonObject:
    given = item.get("arguments")
    if isinstance(given, str):
        try:
            given = json.loads(given) if given.strip() else {}
        except (ValueError, RecursionError):
            # Not JSON: shown unchanged, since it isn't run here.
            given = {"arguments": given}
    if isinstance(given, dict):
        return given
    if given is not None:
        return {"arguments": given}
    action = item.get("action")  # of a search an object; of an image the word "generate" or "edit"
    if isinstance(action, dict):
        return action
    named = {name: item[name] for name in _ARGUMENTS if item.get(name) is not None}
    return named | ({"action": action} if action is not None else {})


def _read_result(item: JsonObject) -> Any:
    found = [item[name] for name in _RESULTS if item.get(name) is not None]
    return found[0] if found else find_mapping(item, "action").get("sources")


def _add_image(payload: str, media_type: str, events: list[Event]) -> None:
    if payload and (data := find_bytes(payload)):
        events.append(FileEvent(media_type, data=data))


def _add_images(item: JsonObject, events: list[Event]) -> None:
    """Add the images that the code has drawn."""
    for output in find_mappings(item, "outputs"):
        url = find_text(output, "url") if output.get("type") == "image" else ""
        if url.startswith("data:"):
            head, _, payload = url.removeprefix("data:").partition(",")
            _add_image(payload, head.partition(";")[0] or "image/png", events)
        elif url:
            events.append(FileEvent("image/png", url=url))
