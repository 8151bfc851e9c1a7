"""An OpenAI-compatible server of programs, as the official client and others see it."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import httpx
import pytest
from pydantic import BaseModel

import mellea
from mellea.core.blocks import ToolCall
from mellea.core.events import ReasoningDelta, StreamEnd, ToolDelta, ToolEnd, ToolStart, Usage
from mellea.errors import InterruptedStreamError, RateLimitError, UsageError
from mellea.serve import app
from mellea.stdlib.requirements import check, simple_validate
from mellea.testing import Gate, Pause, ScriptedBackend
from tests.serve.asgi import ask
from tests.waiting import cancel_once, until_here

openai = pytest.importorskip("openai")
uvicorn = pytest.importorskip("uvicorn")

KEY = "a-key-of-the-tests"


class City(BaseModel):
    name: str
    people: int


def _call() -> list[Any]:
    call = ToolCall("call_1", "weather", {"city": "Lund"}, '{"city": "Lund"}')
    return [
        ReasoningDelta("Let me look."),
        "I look. ",
        ToolStart("call_1", "weather"),
        ToolDelta("call_1", '{"city": '),
        ToolDelta("call_1", '"Lund"}'),
        ToolEnd(call),
    ]


_REPLIES: dict[str, Any] = {
    "weather": _call(),
    "slow": ["one ", Pause(0.05), "two ", Pause(0.05), "three"],
    "endless": [piece for _ in range(2_000) for piece in ("word ", Pause(0.01))],
    "half an object": ['{"name": "Lu', StreamEnd("length")],
    "half a call": [ToolStart("call_1", "weather"), ToolDelta("call_1", '{"city": '), StreamEnd("length")],
    "City": '{"name": "Lund", "people": 94000}',
    "limit": RateLimitError("planted-secret says no", retry_after=0.01, status=429),
    "broken": ["It begins", InterruptedStreamError("planted-secret broke")],
    "nothing": [],
    "twice": [ToolEnd(ToolCall("call_1", "weather", {"city": city})) for city in ("Lund", "Malmo")],
    "long": ["cut", StreamEnd("length")],
    "crash": ["never shown"],
}


def reply(request: Any) -> Any:
    text = request.messages[-1].text
    if any(word in text for word in ("again", "outputs")):
        return f"{len(request.messages)} messages; {text}"
    by_schema = "Blue." if request.output_schema is None else _REPLIES["City"]
    return next((answer for word, answer in _REPLIES.items() if word in text), by_schema)


backend = ScriptedBackend(reply, usage=Usage(input_tokens=7, output_tokens=3))
session = mellea.MelleaSession(backend)


@mellea.generative(session=session)
def colour(of: str) -> str:
    """Say the colour."""


@mellea.generative(session=session)
def city(name: str) -> City:
    """Describe the City."""


@mellea.generative(
    session=session, requirements=[check("never", validation_fn=simple_validate(lambda text: "two" in text))]
)
async def compare(left: str, right: int) -> str:
    """Say something slow of both."""


def count(messages: list[mellea.Message]) -> str:
    """Count messages."""
    return f"{len(messages)} of {', '.join(message.role for message in messages)}"


async def tokens(text: str) -> AsyncIterator[str]:
    """Write words."""
    for word in text.split():
        yield word + " "


def crash(text: str) -> str:
    """Fail."""
    raise RuntimeError("planted-secret in a program")


@mellea.tool
def weather(city: str) -> str:
    """Tell the weather."""
    return f"rain in {city}"


agent = mellea.Agent(
    mellea.MelleaSession(ScriptedBackend(_call(), "It rains.", _call(), "It rains.", _call(), "It rains.")),
    [weather],
    name="forecaster",
)

PROGRAMS = ({"chat": session}, colour, city, compare, count, tokens, crash, agent)


class _Served:
    def __init__(self, application: Any) -> None:
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.server = uvicorn.Server(uvicorn.Config(application, log_level="warning", timeout_graceful_shutdown=1))
        self._thread = threading.Thread(target=lambda: asyncio.run(self.server.serve([self._socket])), daemon=True)

    def __enter__(self) -> _Served:
        self._thread.start()
        while not self.server.started:
            threading.Event().wait(0.01)
        return self

    def __exit__(self, *error: object) -> None:
        self.server.should_exit = True
        self._thread.join(10)
        self._socket.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@pytest.fixture(scope="module")
def served() -> Iterator[_Served]:
    with _Served(app(*PROGRAMS, key=KEY)) as server:
        yield server


@pytest.fixture
def client(served: _Served) -> Iterator[Any]:
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key=KEY, max_retries=0) as made:
        yield made


def _ask(client: Any, text: str, model: str = "chat", **more: Any) -> Any:
    return client.chat.completions.create(model=model, messages=[{"role": "user", "content": text}], **more)


WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}


def test_models_are_listed(client: Any) -> None:
    ids = [model.id for model in client.models.list()]
    assert ids == ["chat", "colour", "city", "compare", "count", "tokens", "crash", "forecaster"]
    assert client.models.retrieve("colour").owned_by == "mellea"
    with pytest.raises(openai.NotFoundError, match="'no' doesn't exist; this server has 'chat'"):
        client.models.retrieve("no")


def test_a_session_answers_a_chat(client: Any) -> None:
    done = _ask(client, "What colour is the sea?", temperature=0.5, max_completion_tokens=9, user="x", store=True)
    assert done.choices[0].message.content == "Blue."
    assert (done.choices[0].finish_reason, done.usage.total_tokens) == ("stop", 10)
    assert backend.requests[-1].options["temperature"] == 0.5
    assert backend.requests[-1].options["max_tokens"] == 9


def test_a_chat_is_streamed_as_it_is_written(client: Any) -> None:
    chunks = list(_ask(client, "slow", stream=True, stream_options={"include_usage": True}))
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    assert deltas[0].role == "assistant"
    assert [delta.content for delta in deltas if delta.content] == ["one ", "two ", "three"]
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert (chunks[-1].choices, chunks[-1].usage.prompt_tokens) == ([], 7)
    assert len({(chunk.id, chunk.created) for chunk in chunks}) == 1


@pytest.mark.parametrize("stream", [False, True])
def test_the_clients_tools_are_called(client: Any, stream: bool) -> None:
    if stream:
        with client.chat.completions.stream(
            model="chat", messages=[{"role": "user", "content": "weather?"}], tools=[WEATHER]
        ) as events:
            for _ in events:
                pass
            done = events.get_final_completion()
    else:
        done = _ask(client, "weather?", tools=[WEATHER], tool_choice="required")
    choice = done.choices[0]
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", "I look. ")
    (call,) = choice.message.tool_calls
    assert (call.id, call.function.name, json.loads(call.function.arguments)) == ("call_1", "weather", {"city": "Lund"})


def test_calls_without_their_text_keep_their_arguments_and_ids_are_used_once(client: Any) -> None:
    with client.chat.completions.stream(
        model="chat", messages=[{"role": "user", "content": "twice"}], tools=[WEATHER]
    ) as events:
        list(events)
        streamed = events.get_final_completion()
    for done in (streamed, _ask(client, "twice", tools=[WEATHER])):
        (call,) = done.choices[0].message.tool_calls
        assert json.loads(call.function.arguments) == {"city": "Lund"}
    tool: Any = {"type": "function", "name": "weather", "parameters": {"type": "object"}, "strict": False}
    with client.responses.stream(model="chat", input="twice", tools=[tool]) as parts:
        list(parts)
        response = parts.get_final_response()
    assert [json.loads(item.arguments) for item in response.output] == [{"city": "Lund"}]


def test_an_empty_answer_is_an_empty_text(client: Any) -> None:
    assert _ask(client, "nothing").choices[0].message.content == ""
    first = client.responses.create(model="chat", input="nothing")
    assert (first.output_text, first.status) == ("", "completed")
    assert client.responses.create(model="chat", input="again", previous_response_id=first.id).output_text


def test_results_of_tools_reach_the_model(client: Any) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Lund"}'}}
    messages: list[Any] = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": "weather?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "rain"},
        {"role": "user", "content": [{"type": "text", "text": "say it again"}]},
    ]
    done = client.chat.completions.create(model="chat", messages=messages, tools=[WEATHER])
    assert done.choices[0].message.content == "5 messages; say it again"
    assert backend.requests[-1].messages[0].role == "system"
    assert backend.requests[-1].messages[2].tool_calls[0].tool_args == {"city": "Lund"}


def test_a_schema_is_handed_on_and_the_client_parses(client: Any) -> None:
    done = client.chat.completions.parse(
        model="chat", messages=[{"role": "user", "content": "Describe"}], response_format=City
    )
    assert done.choices[0].message.parsed == City(name="Lund", people=94000)
    assert backend.requests[-1].output_schema is not None


def test_several_answers(client: Any) -> None:
    done = _ask(client, "slow", n=3)
    assert [choice.message.content for choice in done.choices] == ["one two three"] * 3
    texts = ["", "", ""]
    for chunk in _ask(client, "slow", n=3, stream=True):
        texts[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    assert texts == ["one two three"] * 3


def test_functions_are_models(client: Any) -> None:
    assert _ask(client, "the sea", "colour").choices[0].message.content == "Blue."
    assert json.loads(_ask(client, "Lund", "city").choices[0].message.content) == {"name": "Lund", "people": 94000}
    text = "".join(c.choices[0].delta.content or "" for c in _ask(client, "Lund", "city", stream=True))
    assert json.loads(text) == {"name": "Lund", "people": 94000}
    both = _ask(client, '{"left": "a", "right": "2"}', "compare")
    assert (both.choices[0].message.content, both.usage.prompt_tokens) == ("one two three", 7)
    with pytest.raises(openai.BadRequestError, match="doesn't give the arguments left, right"):
        _ask(client, '{"left": "a"}', "compare")
    with pytest.raises(openai.BadRequestError, match="has to be a JSON object with left, right"):
        _ask(client, "a and 2", "compare")


def test_functions_of_the_program_are_models(client: Any) -> None:
    messages: list[Any] = [{"role": role, "content": role} for role in ("system", "user", "assistant", "user")]
    done = client.chat.completions.create(model="count", messages=messages)
    assert done.choices[0].message.content == "4 of system, user, assistant, user"
    chunks = [c.choices[0].delta.content for c in _ask(client, "a b c", "tokens", stream=True)]
    assert [chunk for chunk in chunks if chunk] == ["a ", "b ", "c "]


def test_an_agent_is_a_model_whose_calls_dont_show(client: Any) -> None:
    done = _ask(client, "weather in Lund?", "forecaster")
    assert (done.choices[0].message.content, done.choices[0].message.tool_calls) == ("It rains.", None)
    text = "".join(c.choices[0].delta.content or "" for c in _ask(client, "weather?", "forecaster", stream=True))
    assert text == "It rains."
    with pytest.raises(openai.BadRequestError, match="leave out tools"):
        _ask(client, "weather?", "forecaster", tools=[WEATHER])


@pytest.mark.parametrize("stream", [False, True])
def test_failures_are_those_that_the_client_knows_and_tell_nothing(
    client: Any, stream: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(openai.RateLimitError) as limited:
        list(_ask(client, "limit", stream=stream))
    assert limited.value.response.headers["retry-after-ms"] == "10"
    with pytest.raises(openai.InternalServerError) as crashed:
        _ask(client, "x", "crash", stream=stream)
    assert crashed.value.request_id in caplog.text
    with pytest.raises(openai.APIError) as broken:
        list(_ask(client, "broken", stream=stream))
    assert "server's log" in str(crashed.value)
    assert not any("planted-secret" in str(raised.value) for raised in (limited, crashed, broken))


@pytest.mark.parametrize("stream", [False, True])
def test_what_a_program_does_wrong_is_told_to_the_log_alone(stream: bool, caplog: pytest.LogCaptureFixture) -> None:
    def misuse(text: str) -> str:
        """Ask for what there isn't."""
        raise UsageError("planted-secret")

    async def numbers(text: str) -> AsyncIterator[Any]:
        """Write what is no text."""
        yield {"planted-secret": 1}

    with (
        _Served(app(misuse, numbers)) as served,
        openai.OpenAI(base_url=f"{served.url}/v1", api_key="x", max_retries=0) as client,
    ):
        for model in ("misuse", "numbers"):
            caplog.clear()
            with pytest.raises(openai.InternalServerError) as failed:
                _ask(client, "x", model, stream=stream)
            with pytest.raises(openai.InternalServerError) as again:
                client.responses.create(model=model, input="x", stream=stream)
            assert "planted-secret" not in str(failed.value) + str(again.value)
            assert "planted-secret" in caplog.text


