"""Gemini models as a backend: Google's generateContent over HTTP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Unpack
from urllib.parse import quote, urlencode

from pydantic_core import from_json

from mellea.backends.gemini.decode import Decoder, find_retry_delay
from mellea.backends.gemini.embeddings import decode_embeddings, encode_embeddings, split_batches
from mellea.backends.gemini.encode import encode
from mellea.backends.gemini.images import (
    decode_image,
    decode_predictions,
    encode_image,
    encode_predictions,
    is_imagen,
)
from mellea.backends.gemini.wire import BASE_URL, OPTIONS, PROVIDER, Json, JsonObject, name_resource
from mellea.backends.http.backend import HTTP_OPTIONS, HttpArguments, HttpBackend, Outgoing
from mellea.core.backend import Capabilities, Request, make_unsupported_error
from mellea.core.events import Usage
from mellea.core.messages import Message
from mellea.core.options import ModelOption
from mellea.core.results import EmbeddingResult, ImageResult
from mellea.errors import BackendError, RateLimitError, UsageError, WireError

if TYPE_CHECKING:
    from mellea.backends.http.batches import BatchCodec
    from mellea.backends.http.videos import VideoCodec

__all__ = ["GeminiBackend"]

_LARGEST_PAGE = 1000


class GeminiBackend(HttpBackend):
    """A model of Google's Gemini API.

    Args:
        model_id: such as `"gemini-3-flash-preview"`; `"models/…"` and `"tunedModels/…"` work, too.
        base_url: the base of all paths, version included.
        api_key: by default `GEMINI_API_KEY`, else `GOOGLE_API_KEY`.
        arguments: the others of `HttpBackend`: `headers`, `extra_body`, `client`, `retries`, `max_answer_bytes`,
            `model_options`.

    Raises:
        UsageError: an argument has a bad value.
    """

    name = PROVIDER
    aliases = ("google", "google_ai", "google_genai", "vertex_ai")
    model_patterns = ("gemini*", "imagen*", "veo*")
    default_url = BASE_URL
    key_variables = ("GEMINI_API_KEY", "GOOGLE_API_KEY")
    key_header = "x-goog-api-key"  # not in the query, since addresses are logged
    requires_key = True
    models_path = f"models?pageSize={_LARGEST_PAGE}"
    capabilities = Capabilities(
        options=frozenset({*OPTIONS, str(ModelOption.THINKING), str(ModelOption.TOOL_CHOICE)}) | HTTP_OPTIONS,
        tools=True,
        builtin_tools=frozenset({PROVIDER}),
        structured_output="native",
        images=True,
        files=True,
        image_generation=True,
        video_generation=True,
        embeddings=True,
    )

    def __init__(self, model_id: str, **arguments: Unpack[HttpArguments]) -> None:
        # The list of models has names without it.
        name = model_id.removeprefix("models/") if isinstance(model_id, str) else model_id
        if isinstance(name, str) and name and not _is_place(name):
            raise UsageError(
                f"model_id takes the name of a model, such as 'gemini-3-flash-preview', not {model_id!r}: it becomes "
                "part of the URL's path, so it can't contain empty or dot segments"
            )
        super().__init__(name, **arguments)

    async def generate_image(
        self,
        messages: Sequence[Message],
        *,
        n: int = 1,
        aspect_ratio: str | None = None,
        options: Mapping[str, Any] = {},
    ) -> ImageResult:
        """Generate images from a prompt; Gemini models make one at a time.

        Args:
            messages: the prompt, with images to start from if the model takes them.
            n: how many images.
            aspect_ratio: width to height, such as `"16:9"`.
            options: such as `{"imageSize": "2K"}`, by the names of Google's `imageConfig` or Imagen's `parameters`.

        Raises:
            BackendError: the provider failed, or made no image.
        """
        # Another kind of model behind another method, which makes several images at once.
        if is_imagen(self.model_id):
            payload = encode_predictions(messages, n, aspect_ratio, options)
            return decode_predictions(await self.post_json(self._path("predict"), payload), self.model_id)
        payload = encode_image(messages, self.model_id, aspect_ratio, options)
        made = [
            decode_image(await self.post_json(self._path("generateContent"), payload), self.model_id) for _ in range(n)
        ]
        images = tuple(image for result in made for image in result.images)
        return ImageResult(images, _total([result.usage for result in made]), made[-1].model if made else None)

    def find_video_codec(self) -> VideoCodec:
        """Return the codec of the model's video jobs.

        Raises:
            UnsupportedError: it is not a model for videos.
        """
        from mellea.backends.gemini.videos import find_video_codec  # lazy: few programs make videos

        codec = find_video_codec(self.model_id)
        if codec is None:
            raise make_unsupported_error(
                self, "video generation", "use one of Gemini's models for videos, gemini-omni-… or veo-…"
            )
        return codec

    async def embed(self, texts: Sequence[str]) -> EmbeddingResult:
        """Embed each text.

        Raises:
            BackendError: the provider failed.
        """
        made = [
            decode_embeddings(
                await self.post_json(self._path("batchEmbedContents"), encode_embeddings(batch, self.model_id)),
                self.model_id,
                len(batch),
            )
            for batch in split_batches(texts)
        ]
        vectors = tuple(vector for result in made for vector in result.vectors)
        return EmbeddingResult(vectors, _total([result.usage for result in made]), self.model_id)

    async def list_models(self) -> list[str]:
        """Return the names of the models that the provider offers."""
        names: list[str] = []
        path = self.models_path
        while True:
            listing = await self.get_json(path)
            names += self.read_models(listing)
            # Paginated, whatever page size is requested.
            if not (token := listing.get("nextPageToken")):
                return names
            path = f"{self.models_path}&{urlencode({'pageToken': token})}"

    def encode(self, request: Request) -> Outgoing:
        """Return the path, the body and the headers of a request in this format."""
        payload = encode(request, self.model_id)
        if request.options.get(ModelOption.STREAM, True):
            return Outgoing(self._path("streamGenerateContent?alt=sse"), payload)
        return Outgoing(self._path("generateContent"), payload)

    @property
    def batches(self) -> BatchCodec | None:
        """The batches of the developer API."""
        from mellea.backends.gemini.batches import GeminiBatches  # lazy: few programs use batches

        return GeminiBatches(name_resource(self.model_id), self._address.base)

    def make_decoder(self, request: Request) -> Decoder:
        """Return a decoder for one answer."""
        return Decoder(self.model_id)

    def explain_error(self, error: BackendError, body: bytes) -> BackendError:
        """Return the error with the details in the provider's body."""
        if isinstance(error, RateLimitError) and error.retry_after is None:
            with suppress(ValueError):  # a proxy's page is not JSON
                error.retry_after = find_retry_delay(from_json(body))
        return error

    def advise_on_key(self) -> str:
        """Name the gateway."""
        return f"go through the gateway with AI_GATEWAY_API_KEY: 'ai_gateway/google/{self.model_id}'"

    def read_models(self, listing: Json) -> list[str]:
        """Return the names in the list of models."""
        found: list[JsonObject] = listing.get("models", []) if isinstance(listing, Mapping) else []
        try:
            return [str(model["name"]).removeprefix("models/") for model in found]
        except (KeyError, TypeError) as error:
            raise WireError(f"Gemini's answer lists no models: {listing!r:.80}") from error

    def _path(self, verb: str) -> str:
        return f"{quote(name_resource(self.model_id), safe='/')}:{verb}"


def _is_place(name: str) -> bool:
    """Whether a name is a relative path without `..`."""
    return not {"", ".", ".."} & set(name.split("/"))


def _total(usages: Sequence[Usage | None]) -> Usage | None:
    known = [usage for usage in usages if usage is not None and usage != Usage()]
    return sum(known[1:], known[0]) if known else None
