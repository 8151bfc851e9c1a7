"""Streams of a web application over a real wire: one trace a request, ended when the client has left."""

from __future__ import annotations

import gc
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import mellea
from mellea.backends.openai import OpenAIBackend
from mellea.traces import read_run, read_runs, record
from tests.serving import read_and_leave, served
from tests.telemetry.conftest import Seen, enabled  # noqa: F401 - a fixture
from tests.web.model_server import ModelServer

pytestmark = pytest.mark.one_loop

Enable = Callable[..., Seen]


@pytest.fixture
def model() -> Iterator[ModelServer]:
    server = ModelServer()
    yield server
    server.close()


@mellea.trace(name="answer")
async def astream(m: mellea.MelleaSession) -> AsyncIterator[str]:
    async for chunk in m.astream("Write", name="writing"):
        yield chunk


@mellea.trace(name="answer")
def stream(m: mellea.MelleaSession) -> Iterator[str]:
    yield from m.stream("Write", name="writing")


@pytest.mark.parametrize("body", [stream, astream])
def test_a_client_that_leaves_ends_the_spans_of_its_stream(
    model: ModelServer,
    enabled: Enable,  # noqa: F811
    tmp_path: Path,
    body: Any,
) -> None:
    fastapi = pytest.importorskip("fastapi", reason="the group web isn't installed")
    responses = pytest.importorskip("fastapi.responses")
    seen, m = enabled(), mellea.start_session(OpenAIBackend("m", base_url=model.url, api_key="sk-planted-key"))
    app = fastapi.FastAPI()
    app.get("/write")(lambda: responses.StreamingResponse(body(m), media_type="text/plain"))
    with record(tmp_path / "runs.db", content=True), served(app) as port:
        read_and_leave(port, "write", b"w3")
        until = time.monotonic() + 30
        while len(seen.spans) < 2 and time.monotonic() < until:
            gc.collect()  # a framework drops a synchronous generator without a word, at times in a cycle
            time.sleep(0.01)
    assert seen.tree() == ["answer", "  chat m"]
    answer, call = seen.spans
    found = dict(call.attributes or {})
    assert found["error.type"] == "cancelled" and dict(answer.attributes or {})["error.type"] == "cancelled"
    assert found["server.address"] == "127.0.0.1" and f":{found['server.port']}/" in model.url
    assert not [name for name in found if "usage" in name] and "sk-planted-key" not in seen.text()
    assert "gen_ai.response.time_to_first_chunk" in found and not call.events
    (run,) = read_runs(tmp_path / "runs.db")
    recorded = read_run(tmp_path / "runs.db", run["id"])
    assert [(span["kind"], span["error_type"]) for span in recorded] == [
        ("function", "cancelled"),
        ("call", "cancelled"),
    ]
    assert recorded[1]["chunks"] and "output_tokens" not in recorded[1] and "cost" not in run
