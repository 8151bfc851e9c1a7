"""Our own responses under uvicorn, in FastAPI and without it: the model stops when the client leaves."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

import mellea
from mellea import serve
from mellea.testing import ScriptedBackend
from tests.serve import ui_protocol
from tests.serving import read_and_leave, served
from tests.waiting import until_here
from tests.web.model_server import ModelServer

SECONDS = 30.0
"""Within which the model is told, on however busy a machine; the campaign `served` measures how long it takes."""


@pytest.fixture
def model() -> Iterator[ModelServer]:
    server = ModelServer()
    yield server
    server.close()


def _session(model: ModelServer) -> mellea.MelleaSession:
    return mellea.start_session("openai", "m", base_url=model.url, api_key="k")


@mellea.command
def write() -> None:
    """Write."""


STREAMS: dict[str, Callable[[mellea.MelleaSession], Any]] = {
    "async": lambda m: m.astream("Write"),
    "plain": lambda m: m.stream("Write"),
    "function": lambda m: write.astream(m),
    "plain function": lambda m: write.stream(m),
    "agent": lambda m: mellea.Agent(m).astream("Write", live=True),
    "plain agent": lambda m: mellea.Agent(m).stream("Write", live=True),
}
FORMS: dict[str, Callable[..., Any]] = {"text": serve.text, "sse": serve.sse, "ui": serve.ui}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("stream", STREAMS.values(), ids=STREAMS)
def test_a_client_that_leaves_stops_the_model(model: ModelServer, stream: Any, form: Any) -> None:
    m = _session(model)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await form(stream(m))(scope, receive, send)

    with served(app) as port:
        read_and_leave(port, "x", b"w3")
        assert model.wait_closed(SECONDS)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("kind", ["async route", "plain route", "behind a middleware", "in starlette"])
def test_frameworks_take_the_responses_as_they_are(model: ModelServer, form: Any, kind: str) -> None:
    fastapi = pytest.importorskip("fastapi", reason="the group web isn't installed")
    from starlette.applications import Starlette
    from starlette.routing import Route

    m = _session(model)

    async def native() -> Any:
        return form(m.astream("Write"))

    def plain() -> Any:
        return form(m.stream("Write"))

    async def starlette(request: Any) -> Any:
        return form(m.astream("Write"))

    app: Any = fastapi.FastAPI()
    app.get("/x")(plain if kind == "plain route" else native)
    if kind == "behind a middleware":

        @app.middleware("http")
        async def look(request: Any, call_next: Any) -> Any:
            return await call_next(request)

    if kind == "in starlette":
        app = Starlette(routes=[Route("/x", starlette)])
    with served(app) as port:
        read_and_leave(port, "x", b"w3")
        assert model.wait_closed(SECONDS)


def test_a_frameworks_headers_cookies_and_background_tasks_work() -> None:
    fastapi = pytest.importorskip("fastapi", reason="the group web isn't installed")
    done: list[str] = []
    app = fastapi.FastAPI()

    async def route(tasks: Any) -> Any:
        tasks.add_task(done.append, "later")
        response = serve.text(mellea.start_session(ScriptedBackend(["Hi"])).astream("x"), headers={"x-mine": "1"})
        response.set_cookie("seen", "yes")
        return response

    route.__annotations__["tasks"] = fastapi.BackgroundTasks
    app.get("/x")(route)
    with served(app) as port:
        answer = httpx.get(f"http://127.0.0.1:{port}/x", timeout=30)
        assert answer.text == "Hi" and answer.headers["x-mine"] == "1" and answer.cookies["seen"] == "yes"
        until = time.monotonic() + SECONDS
        while not done and time.monotonic() < until:
            time.sleep(0.01)
    assert done == ["later"]


def test_a_text_that_breaks_off_is_not_taken_for_a_whole_one() -> None:
    m = mellea.start_session(ScriptedBackend(["Once ", ValueError("x")]))

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await serve.text(m.astream("x"))(scope, receive, send)

    with served(app) as port, pytest.raises(httpx.RemoteProtocolError):
        httpx.get(f"http://127.0.0.1:{port}/x", timeout=30)


def test_a_chat_is_three_lines_of_a_fastapi_app() -> None:
    fastapi = pytest.importorskip("fastapi", reason="the group web isn't installed")
    app = fastapi.FastAPI()
    chat = serve.Chat(mellea.start_session(ScriptedBackend(["Hi"])))
    app.add_route("/api/chat", chat, methods=["POST"])
    app.add_route("/api/chat/{id}/stream", chat, methods=["GET", "DELETE"])
    asked = {"id": "c", "messages": [{"id": "u", "role": "user", "parts": [{"type": "text", "text": "Hello"}]}]}
    with served(app) as port, httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
        answer = client.post("/api/chat", json=asked)
        assert ui_protocol.read(answer.content, 6).parts[-1]["text"] == "Hi"
        # The answer is whole before the chat has put it away.
        until_here(lambda: client.get("/api/chat/c/stream").status_code == 204)
        assert client.delete("/api/chat/c/stream").status_code == 404
        assert client.post("/api/chat", data={"a": "form"}).status_code == 415


def test_a_server_that_stops_ends_its_answers(model: ModelServer) -> None:
    m = _session(model)
    chat = serve.Chat(m)
    asked = {"id": "c", "messages": [{"id": "u", "role": "user", "parts": [{"type": "text", "text": "Hello"}]}]}
    with served(chat) as port, httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
        with client.stream("POST", "/api/chat", json=asked) as answer:
            lines = answer.iter_lines()
            while "w3" not in next(lines):
                pass
            assert client.delete("/api/chat/c/stream").status_code == 204
            rest = [line for line in lines if line]
        assert rest[-2:] == ['data: {"type":"abort"}', "data: [DONE]"]
        assert model.wait_closed(SECONDS)