def test_an_answer_that_was_cut_off_says_so(client: Any) -> None:
    assert _ask(client, "long").choices[0].finish_reason == "length"
    assert _ask(client, "half a call", tools=[WEATHER]).choices[0].finish_reason == "length"
    chunks = list(_ask(client, "half a call", tools=[WEATHER], stream=True))
    assert chunks[-1].choices[0].finish_reason == "length"
    form: Any = {"type": "json_schema", "json_schema": {"name": "City", "schema": City.model_json_schema()}}
    choice = _ask(client, "half an object", response_format=form).choices[0]
    assert (choice.finish_reason, choice.message.content) == ("length", '{"name": "Lu')
    with pytest.raises(openai.LengthFinishReasonError):
        messages: Any = [{"role": "user", "content": "half an object"}]
        client.chat.completions.parse(model="chat", messages=messages, response_format=City)
    assert client.responses.create(model="chat", input="long").incomplete_details.reason == "max_output_tokens"


# -- responses ----------------------------------------------------------------------------------------


def test_a_response(client: Any) -> None:
    done = client.responses.create(model="chat", input="What colour?", instructions="Be brief.", metadata={"a": "b"})
    assert (done.output_text, done.status, done.usage.total_tokens, done.metadata) == (
        "Blue.",
        "completed",
        10,
        {"a": "b"},
    )
    assert [message.role for message in backend.requests[-1].messages] == ["system", "user"]


