"""The backend end to end, against a server that stands in for Ollama's."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any, ClassVar

import anyio
import pytest

from mellea.backends.ollama import OllamaModelBackend
from mellea.core.accumulator import Accumulator, Generation
from mellea.core.backend import Request
from mellea.core.events import Usage
from mellea.core.messages import user_message
from mellea.errors import BackendError, InterruptedStreamError, NotFoundError, WireError
from mellea.testing import BackendContract
from tests.backends.ollama.answers import call, end, lines, message
from tests.backends.stand_in import Answer, Asked, StandIn, json_answer, stand_in

MODEL = "llama3.2"
STREAM = "application/x-ndjson"


def reply(asked: Asked) -> Answer:
    if asked.path == "/api/tags":
        return json_answer({"models": [{"name": "llama3.2:latest", "model": "llama3.2:latest"}, {"model": "qwen3:8b"}]})
    if asked.body["model"] != MODEL:
        return json_answer({"error": f"model '{asked.body['model']}' not found"}, 404)
    if asked.path == "/api/embed":
        vectors = [[index, 0.5] for index, _ in enumerate(asked.body["input"])]
        return json_answer({"model": MODEL, "embeddings": vectors, "prompt_eval_count": 4})
    chunks = _chunks(asked.body)
    if not asked.body["stream"]:
        return json_answer(end(content="".join(chunk["message"]["content"] for chunk in chunks)))
    return Answer([lines(chunk) for chunk in chunks], STREAM, pause=0.001)


def _chunks(body: Any) -> list[dict[str, Any]]:
    said = body["messages"][-1]["content"]
    if "tools" in body and body["messages"][-1]["role"] == "user":
        return [message("", tool_calls=[call("get_weather", {"city": "Lyon"})]), end()]
    if "format" in body:
        return [message('{"name": "Bern", '), message('"population": 134000}'), end()]
    if body.get("options", {}).get("num_predict") == 1:
        return [message("one"), end("length")]
    if "Count" in said:
        return [*(message(f"{number}, ") for number in range(200)), end()]
    if "Break off" in said:
        return [message("Half")]
    if "Fail" in said:
        return [message("Half"), {"error": "the model crashed"}]
    return [message("Hel"), message("lo."), end()]


@pytest.fixture(scope="module")
def server() -> Iterator[StandIn]:
    with stand_in(reply) as running:
        yield running


def make(server: StandIn, model: str = MODEL, **options: Any) -> OllamaModelBackend:
    return OllamaModelBackend(model, **{"base_url": server.url, "retries": 0, **options})


def generate(backend: OllamaModelBackend, prompt: str = "Hi", **options: Any) -> Generation:
    async def main() -> Generation:
        accumulator = Accumulator()
        async for event in backend.run(Request((user_message(prompt),), options=options)):
            accumulator.feed([event])
        return accumulator.generation()

    return anyio.run(main)


class TestContract(BackendContract):
    tool_choice: ClassVar[str | None] = None

    @pytest.fixture(autouse=True)
    def _server(self, server: StandIn) -> None:
        self.server = server

    def make_backend(self) -> OllamaModelBackend:
        return make(self.server)

    def assert_idle(self, backend: Any) -> None:
        self.server.assert_idle()


def test_a_stream_and_a_plain_answer(server: StandIn) -> None:
    for is_streamed in (True, False):
        made = generate(make(server), stream=is_streamed)
        assert (made.text, made.finish_reason, made.usage) == ("Hello.", "stop", Usage(26, 8))
        assert server.asked[-1].body["stream"] is is_streamed
    assert server.asked[-1].path == "/api/chat"


def test_no_key_no_header(server: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OLLAMA_API_KEY", raising=False)
    generate(make(server))
    assert "authorization" not in server.asked[-1].headers
    generate(make(server, api_key="hosted-key-123"))
    assert server.asked[-1].headers["authorization"] == "Bearer hosted-key-123"


def test_how_long_the_model_stays_loaded(server: StandIn) -> None:
    generate(make(server, keep_alive="10m"))
    assert server.asked[-1].body["keep_alive"] == "10m"
    anyio.run(make(server, keep_alive=0).embed, ["a"])
    assert server.asked[-1].body["keep_alive"] == 0


@pytest.mark.parametrize(
    ("prompt", "kind", "says"),
    [("Break off", InterruptedStreamError, "the stream was cut"), ("Fail", BackendError, "the model crashed")],
)
def test_what_had_arrived_is_kept(server: StandIn, prompt: str, kind: type[BackendError], says: str) -> None:
    with pytest.raises(kind, match=says) as caught:
        generate(make(server), prompt)
    assert caught.value.partial == "Half"


def test_a_model_that_isnt_there_says_how_to_get_it(server: StandIn) -> None:
    with pytest.raises(NotFoundError, match="`ollama pull nope`") as caught:
        generate(make(server, "nope"))
    assert caught.value.status == 404


def test_the_probe(server: StandIn) -> None:
    assert anyio.run(make(server).probe).ok
    assert anyio.run(make(server, "qwen3:8b").probe).ok
    missing = anyio.run(make(server, "qwen3").probe)
    assert not missing.ok and "`ollama pull qwen3`" in missing.reason


def test_the_probe_of_a_server_that_isnt_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    found = anyio.run(OllamaModelBackend(MODEL, base_url=f"http://127.0.0.1:{port}").probe)
    assert not found.ok and "`ollama serve`" in found.reason


def test_models_are_listed(server: StandIn) -> None:
    assert anyio.run(make(server).list_models) == ["llama3.2:latest", "qwen3:8b"]


def test_embeddings(server: StandIn) -> None:
    result = anyio.run(make(server).embed, ["a", "b"])
    assert (result.vectors, result.usage, result.model) == (((0.0, 0.5), (1.0, 0.5)), Usage(4), MODEL)
    assert server.asked[-1].body == {"model": MODEL, "input": ["a", "b"], "truncate": False}


@pytest.mark.parametrize("body", [[], {}, {"embeddings": 5}, {"embeddings": [["x"]]}, {"embeddings": []}])
def test_embeddings_that_make_no_sense(body: Any) -> None:
    with stand_in(lambda asked: json_answer(body)) as server, pytest.raises(WireError):
        anyio.run(make(server).embed, ["a"])
