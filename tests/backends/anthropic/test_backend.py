"""The backend over HTTP, with a client whose answers are made here."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from mellea.backends.anthropic import AnthropicBackend, tools
from mellea.core.accumulator import Accumulator, Generation
from mellea.core.backend import OutputSchema, Request
from mellea.core.messages import user_message
from mellea.errors import (
    AuthError,
    BadRequestError,
    InterruptedStreamError,
    OverloadedError,
    UnsupportedError,
    UsageError,
)
from tests.backends.anthropic import answers

pytestmark = pytest.mark.anyio

KEY = "sk-ant-planted-key"


async def _streamed(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), 100):
        yield body[start : start + 100]


class Server:
    """Answers every request with one body, and remembers what it was asked."""

    def __init__(self, body: bytes, *, kind: str = "text/event-stream", status: int = 200) -> None:
        self.asked: list[httpx.Request] = []
        self._answer: Callable[[], httpx.Response] = lambda: httpx.Response(
            status, content=_streamed(body), headers={"content-type": kind, "request-id": "req_1"}
        )

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        return self._answer()

    def backend(self, model: str = "claude-sonnet-4-5", **settings: Any) -> AnthropicBackend:
        client = httpx.AsyncClient(transport=httpx.MockTransport(self))
        return AnthropicBackend(model, client=client, retries=0, **{"api_key": KEY, **settings})

    @property
    def payload(self) -> dict[str, Any]:
        return dict(json.loads(self.asked[-1].content))


async def read(backend: AnthropicBackend, **request: Any) -> Generation:
    accumulator = Accumulator()
    async for event in backend.run(Request((user_message("Hi"),), **request)):
        accumulator.feed([event])
    return accumulator.generation()


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


async def test_what_is_asked_and_what_comes_back() -> None:
    server = Server(answers.HELLO)
    answer = await read(server.backend(), options={"temperature": 0})
    assert (answer.text, answer.finish_reason, answer.model) == ("Hello wörld", "stop", "claude-test")
    (asked,) = server.asked
    assert str(asked.url) == "https://api.anthropic.com/v1/messages"
    assert (asked.headers["x-api-key"], asked.headers["anthropic-version"]) == (KEY, "2023-06-01")
    assert "authorization" not in asked.headers and "anthropic-beta" not in asked.headers
    assert server.payload["temperature"] == 0 and server.payload["stream"] is True


async def test_one_plain_answer() -> None:
    body = json.dumps(answers.start(content=[{"type": "text", "text": "Hi"}], stop_reason="end_turn")["message"])
    server = Server(body.encode(), kind="application/json")
    assert (await read(server.backend(), options={"stream": False})).text == "Hi"
    assert server.payload["stream"] is False


async def test_the_extra_body_is_merged_into_ours() -> None:
    server = Server(answers.HELLO)
    schema = OutputSchema("n", {"type": "object", "properties": {}, "additionalProperties": False})
    await read(server.backend(extra_body={"output_config": {"effort": "low"}, "top": 1}), output_schema=schema)
    form = {"type": "json_schema", "schema": dict(schema.schema)}
    assert server.payload["output_config"] == {"format": form, "effort": "low"} and server.payload["top"] == 1


async def test_beta_features_join_the_users_own() -> None:
    server = Server(answers.HELLO)
    backend = server.backend(headers={"Anthropic-Beta": "mine-2026-01-01"})
    await read(backend, tools=(tools.mcp("docs", "https://a.example"),))
    assert server.asked[0].headers["anthropic-beta"] == "mine-2026-01-01,mcp-client-2025-11-20"


async def test_an_older_model_answers_a_schema_by_a_call() -> None:
    answered = answers.call(0, {**answers.TOOL, "name": "town"}, '{"name": "Bern"}')
    server = Server(answers.framed(answers.start(), *answered, *answers.end("tool_use")))
    schema = OutputSchema("town", {"type": "object", "properties": {"name": {"type": "string"}}})
    answer = await read(server.backend("claude-sonnet-4"), output_schema=schema)
    assert (answer.text, answer.finish_reason, answer.tool_calls) == ('{"name": "Bern"}', "stop", ())
    assert server.payload["tool_choice"] == {"type": "tool", "name": "town"}


async def test_where_the_server_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert AnthropicBackend("m").base_url == "https://api.anthropic.com/v1"
    assert AnthropicBackend("m", base_url="http://h:1/a/").base_url == "http://h:1/a/v1"
    assert AnthropicBackend("m", base_url="http://h:1/v1/").base_url == "http://h:1/v1"
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://env:1")
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    backend = AnthropicBackend("m")
    assert (backend.base_url, backend.api_key) == ("http://env:1/v1", KEY)
    assert KEY not in repr(backend)
    with pytest.raises(UsageError, match="base_url"):
        AnthropicBackend("m", base_url=5)  # type: ignore[arg-type]


async def test_without_a_key_nothing_is_sent() -> None:
    server = Server(answers.HELLO)
    backend = server.backend(api_key=None)
    with pytest.raises(AuthError, match=r"ANTHROPIC_API_KEY.*'ai_gateway/anthropic/claude-sonnet-4-5'"):
        await read(backend)
    assert server.asked == []


async def test_another_server_may_need_no_key() -> None:
    server = Server(answers.HELLO)
    await read(server.backend("local", api_key=None, base_url="http://h:1"))
    await read(server.backend(api_key=None, headers={"Authorization": "Bearer mine"}))
    assert "x-api-key" not in server.asked[0].headers
    assert server.asked[1].headers["authorization"] == "Bearer mine"


async def test_an_error_says_what_the_provider_says() -> None:
    body = b'{"type": "error", "error": {"type": "invalid_request_error", "message": "max_tokens: too large"}}'
    with pytest.raises(BadRequestError, match="max_tokens: too large") as caught:
        await read(Server(body, kind="application/json", status=400).backend())
    error = caught.value
    assert (error.backend, error.model, error.request_id) == ("anthropic", "claude-sonnet-4-5", "req_1")
    assert KEY not in str(error)


async def test_an_error_in_mid_stream() -> None:
    failure = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    body = answers.framed(answers.start(), *answers.text(0, "Hel")[:2], failure)
    with pytest.raises(OverloadedError, match="Overloaded") as caught:
        await read(Server(body).backend())
    assert caught.value.partial == "Hel"


async def test_a_stream_without_its_end() -> None:
    with pytest.raises(InterruptedStreamError) as caught:
        await read(Server(answers.HELLO[:-40]).backend())
    assert caught.value.partial == "Hello wörld"


@pytest.mark.parametrize(("model", "option"), [("claude-opus-4-8", "temperature"), ("claude-sonnet-4-5", "seed")])
async def test_what_a_model_refuses_isnt_sent(model: str, option: str) -> None:
    server = Server(answers.HELLO)
    with pytest.raises(UnsupportedError, match=option):
        await read(server.backend(model), options={option: 0})
    assert server.asked == []


def test_capabilities_follow_the_model() -> None:
    old, new = AnthropicBackend("claude-sonnet-4").capabilities, AnthropicBackend("claude-opus-5").capabilities
    assert (old.structured_output, old.prefill, "temperature" in old.options) == ("tool", True, True)
    assert (new.structured_output, new.prefill, "temperature" in new.options) == ("native", False, False)


async def test_models_are_listed() -> None:
    server = Server(b'{"data": [{"id": "claude-a"}, {"id": "claude-b"}], "has_more": false}', kind="application/json")
    assert await server.backend().list_models() == ["claude-a", "claude-b"]
    assert str(server.asked[0].url) == "https://api.anthropic.com/v1/models?limit=1000"