def test_a_response_is_streamed_with_places_and_numbers(client: Any) -> None:
    tool = {"type": "function", "name": "weather", "parameters": {"type": "object", "properties": {}}, "strict": False}
    with client.responses.stream(model="chat", input="weather?", tools=[tool]) as stream:
        events = list(stream)
        done = stream.get_final_response()
    assert [event.sequence_number for event in events] == list(range(len(events)))
    kinds = [event.type for event in events]
    assert kinds[:3] == ["response.created", "response.in_progress", "response.output_item.added"]
    assert kinds[-1] == "response.completed"
    assert {event.output_index for event in events if event.type == "response.output_item.done"} == {0, 1, 2}
    assert [item.type for item in done.output] == ["reasoning", "message", "function_call"]
    assert done.output[2].arguments == '{"city": "Lund"}'


def test_a_response_goes_on_from_another(client: Any) -> None:
    tool = {"type": "function", "name": "weather", "parameters": {"type": "object", "properties": {}}, "strict": False}
    first = client.responses.create(model="chat", input="weather?", tools=[tool], instructions="Be brief.")
    second = client.responses.create(
        model="chat",
        input=[
            {"type": "function_call_output", "call_id": first.output[-1].call_id, "output": "rain"},
            {"role": "user", "content": [{"type": "input_text", "text": "again"}]},
        ],
        previous_response_id=first.id,
        tools=[tool],
    )
    assert second.output_text == "4 messages; again"  # the instructions aren't taken over
    assert backend.requests[-1].messages[1].tool_calls[0].tool_call_id == "call_1"
    assert client.responses.retrieve(second.id).output_text == second.output_text
    client.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(first.id)
    with pytest.raises(openai.BadRequestError, match="isn't stored here"):
        client.responses.create(model="chat", input="x", previous_response_id=first.id)


