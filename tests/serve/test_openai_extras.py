"""What OpenAI's formats have besides texts and calls: several answers side by side, citations, and images."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

import mellea
from mellea.backends.openai import chat, responses
from mellea.core.accumulator import Generation
from mellea.core.blocks import Source
from mellea.events import FileEvent, SourceEvent, StreamEnd
from mellea.serve import app
from mellea.testing import ScriptedBackend
from mellea.testing.scripted import Gate, Pause
from tests.backends.recorded import outcome
from tests.serve.asgi import Answer, ask
from tests.serve.ui_streams import call
from tests.serving import served

pytestmark = pytest.mark.anyio

HEADERS = {"host": "localhost", "content-type": "application/json"}
PIXELS = b"\x89PNG pixels"
CITED = [
    "The sea ",
    SourceEvent(Source("https://a.example/sea", "The sea")),
    "is blue.",
    SourceEvent(Source("https://b.example/")),
    FileEvent("image/png", PIXELS),
    StreamEnd("stop"),
]


async def _post(served: Any, path: str, **asked: Any) -> Answer:
    said = {"messages": [{"role": "user", "content": "x"}], "input": "x", "model": "chat", **asked}
    return await ask(served, method="POST", path=f"/v1/{path}", body=json.dumps(said).encode(), headers=HEADERS)


def _served(*script: Any) -> Any:
    return app({"chat": mellea.start_session(ScriptedBackend(list(script)))})


# -- several answers --------------------------------------------------------------------------------------


async def test_several_answers_are_streamed_side_by_side() -> None:
    gate = Gate()

    async def answer(text: str) -> AsyncIterator[str]:
        """Answer in two pieces; the second one comes when all have begun."""
        begun.append(text)
        yield "one "
        if len(begun) == 3:
            gate.open()
        await anyio.to_thread.run_sync(gate_is_open)
        yield "two"

    def gate_is_open() -> None:
        while not gate.is_open:
            pass

    begun: list[str] = []
    with anyio.fail_after(30):
        answer_ = await _post(app(answer), "chat/completions", model="answer", n=3, stream=True)
    texts = ["", "", ""]
    for chunk in answer_.data[:-1]:
        for choice in chunk["choices"]:
            texts[choice["index"]] += choice["delta"].get("content") or ""
    assert texts == ["one two"] * 3 and answer_.data[-1] == "[DONE]"
    assert [c["choices"][0]["finish_reason"] for c in answer_.data[-4:-1]] == ["stop"] * 3


async def test_a_client_that_leaves_ends_all_answers() -> None:
    backend = ScriptedBackend(lambda request: ["word ", Pause(float("inf"))])
    served = app({"chat": mellea.start_session(backend)})
    left = anyio.Event()
    said = {"model": "chat", "n": 3, "stream": True, "messages": [{"role": "user", "content": "x"}]}

    def look(piece: bytes) -> None:
        if len(backend.requests) == 3:
            left.set()

    with anyio.fail_after(30):
        await ask(
            served, method="POST", path="/v1/chat/completions", body=json.dumps(said).encode(), headers=HEADERS,
            leave=left, on_piece=look,
        )  # fmt: skip
    assert len(backend.closed) == 3 and all(backend.closed)


async def test_an_answer_that_fails_ends_the_others() -> None:
    failing = iter([["word ", Pause(float("inf"))], ["word ", mellea.errors.WireError("broken")]])
    backend = ScriptedBackend(lambda request: next(failing))
    with anyio.fail_after(30):
        answer = await _post(app({"chat": mellea.start_session(backend)}), "chat/completions", n=2, stream=True)
    assert "error" in answer.data[-2] and answer.data[-1] == "[DONE]"
    assert len(backend.closed) == 2 and all(backend.closed)


# -- citations and images -------------------------------------------------------------------------------------


def _check(found: Generation) -> None:
    assert found.text == "The sea is blue."
    assert [source.url for source in found.sources] == ["https://a.example/sea", "https://b.example/"]
    assert [file.data for file in found.files] == [PIXELS]


async def test_a_chat_completion_has_citations_and_images() -> None:
    message = (await _post(_served(*CITED), "chat/completions")).pieces[0]
    said = json.loads(message)["choices"][0]["message"]
    assert said["content"] == "The sea is blue."
    assert said["annotations"] == [
        {"type": "url_citation", "url_citation": {
            "url": "https://a.example/sea", "title": "The sea", "start_index": 8, "end_index": 8}},
        {"type": "url_citation", "url_citation": {
            "url": "https://b.example/", "title": "https://b.example/", "start_index": 16, "end_index": 16}},
    ]  # fmt: skip
    url = f"data:image/png;base64,{base64.b64encode(PIXELS).decode()}"
    assert said["images"] == [{"type": "image_url", "image_url": {"url": url}}]


async def test_a_streamed_completion_has_them_as_our_own_decoder_reads_them() -> None:
    body = (await _post(_served(*CITED), "chat/completions", stream=True)).body
    _check(outcome(chat.Decoder(), body).generation)


def test_the_official_client_puts_the_stream_together() -> None:
    openai = pytest.importorskip("openai")
    with (
        served(app({"chat": mellea.start_session(ScriptedBackend(lambda request: CITED))})) as port,
        openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="x", max_retries=0) as client,
    ):
        said: list[dict[str, str]] = [{"role": "user", "content": "x"}]
        with client.chat.completions.stream(model="chat", messages=said) as stream:
            for _ in stream:
                pass
        message = stream.get_final_completion().choices[0].message
        with client.responses.stream(model="chat", input="x") as events:
            for _ in events:
                pass
        response = events.get_final_response()
    urls = ["https://a.example/sea", "https://b.example/"]
    assert [each.url_citation.url for each in message.annotations] == urls
    assert [each.url for each in response.output[0].content[0].annotations] == urls
    assert response.output[1].type == "image_generation_call"


async def test_a_response_has_citations_and_images() -> None:
    response = json.loads((await _post(_served(*CITED), "responses")).pieces[0])
    message, image = response["output"]
    cited = message["content"][0]["annotations"]
    assert [(each["type"], each["url"], each["start_index"]) for each in cited] == [
        ("url_citation", "https://a.example/sea", 8),
        ("url_citation", "https://b.example/", 16),
    ]
    assert (image["type"], image["status"]) == ("image_generation_call", "completed")
    assert base64.b64decode(image["result"]) == PIXELS


async def test_a_streamed_response_has_them_as_our_own_decoder_reads_them() -> None:
    answer = await _post(_served(*CITED), "responses", stream=True)
    events = [json.loads(line[6:]) for line in answer.body.decode().splitlines() if line.startswith("data: ")]
    added = [each for each in events if each["type"] == "response.output_text.annotation.added"]
    assert [(each["annotation_index"], each["content_index"]) for each in added] == [(0, 0), (1, 0)]
    begun = next(each for each in events if each["type"] == "response.content_part.added")
    assert begun["part"]["annotations"] == [], "an event says what was so when it was written"
    assert [each["sequence_number"] for each in events] == list(range(len(events)))
    _check(outcome(responses.Decoder("chat"), answer.body).generation)


async def test_a_source_without_an_address_is_cited_as_a_file() -> None:
    script = ["Blue.", SourceEvent(Source(title="sea.pdf")), StreamEnd("stop")]
    response = json.loads((await _post(_served(*script), "responses")).pieces[0])
    (cited,) = response["output"][0]["content"][0]["annotations"]
    assert (cited["type"], cited["filename"]) == ("file_citation", "sea.pdf")
    completion = json.loads((await _post(_served(*script), "chat/completions")).pieces[0])
    assert "annotations" not in completion["choices"][0]["message"], "chat completions have no form for it"


@mellea.tool
def look(what: str) -> str:
    """Look."""
    return "seen"


def _make_function() -> Any:
    @mellea.command(session=mellea.start_session(ScriptedBackend(CITED)))
    def program() -> None:
        """Describe the sea."""

    return program


def _make_agent() -> Any:
    return mellea.Agent(
        mellea.start_session(ScriptedBackend(call(1, "look", '{"what": "sea"}'), CITED)), [look], name="program"
    )


@pytest.mark.parametrize("make", [_make_function, _make_agent])
async def test_the_citations_of_a_program_stand_behind_its_text(make: Any) -> None:
    body = (await _post(app(make()), "chat/completions", model="program", stream=True)).body
    _check(outcome(chat.Decoder(), body).generation)
    response = json.loads((await _post(app(make()), "responses", model="program")).pieces[0])
    assert [each["start_index"] for each in response["output"][0]["content"][0]["annotations"]] == [16, 16]
