"""Our responses under hypercorn on trio: the model stops when the client leaves."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import mellea
from mellea import serve
from tests.ports import Port
from tests.serving import read_and_leave
from tests.web.model_server import ModelServer


@contextlib.contextmanager
def _served_on_trio(app: Any) -> Iterator[int]:
    trio = pytest.importorskip("trio")
    hypercorn = pytest.importorskip("hypercorn.trio", reason="the group web isn't installed")
    from hypercorn.config import Config

    port = Port()
    config = Config()
    config.bind = [f"127.0.0.1:{port.number}"]
    config.loglevel = "ERROR"
    config.graceful_timeout = 5
    has_started, stop = threading.Event(), trio.Event()
    tokens: list[Any] = []

    async def main() -> None:
        tokens.append(trio.lowlevel.current_trio_token())
        async with trio.open_nursery() as nursery:
            started = await nursery.start(_serve)
            assert started
            has_started.set()

    async def _serve(task_status: Any) -> None:
        await hypercorn.serve(app, config, shutdown_trigger=stop.wait, task_status=task_status)

    thread = threading.Thread(target=trio.run, args=(main,), daemon=True)
    thread.start()
    assert has_started.wait(30)
    try:
        yield port.number
    finally:
        trio.from_thread.run_sync(stop.set, trio_token=tokens[0])
        thread.join(20)
        port.release()


@pytest.mark.parametrize("form", [serve.text, serve.sse, serve.ui])
@pytest.mark.parametrize("is_plain", [False, True])
def test_a_client_that_leaves_stops_the_model(form: Any, is_plain: bool) -> None:
    model = ModelServer()
    m = mellea.start_session("openai", "m", base_url=model.url, api_key="k")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            raise RuntimeError("there is nothing to start")
        await form(m.stream("Write") if is_plain else m.astream("Write"))(scope, receive, send)

    with _served_on_trio(app) as port:
        read_and_leave(port, "x", b"w3")
        assert model.wait_closed(30)
    model.close()
