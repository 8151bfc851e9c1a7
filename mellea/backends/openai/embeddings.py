"""OpenAI's embeddings API: texts in, vectors out. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mellea.backends.http.fields import find_int, find_mapping, find_text, read_int, read_list, read_mappings
from mellea.core.events import Usage
from mellea.core.results import EmbeddingResult
from mellea.errors import UsageError, WireError

__all__ = ["decode_embeddings", "encode_embeddings"]


def encode_embeddings(
    texts: Sequence[str], model_id: str, *, options: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the payload of `embeddings`.

    Raises:
        UsageError: `texts` is not a list of strings.
    """
    # A string is a sequence of strings, too: each letter would get a vector.
    if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
        raise UsageError(f"embed takes a list of strings, not {texts!r:.100}")
    return {"model": model_id, "input": list(texts), "encoding_format": "float", **(options or {})}


def decode_embeddings(body: Any, count: int, model_id: str) -> EmbeddingResult:
    """Return the vectors of an answer, in the order of the texts.

    Raises:
        WireError: the answer has a wrong form, or a different number of vectors.
    """
    if not isinstance(body, dict):
        raise WireError(f"the provider sent {body!r:.100} instead of an object with embeddings")
    found = read_mappings(body, "data")
    vectors: dict[int, tuple[float, ...]] = {}
    for place, each in enumerate(found):
        index = read_int(each, "index")
        vectors[place if index is None else index] = _read_vector(each)
    # Ordered by index, so that a vector never goes to the wrong text.
    if sorted(vectors) != list(range(count)):
        raise WireError(f"the provider sent {len(vectors)} embeddings for {count} texts")
    usage = find_mapping(body, "usage")
    counts = Usage(input_tokens=find_int(usage, "prompt_tokens")) if usage else None
    return EmbeddingResult(
        tuple(vectors[index] for index in range(count)), counts, find_text(body, "model") or model_id
    )


def _read_vector(embedding: dict[str, Any]) -> tuple[float, ...]:
    numbers = read_list(embedding, "embedding")
    if not numbers or not all(type(number) in (float, int) for number in numbers):
        raise WireError(f"the provider's 'embedding' should be a list of numbers, not {numbers!r:.100}")
    return tuple(float(number) for number in numbers)
