"""OpenAI, and every service that speaks its formats, as a backend."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic_core import from_json

from mellea.backends.http.address import Address
from mellea.backends.http.backend import HTTP_OPTIONS, MAX_ANSWER_BYTES, HttpBackend, Outgoing
from mellea.backends.http.decoding import SseWireDecoder
from mellea.backends.http.report import is_hopeless
from mellea.backends.openai import chat
from mellea.backends.openai.services import COMPATIBLE, OPENAI, SERVICES, Service, find_service_at
from mellea.core.backend import Capabilities, Request
from mellea.core.messages import Message
from mellea.core.options import Deadlines, ModelOption
from mellea.core.results import EmbeddingResult, ImageResult
from mellea.errors import BackendError, ConfigurationError, UnsupportedError, UsageError

if TYPE_CHECKING:
    from mellea.backends.http.batches import BatchCodec
    from mellea.backends.http.videos import VideoCodec

__all__ = ["OpenAIBackend"]

_SLOW = Deadlines(first_byte=300.0)
"""Images arrive in one piece, once all of them are finished."""

_BEHIND_GATEWAYS = frozenset({"openai", "azure", "xai", "groq", "mistral", "deepseek", "moonshot", "zai", "alibaba"})


def _find_capabilities(service: Service, api: str = "chat") -> Capabilities:
    is_chat = api == "chat"
    options = set(service.options) | set(HTTP_OPTIONS)
    if not is_chat:
        from mellea.backends.openai.responses.encode import OPTIONS  # lazy: most programs use chat completions

        options = set(OPTIONS) | set(HTTP_OPTIONS)
    if service.has_tools:
        options.add(str(ModelOption.TOOL_CHOICE))
    if service.thinking is not None:
        options.add(str(ModelOption.THINKING))
    builtin = {"ai_gateway"} & {service.name} if is_chat else {"openai"}
    return Capabilities(
        options=frozenset(options),
        tools=service.has_tools,
        builtin_tools=frozenset(builtin),
        structured_output=service.structured_output if is_chat else "native",
        images=service.has_images,
        files=service.has_files,
        prompt_caching=service.has_cache_marks and is_chat,
        image_generation=service.makes_images,
        video_generation=service.makes_videos,
        embeddings=service.embeds,
    )


class OpenAIBackend(HttpBackend):
    """A model of OpenAI, or of any service that speaks OpenAI's formats.

    Args:
        model_id: the model, as the service calls it; some local services have a variable that names it.
        api: `"chat"` for chat completions, which all services speak, or `"responses"`, which has OpenAI's own
            tools and returns reasoning to the model in the next turn.
        service: one of `mellea.backends.openai.services.SERVICES`, or a `Service` of your own; by default the
            one at `base_url`, else OpenAI.
        base_url: the base of the service's paths, if it isn't the default.
        api_key: by default the service's variable in the environment; `""` for none.
        headers: for every request.
        extra_body: merged into every request's JSON body.
        client: your own `httpx.AsyncClient`, or one with its interface; it is never closed here.
        retries: how often a request that fails before its first byte is retried.
        max_answer_bytes: the size of an answer, decompressed, from which on it fails; `None` is no limit.
        model_options: defaults for every request.

    Raises:
        UsageError: an argument has a bad value.
        ConfigurationError: the service, its address or its model are unknown, or it lacks the API.
    """

    name = OPENAI.name
    aliases = OPENAI.aliases
    model_patterns = OPENAI.model_patterns
    services = SERVICES
    capabilities = _find_capabilities(OPENAI)

    def __init__(
        self,
        model_id: str | None = None,
        *,
        api: Literal["chat", "responses"] = "chat",
        service: str | Service | None = None,
        base_url: str | None = None,
        api_key: str | None = None,
        headers: Mapping[str, str] | None = None,
        extra_body: Mapping[str, Any] | None = None,
        client: Any = None,
        retries: int = 2,
        max_answer_bytes: int | None = MAX_ANSWER_BYTES,
        model_options: Mapping[str, Any] | None = None,
    ) -> None:
        if api not in ("chat", "responses"):
            raise UsageError(f"api takes 'chat' or 'responses', not {api!r}")
        self.service, url = _find_service(service, base_url)
        if api == "responses" and not self.service.has_responses:
            raise ConfigurationError(f"{self.service.name!r} has no Responses API; leave out api='responses'")
        self.api = api
        self.name = self.service.name
        # Before the base class looks for the key; on the object, since one class reaches many services.
        self.key_variables = self.service.key_variables
        self.key_header = self.service.key_header
        super().__init__(
            _find_model(model_id, self.service),
            base_url=url,
            api_key=api_key,
            headers=headers,
            extra_body=extra_body,
            client=client,
            retries=retries,
            max_answer_bytes=max_answer_bytes,
            model_options=model_options,
        )
        # A user's own header may authenticate to a proxy.
        self._may_lack_key = self.service.is_local or api_key == "" or headers is not None
        self.capabilities = _find_capabilities(self.service, api)

    def encode(self, request: Request) -> Outgoing:
        """Return the path, the body and the headers of a request in this format."""
        try:
            if self.api == "responses":
                from mellea.backends.openai import responses  # lazy: most programs use chat completions

                return Outgoing("responses", responses.encode(request, self.model_id, self.service))
            return Outgoing("chat/completions", chat.encode(request, self.model_id, self.service))
        except UnsupportedError as error:
            error.backend, error.model = self.name, self.model_id
            raise

    def make_decoder(self, request: Request) -> SseWireDecoder:
        """Return a decoder for one answer."""
        output, wraps, starts = request.output_schema, False, ""
        if output is not None:
            from mellea.core.structured.envelope import find_starts, needs_wrapping  # lazy: text needs no schema

            wraps = needs_wrapping(output.schema)
            starts = find_starts(output.schema) if wraps else ""
        if self.api == "responses":
            from mellea.backends.openai import responses  # lazy: most programs use chat completions

            return responses.Decoder(
                self.model_id, backend=self.name, is_wrapped=wraps, starts=starts, base_url=self.base_url
            )
        return chat.Decoder(self.model_id, backend=self.name, is_wrapped=wraps, starts=starts)

    @property
    def batches(self) -> BatchCodec | None:
        """OpenAI's batches; none are known for other services."""
        if self.name != OPENAI.name:
            return None
        from mellea.backends.openai.batches import OpenAIBatches  # lazy: few programs use batches

        return OpenAIBatches("responses" if self.api == "responses" else "chat/completions")

    def is_key_needed(self) -> bool:
        """Return whether the service needs a key that is missing; a header may contain one."""
        return not self._may_lack_key

    def advise_on_key(self) -> str:
        """Name the gateway, or the provider behind it."""
        name = self.service.name
        if name == "ai_gateway" and "/" in self.model_id:
            return f"leave out 'ai_gateway/' to reach {self.model_id!r} with its provider's own key"
        if name in _BEHIND_GATEWAYS:
            return f"go through the gateway with AI_GATEWAY_API_KEY: 'ai_gateway/{name}/{self.model_id}'"
        return ""

    def explain_error(self, error: BackendError, body: bytes) -> BackendError:
        """Return the error with the details in the provider's body."""
        try:
            said = from_json(body)
        except ValueError:
            return error
        if isinstance(said, dict) and is_hopeless(said.get("error")):
            # An exhausted quota has status 429, like a rate limit.
            error.is_retryable = False
        return error

    async def generate_image(
        self,
        messages: str | Sequence[Message | Mapping[str, Any]],
        *,
        n: int = 1,
        aspect_ratio: str | None = None,
        options: Mapping[str, Any] = {},
    ) -> ImageResult:
        """Generate images with the images API; it needs an image model, such as `"gpt-image-1"`.

        Args:
            messages: the prompt, a text or messages; images in them are edited.
            n: how many images.
            aspect_ratio: such as `"16:9"`.
            options: further options, by the provider's own names, such as `{"quality": "high"}`.

        Raises:
            UnsupportedError: the service has no images API, can't edit images, or doesn't know the aspect ratio.
            BackendError: as for `run`.
        """
        from mellea.backends.openai.images import (  # lazy: few programs make images
            decode_images,
            encode_images,
            encode_inputs,
            list_inputs,
        )

        self._check("image_generation", "image generation")
        try:
            inputs = list_inputs(messages)
            if inputs and not self.service.changes_images:
                able = ", ".join(repr(each.name) for each in SERVICES.values() if each.changes_images)
                raise UnsupportedError(f"the backend {self.name!r} can't edit images; these can: {able}")
            payload = encode_images(
                messages, self.model_id, service=self.name, n=n, aspect_ratio=aspect_ratio, options=options
            )
        except UnsupportedError as error:
            error.backend, error.model = self.name, self.model_id
            raise
        if inputs:
            body = await self.post_form("images/edits", *encode_inputs(payload, inputs), deadlines=_SLOW)
        else:
            body = await self.post_json("images/generations", payload, deadlines=_SLOW)
        return decode_images(body, self.model_id)

    def find_video_codec(self) -> VideoCodec:
        """Return the codec of the service's video jobs.

        Raises:
            UnsupportedError: the service has no videos API.
        """
        from mellea.backends.openai.videos import OpenAIVideos  # lazy: few programs make videos

        self._check("video_generation", "video generation")
        return OpenAIVideos(self.model_id)

    async def embed(self, texts: Sequence[str], **options: Any) -> EmbeddingResult:
        """Embed texts; it needs an embedding model, such as `"text-embedding-3-small"`.

        Args:
            texts: what to embed.
            options: further options, by the provider's own names, such as `dimensions=256`.

        Raises:
            UnsupportedError: the service has no embeddings API.
            BackendError: as for `run`.
        """
        from mellea.backends.openai.embeddings import decode_embeddings, encode_embeddings  # lazy: few programs embed

        self._check("embeddings", "embeddings")
        payload = encode_embeddings(texts, self.model_id, options=options)
        if not payload["input"]:
            return EmbeddingResult((), model=self.model_id)
        body = await self.post_json("embeddings", payload)
        return decode_embeddings(body, len(payload["input"]), self.model_id)

    def _check(self, capability: str, feature: str) -> None:
        if not getattr(self.capabilities, capability):
            able = ", ".join(
                repr(each.name) for each in SERVICES.values() if getattr(_find_capabilities(each), capability)
            )
            raise UnsupportedError(
                f"the backend {self.name!r} doesn't support {feature}; these do: {able}",
                backend=self.name,
                model=self.model_id,
            )


