"""`mellea.serve.mcp`: programs as tools of an MCP server, seen by the client of the package and by our own."""

from __future__ import annotations

import importlib.util
import logging
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client

import mellea
from mellea.core.blocks import CBlock, FileBlock, ImageBlock
from mellea.errors import MissingExtraError, ToolError, UsageError
from mellea.serve import McpServer
from mellea.serve import mcp as serve_mcp
from mellea.stdlib.tools.mcp import McpTool, McpTools
from mellea.tools import ToolReturn, mcp
from tests.ports import Port
from tests.serve.served import PIXEL, make_server

PROGRAM = Path(__file__).with_name("served.py")
ROOT = Path(__file__).parents[2]
SECONDS = 60.0


@pytest.fixture(scope="module")
def stdio_tools() -> Iterator[McpTools]:
    with mcp([sys.executable, str(PROGRAM), "stdio"], env={"PYTHONPATH": str(ROOT)}, connect_timeout=SECONDS) as tools:
        yield tools


@pytest.fixture(scope="module")
def http_tools() -> Iterator[McpTools]:
    port = Port()
    server = subprocess.Popen([sys.executable, str(PROGRAM), "http", str(port.number)], env={"PYTHONPATH": str(ROOT)})
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port.number)).close()
            break
        except OSError:
            assert time.monotonic() < deadline and server.poll() is None, "the server didn't start"
            time.sleep(0.05)
    with mcp(f"http://127.0.0.1:{port.number}/mcp", connect_timeout=SECONDS) as tools:
        yield tools
    server.terminate()
    server.wait()
    port.release()


@pytest.fixture(params=["in-process", "stdio", "http"])
def tools(request: pytest.FixtureRequest) -> Iterator[dict[str, McpTool]]:
    if request.param == "in-process":
        with mcp(make_server()) as made:
            yield {tool.name: tool for tool in made.load()}
    else:
        made = request.getfixturevalue(f"{request.param}_tools")
        yield {tool.name: tool for tool in made.load()}


async def _watch(tool: McpTool, **arguments: Any) -> tuple[Any, list[Any]]:
    seen: list[Any] = []
    return await tool.call(arguments, on_progress=seen.append), seen


@pytest.mark.anyio
async def test_functions_are_tools_with_their_schema(tools: dict[str, McpTool]) -> None:
    spec = tools["add"].spec
    assert spec.description == "Add two numbers."
    assert spec.parameters["properties"] == {
        "a": {"type": "integer", "description": "the first one."},
        "b": {"type": "integer"},
    }
    assert await tools["add"](a=1, b=2) == ToolReturn({"result": 3}, "3")
    assert await tools["shout"](text="hi") == "HI"


@pytest.mark.anyio
async def test_what_makes_a_tool_of_itself_gives_its_answer_alone_and_shows_its_text(tools: dict[str, McpTool]) -> None:
    result, seen = await _watch(tools["helper"], text="hi")
    assert result == ToolReturn({"answer": "hi"}, "hi")
    assert "".join(each.get("message", "") for each in seen) == "[look]\nhi"


@pytest.mark.anyio
async def test_generative_functions_report_what_the_model_writes(tools: dict[str, McpTool]) -> None:
    result, seen = await _watch(tools["poem"], topic="the sea")
    assert result == "The sea is blue."
    assert "".join(each["message"] for each in seen) == result
    assert [each["progress"] for each in seen] == sorted({each["progress"] for each in seen})


@pytest.mark.anyio
async def test_sequences_report_their_items(tools: dict[str, McpTool]) -> None:
    result, seen = await _watch(tools["names"], topic="people")
    assert result == ToolReturn({"result": ["Ann", "Bo"]}, '["Ann", "Bo"]')
    assert "".join(each["message"] for each in seen) == "AnnBo"


@pytest.mark.anyio
async def test_commands_give_their_typed_value(tools: dict[str, McpTool]) -> None:
    assert await tools["ticket"](text="a ticket") == ToolReturn({"title": "broken"}, '{"title": "broken"}')