def test_responses_are_shared_through_a_store(tmp_path: Any) -> None:
    first, second = (app({"chat": session}, store=tmp_path / "served.db") for _ in range(2))
    with _Served(first) as one, _Served(second) as two:
        with openai.OpenAI(base_url=f"{one.url}/v1", api_key="x") as client:
            done = client.responses.create(model="chat", input="hello")
        with openai.OpenAI(base_url=f"{two.url}/v1", api_key="x") as client:
            again = client.responses.create(model="chat", input="again", previous_response_id=done.id)
    assert again.output_text == "3 messages; again"


def test_a_response_is_parsed(client: Any) -> None:
    done = client.responses.parse(model="chat", input="Describe", text_format=City)
    assert done.output_parsed == City(name="Lund", people=94000)


def test_a_response_that_fails_in_mid_stream_says_so(client: Any) -> None:
    events = list(client.responses.create(model="chat", input="broken", stream=True))
    assert events[-1].type == "response.failed"
    assert "planted-secret" not in events[-1].response.error.message
    assert events[-1].response.output[0].content[0].text == "It begins"


# -- people and their pages ---------------------------------------------------------------------------


def _chat(served: _Served, text: str, path: str = "/api/chat", **body: Any) -> httpx.Response:
    message = {"id": "m1", "role": "user", "parts": [{"type": "text", "text": text}]}
    asked = {"id": "a chat", "messages": [message], "trigger": "submit-message", **body}
    return httpx.post(served.url + path, json=asked, headers={"authorization": f"Bearer {KEY}"}, timeout=30)


