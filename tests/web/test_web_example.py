"""The example of a web application, on the embedded model under uvicorn."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from tests.docs.fences import ROOT
from tests.serve import ui_protocol
from tests.serving import served

FOLDER = ROOT / "docs" / "examples" / "web"


@contextmanager
def serving(program: str) -> Iterator[httpx.Client]:
    pytest.importorskip("fastapi", reason="the group web isn't installed")
    spec = importlib.util.spec_from_file_location(f"web_example_{program}", FOLDER / f"{program}.py")
    assert spec and spec.loader
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with served(module.app) as port, httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120) as client:
        yield client


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with serving("app") as client:
        yield client


def test_text_comes_while_it_is_written(client: httpx.Client) -> None:
    with client.stream("GET", "/generate", params={"topic": "the sea"}) as answer:
        assert answer.status_code == 200 and answer.headers["content-type"] == "text/plain; charset=utf-8"
        pieces = list(answer.iter_text())
    assert len(pieces) > 5 and "".join(pieces).strip()


def test_events_come_as_server_sent_events(client: httpx.Client) -> None:
    body = client.get("/events", params={"topic": "the sea"}).text
    assert body.endswith("data: [DONE]\n\n") and '{"type":"text_delta"' in body


def test_the_chat_answers(client: httpx.Client) -> None:
    asked = {"id": "c", "messages": [{"id": "u", "role": "user", "parts": [{"type": "text", "text": "Say hello."}]}]}
    message = ui_protocol.read(client.post("/api/chat", json=asked).content, 6)
    assert message.ending in ("finish stop", "finish length") and message.parts[-1]["text"].strip()


def test_the_page_uses_these_addresses(client: httpx.Client) -> None:
    page = client.get("/").text
    assert all(f"{quote}{path}" in page for quote, path in (("`", "generate?topic="), ("'", "api/chat'")))


def test_a_form_fills_itself_in_field_by_field() -> None:
    with serving("form") as client:
        names = re.findall(r'<input name="(\w+)" readonly>', client.get("/").text)
        with client.stream("GET", "/fill", params={"wish": "a {{quiet}} room"}) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            *frames, last = "".join(answer.iter_text()).removesuffix("\n\n").split("\n\n")
    assert last == "event: done\ndata: {}"
    seen = [json.loads(frame.removeprefix("data: ")) for frame in frames]
    assert list(dict.fromkeys(each["writing"] for each in seen if each["writing"])) == names
    assert list(seen[-1]["data"]) == names
    assert len(seen) > len(names), "some field was shown while it was being written"
