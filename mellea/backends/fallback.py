"""A chain of models: if one can't answer, the request goes to the next."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from functools import reduce
from typing import TYPE_CHECKING, Any

import anyio

from mellea.backends.text_tools import with_tools
from mellea.backends.wrapped import WrappedBackend, open_stream
from mellea.core.backend import Backend, Capabilities, Request, SentRequest
from mellea.core.events import Event, KeepAlive
from mellea.core.messages import Message
from mellea.core.options import check_options
from mellea.core.results import EmbeddingResult, ImageResult, Probe
from mellea.errors import BackendError, ConfigurationError, DeadlineError, MelleaError, UsageError

if TYPE_CHECKING:
    from mellea.core.videos import VideoRequest, VideoResult

__all__ = ["FallbackBackend"]

_log = logging.getLogger("mellea")


class FallbackBackend(WrappedBackend):
    """Sends a request to one model after the other, until one starts to answer.

    A model is skipped if it can't be reached, refuses the request, lacks a key or is silent for its
    share of the first-byte deadline. Once one has started to answer, no other is asked: text that was
    shown is never retracted. The chain supports what all of its models support.

    Args:
        backends: the models, the preferred one first.
        model_options: defaults for every request, before those of the models.

    Raises:
        UsageError: there is no backend, or one of them is something else.
    """

    def __init__(self, backends: Sequence[Backend], *, model_options: Mapping[str, Any] | None = None) -> None:
        if not backends or not all(isinstance(backend, Backend) for backend in backends):
            raise UsageError(f"a chain of models takes at least one, not {backends!r}")
        super().__init__(backends[0])
        self.model_options = check_options(model_options)  # each model adds its own
        self.backends = tuple(backends)
        self.name = "fallback"
        self.model_id = ", ".join(f"{backend.name}/{backend.model_id}" for backend in self.backends)
        self._callers = tuple(map(with_tools, self.backends))
        self.capabilities = reduce(_common, (backend.capabilities for backend in self._callers))

    @property
    def server(self) -> tuple[str, int | None] | None:
        """None: which server answers is known afterwards."""
        return None

    async def run(self, request: Request) -> AsyncIterator[Event]:
        """Yield the answer of the first model that starts to answer.

        Raises:
            MelleaError: none did; this is the last model's error, with the earlier ones as notes.
        """
        failures: list[MelleaError] = []
        for number, backend in enumerate(self._callers, 1):
            is_last = number == len(self.backends)  # the same backend may be in a chain twice
            # The call only has the chain's defaults; each model's own are added here, below those of the call.
            own = replace(request, options={**backend.model_options, **request.options})
            # Closed before the next one is asked, so that a model that was too slow stops generating.
            async with open_stream(backend, own) as source:
                try:
                    first, sent = await self._first(source, None if is_last else self._share(request), backend)
                except (BackendError, ConfigurationError) as error:
                    failures.append(error)
                    if is_last:
                        raise _with_notes(failures) from None
                    _log.info("%s/%s is skipped: %s", backend.name, backend.model_id, error)
                    yield KeepAlive(is_restart=True)  # the next model has the whole first-byte deadline before it
                    continue
                # Which model answers is reported before the first event, for traces and prices.
                yield KeepAlive(sent=sent or SentRequest(backend, own))
                if first is not None:
                    yield first
                async for event in source:
                    yield event
                return

    async def generate_image(
        self,
        messages: Sequence[Message],
        *,
        n: int = 1,
        aspect_ratio: str | None = None,
        options: Mapping[str, Any] = {},
    ) -> ImageResult:
        """Generate images with the first model that can.

        Args:
            messages: the prompt.
            n: how many images.
            aspect_ratio: width to height, such as `"16:9"`.
            options: further options, by the provider's own names.

        Raises:
            MelleaError: none can; it is the last model's error.
        """
        # The last error goes to the caller, so it isn't caught.
        for backend in self.backends[:-1]:
            try:
                return await backend.generate_image(messages, n=n, aspect_ratio=aspect_ratio, options=options)
            except (BackendError, ConfigurationError) as error:
                _log.info("%s/%s is skipped: %s", backend.name, backend.model_id, error)
        return await self.backends[-1].generate_image(messages, n=n, aspect_ratio=aspect_ratio, options=options)

    async def generate_video(self, request: VideoRequest) -> VideoResult:
        """Generate a video with the first model that can.

        Raises:
            MelleaError: none can; it is the last model's error.
        """
        for backend in self.backends[:-1]:
            try:
                return await backend.generate_video(request)
            except (BackendError, ConfigurationError) as error:
                _log.info("%s/%s is skipped: %s", backend.name, backend.model_id, error)
        return await self.backends[-1].generate_video(request)

    async def embed(self, texts: Sequence[str], **options: Any) -> EmbeddingResult:
        """Embed texts with the first model only: vectors of different models can't be compared.

        Args:
            texts: what to embed.
            options: further options, by the provider's own names.

        Raises:
            MelleaError: it can't.
        """
        return await super().embed(texts, **options)

    async def list_models(self) -> list[str]:
        """Return the models of the chain, as `"provider/model"`."""
        return [f"{backend.name}/{backend.model_id}" for backend in self.backends]

    async def probe(self) -> Probe:
        """Return whether one of the models can be reached, and why the first one can't if none can."""
        first = await self.backends[0].probe()
        if not first.ok:
            for backend in self.backends[1:]:
                if (found := await backend.probe()).ok:
                    return found
        return first

    def check_access(self) -> None:
        """Check whether requests can be sent to one of the models at least.

        Raises:
            MelleaError: none accepts requests; this is the last model's error, with the earlier ones as notes.
        """
        failures: list[MelleaError] = []
        for backend in self.backends:
            try:
                return backend.check_access()
            except (BackendError, ConfigurationError) as error:
                failures.append(error)
        raise _with_notes(failures)

    async def aclose(self) -> None:
        """Close the connections of the models' backends on the running loop."""
        for backend in self.backends:
            await backend.aclose()

    def _share(self, request: Request) -> float | None:
        first_byte = request.deadlines.first_byte
        return None if first_byte is None else first_byte / len(self.backends)

    async def _first(
        self, source: AsyncIterator[Event], seconds: float | None, backend: Backend
    ) -> tuple[Event | None, SentRequest | None]:
        """Return the first event, and what was sent, if the backend is itself a chain and says so."""
        sent = None
        with anyio.move_on_after(seconds):
            async for event in source:
                if not isinstance(event, KeepAlive):
                    return event, sent
                sent = event.sent or sent
            return None, sent
        raise DeadlineError(
            f"{backend.name}/{backend.model_id} didn't start to answer within {seconds:g} s",
            backend=backend.name,
            model=backend.model_id,
            is_retryable=True,
        )


def _common(one: Capabilities, other: Capabilities) -> Capabilities:
    is_structured = one.structured_output is not None and other.structured_output is not None
    return Capabilities(
        options=one.options & other.options,
        tools=one.tools and other.tools,
        builtin_tools=one.builtin_tools & other.builtin_tools,
        # The first one's way; each model encodes the schema in its own.
        structured_output=one.structured_output if is_structured else None,
        images=one.images and other.images,
        files=one.files and other.files,
        prefill=one.prefill and other.prefill,
        prompt_caching=one.prompt_caching or other.prompt_caching,
        image_generation=one.image_generation or other.image_generation,
        video_generation=one.video_generation or other.video_generation,
        # Only the first one's, see `embed`.
        embeddings=one.embeddings,
    )


def _with_notes(failures: Sequence[MelleaError]) -> MelleaError:
    last = failures[-1]
    for error in failures[:-1]:
        last.add_note(f"before it: {error}")
    return last