def _parts(answer: httpx.Response) -> list[Any]:
    lines = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: ")]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def test_a_chat_page_is_at_the_root(served: _Served) -> None:
    page = httpx.get(served.url)
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert all(f'"{id}"' in page.text for id in ("chat", "city", "forecaster"))


@pytest.mark.parametrize("path", ["/api/chat", "/api/v6/chat", "/api/v5/chat"])
def test_every_model_answers_chats(served: _Served, path: str) -> None:
    def text(**body: Any) -> str:
        return "".join(part["delta"] for part in _parts(_chat(served, "slow", path, **body)) if "delta" in part)

    assert text() == text(model="chat") == "one two three"
    assert text(model="count") == "1 of user"
    assert text(model="tokens") == "slow "
    typed = _parts(_chat(served, "Lund", path, model="city"))
    assert [part["data"] for part in typed if part["type"] == "data-result"][-1] == {"name": "Lund", "people": 94000}
    assert _chat(served, "x", path, model="no").status_code == 404


def test_a_chat_is_resumed_and_stopped(served: _Served) -> None:
    answers: list[httpx.Response] = []
    thread = threading.Thread(target=lambda: answers.append(_chat(served, "endless", id="to stop", model="chat")))
    thread.start()
    named = {"authorization": f"Bearer {KEY}"}
    place = f"{served.url}/api/chat/to%20stop/stream"
    with httpx.Client(headers=named, timeout=30) as client:
        while client.delete(place).status_code != 204:
            threading.Event().wait(0.01)
        thread.join()
        assert _parts(answers[0])[-1]["type"] == "abort"
        assert client.get(place).status_code == 204
        assert client.delete(place).status_code == 404
    assert httpx.get(place).status_code == 401


# -- who may ask, and how much ------------------------------------------------------------------------


