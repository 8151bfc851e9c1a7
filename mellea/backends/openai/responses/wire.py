"""The words of the Responses format, as OpenAI documents it (2026-10)."""

from __future__ import annotations

from typing import Any

from mellea.core.events import FinishReason

__all__ = ["ACTIONS_BACK", "BUILTIN_NAMES", "INCOMPLETE", "ITEMS_BACK", "Json", "JsonObject"]

Json = Any
JsonObject = dict[str, Any]

INCOMPLETE: dict[str, FinishReason] = {"max_output_tokens": "length", "content_filter": "content_filter"}
"""Why a response is incomplete."""

BUILTIN_NAMES = {
    "web_search_call": "web_search",
    "file_search_call": "file_search",
    "code_interpreter_call": "code_interpreter",
    "image_generation_call": "image_generation",
    "mcp_list_tools": "mcp_list_tools",
    "mcp_approval_request": "mcp_approval_request",
    "tool_search_call": "tool_search",
    "computer_call": "computer",
    "local_shell_call": "local_shell",
    "shell_call": "shell",
    "apply_patch_call": "apply_patch",
}
"""Items of the output that are a tool of OpenAI's own, and the tool's name; that of an `mcp_call` is its own."""

ITEMS_BACK = {
    "code_interpreter_call": frozenset({"type", "id", "status", "code", "container_id", "outputs"}),
    "computer_call": frozenset({"type", "id", "status", "call_id", "action", "actions", "pending_safety_checks"}),
    "file_search_call": frozenset({"type", "id", "status", "queries", "results"}),
    "image_generation_call": frozenset({"type", "id", "status"}),
    "local_shell_call": frozenset({"type", "id", "status", "call_id", "action"}),
    "mcp_approval_request": frozenset({"type", "id", "name", "arguments", "server_label"}),
    "mcp_call": frozenset(
        {"type", "id", "status", "name", "arguments", "server_label", "output", "error", "approval_request_id"}
    ),
    "mcp_list_tools": frozenset({"type", "id", "server_label", "tools", "error"}),
    "web_search_call": frozenset({"type", "id", "status", "action"}),
}
"""Of an item the fields that the provider takes back, as its reference lists them for an input (2026-10).

It refuses others as an "Unknown parameter". An image's `result` is put back from the message's file.
"""

ACTIONS_BACK = {
    "search": frozenset({"type", "query", "queries"}),
    "open_page": frozenset({"type", "url"}),
    "find": frozenset({"type", "url", "pattern"}),
    "find_in_page": frozenset({"type", "url", "pattern"}),
}
"""The same for what a search of the web did; its `sources` are refused."""
