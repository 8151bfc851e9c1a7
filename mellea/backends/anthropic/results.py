"""Results of the provider's own tools, and citations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from mellea.backends.anthropic.wire import Json, JsonObject, text_or_none
from mellea.backends.http.fields import known_id, known_list
from mellea.core.blocks import Source, ToolOutput

__all__ = ["cited_source", "file_ids_in", "result_of"]


def result_of(block: JsonObject, names: Mapping[str, str]) -> ToolOutput:
    """Return the result in a block.

    Args:
        block: such as a `web_search_tool_result`.
        names: of the tools, by the ids of their calls.
    """
    call_id, content = known_id(block, "tool_use_id"), block.get("content")
    name = names.get(call_id) or str(block["type"]).removesuffix("_tool_result")
    kind = content.get("type") if isinstance(content, dict) else None
    is_error = block.get("is_error") is True or (isinstance(kind, str) and kind.endswith("_error"))
    return ToolOutput(call_id, name, content, is_error, is_builtin=True)


def file_ids_in(content: Json) -> Iterator[str]:
    """Yield the ids of the files that code has written."""
    for each in known_list(content, "content") if isinstance(content, dict) else ():
        if isinstance(each, dict) and (file_id := known_id(each, "file_id")):
            yield file_id


def cited_source(citation: JsonObject) -> Source:
    """Return the source that a citation names."""
    url = text_or_none(citation.get("url")) or text_or_none(citation.get("source"))
    title = text_or_none(citation.get("title")) or text_or_none(citation.get("document_title"))
    return Source(url, title, text_or_none(citation.get("cited_text")))
