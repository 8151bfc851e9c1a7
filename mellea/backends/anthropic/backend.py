"""Claude models as a backend."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

from mellea.backends.anthropic.decode import Decoder
from mellea.backends.anthropic.encode import OPTIONS, SAMPLING, answer_tool, betas, encode, ends_in_space
from mellea.backends.anthropic.models import traits
from mellea.backends.anthropic.wire import API_VERSION, BASE_URL, PROVIDER
from mellea.backends.http.backend import HTTP_OPTIONS, HttpBackend, Outgoing
from mellea.backends.http.secret import missing_key
from mellea.core.backend import Capabilities, Request
from mellea.core.structured.envelope import find_starts, needs_wrapping

__all__ = ["AnthropicBackend"]


class AnthropicBackend(HttpBackend):
    """A Claude model, or another one behind a server that speaks Anthropic's Messages format.

    What it can do depends on the model: from Claude 4.5 on a schema is held by the provider, before that by
    a forced call of a tool; from 4.6 on a trailing assistant message isn't continued; from 4.7 on there is
    no temperature.

    Args:
        model_id: the model, such as `"claude-sonnet-4-5"`.
        base_url: of the server, with or without `/v1`; by default `ANTHROPIC_BASE_URL`, else the provider.
        api_key: by default `ANTHROPIC_API_KEY`.
        settings: the rest of what `HttpBackend` takes: headers, extra_body, client, retries, model_options.

    Raises:
        UsageError: an argument has a bad value.
    """

    name = PROVIDER
    key_variables = ("ANTHROPIC_API_KEY",)
    models_path = "models?limit=1000"
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

    def __init__(
        self, model_id: str, *, base_url: str | None = None, api_key: str | None = None, **settings: Any
    ) -> None:
        address = base_url or os.environ.get("ANTHROPIC_BASE_URL") or BASE_URL
        if isinstance(address, str):
            address = _versioned(address)
        super().__init__(model_id, base_url=address, api_key=api_key, **settings)
        can = traits(model_id)
        refused = frozenset() if can.samples else frozenset(map(str, SAMPLING))
        self.capabilities = replace(
            self.capabilities,
            options=self.capabilities.options - refused,
            structured_output="native" if can.native_schema else "tool",
            prefill=can.prefill,
        )

    def _headers(self) -> dict[str, str]:
        headers = {"anthropic-version": API_VERSION}
        if self.api_key is not None:
            headers["x-api-key"] = self.api_key
        elif self.base_url.startswith(BASE_URL) and not {"x-api-key", "authorization"} & self._extra_headers.keys():
            way = f"go through the gateway with AI_GATEWAY_API_KEY: 'ai_gateway/anthropic/{self.model_id}'"
            raise missing_key(self.name, self.model_id, self.key_variables, way)
        return headers

    def _encode(self, request: Request) -> Outgoing:
        payload, found = encode(request, self.model_id), betas(request)
        if not found:
            return Outgoing("messages", payload)
        own = self._extra_headers.get("anthropic-beta")
        return Outgoing("messages", payload, {"anthropic-beta": ",".join([*([own] if own else []), *found])})

    def _decoder(self, request: Request) -> Decoder:
        output = request.output_schema
        return Decoder(
            self.model_id,
            answer_tool=answer_tool(request, self.model_id),
            is_wrapped=output is not None and needs_wrapping(output.schema),
            starts="" if output is None else find_starts(output.schema),
            drops_space=ends_in_space(request.messages),
        )


def _versioned(address: str) -> str:
    """Return the address with the `/v1` that the provider's own clients leave out."""
    base, mark, query = address.partition("?")
    base = base.rstrip("/")
    return f"{base if base.endswith('/v1') else f'{base}/v1'}{mark}{query}"
