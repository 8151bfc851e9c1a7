"""Claude models as a backend."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Unpack

from mellea.backends.anthropic.decode import Decoder
from mellea.backends.anthropic.encode import OPTIONS, SAMPLING, answer_tool, encode, ends_in_space, find_betas
from mellea.backends.anthropic.models import find_traits
from mellea.backends.anthropic.wire import API_VERSION, BASE_URL, LIMIT_HEADERS, PROVIDER
from mellea.backends.http.backend import HTTP_OPTIONS, HttpArguments, HttpBackend, Outgoing
from mellea.core.backend import Capabilities, Request
from mellea.core.structured.envelope import find_starts, needs_wrapping

if TYPE_CHECKING:
    from mellea.backends.http.batches import BatchCodec

__all__ = ["AnthropicBackend"]


class AnthropicBackend(HttpBackend):
    """A Claude model, or another one behind a server that speaks Anthropic's Messages format.

    What it can do depends on the model: from Claude 4.5 on the provider enforces a schema, before that a forced tool
    call does; from 4.6 on a trailing assistant message isn't continued; from 4.7 on there is no temperature.

    Args:
        model_id: the model, such as `"claude-sonnet-4-5"`.
        base_url: of the server, with or without `/v1`; by default `ANTHROPIC_BASE_URL`, else the provider.
        api_key: by default `ANTHROPIC_API_KEY`.
        arguments: the others of `HttpBackend`: `headers`, `extra_body`, `client`, `retries`, `max_answer_bytes`,
            `model_options`.

    Raises:
        UsageError: an argument has a bad value.
    """

    name = PROVIDER
    aliases = ("claude",)
    model_patterns = ("claude*",)
    default_url = BASE_URL
    url_variable = "ANTHROPIC_BASE_URL"
    key_variables = ("ANTHROPIC_API_KEY",)
    key_header = "x-api-key"
    requires_key = True
    models_path = "models?limit=1000"
    limit_headers = LIMIT_HEADERS
    capabilities = Capabilities(
        options=HTTP_OPTIONS | frozenset(map(str, OPTIONS)),
        tools=True,
        builtin_tools=frozenset({PROVIDER}),
        structured_output="native",
        images=True,
        files=True,
        prefill=True,
        prompt_caching=True,
    )

    def __init__(self, model_id: str, **arguments: Unpack[HttpArguments]) -> None:
        super().__init__(model_id, **arguments)
        can = find_traits(model_id)
        refused = frozenset() if can.samples else frozenset(map(str, SAMPLING))
        self.capabilities = replace(
            self.capabilities,
            options=self.capabilities.options - refused,
            structured_output="native" if can.native_schema else "tool",
            prefill=can.prefill,
        )

    def find_url(self, base_url: str | None) -> str:
        """Return the server's address with the `/v1` that the provider's own clients leave out."""
        address = super().find_url(base_url)
        return _add_version(address) if isinstance(address, str) else address  # a wrong type is rejected later

    def make_headers(self) -> dict[str, str]:
        """Return the key, and the version of the format."""
        return {"anthropic-version": API_VERSION, **super().make_headers()}

    def advise_on_key(self) -> str:
        """Name the gateway."""
        return f"go through the gateway with AI_GATEWAY_API_KEY: 'ai_gateway/anthropic/{self.model_id}'"

    def encode(self, request: Request) -> Outgoing:
        """Return the path, the body and the headers of a request in this format."""
        payload, found = encode(request, self.model_id), find_betas(request)
        if not found:
            return Outgoing("messages", payload)
        own = self._extra_headers.get("anthropic-beta")
        return Outgoing("messages", payload, {"anthropic-beta": ",".join([*([own] if own else []), *found])})

    @property
    def batches(self) -> BatchCodec | None:
        """The message batches."""
        from mellea.backends.anthropic.batches import AnthropicBatches  # lazy: few programs use batches

        return AnthropicBatches()

    def make_decoder(self, request: Request) -> Decoder:
        """Return a decoder for one answer."""
        output = request.output_schema
        return Decoder(
            self.model_id,
            answer_tool=answer_tool(request, self.model_id),
            is_wrapped=output is not None and needs_wrapping(output.schema),
            starts="" if output is None else find_starts(output.schema),
            drops_space=ends_in_space(request.messages),
        )


def _add_version(address: str) -> str:
    """Return the address with the `/v1` that the provider's own clients leave out."""
    base, mark, query = address.partition("?")
    base = base.rstrip("/")
    return f"{base if base.endswith('/v1') else f'{base}/v1'}{mark}{query}"
