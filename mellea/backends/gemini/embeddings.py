"""Embeddings: texts in batches, one vector each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mellea.backends.gemini.decode import read_usage
from mellea.backends.gemini.wire import Json, JsonObject, name_resource
from mellea.core.events import Usage
from mellea.core.results import EmbeddingResult
from mellea.errors import WireError

__all__ = ["decode_embeddings", "encode_embeddings", "split_batches"]

_LARGEST_BATCH = 100


def split_batches(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    """Yield the texts in batches of the size that Gemini accepts."""
    for start in range(0, len(texts), _LARGEST_BATCH):
        yield texts[start : start + _LARGEST_BATCH]


def encode_embeddings(texts: Sequence[str], model: str) -> JsonObject:
    """Return the payload of one batch."""
    return {"requests": [{"model": name_resource(model), "content": {"parts": [{"text": text}]}} for text in texts]}


def decode_embeddings(body: Json, model: str, count: int) -> EmbeddingResult:
    """Return the vectors of one batch of `count` texts.

    Raises:
        WireError: the body is not a valid answer.
    """
    try:
        vectors = tuple(tuple(map(float, each["values"])) for each in body["embeddings"])
        usage = body.get("usageMetadata")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise WireError(f"Gemini's answer holds no embeddings: {body!r:.80}", model=model) from error
    # They have no index, so only their number can be checked.
    if len(vectors) != count:
        raise WireError(f"Gemini's answer holds {len(vectors)} embeddings for {count} texts", model=model)
    return EmbeddingResult(vectors, read_usage(usage) if isinstance(usage, dict) else Usage(), model)
