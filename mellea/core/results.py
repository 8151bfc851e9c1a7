"""Results of requests other than text generation: images, embeddings, reachability, rate limits."""

from __future__ import annotations

from dataclasses import dataclass

from mellea.core.blocks import ImageBlock
from mellea.core.events import Usage

__all__ = ["EmbeddingResult", "ImageResult", "Probe", "RateLimitState"]


@dataclass(frozen=True, slots=True)
class ImageResult:
    """Images that a model generated.

    Attributes:
        images: each has its bytes, for `save(path)`, or its `url`.
        usage: the tokens, `None` if the provider didn't report them.
        model: the provider's name of the model.
    """

    images: tuple[ImageBlock, ...]
    usage: Usage | None = None
    model: str | None = None


@dataclass(frozen=True, slots=True)
class EmbeddingResult:
    """Vectors for texts, in the order of the texts.

    Attributes:
        vectors: one for each text, all of the same length.
        usage: the tokens, `None` if the provider didn't report them.
        model: the provider's name of the model.
    """

    vectors: tuple[tuple[float, ...], ...]
    usage: Usage | None = None
    model: str | None = None


@dataclass(frozen=True, slots=True)
class Probe:
    """Whether a model can be reached; `reason` says why not and what to do, or what couldn't be checked."""

    ok: bool
    reason: str = ""

    def __bool__(self) -> bool:
        return self.ok


@dataclass(frozen=True, slots=True)
class RateLimitState:
    """What a provider's last response said about its limits; `None` where it said nothing.

    Attributes:
        requests: the limit of requests a minute.
        tokens: the limit of tokens a minute.
        remaining_requests: how many requests are left right now.
        remaining_tokens: how many tokens are left right now.
        retry_after: seconds that it asks to wait.
        refusals: how many requests it has rejected so far because of rate limits or overload.
    """

    requests: float | None = None
    tokens: float | None = None
    remaining_requests: float | None = None
    remaining_tokens: float | None = None
    retry_after: float | None = None
    refusals: int = 0
