"""UI message streams over a real socket, read by the AI SDK's own clients of three versions."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import httpx
import pytest

import mellea
from mellea import serve
from mellea.testing import ScriptedBackend
from mellea.testing.scripted import Gate, Pause
from tests.serve import ui_protocol
from tests.serve.test_ui_stream import matches
from tests.serve.ui_streams import CASES, SECRET, call, describe, session
from tests.serving import served
from tests.waiting import until_here

CLIENTS = Path(__file__).parent / "ui_clients"
VERSIONS = (5, 6, 7)

pytestmark = [
    pytest.mark.skipif(shutil.which("node") is None, reason="Node isn't installed"),
    pytest.mark.skipif(
        not (CLIENTS / "node_modules" / "ai7").exists(), reason="npm install in tests/web/ui_clients brings the clients"
    ),
]


async def app(scope: Any, receive: Any, send: Any) -> None:
    _, name, version = scope["path"].split("/")
    while (await receive()).get("more_body"):
        pass
    await CASES[unquote(name)].answer(int(version))(scope, receive, send)


def ask_clients(cases: list[dict[str, Any]]) -> list[Any]:
    """Have the clients read streams, one after the other."""
    found = subprocess.run(
        ["node", "read.mjs"],
        cwd=CLIENTS,
        input=json.dumps(cases),
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "NODE_NO_WARNINGS": "1"},
    )
    assert found.returncode == 0, found.stderr
    return [json.loads(line) for line in found.stdout.split("\n") if line]


@pytest.fixture(scope="module")
def read_by_clients() -> dict[tuple[str, int], Any]:
    with served(app) as port:
        cases = [
            {"name": name, "version": version, "url": f"http://127.0.0.1:{port}/{quote(name, safe='')}/{version}"}
            for name in CASES
            for version in VERSIONS
        ]
        return {(each["name"], each["version"]): each for each in ask_clients(cases)}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("version", VERSIONS)
def test_the_clients_build_the_message(read_by_clients: dict[tuple[str, int], Any], name: str, version: int) -> None:
    case, read = CASES[name], read_by_clients[name, version]
    assert read["refused"] == []
    parts = read["message"]["parts"] if "message" in read else []
    assert matches(describe(parts), case.expect(version)), describe(parts)
    kinds = [part["type"] for part in read["parts"]]
    ending = "finish " + read["parts"][-1]["finishReason"] if kinds[-1] == "finish" else kinds[-1]
    assert ending == case.ending and bool(read["told"]) == (case.ending == "error")


@pytest.mark.parametrize("version", VERSIONS)
def test_our_own_reading_is_that_of_the_clients(read_by_clients: dict[tuple[str, int], Any], version: int) -> None:
    for name in CASES:
        parts = read_by_clients[name, version]["parts"]
        body = "".join(f"data: {json.dumps(part)}\n\n" for part in parts) + "data: [DONE]\n\n"
        ours = ui_protocol.read(body.encode(), version)
        theirs = read_by_clients[name, version].get("message", {"parts": []})
        assert describe(ours.parts) == describe(theirs["parts"]), name
        assert ours.metadata == theirs.get("metadata", {}), name


def test_the_clients_refuse_what_our_own_reading_refuses(read_by_clients: dict[tuple[str, int], Any]) -> None:
    wrong = {
        "null": '{"type":"start","messageId":null}',
        "unknown type": '{"type":"mellea"}',
        "a delta without its start": '{"type":"text-delta","id":"1","delta":"x"}',
        "a result of an unknown call": '{"type":"tool-output-available","toolCallId":"c","output":1}',
        "an unknown reason": '{"type":"finish","finishReason":"tired"}',
    }

    async def serve_wrong(scope: Any, receive: Any, send: Any) -> None:
        body = 'data: {"type":"start"}\n\n' + f"data: {wrong[unquote(scope['path'][1:])]}\n\ndata: [DONE]\n\n"
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body.encode()})

    with served(serve_wrong) as port:
        urls = {name: f"http://127.0.0.1:{port}/{quote(name)}" for name in wrong}
        cases = [{"name": n, "version": v, "url": url} for n, url in urls.items() for v in VERSIONS]
        for read in ask_clients(cases):
            assert read["refused"], read["name"]


@pytest.mark.parametrize("version", [6, 7])
@pytest.mark.parametrize("approved", [True, False])
def test_an_approval_goes_through_the_clients(version: Any, approved: bool) -> None:
    done: list[str] = []

    @mellea.tool(requires_approval=True)
    def remove(path: str) -> str:
        """Remove a file."""
        done.append(path)
        return f"{path} is gone"

    replies = (call(1, "remove", '{"path":"x"}'), ["Done."])
    agent = mellea.Agent(session(*replies), [remove])
    chat = serve.Chat(agent, version=version, secret=SECRET)
    asked = {"id": "u", "role": "user", "parts": [{"type": "text", "text": "Go"}]}
    with served(chat) as port:
        one = {"name": "x", "version": version, "url": f"http://127.0.0.1:{port}/api/chat"}
        (first,) = ask_clients([{**one, "messages": [asked]}])
        message = first["message"]
        question = message["parts"][-1]
        assert question["state"] == "approval-requested" and question["approval"]["signature"]
        question |= {"state": "approval-responded"}
        question["approval"] |= {"approved": approved}
        (second,) = ask_clients([{**one, "messages": [asked, message]}])
    assert second["refused"] == [] and second["message"]["id"] == message["id"]
    states = [part["state"] for part in second["message"]["parts"] if part["type"] == "tool-remove"]
    assert states == ["output-available" if approved else "output-denied"]
    assert second["message"]["parts"][-1]["text"] == "Done." and bool(done) is approved


@pytest.mark.parametrize("version", VERSIONS)
def test_the_clients_resume_an_answer(version: Any) -> None:
    gate = Gate()
    chat = serve.Chat(session(["Once ", gate, "upon"]), version=version)
    asked = {"id": "chat", "messages": [{"id": "u", "role": "user", "parts": [{"type": "text", "text": "Go"}]}]}
    with served(chat) as port:
        url = f"http://127.0.0.1:{port}/api/chat"
        with httpx.stream("POST", url, json=asked, timeout=30) as answer:
            lines = answer.iter_lines()
            while "Once" not in next(lines):
                pass
        gate.open()
        one = {"name": "x", "version": version, "url": url, "resume": "chat"}
        (read,) = ask_clients([one])
        assert read["refused"] == [] and describe(read["message"]["parts"]) == ["step", "text: Once upon"]
        (nothing,) = ask_clients([{**one, "resume": "other"}])
        assert nothing["status"] == "nothing to resume"


def _version_of(scope: Any) -> Any:
    return int(scope["path"].rpartition("/")[2])


def _each(port: int, **more: Any) -> list[Any]:
    """Have the clients of all versions read what a server answers to each."""
    return ask_clients([{"name": "x", "version": v, "url": f"http://127.0.0.1:{port}/{v}", **more} for v in VERSIONS])


def test_clients_that_stop_the_answer_stop_the_model() -> None:
    backend = ScriptedBackend(lambda request: ["Once ", "upon ", Pause(float("inf"))])
    m = mellea.start_session(backend)

    async def endless(scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        await serve.ui(m.astream("Write"), version=_version_of(scope))(scope, receive, send)

    with served(endless) as port:
        reads = _each(port, abortAfter=4)
        until_here(lambda: backend.closed == [True] * len(VERSIONS))
    for read in reads:
        assert "Once" in str(read["message"]) and read["parts"][-1]["type"] != "finish"


def test_a_connection_that_is_cut_is_an_error_of_the_clients() -> None:
    async def cut(scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass

        async def until_the_text(message: Any) -> None:
            await send(message)
            if b"Once" in message.get("body", b""):
                raise OSError("cut")  # uvicorn closes the socket of an answer without an end, and sends no last chunk

        answer = serve.ui(session(["Once ", "upon"]).astream("Write"), version=_version_of(scope))
        await answer(scope, receive, until_the_text)

    with served(cut, log_level="critical") as port:
        for read in _each(port):
            assert read["refused"], "the client says that the answer broke off"
            assert describe(read["message"]["parts"]) == ["step", "text: Once "]
