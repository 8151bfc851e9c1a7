"""The embedded model for tests: one backend with the default settings, so that it loads once."""

from collections.abc import Callable
from typing import Any

import anyio
import pytest

from mellea.backends import OutputSchema, Request
from mellea.backends.llama_cpp import LlamaCppBackend
from mellea.backends.llama_cpp.weights import DEFAULT_MODEL, find_weights
from mellea.core.accumulator import Accumulator, Generation
from mellea.core.messages import user_message
from mellea.errors import ConfigurationError
from tests.backends.slots import tokens_until_free

LONG_PROMPT = "word river stone " * 460  # about 1,400 tokens, 11 s to read


def make_request(*messages: Any, schema: dict[str, Any] | None = None, **options: Any) -> Request:
    turns = tuple(user_message(message) if isinstance(message, str) else message for message in messages)
    return Request(messages=turns, options=options, output_schema=OutputSchema("answer", schema) if schema else None)


async def read_all(backend: LlamaCppBackend, request: Request) -> Generation:
    accumulator = Accumulator()
    async for event in backend.run(request):
        accumulator.feed([event])
    return accumulator.generation()


async def wait_free(backend: LlamaCppBackend) -> int:
    """Wait until no slot is busy any more; return the tokens that were still read and written meanwhile."""
    return await tokens_until_free(await backend.engine())


@pytest.fixture(scope="session")
def backend() -> LlamaCppBackend:
    pytest.importorskip("xllamacpp")
    try:
        find_weights(DEFAULT_MODEL)
    except ConfigurationError as error:
        pytest.skip(str(error))
    return LlamaCppBackend()


@pytest.fixture
def request_for() -> Callable[..., Request]:
    return make_request


@pytest.fixture
def read() -> Callable[..., Any]:
    return read_all


@pytest.fixture
def freed() -> Callable[..., Any]:
    return wait_free


@pytest.fixture
def long_prompt() -> str:
    return LONG_PROMPT


@pytest.fixture
def generate(backend: LlamaCppBackend) -> Callable[..., Generation]:
    def generate(
        schema: Any, prompt: str = "Tell me about the moon.", max_tokens: int = 28, **options: Any
    ) -> Generation:
        options = {"temperature": 1.2, "seed": 5} | options
        return anyio.run(read_all, backend, make_request(prompt, schema=schema, max_tokens=max_tokens, **options))

    return generate
