"""Results of requests that aren't generations of text: images, embeddings, whether a model is there."""

from __future__ import annotations

from dataclasses import dataclass

from mellea.core.blocks import ImageBlock
from mellea.core.events import Usage

__all__ = ["EmbeddingResult", "ImageResult", "Probe"]


@dataclass(frozen=True, slots=True)
class ImageResult:
    """Images that a model made.

    Attributes:
        images: each with `save(path)` where the provider sent the bytes, or the `url` where it is.
        usage: tokens taken, `None` if the provider didn't say.
        model: the model that made them, as the provider calls it.
    """

    images: tuple[ImageBlock, ...]
    usage: Usage | None = None
    model: str | None = None


@dataclass(frozen=True, slots=True)
class EmbeddingResult:
    """Vectors for texts, in the order of the texts.

    Attributes:
        vectors: one for each text, all of one length.
        usage: tokens taken, `None` if the provider didn't say.
        model: the model that made them, as the provider calls it.
    """

    vectors: tuple[tuple[float, ...], ...]
    usage: Usage | None = None
    model: str | None = None


@dataclass(frozen=True, slots=True)
class Probe:
    """Whether a model can be reached; `reason` says why not and what to do, or what could not be told."""

    ok: bool
    reason: str = ""

    def __bool__(self) -> bool:
        return self.ok
