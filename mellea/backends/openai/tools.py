"""The tools that OpenAI runs itself; they need the Responses API: `OpenAIBackend(model_id, api="responses")`.

Each function takes the tool's settings by OpenAI's names; further and newer ones may be given as keyword arguments.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from mellea.core.backend import BuiltinTool

__all__ = ["code_interpreter", "file_search", "image_generation", "mcp", "web_search"]

_PROVIDER = "openai"


def web_search(
    *,
    search_context_size: Literal["low", "medium", "high"] | None = None,
    allowed_domains: Sequence[str] | None = None,
    user_location: Mapping[str, str] | None = None,
    **settings: Any,
) -> BuiltinTool:
    """Make the tool that searches the web.

    Args:
        search_context_size: how much of the results the model sees.
        allowed_domains: search nowhere else.
        user_location: such as `{"country": "DE", "city": "Berlin"}`.
        settings: further settings, by OpenAI's names.
    """
    filters = {"allowed_domains": list(allowed_domains)} if allowed_domains is not None else None
    location = {"type": "approximate", **user_location} if user_location is not None else None
    known = {"search_context_size": search_context_size, "filters": filters, "user_location": location}
    return _make_tool("web_search", known, settings)


def file_search(vector_store_ids: Sequence[str], *, max_num_results: int | None = None, **settings: Any) -> BuiltinTool:
    """Make the tool that searches files in OpenAI's vector stores.

    Args:
        vector_store_ids: the stores to search.
        max_num_results: at most this many.
        settings: further settings, by OpenAI's names.
    """
    known = {"vector_store_ids": list(vector_store_ids), "max_num_results": max_num_results}
    return _make_tool("file_search", known, settings)


def code_interpreter(container: str | Mapping[str, Any] | None = None, **settings: Any) -> BuiltinTool:
    """Make the tool that runs Python code.

    Args:
        container: where it runs; by default a new one.
        settings: further settings, by OpenAI's names.
    """
    return _make_tool("code_interpreter", {"container": {"type": "auto"} if container is None else container}, settings)


def image_generation(
    *,
    model: str | None = None,
    size: str | None = None,
    quality: str | None = None,
    output_format: Literal["png", "jpeg", "webp"] | None = None,
    **settings: Any,
) -> BuiltinTool:
    """Make the tool that draws images; they arrive as `FileEvent`s.

    Args:
        model: which model draws.
        size: such as `"1024x1024"`.
        quality: such as `"high"`.
        output_format: the format of the files.
        settings: further settings, by OpenAI's names.
    """
    known = {"model": model, "size": size, "quality": quality, "output_format": output_format}
    return _make_tool("image_generation", known, settings)


def mcp(
    server_label: str,
    server_url: str | None = None,
    *,
    allowed_tools: Sequence[str] | None = None,
    require_approval: str | Mapping[str, Any] = "never",
    authorization: str | None = None,
    headers: Mapping[str, str] | None = None,
    **settings: Any,
) -> BuiltinTool:
    """Make the tool with which OpenAI calls the tools of an MCP server.

    Args:
        server_label: a name for the server.
        server_url: its address; leave it out for one of OpenAI's own connectors (`connector_id=…`).
        allowed_tools: only these of its tools.
        require_approval: `"never"`, `"always"`, or as OpenAI describes it.
        authorization: an access token for the server.
        headers: for the requests to the server.
        settings: further settings, by OpenAI's names.
    """
    known = {
        "server_label": server_label,
        "server_url": server_url,
        "allowed_tools": list(allowed_tools) if allowed_tools is not None else None,
        "require_approval": require_approval,
        "authorization": authorization,
        "headers": dict(headers) if headers is not None else None,
    }
    return _make_tool("mcp", known, settings)


def _make_tool(name: str, known: Mapping[str, Any], settings: Mapping[str, Any]) -> BuiltinTool:
    given = {key: value for key, value in {**known, **settings}.items() if value is not None}
    return BuiltinTool(_PROVIDER, name, {"type": name, **given})
