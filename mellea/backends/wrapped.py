"""A backend around another one: for caches, logs, limits and chains."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from mellea.core.backend import Backend, Request
from mellea.core.events import Event
from mellea.core.messages import Message
from mellea.core.options import check_options
from mellea.core.results import EmbeddingResult, ImageResult, Probe, RateLimitState
from mellea.errors import UsageError

if TYPE_CHECKING:
    from mellea.core.videos import VideoRequest, VideoResult

__all__ = ["WrappedBackend", "open_stream"]


@asynccontextmanager
async def open_stream(backend: Backend, request: Request) -> AsyncGenerator[AsyncIterator[Event], None]:
    """Run a request, and close its stream whenever the block is left."""
    events = backend.run(request)
    try:
        yield events
    finally:
        close = getattr(events, "aclose", None)  # an async generator has it, and so have `Batches`
        if close is not None:
            await close()


class WrappedBackend(Backend):
    """Forwards everything to another backend; a subclass overrides what it changes, usually `run`.

    It has the other's name, model and capabilities, so that callers see no difference.

    Args:
        backend: the wrapped backend.
        model_options: defaults for every request, before those of the backend.

    Attributes:
        backend: the wrapped backend.

    Raises:
        UsageError: there is no backend, or an option has a bad value.
    """

    def __init__(self, backend: Backend, *, model_options: Mapping[str, Any] | None = None) -> None:
        if not isinstance(backend, Backend):
            raise UsageError(f"{type(self).__name__} takes a backend, not {backend!r}; get_backend(…) makes one")
        # Merged here, since callers ask the outer backend for its defaults.
        super().__init__(model_options={**backend.model_options, **check_options(model_options)})
        self.backend = backend
        self.name = backend.name
        self.model_id = backend.model_id
        self.capabilities = backend.capabilities

    @property
    def server(self) -> tuple[str, int | None] | None:
        """Host and port of the backend's server."""
        return self.backend.server

    @property
    def rate_limits(self) -> RateLimitState | None:
        """The rate limits from the backend's last response."""
        return self.backend.rate_limits

    def run(self, request: Request) -> AsyncIterator[Event]:
        """Return the backend's events.

        An override is an async generator around `open_stream(self.backend, request)`, which closes the backend's
        stream when the generator is closed.
        """
        return self.backend.run(request)

    async def generate_image(
        self,
        messages: Sequence[Message],
        *,
        n: int = 1,
        aspect_ratio: str | None = None,
        options: Mapping[str, Any] = {},
    ) -> ImageResult:
        """Generate images with the backend.

        Args:
            messages: the prompt.
            n: how many images.
            aspect_ratio: width to height, such as `"16:9"`.
            options: further options, by the provider's own names.
        """
        return await self.backend.generate_image(messages, n=n, aspect_ratio=aspect_ratio, options=options)

    async def generate_video(self, request: VideoRequest) -> VideoResult:
        """Generate a video with the backend."""
        return await self.backend.generate_video(request)

    async def embed(self, texts: Sequence[str], **options: Any) -> EmbeddingResult:
        """Embed texts with the backend.

        Args:
            texts: what to embed.
            options: further options, by the provider's own names.
        """
        return await self.backend.embed(texts, **options)

    async def list_models(self) -> list[str]:
        """Return the names of the models that the backend's provider offers."""
        return await self.backend.list_models()

    async def probe(self) -> Probe:
        """Return whether the backend's model can be reached, and why not."""
        return await self.backend.probe()

    def check_access(self) -> None:
        """Check whether the backend can send requests."""
        self.backend.check_access()

    def wire_payload(self, request: Request) -> Mapping[str, Any] | None:
        """Return what the backend sends for a request."""
        return self.backend.wire_payload(request)

    async def aclose(self) -> None:
        """Release the backend's resources on the running loop."""
        await self.backend.aclose()