def _post(served: _Served, content: bytes = b"", path: str = "/v1/chat/completions", **headers: str) -> httpx.Response:
    named = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
    named |= {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.post(served.url + path, content=content, headers=named)


ASK = json.dumps({"model": "chat", "messages": [{"role": "user", "content": "x"}]}).encode()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"authorization": "Bearer wrong"}, 401),
        ({"authorization": ""}, 401),
        ({"authorization": f"Basic {KEY}"}, 401),
        ({"host": "evil.example"}, 421),
        ({"host": "localhost:80"}, 200),
        ({"host": "[::1]:8000"}, 200),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"content_type": "text/plain"}, 415),
        ({"content_type": "application/x-www-form-urlencoded"}, 415),
        ({"content_type": "application/json; charset=utf-8"}, 200),
    ],
)
def test_only_requests_that_may_be_made_are_answered(served: _Served, headers: dict[str, str], status: int) -> None:
    answer = _post(served, ASK, **headers)
    assert answer.status_code == status
    assert status == 200 or answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"", 400, "not valid JSON"),
        (b"[]", 400, "the body has to be an object"),
        (b"{" * 100_000, 400, "not valid JSON"),
        (b"[" * 100_000 + b"]" * 100_000, 400, "not valid JSON"),
        (b'{"model": NaN}', 400, "not valid JSON"),
        (b"x" * 30_000_000, 413, "more than 20,000,000 bytes"),
        (b'{"model": "chat"}', 400, "messages takes 1 to"),
        (b'{"model": "chat", "messages": "x"}', 400, "messages has to be an array"),
        (b'{"model": 1, "messages": [{"role": "user"}]}', 400, "model has to be a string, not 1"),
        (b'{"model": "chat", "messages": [{"role": "robot"}]}', 400, "messages[0].role has to be"),
        (
            b'{"model": "chat", "messages": [{"role": "user", "content": [{"type": "x"}]}]}',
            400,
            "messages[0].content[0]",
        ),
        (b'{"model": "chat", "messages": [{"role": "user"}], "temperature": "hot"}', 400, "temperature has to be"),
        (b'{"model": "chat", "messages": [{"role": "user"}], "n": 99}', 400, "n has to be an integer from 1"),
        (b'{"model": "chat", "messages": [], "metadata": {"a": [1e999]}}', 400, "a number beyond 1.8e308"),
        (b'{"model": "chat", "messages": [], "seed": -' + b"9" * 400 + b"}", 400, "a number beyond 1.8e308"),
        *(
            (
                b'{"model": "chat", "messages": [{"role": "user"}], "tool_choice": {"type": "allowed_tools", "tools": ['
                + tool
                + b"]}}",
                400,
                "tool_choice has to be auto",
            )
            for tool in (b"", b"1", b"null", b'{"function": "x"}', b'{"function": {"name": 1}}')
        ),
    ],
)
def test_bad_bodies_are_refused_with_the_field(served: _Served, body: bytes, status: int, said: str) -> None:
    answer = _post(served, body)
    assert (answer.status_code, said in answer.json()["error"]["message"]) == (status, True)


def test_no_url_is_fetched_and_no_path_leads_out(served: _Served) -> None:
    part = {"type": "file", "file": {"file_data": "file:///etc/passwd", "filename": "x"}}
    body = {"model": "chat", "messages": [{"role": "user", "content": [part]}]}
    answer = _post(served, json.dumps(body).encode())
    assert (answer.status_code, "fetches no URLs" in answer.text) == (400, True)
    for path in ("/../../etc/passwd", "/%2e%2e/etc/passwd", "/v1/models/..%2f..%2fetc", "/v1", "//health"):
        assert httpx.get(served.url + path, headers={"authorization": f"Bearer {KEY}"}).status_code == 404


def test_a_key_may_have_any_character() -> None:
    with _Served(app({"chat": session}, key="schlüssel")) as served:
        for given, status in (("schlüssel", 200), ("schlussel", 401)):
            named = {b"authorization": b"Bearer " + given.encode()}
            assert httpx.get(f"{served.url}/v1/models", headers=named).status_code == status


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("root", "path", "status"),
    [
        ("/ai", "/ai/health", 200),
        ("/ai/", "/ai/health", 200),
        ("/ai", "/health", 200),
        ("/ai", "/aihealth", 404),
        ("/ai", "/ai", 200),
        ("/proxy/ai", "/ai/health", 200),
        ("/proxy/ai", "/proxy/ai/health", 200),
        ("/proxy/ai", "/proxy/health", 404),
    ],
)
async def test_the_prefix_that_it_is_mounted_under_is_a_whole_segment(root: str, path: str, status: int) -> None:
    inner = app({"chat": session})

    async def mounted(scope: Any, receive: Any, send: Any) -> None:
        await inner({**scope, "root_path": root, "app_root_path": "/proxy"}, receive, send)

    assert (await ask(mounted, path=path, headers={"host": "localhost"})).status == status


