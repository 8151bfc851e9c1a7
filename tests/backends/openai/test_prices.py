"""Prices at an address of one's own: those that the program set under the name that it wrote, and no list prices."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

import mellea
from mellea import prices
from mellea.errors import ConfigurationError
from mellea.stdlib.agents import Agent, Limits
from tests.backends.http.misbehaving import MisbehavingServer, answer, misbehaving

_ANSWER = {
    "id": "1",
    "object": "chat.completion",
    "model": "/models/small.gguf",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello."}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 1_000_000, "completion_tokens": 500_000, "total_tokens": 1_500_000},
}


@pytest.fixture(autouse=True)
def _list_prices() -> Iterator[None]:
    yield
    prices.reset_prices()


@pytest.fixture(params=["/models/small.gguf", "small", None], ids=["its own name", "the name asked for", "no name"])
def server(request: pytest.FixtureRequest) -> Iterator[MisbehavingServer]:
    """A server that calls its model as it likes."""
    body = json.dumps({**_ANSWER, "model": request.param}).encode()
    with misbehaving(lambda c: c.send(answer(200, body, content_type="application/json"))) as server:
        yield server


@pytest.mark.parametrize("name", ["openai/small", "openai/*", "compatible/small"])
def test_a_price_under_the_name_that_was_written_counts(server: MisbehavingServer, name: str) -> None:
    prices.set_prices({name: {"input": 1, "output": 2}})
    m = mellea.start_session("openai/small", base_url=server.url, api_key="")
    thunk = m.instruct("Hello")
    assert thunk.cost == pytest.approx(2.0) and m.cost == pytest.approx(2.0)
    limited = Agent(m.backend, limits=Limits(cost=10.0)).run("Hello")
    assert limited.cost == pytest.approx(2.0)


def test_list_prices_do_not_hold_for_an_unknown_server(server: MisbehavingServer) -> None:
    m = mellea.start_session("openai/gpt-4o", base_url=server.url, api_key="")
    assert m.instruct("Hello").cost is None and m.cost is None
    with pytest.raises(ConfigurationError, match=r"'openai/gpt-4o'.*set_prices"):
        Agent(m.backend, limits=Limits(cost=1.0)).run("Hello")
    prices.set_prices({"openai/gpt-4o": {"input": 1, "output": 1}})
    assert prices.find_price("openai", "gpt-4o") == prices.find_price("compatible", "gpt-4o")
    prices.reset_prices()
    assert prices.find_price("compatible", "gpt-4o") is None


def test_the_price_of_the_model_asked_for_counts_only_if_the_program_set_it() -> None:
    assert prices.find_price("openai", "gpt-next", "gpt-4o") is None
    prices.set_prices({"openai/gpt-4o": prices.Price(1, 1), "groq/a": prices.Price(2, 2)})
    assert prices.find_price("openai", "gpt-next", "gpt-4o") == prices.Price(1, 1)
    assert prices.find_price("openai", "gpt-5", "gpt-4o") != prices.Price(1, 1), "the model that answered has a price"
    assert prices.find_price("groq", "b", "a") == prices.Price(2, 2) and prices.find_price("groq", "gpt-4o") is None
