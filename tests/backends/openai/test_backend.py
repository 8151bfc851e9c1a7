"""The backend: services, keys, addresses, images and embeddings. Nothing leaves the process."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from email.parser import BytesParser
from email.policy import HTTP
from typing import Any

import httpx
import pytest

from mellea.backends.openai import SERVICES, OpenAIBackend, Service
from mellea.backends.openai.services import find_service_at
from mellea.core.accumulator import Accumulator, Generation
from mellea.core.backend import OutputSchema, Request
from mellea.core.blocks import FileBlock, ImageBlock
from mellea.core.events import TextDelta, Usage
from mellea.core.messages import system_message, user_message
from mellea.errors import (
    AuthError,
    BadRequestError,
    ConfigurationError,
    RateLimitError,
    UnsupportedError,
    UsageError,
    WireError,
)
from tests.backends.openai.bodies import chunk, response, sse

KEY = "sk-planted-key-123456"

pytestmark = pytest.mark.anyio

ANSWER = sse(chunk(content="Hi"), chunk("stop"))


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for service in SERVICES.values():
        for name in (*service.key_variables, service.url_variable, service.model_variable):
            if name:
                monkeypatch.delenv(name, raising=False)


class Server:
    """Answers every request, and keeps it."""

    def __init__(self, body: bytes | Any = ANSWER, *, status: int = 200) -> None:
        is_stream = isinstance(body, bytes)
        self._answer = body if is_stream else json.dumps(body).encode()
        self._type = "text/event-stream" if is_stream else "application/json"
        self._status = status
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return httpx.Response(self._status, content=self._answer, headers={"content-type": self._type})

    def backend(self, model: str = "m", **settings: Any) -> OpenAIBackend:
        settings.setdefault("retries", 0)
        return OpenAIBackend(model, client=httpx.AsyncClient(transport=httpx.MockTransport(self)), **settings)

    @property
    def sent(self) -> Any:
        return json.loads(self.requests[-1].content)


async def read(backend: OpenAIBackend, *messages: Any, **request: Any) -> Generation:
    accumulator = Accumulator()
    asked = Request(messages or (user_message("Hi"),), **request)
    accumulator.feed([event async for event in backend.run(asked)])
    return accumulator.generation()


async def test_a_chat_completion() -> None:
    server = Server()
    answer = await read(server.backend("gpt-4o", api_key=KEY), options={"temperature": 0})
    (request,) = server.requests
    assert str(request.url) == "https://api.openai.com/v1/chat/completions"
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert server.sent["temperature"] == 0
    assert (answer.text, answer.finish_reason, answer.model) == ("Hi", "stop", "m1")


async def test_a_response() -> None:
    text = {"type": "response.output_text.delta", "output_index": 0, "delta": "Hi"}
    server = Server(sse(text, {"type": "response.completed", "response": response()}, done=False))
    answer = await read(server.backend(api="responses", api_key=KEY))
    assert server.requests[0].url.path == "/v1/responses" and answer.text == "Hi"


@pytest.mark.parametrize("api", ["chat", "responses"])
async def test_one_plain_answer(api: str) -> None:
    message = {"role": "assistant", "content": "Hi"}
    plain: dict[str, Any] = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    if api == "responses":
        output = [{"type": "message", "content": [{"type": "output_text", "text": "Hi"}]}]
        plain = response(output=output)
    server = Server(plain)
    answer = await read(server.backend(api=api, api_key=KEY), options={"stream": False})
    assert answer.text == "Hi" and server.sent["stream"] is False


async def test_a_value_that_is_no_object() -> None:
    server = Server(sse(chunk(content='{"value": '), chunk(content="[1, 2]}"), chunk("stop")))
    schema = OutputSchema("numbers", {"type": "array", "items": {"type": "integer"}})
    assert (await read(server.backend(api_key=KEY), output_schema=schema)).text == "[1, 2]"


@pytest.mark.parametrize("name", [name for name, each in SERVICES.items() if not each.is_local and each.base_url])
async def test_a_missing_key_is_named_at_the_first_request(name: str) -> None:
    server = Server()
    backend = server.backend("some/model", service=name)
    with pytest.raises(AuthError, match=SERVICES[name].key_variables[0]) as caught:
        await read(backend)
    assert caught.value.backend == name and not server.requests


async def test_a_missing_key_names_the_other_way() -> None:
    with pytest.raises(AuthError, match="ai_gateway/openai/gpt-4o"):
        await read(Server().backend("gpt-4o"))
    with pytest.raises(AuthError, match="'anthropic/claude'"):
        await read(Server().backend("anthropic/claude", service="ai_gateway"))


@pytest.mark.parametrize(
    "settings",
    [
        {"service": "lmstudio"},
        {"base_url": "http://127.0.0.1:8080/v1"},
        {"base_url": "https://llm.example/v1"},
        {"api_key": ""},
    ],
)
async def test_no_key_no_authorization(settings: dict[str, Any]) -> None:
    server = Server()
    await read(server.backend(**settings))
    assert "authorization" not in server.requests[0].headers


async def test_a_key_comes_from_the_services_own_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GROQ_API_KEY", KEY)
    server = Server()
    await read(server.backend(service="groq"))
    assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", KEY)
    server = Server()
    await read(server.backend(base_url="https://mine.openai.azure.com/openai/v1"))
    assert server.requests[0].headers["api-key"] == KEY and "authorization" not in server.requests[0].headers


def test_where_a_service_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert OpenAIBackend("m").base_url.rstrip("/") == "https://api.openai.com/v1"
    monkeypatch.setenv("LMSTUDIO_BASE_URL", "http://127.0.0.1:5000/v1")
    monkeypatch.setenv("LMSTUDIO_MODEL", "local-model")
    backend = OpenAIBackend(service="lmstudio")
    assert (backend.name, backend.model_id) == ("lmstudio", "local-model")
    assert backend.base_url.rstrip("/") == "http://127.0.0.1:5000/v1"
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:6000/v1")
    assert (OpenAIBackend("m").name, OpenAIBackend("m").base_url.rstrip("/")) == (
        "compatible",
        "http://127.0.0.1:6000/v1",
    )
    assert OpenAIBackend("m", base_url="https://api.deepseek.com/v1").name == "deepseek"
    assert find_service_at("http://user:word@localhost:1234/v1").name == "lmstudio"


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: OpenAIBackend("m", service="nonesuch"), ConfigurationError, "known are"),
        (lambda: OpenAIBackend("m", service="azure"), ConfigurationError, "AZURE_OPENAI_BASE_URL"),
        (lambda: OpenAIBackend(service="lmstudio"), ConfigurationError, "LMSTUDIO_MODEL"),
        (lambda: OpenAIBackend(), ConfigurationError, "'openai' needs the name of a model"),
        (lambda: OpenAIBackend(base_url="https://llm.example/v1"), ConfigurationError, "the server at base_url needs"),
        (lambda: OpenAIBackend("m", service="mistral", api="responses"), ConfigurationError, "Responses"),
        (lambda: OpenAIBackend("m", api="assistants"), UsageError, "responses"),  # type: ignore[arg-type]
    ],
)
def test_a_backend_that_cant_be_made(make: Callable[[], Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        make()


def test_a_service_of_ones_own() -> None:
    mine = Service("mine", "https://llm.example/v1", ("MY_KEY",), options={"temperature": "temp"}, has_tools=False)
    backend = OpenAIBackend("m", service=mine)
    assert backend.name == "mine" and not backend.capabilities.tools
    assert "max_tokens" not in backend.capabilities.options


def test_every_service_is_told_apart() -> None:
    places = [service.base_url for service in SERVICES.values() if service.base_url]
    assert len(set(places)) == len(places)
    assert all(service.is_local or service.key_variables for service in SERVICES.values())
    assert all(service.name == name for name, service in SERVICES.items())


async def test_what_isnt_supported_isnt_sent() -> None:
    server = Server()
    for settings, request in (
        ({"service": "perplexity"}, {"options": {"tool_choice": "auto"}}),
        ({"api": "responses"}, {"options": {"seed": 1}}),
        ({"model": "o3"}, {"options": {"thinking": False}}),
    ):
        with pytest.raises(UnsupportedError) as caught:
            await read(server.backend(api_key=KEY, **settings), **request)
        assert caught.value.backend
    assert not server.requests


async def test_errors_of_the_provider() -> None:
    quota = {"error": {"message": "no money", "code": "insufficient_quota"}}
    with pytest.raises(RateLimitError, match="no money") as caught:
        await read(Server(quota, status=429).backend(api_key=KEY))
    assert not caught.value.is_retryable
    with pytest.raises(BadRequestError, match="bad") as bad:
        await read(Server({"error": {"message": f"bad key {KEY}"}}, status=400).backend(api_key=KEY))
    assert KEY not in str(bad.value)


def test_the_key_is_nowhere_to_be_seen() -> None:
    assert KEY not in repr(OpenAIBackend("m", api_key=KEY)) + str(vars(OpenAIBackend("m", api_key=KEY)))


async def test_images() -> None:
    data = base64.b64encode(b"pixels").decode()
    usage = {"input_tokens": 5, "output_tokens": 7}
    server = Server(
        {
            "created": 1,
            "output_format": "webp",
            "data": [{"b64_json": data}, {"url": "https://a.example/i"}],
            "usage": usage,
        }
    )
    prompt = [system_message("In blue."), user_message("A cat")]
    made = await server.backend("gpt-image-1", api_key=KEY).generate_image(
        prompt, n=2, aspect_ratio="16:9", options={"quality": "low"}
    )
    assert made.images == (
        ImageBlock("image/webp", data=b"pixels"),
        ImageBlock("image/webp", url="https://a.example/i"),
    )
    assert (made.usage, made.model) == (Usage(5, 7), "gpt-image-1")
    assert server.requests[0].url.path == "/v1/images/generations"
    sent = {"model": "gpt-image-1", "prompt": "In blue.\n\nA cat", "n": 2, "size": "1536x1024", "quality": "low"}
    assert server.sent == sent
    await server.backend("dall-e-3", api_key=KEY).generate_image("A cat", aspect_ratio="9:16")
    assert (server.sent["size"], server.sent["response_format"]) == ("1024x1792", "b64_json")


@pytest.mark.parametrize(("count", "field"), [(1, "image"), (2, "image[]")])
async def test_images_are_changed_by_a_form(count: int, field: str) -> None:
    server = Server({"created": 1, "data": [{"b64_json": base64.b64encode(b"pixels").decode()}]})
    images = [ImageBlock("image/webp", b"web\r\n--p", filename="a.webp"), ImageBlock(data=b"png")][:count]
    prompt = [user_message("Make it blue.", *images)]
    made = await server.backend("gpt-image-1", api_key=KEY).generate_image(
        prompt, n=2, aspect_ratio="1:1", options={"quality": "low"}
    )
    assert made.images == (ImageBlock(data=b"pixels"),)
    (request,) = server.requests
    assert request.url.path == "/v1/images/edits" and request.headers["authorization"] == f"Bearer {KEY}"
    form = BytesParser(policy=HTTP).parsebytes(
        b"content-type: " + request.headers["content-type"].encode() + b"\r\n\r\n" + request.content
    )
    parts = [(part.get_param("name", header="content-disposition"), part) for part in form.iter_parts()]
    fields = {name: part.get_payload() for name, part in parts if part.get_filename() is None}
    assert fields == {
        "model": "gpt-image-1", "prompt": "Make it blue.", "n": "2", "size": "1024x1024", "quality": "low",
    }  # fmt: skip
    files = [
        (name, part.get_filename(), part.get_content_type(), part.get_payload(decode=True))
        for name, part in parts
        if part.get_filename() is not None
    ]
    expected = [(field, "a.webp", "image/webp", b"web\r\n--p"), (field, "image_2.png", "image/png", b"png")]
    assert files == expected[:count]


async def test_images_that_cant_be_made() -> None:
    backend = Server({"data": [{}]}).backend("gpt-image-1", api_key=KEY)
    with pytest.raises(UnsupportedError, match="5:4"):
        await backend.generate_image("A cat", aspect_ratio="5:4")
    with pytest.raises(UnsupportedError, match="image_generation"):
        await backend.generate_image([user_message("More like", ImageBlock(url="https://a.example/i"))])
    with pytest.raises(UnsupportedError, match="image_generation"):
        await backend.generate_image([user_message("More like", FileBlock("text/plain", b"x"))])
    with pytest.raises(UnsupportedError, match=r"'xai' can't edit images; these can: 'openai'"):
        made = Server().backend("grok-image", service="xai", api_key=KEY)
        await made.generate_image([user_message("More like", ImageBlock(data=b"x"))])
    with pytest.raises(UsageError, match="n takes"):
        await backend.generate_image("A cat", n=0)
    with pytest.raises(UsageError, match="prompt"):
        await backend.generate_image(" ")
    with pytest.raises(WireError):
        await backend.generate_image("A cat")
    with pytest.raises(UnsupportedError, match="'openai'"):
        await Server().backend(service="groq", api_key=KEY).generate_image("A cat")


async def test_embeddings() -> None:
    data = [{"index": 1, "embedding": [0.5, 1]}, {"index": 0, "embedding": [0.0, -1.0]}]
    server = Server({"data": data, "model": "e", "usage": {"prompt_tokens": 4}})
    made = await server.backend("e", api_key=KEY).embed(["a", "b"], dimensions=2)
    assert made.vectors == ((0.0, -1.0), (0.5, 1.0)) and (made.usage, made.model) == (Usage(4), "e")
    assert server.sent == {"model": "e", "input": ["a", "b"], "encoding_format": "float", "dimensions": 2}
    with pytest.raises(WireError, match="2 embeddings for 1"):
        await server.backend("e", api_key=KEY).embed(["a"])
    with pytest.raises(UsageError):
        await server.backend("e", api_key=KEY).embed("a")
    with pytest.raises(UnsupportedError, match="'openai'"):
        await Server().backend(service="groq", api_key=KEY).embed(["a"])


async def test_an_error_in_mid_stream_comes_after_the_text() -> None:
    backend = Server(sse(chunk(content="Hi"), {"error": {"message": "slow", "code": 429}})).backend("m", api_key=KEY)
    events = []
    with pytest.raises(RateLimitError) as caught:
        async for event in backend.run(Request((user_message("Hi"),))):
            events.append(event)
    assert TextDelta("Hi") in events
    assert (caught.value.partial, caught.value.backend, caught.value.model) == ("Hi", "openai", "m")
