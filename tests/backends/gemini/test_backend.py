"""The backend end to end, against a server that stands in for Google's."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any, ClassVar

import anyio
import pytest

from mellea.backends.gemini import GeminiBackend
from mellea.backends.gemini.wire import BASE_URL
from mellea.core.accumulator import Accumulator, Generation
from mellea.core.backend import Request
from mellea.core.messages import user_message
from mellea.errors import AuthError, BackendError, InterruptedStreamError, WireError
from mellea.testing import BackendContract
from tests.backends.gemini.answers import USAGE, call, end, stream, text
from tests.backends.stand_in import Answer, Asked, StandIn, json_answer, stand_in

KEY = "AIza-planted-key-0123456789"
MODEL = "gemini-3-test"
SSE = "text/event-stream"


def reply(asked: Asked) -> Answer:
    if asked.headers.get("x-goog-api-key") != KEY:
        return json_answer({"error": {"code": 403, "message": "API key not valid.", "status": "DENIED"}}, 403)
    if asked.method == "GET":
        return _models(asked.path)
    verb = asked.path.rpartition(":")[2]
    if verb == "batchEmbedContents":
        return json_answer({"embeddings": [{"values": [index, 0.5]} for index, _ in enumerate(asked.body["requests"])]})
    if verb == "predict":
        return json_answer({"predictions": [{"mimeType": "image/jpeg", "bytesBase64Encoded": "anBn"}]})
    if verb == "generateContent":
        return json_answer(_plain(asked.body))
    return Answer([stream(chunk) for chunk in _chunks(asked.body)], SSE, pause=0.001)


def _models(path: str) -> Answer:
    if "pageToken" in path:
        return json_answer({"models": [{"name": "models/gemini-last"}]})
    return json_answer({"models": [{"name": f"models/{MODEL}"}, {"name": "models/embed"}], "nextPageToken": "a b"})


def _chunks(body: Any) -> list[dict[str, Any]]:
    config = body.get("generationConfig", {})
    if "responseJsonSchema" in config:
        return [text('{"name": "Bern", '), text('"population": 134000}'), end()]
    if config.get("maxOutputTokens") == 1:
        return [text("one"), end("MAX_TOKENS")]
    said = body["contents"][-1]["parts"][0].get("text", "")
    if "tools" in body and said:
        return [call("get_weather", args={"city": "Lyon"}), end()]
    if "Count" in said:
        return [*(text(f"{number}, ") for number in range(200)), end()]
    if "Break off" in said:
        return [text("Half")]
    return [text("Hel"), text("lo."), end()]


def _plain(body: Any) -> dict[str, Any]:
    if body.get("generationConfig", {}).get("responseModalities") == ["IMAGE"]:
        refuses = "no" in body["contents"][0]["parts"][0]["text"]
        blob = {"mimeType": "image/png", "data": base64.b64encode(b"png").decode()}
        part = {"text": "I won't."} if refuses else {"inlineData": blob}
        return end(content={"parts": [part]})
    return end(content={"parts": [{"text": "Hello."}]})


@pytest.fixture(scope="module")
def server() -> Iterator[StandIn]:
    with stand_in(reply) as running:
        yield running


def make(server: StandIn, model: str = MODEL, **options: Any) -> GeminiBackend:
    return GeminiBackend(model, **{"base_url": f"{server.url}/v1beta", "api_key": KEY, "retries": 0, **options})


def generate(backend: GeminiBackend, prompt: str = "Hi", **options: Any) -> Generation:
    async def main() -> Generation:
        accumulator = Accumulator()
        async for event in backend.run(Request((user_message(prompt),), options=options)):
            accumulator.feed([event])
        return accumulator.generation()

    return anyio.run(main)


class TestContract(BackendContract):
    secrets: ClassVar[tuple[str, ...]] = (KEY,)

    @pytest.fixture(autouse=True)
    def _server(self, server: StandIn) -> None:
        self.server = server

    def make_backend(self) -> GeminiBackend:
        return make(self.server)

    def assert_idle(self, backend: Any) -> None:
        self.server.assert_idle()


def test_the_key_travels_in_a_header_and_in_no_address(server: StandIn) -> None:
    assert generate(make(server)).text == "Hello."
    asked = server.asked[-1]
    assert asked.path == f"/v1beta/models/{MODEL}:streamGenerateContent?alt=sse"
    assert asked.headers["x-goog-api-key"] == KEY
    assert "authorization" not in asked.headers
    assert all(KEY not in each.path for each in server.asked)


@pytest.mark.parametrize("variable", ["GEMINI_API_KEY", "GOOGLE_API_KEY"])
def test_the_key_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    for name in ("GEMINI_API_KEY", "GOOGLE_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, KEY)
    backend = GeminiBackend(MODEL)
    assert (backend.api_key, backend.base_url) == (KEY, BASE_URL)
    assert KEY not in repr(backend)


def test_a_bad_key_is_an_auth_error_that_shows_no_key(server: StandIn) -> None:
    with pytest.raises(AuthError, match="API key not valid") as caught:
        generate(make(server, api_key=KEY + "x"))
    assert KEY not in str(caught.value)


def test_one_plain_answer(server: StandIn) -> None:
    made = generate(make(server), stream=False)
    assert server.asked[-1].path == f"/v1beta/models/{MODEL}:generateContent"
    assert (made.text, made.finish_reason) == ("Hello.", "stop")
    assert made.usage is not None and made.usage.total_tokens == USAGE["totalTokenCount"]


def test_a_stream_without_its_end(server: StandIn) -> None:
    with pytest.raises(InterruptedStreamError) as caught:
        generate(make(server), "Break off")
    assert caught.value.partial == "Half"


def test_temperature_zero_and_extra_body_reach_the_request(server: StandIn) -> None:
    generate(make(server, extra_body={"generationConfig": {"responseLogprobs": True}}), temperature=0)
    assert server.asked[-1].body["generationConfig"] == {"temperature": 0, "responseLogprobs": True}


@pytest.mark.parametrize(
    ("model", "path"),
    [("models/a b", "models/a%20b"), ("tunedModels/x", "tunedModels/x"), ("gemini-3", "models/gemini-3")],
)
def test_the_models_name_in_the_address(server: StandIn, model: str, path: str) -> None:
    generate(make(server, model))
    assert server.asked[-1].path == f"/v1beta/{path}:streamGenerateContent?alt=sse"


def test_models_are_listed_page_by_page(server: StandIn) -> None:
    assert anyio.run(make(server).list_models) == [MODEL, "embed", "gemini-last"]


def test_the_probe(server: StandIn) -> None:
    assert anyio.run(make(server, f"models/{MODEL}").probe).ok
    assert "no model 'gemini-nope'" in anyio.run(make(server, "gemini-nope").probe).reason


def test_embeddings_go_in_batches(server: StandIn) -> None:
    before = len(server.asked)
    result = anyio.run(make(server, "embed").embed, [str(number) for number in range(150)])
    sizes = [len(asked.body["requests"]) for asked in server.asked[before:]]
    assert sizes == [100, 50]
    assert len(result.vectors) == 150 and result.vectors[1] == (1.0, 0.5)
    first = server.asked[before].body["requests"][0]
    assert first == {"model": "models/embed", "content": {"parts": [{"text": "0"}]}}


def test_images_by_a_gemini_model(server: StandIn) -> None:
    async def main() -> Any:
        prompt = [user_message("A cat")]
        return await make(server).generate_image(prompt, n=2, aspect_ratio="16:9", options={"imageSize": "2K"})

    result = anyio.run(main)
    assert [image.data for image in result.images] == [b"png", b"png"]
    config = server.asked[-1].body["generationConfig"]
    assert config == {"responseModalities": ["IMAGE"], "imageConfig": {"imageSize": "2K", "aspectRatio": "16:9"}}
    assert result.usage.total_tokens == 2 * USAGE["totalTokenCount"]


def test_images_by_imagen(server: StandIn) -> None:
    async def main() -> Any:
        return await make(server, "imagen-4").generate_image([user_message("A cat")], n=1, aspect_ratio="1:1")

    result = anyio.run(main)
    assert [(image.media_type, image.data) for image in result.images] == [("image/jpeg", b"jpg")]
    assert server.asked[-1].body == {
        "instances": [{"prompt": "A cat"}],
        "parameters": {"sampleCount": 1, "aspectRatio": "1:1"},
    }


def test_no_image_is_an_error_that_says_what_the_model_says(server: StandIn) -> None:
    async def main() -> Any:
        return await make(server).generate_image([user_message("no")])

    with pytest.raises(BackendError, match=r"made no image \(stop\); it says \"I won't.\""):
        anyio.run(main)


@pytest.mark.parametrize(
    "body", [[], {}, {"embeddings": [{}]}, {"embeddings": [{"values": ["x"]}]}, {"embeddings": []}]
)
def test_embeddings_that_make_no_sense(body: Any) -> None:
    with stand_in(lambda asked: json_answer(body)) as server, pytest.raises(WireError):
        anyio.run(make(server).embed, ["a"])
