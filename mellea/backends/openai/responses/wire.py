"""The words of the Responses format, as OpenAI documents it (2026-10)."""

from __future__ import annotations

from typing import Any

from mellea.core.events import FinishReason

__all__ = ["BUILTIN_NAMES", "INCOMPLETE", "Json", "JsonObject"]

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
