"""Sources of an answer, from the grounding metadata."""

from __future__ import annotations

from collections.abc import Iterator

from mellea.backends.gemini.wire import Json, JsonObject
from mellea.core.blocks import Source

__all__ = ["search_queries", "sources"]

_PIECES = ("web", "retrievedContext", "maps", "image")


def sources(candidate: JsonObject) -> Iterator[Source]:
    """Yield the sources that a candidate names, in its order; the same one may come again."""
    for chunk in _objects(_object(candidate.get("groundingMetadata")).get("groundingChunks")):
        for kind in _PIECES:
            if piece := _object(chunk.get(kind)):
                url = piece.get("uri") or piece.get("sourceUri") or piece.get("fileSearchStore")
                yield Source(_text(url), _text(piece.get("title")), _text(piece.get("text")))
    citations = _object(candidate.get("citationMetadata"))
    for citation in _objects(citations.get("citationSources") or citations.get("citations")):
        yield Source(_text(citation.get("uri")), _text(citation.get("title")))
    for page in _objects(_object(candidate.get("urlContextMetadata")).get("urlMetadata")):
        if page.get("urlRetrievalStatus") == "URL_RETRIEVAL_STATUS_SUCCESS":
            yield Source(_text(page.get("retrievedUrl")))


def search_queries(candidate: JsonObject) -> list[str]:
    """Return what was searched for in the web."""
    queries = _object(candidate.get("groundingMetadata")).get("webSearchQueries")
    return [query for query in queries if isinstance(query, str)] if isinstance(queries, list) else []


# Sources are not essential: one of an unknown form is left out, and never fails the answer.


def _object(value: Json) -> JsonObject:
    return value if isinstance(value, dict) else {}


def _objects(value: Json) -> list[JsonObject]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _text(value: Json) -> str | None:
    return value if isinstance(value, str) else None
