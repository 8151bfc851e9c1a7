"""`thunk.request`: what was sent, without keys."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import httpx
import pytest

import mellea
from mellea.backends import FallbackBackend, Request
from mellea.backends.anthropic import AnthropicBackend
from mellea.backends.openai import OpenAIBackend
from mellea.core.messages import user_message
from mellea.core.requirement import Requirement
from mellea.errors import ConnectError
from mellea.stdlib.requirements import req, simple_validate
from mellea.testing import ScriptedBackend

pytestmark = pytest.mark.anyio

KEY = "sk-planted-0123456789"


def backend(sent: list[Any]) -> OpenAIBackend:
    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(json.loads(request.content))
        body = {"choices": [{"index": 0, "message": {"content": "hello"}, "finish_reason": "stop"}]}
        return httpx.Response(200, json=body)

    client = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    extra = {"user": "me", "metadata": {"token": "hidden-token"}}
    return OpenAIBackend("m", base_url="http://h/v1", api_key=KEY, client=client, extra_body=extra)


async def test_the_payload_is_what_went_over_the_wire(anyio_backend: str) -> None:
    sent: list[Any] = []
    m = mellea.start_session(backend(sent))
    options = {"temperature": 0.5, "extra_headers": {"x-api-key": "another-key"}}
    thunk = await m.ainstruct(f"Say {KEY}", model_options=options)
    shown = thunk.request
    assert shown is not None and (shown.backend, shown.model) == ("compatible", "m")
    assert shown.messages[-1].role == "user" and shown.options["temperature"] == 0.5
    expected = {**sent[0], "metadata": {"token": "***"}}
    expected = json.loads(json.dumps(expected).replace(KEY, "***"))
    assert shown.payload == expected
    for secret in (KEY, "hidden-token", "another-key"):
        assert secret not in repr((shown, shown.payload, shown.options))


def test_the_payload_shows_in_plain_code() -> None:
    sent: list[Any] = []
    thunk = mellea.start_session(backend(sent)).instruct("Say hello")
    assert thunk.request is not None
    assert thunk.request.payload == {**sent[0], "metadata": {"token": "***"}}


def test_the_payload_of_the_stock_client_shows_in_plain_code() -> None:
    plain = OpenAIBackend("m", base_url="http://127.0.0.1:9/v1", api_key=KEY)
    shown = plain.wire_payload(Request((user_message("Say hello"),)))
    assert shown["model"] == "m" and KEY not in repr(shown)


def test_a_key_that_is_a_word_hides_no_words_of_the_prompt() -> None:
    local = OpenAIBackend("m", base_url="http://127.0.0.1:9/v1", api_key="hello")
    shown = local.wire_payload(Request((user_message("Say hello"),)))
    assert shown["messages"] == [{"role": "user", "content": "Say hello"}]


async def test_copies_keep_it_and_pickles_dont(anyio_backend: str) -> None:
    thunk = await mellea.start_session(ScriptedBackend("a")).ainstruct("x")
    assert copy.copy(thunk).request is thunk.request is not None
    assert pickle.loads(pickle.dumps(thunk)).request is None


async def test_a_chain_shows_the_model_that_answered(anyio_backend: str) -> None:
    one, two = ScriptedBackend([ConnectError("down")]), ScriptedBackend("fine")
    two.model_id = "the-second"
    inner = FallbackBackend([ScriptedBackend([ConnectError("down")]), two])
    for chain in (FallbackBackend([one, two]), FallbackBackend([one, inner])):
        thunk = await mellea.start_session(chain).ainstruct("x")
        assert thunk.request is not None and thunk.request.model == "the-second"
        one, two = ScriptedBackend([ConnectError("down")]), ScriptedBackend("fine")


async def test_under_a_strategy_it_is_that_of_the_chosen_attempt(anyio_backend: str) -> None:
    needed: list[Requirement] = [req("good", validation_fn=simple_validate(lambda text: "good" in text))]
    m = mellea.start_session(ScriptedBackend("bad", "good"))
    thunk = await m.ainstruct("x", requirements=needed)
    assert thunk.value == "good" and thunk.request is not None
    assert len(thunk.request.messages) >= 1


async def test_a_running_one_shows_it_as_soon_as_it_is_sent(anyio_backend: str) -> None:
    m = mellea.start_session(ScriptedBackend("a"))
    thunk = await m.ainstruct("x", await_result=False)
    await thunk
    assert thunk.request is not None and "1 messages" in repr(thunk.request)


async def test_a_provider_of_another_format(anyio_backend: str) -> None:
    shown = AnthropicBackend("claude-sonnet-4-5", api_key=KEY)
    thunk = await mellea.start_session(ScriptedBackend("a")).ainstruct("x")
    payload = shown.wire_payload(thunk.request._request)  # type: ignore[union-attr]
    assert payload["model"] == "claude-sonnet-4-5" and payload["messages"]
