"""The embedded engine as a real HTTP server on loopback, to test HTTP backends with."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from mellea.backends.llama_cpp.engine import Engine, EngineSettings, choose_threads
from mellea.backends.llama_cpp.weights import DEFAULT_MODEL, find_weights, name_of
from mellea.errors import ConfigurationError

__all__ = ["EngineServer", "count_busy_slots", "engine_server"]

_PING_SECONDS = 1


@dataclass(frozen=True, slots=True)
class EngineServer:
    """A running server with OpenAI's chat completions and responses, and Anthropic's messages.

    Attributes:
        url: the base of OpenAI's API, such as `"http://127.0.0.1:40123/v1"`.
        api_key: the key, sent as a bearer token or as `x-api-key`.
        model: the name of the model.
    """

    url: str
    api_key: str = field(repr=False)
    model: str

    @property
    def root(self) -> str:
        """The address without `/v1`, for Anthropic's clients and the engine's own pages."""
        return self.url.removesuffix("/v1")


@contextmanager
def engine_server(
    model_id: str = DEFAULT_MODEL,
    *,
    context_window: int = 2048,
    parallel: int = 4,
    threads: int | None = None,
    chat_template: str | None = None,
    **params: Any,
) -> Iterator[EngineServer]:
    """Serve a model over HTTP for the length of a `with` block.

    This is llama.cpp's own server, for tests. Unlike the backend `llama_cpp` it interprets control tokens in messages,
    so don't send it untrusted text.

    Loading takes about a second and blocks the thread; leaving takes up to a second if a client is still streaming. So
    enter and leave the block outside an event loop.

    Args:
        model_id: a published model, or the path of a `.gguf` file.
        context_window: the most tokens of prompt and answer together.
        parallel: how many generations run at the same time.
        threads: how many threads compute.
        chat_template: a Jinja template instead of the model's own, such as one that supports tools.
        params: further parameters of the engine, by its own names, such as `embedding=True`.

    Raises:
        ConfigurationError: the engine or the weights are missing.
    """
    path = find_weights(model_id)
    settings = EngineSettings(
        path=str(path),
        alias=name_of(model_id, path),
        context_window=context_window,
        parallel=parallel,
        threads=threads or choose_threads(),
    )
    if chat_template is not None:
        params["chat_template"] = chat_template
    # The engine only stops between two pings of a stream, so the default of 30 s would delay the end.
    engine = Engine(settings, params={"sse_ping_interval": _PING_SECONDS, **params})
    engine.load()
    try:
        yield EngineServer(f"{engine.address}/v1", engine.api_key, settings.alias)
    finally:
        engine.close(timeout=0.0)


def count_busy_slots(address: str | None, api_key: str) -> int:
    """Return how many generations an engine reports to be running.

    Args:
        address: the address of the engine's server, with or without `/v1`.
        api_key: its key.

    Raises:
        ConfigurationError: there is no address, because the engine isn't loaded.
    """
    if address is None:
        raise ConfigurationError("the engine isn't loaded yet; run a request first")
    parts = urlsplit(address)
    url = urlunsplit((parts.scheme, parts.netloc, "/slots", "", ""))
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {api_key}"})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=30) as response:
        return sum(slot["is_processing"] for slot in json.load(response))