@pytest.mark.anyio
async def test_generators_report_progress_in_the_terms_of_the_protocol(tools: dict[str, McpTool]) -> None:
    result, seen = await _watch(tools["work"], to=1)
    assert result == ToolReturn({"done": 1}, "worked")
    assert seen == [{"progress": 1, "total": 1, "message": "step 1"}]


@pytest.mark.anyio
async def test_files_and_images_are_content(tools: dict[str, McpTool]) -> None:
    assert await tools["files"]() == [
        CBlock("four"),
        ImageBlock(data=PIXEL),
        FileBlock("audio/wav", data=PIXEL),
        FileBlock("text/csv", data=b"a,b", filename="table.csv"),
        CBlock("https://example.com/page: https://example.com/page"),
    ]


@pytest.mark.anyio
async def test_what_is_wrong_with_a_call_is_told_and_a_crash_is_not(
    tools: dict[str, McpTool], caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ToolError, match=r"a: should be integer, not .one."):
        await tools["add"](a="one", b=2)
    with pytest.raises(ToolError, match=r"took longer than 0\.1 s"):
        await tools["hang"]()
    with pytest.raises(ToolError, match="the answer is not a valid 'int'"):
        await tools["number"](text="count")
    with caplog.at_level(logging.CRITICAL), pytest.raises(ToolError) as caught:
        await tools["crash"]()
    assert str(caught.value) == "the tool 'crash' failed with ValueError; see its server's log"


@pytest.mark.anyio
async def test_a_tool_that_needs_approval_says_so_to_its_clients(tools: dict[str, McpTool]) -> None:
    assert tools["drop"].requires_approval is True
    assert tools["add"].requires_approval is False


@pytest.mark.anyio
async def test_the_package_s_client_is_served() -> None:
    async with Client(make_server().mcp_server) as client:
        assert client.instructions == "Be brief."
        assert client.server_info is not None
        assert (client.server_info.name, client.server_info.version) == ("served", mellea.__version__)
        result = await client.call_tool("no_such_tool", {})
        assert result.is_error
        assert "there is no tool 'no_such_tool'" in result.content[0].text


@pytest.mark.anyio
async def test_a_cancelled_call_ends_the_program_s_work() -> None:
    began, ended = threading.Event(), threading.Event()

    async def wait() -> None:
        began.set()
        try:
            await anyio.sleep_forever()
        finally:
            ended.set()

    async with mcp(serve_mcp(wait)) as tools, anyio.create_task_group() as group:
        (tool,) = await tools.aload()
        group.start_soon(tool)
        await anyio.to_thread.run_sync(began.wait, SECONDS)
        group.cancel_scope.cancel()
    assert ended.wait(SECONDS)


@pytest.mark.anyio
async def test_tools_of_another_server_are_handed_on_with_their_hints() -> None:
    async with mcp(make_server(), allow=["drop", "shout"]) as inner, mcp(serve_mcp(*await inner.aload())) as outer:
        drop, shout = sorted(await outer.aload(), key=lambda tool: tool.name)
        assert drop.annotations == {"destructiveHint": True, "readOnlyHint": False}
        assert await shout(text="hi") == "HI"


def test_a_server_shows_what_it_serves() -> None:
    assert repr(serve_mcp(len_of, name="mine")) == "<McpServer 'mine' of len_of>"


def len_of(text: str) -> int:
    return len(text)


class _Wrong:
    def as_tool(self) -> int:
        return 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: serve_mcp(), "nothing to serve"),
        (lambda: serve_mcp(len_of, len_of), "two programs have the name 'len_of'"),
        (lambda: serve_mcp(3), "functions and Tools, not 3"),  # type: ignore[arg-type]
        (lambda: serve_mcp(_Wrong()), "has to return a Tool"),  # type: ignore[arg-type]
        (lambda: serve_mcp(mellea.tool(runs="outside")(len_of)), "runs outside"),
        (lambda: serve_mcp(len_of).run("http", host="0.0.0.0"), "isn't a loopback address"),
        (lambda: serve_mcp(len_of).run("smoke"), "transport takes 'stdio' or 'http'"),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_be_served_is_told_at_once(make: Callable[[], McpServer], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make()


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'mellea\[mcp\]'"):
        serve_mcp(len_of)