def _find_service(service: str | Service | None, base_url: str | None) -> tuple[Service, str]:
    """Return the service, and the address to use."""
    if isinstance(service, str):
        if service not in SERVICES:
            known = ", ".join(map(repr, SERVICES))
            raise ConfigurationError(f"no service is called {service!r}; known are {known}, or give base_url=")
        service = SERVICES[service]
    own = service if service is not None else SERVICES["openai"]
    url = base_url or (_read_variable(own.url_variable) if own.url_variable else None) or own.base_url
    if not url:
        variable = f", or set {own.url_variable}" if own.url_variable else ""
        raise ConfigurationError(f"{own.name!r} has a different address for each account: pass base_url={variable}")
    base = Address.parse(url).base  # reports a bad URL before a service is looked up by it
    return (service if service is not None else find_service_at(base)), url


def _find_model(model_id: str | None, service: Service) -> str:
    found = model_id or (_read_variable(service.model_variable) if service.model_variable else None)
    if found is None:
        variable = f", or set {service.model_variable}" if service.model_variable else ""
        # A service at an unknown URL has no known name.
        which = "the server at base_url" if service is COMPATIBLE else repr(service.name)
        raise ConfigurationError(f"{which} needs the name of a model: pass model_id={variable}")
    return found


def _read_variable(*names: str) -> str | None:
    return next((value for name in names if (value := os.environ.get(name, "").strip())), None)
