"""Embeddings: `/api/embed`."""

from __future__ import annotations

from collections.abc import Sequence

from mellea.backends.ollama.decode import read_usage
from mellea.backends.ollama.wire import Json, JsonObject
from mellea.core.results import EmbeddingResult
from mellea.errors import WireError

__all__ = ["decode_embeddings", "encode_embeddings"]


def encode_embeddings(texts: Sequence[str], model: str) -> JsonObject:
    """Return the payload; a text that is too long fails instead of being truncated silently."""
    return {"model": model, "input": list(texts), "truncate": False}


def decode_embeddings(body: Json, model: str, count: int) -> EmbeddingResult:
    """Return the vectors of `count` texts.

    Raises:
        WireError: the body is not a valid answer.
    """
    try:
        vectors = tuple(tuple(map(float, vector)) for vector in body["embeddings"])
        answered = str(body.get("model") or model)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise WireError(f"Ollama's answer holds no embeddings: {body!r:.80}", model=model) from error
    if len(vectors) != count:
        raise WireError(f"Ollama's answer holds {len(vectors)} embeddings for {count} texts", model=model)
    return EmbeddingResult(vectors, read_usage(body), answered)
