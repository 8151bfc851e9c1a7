"""Models of an Ollama server as a backend."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Unpack
from urllib.parse import urlsplit

from mellea.backends.http.backend import HTTP_OPTIONS, HttpArguments, HttpBackend, Outgoing
from mellea.backends.http.probe import PROBE_DEADLINES, Probe
from mellea.backends.ollama.decode import Decoder
from mellea.backends.ollama.embeddings import decode_embeddings, encode_embeddings
from mellea.backends.ollama.encode import encode
from mellea.backends.ollama.wire import DEFAULT_PORT, HOST_VARIABLE, OPTIONS, PROVIDER, Json
from mellea.core.backend import Capabilities, Request
from mellea.core.options import ModelOption
from mellea.core.results import EmbeddingResult
from mellea.errors import BackendError, ConfigurationError, ConnectError, MelleaError, NotFoundError

__all__ = ["OllamaModelBackend", "parse_host"]

_DEFAULT_MODEL = "granite4.2:3b"
_ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "": "127.0.0.1"}


class OllamaModelBackend(HttpBackend):
    """A model that an Ollama server runs.

    Args:
        model_id: such as `"llama3.2"` or `"qwen3:8b"`; it has to be pulled already. By default the one of IBM's Granite
            models that Mellea 0.8 asks.
        base_url: where the server is; by default `OLLAMA_HOST`, else `http://127.0.0.1:11434`.
        keep_alive: how long the model stays loaded afterwards: `"10m"`, seconds, 0 for not at all, -1 forever.
        api_key: for hosted models; by default `OLLAMA_API_KEY`.
        arguments: the others of `HttpBackend`: `headers`, `extra_body`, `client`, `retries`, `max_answer_bytes`,
            `model_options`.

    Raises:
        UsageError: an argument has a bad value.
        ConfigurationError: `OLLAMA_HOST` is not a host.
    """

    name = PROVIDER
    model_patterns = (
        "*:*",  # a model and its tag
        *("gemma*", "gpt-oss*", "granite*", "llama*", "mistral*", "mixtral*", "olmo*", "phi*", "qwen*", "smollm*"),
    )
    default_model = _DEFAULT_MODEL
    default_url = f"http://127.0.0.1:{DEFAULT_PORT}"
    url_variable = HOST_VARIABLE
    key_variables = ("OLLAMA_API_KEY",)
    models_path = "api/tags"
    capabilities = Capabilities(
        options=frozenset({*OPTIONS, str(ModelOption.THINKING), str(ModelOption.TOOL_CHOICE)}) | HTTP_OPTIONS,
        tools=True,
        structured_output="native",
        images=True,
        prefill=True,
        embeddings=True,
    )

    def __init__(
        self,
        model_id: str = _DEFAULT_MODEL,
        *,
        keep_alive: str | float | None = None,
        **arguments: Unpack[HttpArguments],
    ) -> None:
        super().__init__(model_id, **arguments)
        self.keep_alive = keep_alive

    async def probe(self) -> Probe:
        """Return whether the model can be reached, and why not; takes 15 s at most, and raises nothing."""
        try:
            # Without retries: a probe should answer immediately.
            models = await self._list_models(PROBE_DEADLINES, 0)
        except ConnectError as error:
            return Probe(False, f"{error}; start it with `ollama serve`")
        except MelleaError as error:
            return Probe(False, str(error))
        if self.model_id in models or f"{self.model_id}:latest" in models:
            return Probe(True)
        return Probe(False, f"the model {self.model_id!r} isn't there yet; get it with `ollama pull {self.model_id}`")

    async def embed(self, texts: Sequence[str]) -> EmbeddingResult:
        """Embed each text.

        Raises:
            BackendError: the server failed, or a text is longer than the model's window.
        """
        body = await self.post_json("api/embed", self._add_keep_alive(encode_embeddings(texts, self.model_id)))
        return decode_embeddings(body, self.model_id, len(texts))

    def find_url(self, base_url: str | None) -> str:
        """Return the argument unchanged, else the URL from `OLLAMA_HOST` in any of its forms.

        Raises:
            ConfigurationError: `OLLAMA_HOST` is not a host.
        """
        return parse_host(os.environ.get(HOST_VARIABLE, "")) if base_url is None else base_url

    def encode(self, request: Request) -> Outgoing:
        """Return the path, the body and the headers of a request in this format."""
        return Outgoing("api/chat", self._add_keep_alive(encode(request, self.model_id)))

    def _add_keep_alive(self, payload: dict[str, Json]) -> dict[str, Json]:
        return payload if self.keep_alive is None else {**payload, "keep_alive": self.keep_alive}

    def make_decoder(self, request: Request) -> Decoder:
        """Return a decoder for one answer."""
        return Decoder(self.model_id)

    def explain_error(self, error: BackendError, body: bytes) -> BackendError:
        """Return the error with the details in the provider's body."""
        if isinstance(error, NotFoundError) and b"model" in body:
            message = f"{error}; get the model with `ollama pull {self.model_id}`"
            return NotFoundError(message, status=error.status, request_id=error.request_id)
        return error

    def read_models(self, listing: Json) -> list[str]:
        """Return the names in the list of models."""
        return [str(model.get("name") or model["model"]) for model in listing["models"]]


def parse_host(host: str) -> str:
    """Return the URL from `OLLAMA_HOST` in any of its forms, without a trailing slash.

    Without a scheme the default port is 11434, with one it is the scheme's own. A server that listens on all interfaces
    (`0.0.0.0`) is reached through loopback.

    Raises:
        ConfigurationError: it is not a host.
    """
    host = host.strip().strip("\"'")
    has_scheme = "://" in host
    try:
        parts = urlsplit(host if has_scheme else f"http://{host}")
        port, name = parts.port, parts.hostname or ""
    except ValueError as error:
        raise ConfigurationError(
            f"{HOST_VARIABLE} is {host.rpartition('@')[2]!r}, which is not a host: {error}; "
            "it takes a host, host:port or http://host:port"
        ) from error
    name = _ANYWHERE.get(name, f"[{name}]" if ":" in name else name)
    if port is None and not has_scheme:
        port = DEFAULT_PORT
    user = parts.netloc.rpartition("@")[0]
    place = f"{user}@{name}" if user else name
    return f"{parts.scheme}://{place}{'' if port is None else f':{port}'}{parts.path.rstrip('/')}"
