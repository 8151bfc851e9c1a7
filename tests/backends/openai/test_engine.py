"""Against a real server: the embedded engine speaks chat completions and responses on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar
from unittest import SkipTest

import pytest

from mellea.backends.openai import OpenAIBackend
from mellea.core.accumulator import Accumulator, Generation
from mellea.core.backend import Backend, OutputSchema, Request, ToolSpec
from mellea.core.blocks import ToolOutput
from mellea.core.events import Event, ToolDelta, ToolEnd, ToolStart
from mellea.core.messages import Message, user_message
from mellea.errors import AuthError, BadRequestError, ConfigurationError
from mellea.testing.contract import BackendContract
from mellea.testing.engine_server import EngineServer, count_busy_slots, engine_server
from tests.backends.anthropic.hermes import TEMPLATE
from tests.backends.anthropic.hermes import WEATHER as WEATHER_PROMPT
from tests.soak import choose_loops

MEAN = 1  # the engine's number for the pooling that makes one vector of a text

WEATHER = ToolSpec(
    "get_weather",
    "The weather in a city.",
    {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)

pytestmark = [pytest.mark.anyio, pytest.mark.one_loop]


@pytest.fixture(scope="module")
def server() -> Iterator[EngineServer]:
    pytest.importorskip("xllamacpp")
    try:
        with engine_server(parallel=2, chat_template=TEMPLATE, embedding=True, pooling_type=MEAN) as server:
            yield server
    except ConfigurationError as error:
        pytest.skip(str(error))


def backend_of(server: EngineServer, **settings: Any) -> OpenAIBackend:
    settings.setdefault("service", "llama_server")
    return OpenAIBackend(server.model, base_url=server.url, **{"api_key": server.api_key, **settings})


async def read(backend: Backend, *messages: Message, **request: Any) -> tuple[Generation, list[Event]]:
    accumulator = Accumulator()
    events = [event async for event in backend.run(Request(messages, **request))]
    accumulator.feed(events)
    return accumulator.generation(), events


class TestChat(BackendContract):
    """The contract over chat completions."""

    loops: ClassVar[tuple[str, ...]] = choose_loops("asyncio")
    close_seconds: ClassVar[float] = 5.0
    tool_prompt: ClassVar[tuple[Message | str, ...]] = WEATHER_PROMPT
    tool_choice: ClassVar[str | None] = None  # the engine takes "required" and forces nothing
    server: ClassVar[EngineServer]
    api: ClassVar[str] = "chat"

    @pytest.fixture(autouse=True)
    def _serve(self, server: EngineServer) -> None:
        type(self).server = server
        type(self).secrets = (server.api_key,)

    def make_backend(self) -> OpenAIBackend:
        return backend_of(self.server, api=self.api, model_options={"temperature": 0})

    def request(self, *messages: Message | str, **more: Any) -> Request:
        """Keep the small model from writing until its context is full: only what is cut off may be long."""
        room = 200 if self.long_prompt in messages else 60 if more.keys() & {"tools", "output_schema"} else 16
        return super().request(*messages, **{"max_tokens": room, **more})

    def assert_idle(self, backend: Backend) -> None:
        assert count_busy_slots(self.server.url, self.server.api_key) == 0, "the server is still writing"


@pytest.mark.thorough
class TestResponses(TestChat):
    """The contract over the Responses API."""

    loops: ClassVar[tuple[str, ...]] = choose_loops("trio")
    api: ClassVar[str] = "responses"

    def request(self, *messages: Message | str, output_schema: OutputSchema | None = None, **more: Any) -> Request:
        """Hold the schema in the chat format's words as well: on this wire the engine ignores `text.format`."""
        if output_schema is not None:
            form = {"type": "json_schema", "json_schema": {"schema": dict(output_schema.schema)}}
            more["extra_body"] = {"response_format": form}
        return super().request(*messages, output_schema=output_schema, **more)

    def test_max_tokens_ends_with_length(self) -> None:
        raise SkipTest("the engine says completed of a response that it cut off")


@pytest.mark.parametrize("api", ["chat", "responses"])
async def test_a_plain_answer_is_the_streamed_one(server: EngineServer, api: str) -> None:
    backend = backend_of(server, api=api)
    ask = {"max_tokens": 12, "temperature": 0}
    streamed, _ = await read(backend, user_message("Say hello."), options=ask)
    plain, _ = await read(backend, user_message("Say hello."), options={**ask, "stream": False})
    assert plain.text == streamed.text and plain.finish_reason == streamed.finish_reason
    assert plain.usage is not None and streamed.usage is not None
    assert plain.usage.output_tokens == streamed.usage.output_tokens


@pytest.mark.parametrize("api", ["chat", "responses"])
@pytest.mark.thorough  # the contract has one called, too
async def test_a_tool_is_called(server: EngineServer, api: str) -> None:
    ask: dict[str, Any] = {"tools": (WEATHER,), "options": {"max_tokens": 60, "temperature": 0}}
    answer, events = await read(backend_of(server, api=api), *WEATHER_PROMPT, **ask)
    assert answer.finish_reason == "tool_call"
    (called,) = answer.tool_calls
    assert (called.tool_name, called.is_valid, "city" in called.tool_args) == ("get_weather", True, True)
    kinds = [type(event) for event in events if isinstance(event, (ToolStart, ToolDelta, ToolEnd))]
    assert kinds[0] is ToolStart and kinds[-1] is ToolEnd and kinds.count(ToolDelta) > 1
    result = Message("tool", ToolOutput(called.tool_call_id, called.tool_name, "rainy"))
    last, _ = await read(backend_of(server, api=api), *WEATHER_PROMPT, answer.message, result, **ask)
    assert last.text and not last.tool_calls


async def test_a_list_comes_out_of_its_object(server: EngineServer) -> None:
    schema = OutputSchema("numbers", {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 3})
    answer, _ = await read(
        backend_of(server),
        user_message("Two numbers."),
        output_schema=schema,
        options={"temperature": 0, "max_tokens": 60},
    )
    assert answer.text.startswith("[") and answer.text.endswith("]"), answer.text


async def test_embeddings(server: EngineServer) -> None:
    made = await backend_of(server).embed(["a river", "a mountain"])
    assert [len(vector) for vector in made.vectors] == [576, 576] and made.vectors[0] != made.vectors[1]
    assert made.usage is not None and made.usage.input_tokens


async def test_a_prompt_that_is_too_long(server: EngineServer) -> None:
    with pytest.raises(BadRequestError, match="context"):
        await read(backend_of(server), user_message("word " * 4000))


async def test_a_wrong_key(server: EngineServer) -> None:
    with pytest.raises(AuthError) as caught:
        await read(backend_of(server, api_key="sk-wrong-key-1234"), user_message("Hi"))
    assert "sk-wrong-key-1234" not in str(caught.value)


async def test_the_model_is_listed(server: EngineServer) -> None:
    assert server.model in await backend_of(server).list_models()
    assert (await backend_of(server).probe()).ok


@pytest.mark.parametrize("seed", [1, 2])
async def test_the_official_client_gets_the_same_text(server: EngineServer, seed: int) -> None:
    openai = pytest.importorskip("openai", reason="OpenAI's client isn't installed")
    ask = {"temperature": 1.0, "seed": seed, "max_tokens": 16}
    ours, _ = await read(backend_of(server), user_message("Tell a story."), options=ask)
    with openai.OpenAI(api_key=server.api_key, base_url=server.url) as client:
        theirs = client.chat.completions.create(
            model=server.model, messages=[{"role": "user", "content": "Tell a story."}], **ask
        )
    assert ours.text == theirs.choices[0].message.content
