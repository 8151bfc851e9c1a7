"""The tools that Google runs itself: `tools=[gemini.tools.google_search()]`."""

from __future__ import annotations

from mellea.backends.gemini.wire import CODE_EXECUTION, GOOGLE_SEARCH, PROVIDER, JsonObject
from mellea.core.backend import BuiltinTool
from mellea.errors import UsageError

__all__ = ["code_execution", "file_search", "google_maps", "google_search", "url_context"]


def google_search(*, start_time: str | None = None, end_time: str | None = None) -> BuiltinTool:
    """Let the model search the web; its results arrive as sources.

    Args:
        start_time: leave out what is older, such as `"2026-01-01T00:00:00Z"`; only together with `end_time`.
        end_time: leave out what is newer.
    """
    if (start_time is None) != (end_time is None):
        raise UsageError("google_search takes start_time and end_time together, or neither")
    settings: JsonObject = {}
    if start_time is not None:
        settings["timeRangeFilter"] = {"startTime": start_time, "endTime": end_time}
    return BuiltinTool(PROVIDER, GOOGLE_SEARCH, {"googleSearch": settings})


def code_execution() -> BuiltinTool:
    """Let the model write Python code, which the provider runs."""
    return BuiltinTool(PROVIDER, CODE_EXECUTION, {"codeExecution": {}})


def url_context() -> BuiltinTool:
    """Let the model read the web pages whose addresses are in the conversation."""
    return BuiltinTool(PROVIDER, "url_context", {"urlContext": {}})


def google_maps() -> BuiltinTool:
    """Let the model look up places on a map; the results arrive as sources."""
    return BuiltinTool(PROVIDER, "google_maps", {"googleMaps": {}})


def file_search(*stores: str, top_k: int | None = None, metadata_filter: str | None = None) -> BuiltinTool:
    """Let the model search the files in file search stores.

    Args:
        stores: names such as `"fileSearchStores/my-store-123"`.
        top_k: how many pieces to find.
        metadata_filter: which files to look at, such as `'author = "Ada"'`.
    """
    if not stores:
        raise UsageError("file_search takes the name of at least one file search store")
    settings: JsonObject = {"fileSearchStoreNames": list(stores)}
    if top_k is not None:
        settings["topK"] = top_k
    if metadata_filter is not None:
        settings["metadataFilter"] = metadata_filter
    return BuiltinTool(PROVIDER, "file_search", {"fileSearch": settings})
