"""Against a real server: the embedded engine speaks Anthropic's format on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import pytest

from mellea.backends.anthropic import AnthropicBackend
from mellea.core.accumulator import Accumulator, Generation
from mellea.core.backend import Backend, OutputSchema, Request, ToolSpec
from mellea.core.blocks import ToolOutput
from mellea.core.events import Event, ToolDelta, ToolEnd, ToolStart
from mellea.core.messages import Message, system_message, user_message
from mellea.errors import AuthError, BadRequestError, ConfigurationError
from mellea.testing.contract import BackendContract
from mellea.testing.engine_server import EngineServer, count_busy_slots, engine_server
from tests.backends.anthropic.hermes import TEMPLATE, calls_before
from tests.backends.anthropic.hermes import WEATHER as WEATHER_PROMPT
from tests.soak import choose_loops

TOWNS = calls_before(
    "A town and its population, as JSON: {}",
    "town",
    ("Bern", {"name": "Bern", "population": 134000}, "noted"),
    ("Graz", {"name": "Graz", "population": 291000}, "noted"),
    ("Lyon", {"name": "Lyon", "population": 520000}, "noted"),
)

WEATHER = ToolSpec(
    "get_weather",
    "The weather in a city.",
    {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)

pytestmark = pytest.mark.one_loop


@pytest.fixture(scope="module")
def server() -> Iterator[EngineServer]:
    pytest.importorskip("xllamacpp")
    try:
        with engine_server(parallel=2, chat_template=TEMPLATE) as server:
            yield server
    except ConfigurationError as error:
        pytest.skip(str(error))


def backend_of(server: EngineServer, model: str | None = None, **settings: Any) -> AnthropicBackend:
    return AnthropicBackend(model or server.model, base_url=server.root, api_key=server.api_key, **settings)


async def read(backend: Backend, *messages: Message, **request: Any) -> tuple[Generation, list[Event]]:
    accumulator = Accumulator()
    events = [event async for event in backend.run(Request(messages, **request))]
    accumulator.feed(events)
    return accumulator.generation(), events


class TestContract(BackendContract):
    """The contract, with streams that are really streamed."""

    loops: ClassVar[tuple[str, ...]] = choose_loops("trio")
    close_seconds: ClassVar[float] = 5.0
    tool_prompt: ClassVar[tuple[Message | str, ...]] = WEATHER_PROMPT
    tool_choice: ClassVar[str | None] = None  # the engine takes "any" and forces nothing
    model: ClassVar[str] = "claude-sonnet-4"  # one that holds a schema by a call: the engine ignores `output_config`
    server: ClassVar[EngineServer]

    @pytest.fixture(autouse=True)
    def _serve(self, server: EngineServer) -> None:
        type(self).server = server
        type(self).secrets = (server.api_key,)

    def make_backend(self) -> AnthropicBackend:
        return backend_of(self.server, self.model)

    def assert_idle(self, backend: Backend) -> None:
        assert count_busy_slots(self.server.url, self.server.api_key) == 0, "the server is still writing"

    def request(self, *messages: Message | str, output_schema: OutputSchema | None = None, **more: Any) -> Request:
        """Keep the small model from writing until its context is full, and lead it to the call that is its answer."""
        if output_schema is not None:
            messages = (*TOWNS, *messages)
        room = 200 if self.long_prompt in messages else 60 if output_schema or more.get("tools") else 16
        return super().request(*messages, output_schema=output_schema, **{"max_tokens": room, "temperature": 0, **more})


@pytest.mark.anyio
async def test_a_plain_answer_is_the_streamed_one(server: EngineServer) -> None:
    backend = backend_of(server)
    ask = {"max_tokens": 12, "temperature": 0}
    streamed, _ = await read(backend, user_message("Say hello."), options=ask)
    plain, _ = await read(backend, user_message("Say hello."), options={**ask, "stream": False})
    assert plain.text == streamed.text and plain.finish_reason == streamed.finish_reason
    assert plain.usage is not None and streamed.usage is not None
    assert plain.usage.input_tokens == streamed.usage.input_tokens
    assert plain.usage.output_tokens == streamed.usage.output_tokens


@pytest.mark.anyio
async def test_the_system_prompt_and_a_stop_reach_the_model(server: EngineServer) -> None:
    messages = (system_message("Speak only about rivers. " * 20), user_message("Count: one two three"))
    long, _ = await read(backend_of(server), *messages, options={"max_tokens": 4})
    short, _ = await read(backend_of(server), *messages[1:], options={"max_tokens": 4, "stop": ["e"]})
    assert long.usage and short.usage and (long.usage.input_tokens or 0) > 100 > (short.usage.input_tokens or 0)
    assert "e" not in short.text


@pytest.mark.anyio
async def test_a_prompt_that_is_too_long(server: EngineServer) -> None:
    with pytest.raises(BadRequestError, match="context"):
        await read(backend_of(server), user_message("word " * 4000))


@pytest.mark.anyio
async def test_a_wrong_key(server: EngineServer) -> None:
    backend = AnthropicBackend(server.model, base_url=server.root, api_key="sk-wrong-key-1234")
    with pytest.raises(AuthError) as caught:
        await read(backend, user_message("Hi"))
    assert "sk-wrong-key-1234" not in str(caught.value)


@pytest.mark.anyio
async def test_the_model_is_listed(server: EngineServer) -> None:
    assert server.model in await backend_of(server).list_models()
    assert (await backend_of(server).probe()).ok


@pytest.mark.anyio
@pytest.mark.thorough  # the contract has one called, too
async def test_a_tool_is_called(server: EngineServer) -> None:
    ask: dict[str, Any] = {"tools": (WEATHER,), "options": {"max_tokens": 60, "temperature": 0}}
    answer, events = await read(backend_of(server), *WEATHER_PROMPT, **ask)
    assert answer.finish_reason == "tool_call"
    (called,) = answer.tool_calls
    assert (called.tool_name, called.is_valid, "city" in called.tool_args) == ("get_weather", True, True)
    kinds = [type(event) for event in events if isinstance(event, (ToolStart, ToolDelta, ToolEnd))]
    assert kinds[0] is ToolStart and kinds[-1] is ToolEnd and kinds.count(ToolDelta) > 1
    result = Message("tool", ToolOutput(called.tool_call_id, called.tool_name, "rainy"))
    last, _ = await read(backend_of(server), *WEATHER_PROMPT, answer.message, result, **ask)
    assert last.text or last.tool_calls