@pytest.mark.anyio
async def test_a_request_with_two_hosts_is_refused() -> None:
    inner = app({"chat": session})

    async def doubled(scope: Any, receive: Any, send: Any) -> None:
        await inner({**scope, "headers": [*scope["headers"], (b"Host", b"evil.example")]}, receive, send)

    assert (await ask(doubled, path="/v1/models", headers={"host": "localhost"})).status == 421


def test_ids_of_models_are_read_once() -> None:
    with (
        _Served(app({"a%2Fb": session, "a/b": session})) as served,
        openai.OpenAI(base_url=f"{served.url}/v1", api_key="x") as client,
    ):
        assert [client.models.retrieve(model.id).id for model in client.models.list()] == ["a%2Fb", "a/b"]


def test_health_needs_no_key(served: _Served) -> None:
    assert httpx.get(f"{served.url}/health").json() == {"status": "ok"}


def test_more_requests_than_may_run_are_told_to_come_again() -> None:
    gate = Gate()
    slow = ScriptedBackend([gate, "done"])
    waiting = mellea.MelleaSession(slow)
    with _Served(app({"chat": waiting}, max_requests=2)) as served:
        answers: list[int] = []
        threads = [threading.Thread(target=lambda: answers.append(_post(served, ASK).status_code)) for _ in range(2)]
        for thread in threads:
            thread.start()
        while len(slow.requests) < 2:
            threading.Event().wait(0.01)
        refused = _post(served, ASK)
        gate.open()
        for thread in threads:
            thread.join()
        assert (answers, refused.status_code, refused.headers["retry-after"]) == ([200, 200], 503, "1")


# -- clients who leave --------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
def test_the_model_is_stopped_when_the_client_leaves(served: _Served, stream: bool) -> None:
    before = len(backend.requests)

    async def leave() -> None:
        async with openai.AsyncOpenAI(base_url=f"{served.url}/v1", api_key=KEY) as client:

            async def read() -> None:
                messages = [{"role": "user", "content": "endless"}]
                answer = await client.chat.completions.create(model="chat", messages=messages, stream=stream)
                async for _ in answer:
                    pass

            await cancel_once(lambda: len(backend.requests) > before, read)

    asyncio.run(leave())
    until_here(lambda: all(backend.closed))


@pytest.mark.anyio
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses"])
async def test_a_client_that_leaves_while_it_is_sent_to_ends_the_generator_at_once(path: str) -> None:
    ended: list[str] = []
    left = anyio.Event()

    async def words(text: str) -> AsyncIterator[str]:
        """Write words."""
        try:
            while True:
                yield "word "
        finally:
            ended.append(text)

    async def take_nothing(piece: bytes) -> None:
        if b"word" in piece:
            left.set()
            await anyio.sleep_forever()

    asked = {"model": "words", "stream": True, "messages": [{"role": "user", "content": "x"}], "input": "x"}
    named = {"host": "localhost", "content-type": "application/json"}
    body = json.dumps(asked).encode()
    await ask(app(words), leave=left, on_piece=take_nothing, method="POST", path=path, body=body, headers=named)
    assert ended == ["x"]


def test_at_the_servers_end_streams_are_cut_and_models_stopped() -> None:
    ending = ScriptedBackend([piece for _ in range(2_000) for piece in ("word ", Pause(0.01))])
    application = app({"chat": mellea.MelleaSession(ending)})
    with (
        _Served(application) as served,
        openai.OpenAI(base_url=f"{served.url}/v1", api_key="x", max_retries=0) as client,
    ):
        stream = _ask(client, "x", stream=True)
        next(iter(stream))
        served.server.should_exit = True
        with pytest.raises((openai.APIError, httpx.TransportError, OSError)):
            for _ in stream:
                pass
    ending.assert_closed()
