"""Names of the Responses format, as OpenAI documents it (2026-10)."""

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
"""Output items of OpenAI's own tools, and the tool's name; an `mcp_call` has its own name."""

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
"""The fields of an item that the provider accepts as input, from its reference (2026-10).

It rejects others as an "Unknown parameter". An image's `result` is restored from the message's file.
"""

ACTIONS_BACK = {
    "search": frozenset({"type", "query", "queries"}),
    "open_page": frozenset({"type", "url"}),
    "find": frozenset({"type", "url", "pattern"}),
    "find_in_page": frozenset({"type", "url", "pattern"}),
}
"""The same for a web search's action; its `sources` are rejected."""
