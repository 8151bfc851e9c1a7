"""Results of requests other than text generations: images, embeddings, whether a model can be reached."""

from __future__ import annotations

from dataclasses import dataclass

from mellea.core.blocks import ImageBlock
from mellea.core.events import Usage

__all__ = ["EmbeddingResult", "ImageResult", "Probe"]


@dataclass(frozen=True, slots=True)
class ImageResult:
    """Images that a model generated.

    Attributes:
        images: each has its bytes, to `save(path)`, or its `url`.
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
