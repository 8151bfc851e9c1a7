"""One task owns each connection: whoever uses it, from whatever task, loop or thread, and however it is lost."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import anyio
import pytest
import trio
from mcp.server import MCPServer

from mellea.errors import ToolError
from mellea.stdlib.tools.mcp import McpTools
from mellea.tools import mcp
from tests.stdlib.tools.mcp.conftest import PROGRAM, SECONDS, Connect, HttpServer, named
from tests.stdlib.tools.mcp.demo_server import make_server

pytestmark = pytest.mark.one_loop

THREE = {"result": 3}


async def _add(tools: McpTools) -> Any:
    return (await named(await tools.aload())["add"](a=1, b=2)).value


async def _pid(tools: McpTools) -> int:
    return int((await named(await tools.aload())["pid"]()).value["result"])


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.anyio
async def test_tools_are_listed_and_called(connect: Connect) -> None:
    tools = connect()
    listed = named(await tools.aload())
    assert listed["add"].spec.description == "Add two numbers."
    assert list(listed["add"].spec.parameters["properties"]) == ["a", "b"]
    assert await _add(tools) == THREE


@pytest.mark.anyio
async def test_it_is_opened_used_and_closed_in_different_tasks(connect: Connect) -> None:
    tools = connect()
    for work in (tools.aload, lambda: _add(tools), tools.aclose, lambda: _add(tools), tools.aclose):
        async with anyio.create_task_group() as group:
            group.start_soon(work)


def test_loops_and_threads_share_one_connection(connect: Connect) -> None:
    """It is opened on one loop, used on others, of both kinds, in threads and in plain code, and closed on another."""
    tools = connect()
    pids = [asyncio.run(_pid(tools)), trio.run(_pid, tools), asyncio.run(_pid(tools))]
    results: list[Any] = []
    threads = [
        threading.Thread(target=lambda: results.append(asyncio.run(_add(tools)))),
        threading.Thread(target=lambda: results.append(trio.run(_add, tools))),
        threading.Thread(target=lambda: results.append(len(tools.load()))),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    assert results.count(THREE) == 2
    assert len(results) == 3
    trio.run(tools.aclose)
    assert len(set(pids)) == 1


@pytest.mark.anyio
async def test_many_calls_run_at_once_over_one_connection(connect: Connect) -> None:
    add = named(await connect().aload())["add"]
    sums: dict[int, Any] = {}

    async def call(number: int) -> None:
        sums[number] = (await add(a=number, b=number)).value["result"]

    async with anyio.create_task_group() as group:
        for number in range(30):
            group.start_soon(call, number)
    assert sums == {number: 2 * number for number in range(30)}


@pytest.mark.anyio
async def test_a_cancelled_call_leaves_the_connection_as_it_was(connect: Connect) -> None:
    tools = connect()
    listed = named(await tools.aload())
    with anyio.move_on_after(0.1) as scope:
        await listed["hang"]()
    assert scope.cancelled_caught
    assert await _add(tools) == THREE


@pytest.mark.anyio
async def test_the_server_hears_of_a_cancelled_call() -> None:
    server = MCPServer("demo")
    began, ended = threading.Event(), threading.Event()

    @server.tool()
    async def wait() -> str:
        began.set()
        try:
            await anyio.sleep_forever()
        finally:
            ended.set()

    async with mcp(server) as tools, anyio.create_task_group() as group:
        group.start_soon(named(await tools.aload())["wait"])
        await anyio.to_thread.run_sync(began.wait, SECONDS)
        group.cancel_scope.cancel()
    assert ended.wait(SECONDS)


@pytest.mark.anyio
async def test_a_call_that_takes_too_long_is_an_error_and_the_next_one_works(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools = connect()
    listed = named(await tools.aload())
    with monkeypatch.context() as patch, pytest.raises(ToolError, match=r"longer than 0\.2 s for the tool 'hang'"):
        patch.setattr(tools._connection, "_timeout", 0.2)  # for this call alone: a busy machine is slow with the others
        await listed["hang"]()
    assert await _add(tools) == THREE


def test_a_server_that_is_killed_in_the_middle_of_a_call_is_an_error_and_is_started_again() -> None:
    async def run() -> None:
        tools = mcp([sys.executable, str(PROGRAM), "stdio"], connect_timeout=SECONDS)
        listed = named(await tools.aload())
        first = await _pid(tools)
        async with anyio.create_task_group() as group:

            async def kill() -> None:
                await anyio.sleep(0.1)
                os.kill(first, signal.SIGKILL)

            group.start_soon(kill)
            with (
                anyio.fail_after(SECONDS),
                pytest.raises(ToolError, match="was lost before it answered the tool 'hang'"),
            ):
                await listed["hang"]()
        assert (await listed["add"](a=1, b=2)).value == THREE
        second = await _pid(tools)
        assert second != first
        os.kill(second, signal.SIGKILL)  # nobody is waiting: once its end is seen, the next call doesn't notice
        owner = tools._connection._holder.owner
        await anyio.to_thread.run_sync(_wait_until, lambda: owner is None or owner.is_lost)
        assert await _add(tools) == THREE
        third = await _pid(tools)
        await tools.aclose()
        assert not _is_alive(third)

    asyncio.run(run())


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_an_http_server_that_is_killed_is_an_error_until_it_is_back(own_http_server: HttpServer, mode: str) -> None:
    async def run() -> None:
        async with mcp(own_http_server.url, mode=mode) as tools:
            listed = named(await tools.aload())
            async with anyio.create_task_group() as group:

                async def kill() -> None:
                    await anyio.sleep(0.1)
                    own_http_server.kill()

                group.start_soon(kill)
                with anyio.fail_after(SECONDS), pytest.raises(ToolError, match="the tool 'hang'"):
                    await listed["hang"]()
            with pytest.raises(ToolError, match="can't be reached"):
                await listed["add"](a=1, b=2)
            own_http_server.start()
            assert (await listed["add"](a=1, b=2)).value == THREE
            own_http_server.kill()
            own_http_server.start()  # it knows nothing of the session
            assert (await listed["add"](a=1, b=2)).value == THREE

    asyncio.run(run())


def test_a_program_that_is_no_server_is_given_up_and_ended(tmp_path: Any) -> None:
    note = tmp_path / "pid"
    program = f"import os, time; open({str(note)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    tools = mcp([sys.executable, "-c", program], connect_timeout=1.0)
    with pytest.raises(ToolError, match=r"can't be reached: it took longer than 1 s \(connect_timeout=\)"):
        tools.load()
    _wait_until(lambda: not (note.exists() and _is_alive(int(note.read_text() or -1))))


@pytest.mark.anyio
async def test_a_connection_that_is_being_opened_can_be_closed(tmp_path: Any) -> None:
    note = tmp_path / "pid"
    program = f"import os, time; open({str(note)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    tools = mcp([sys.executable, "-c", program], connect_timeout=10 * SECONDS)

    async def close() -> None:
        await anyio.to_thread.run_sync(_wait_until, lambda: note.exists() and bool(note.read_text()))
        await tools.aclose()

    async with anyio.create_task_group() as group:
        group.start_soon(close)
        with anyio.fail_after(SECONDS), pytest.raises(ToolError, match="can't be reached: this program closed it"):
            await tools.aload()
    # It has been killed; on a busy machine it may take a moment until it is gone.
    await anyio.to_thread.run_sync(_wait_until, lambda: not _is_alive(int(note.read_text())))


def test_a_program_that_is_not_there_is_an_error() -> None:
    with pytest.raises(ToolError, match="MCP server 'no-such-program' can't be reached: FileNotFoundError"):
        mcp("no-such-program --key sk-123456789").load()


def test_a_program_that_fails_says_why_itself_and_the_error_refers_to_it(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ToolError, match=r"can't be reached: it ended, .*; its standard error may say why$"):
        mcp([sys.executable, "-c", "exit('no model is set')"], connect_timeout=SECONDS).load()
    assert "no model is set" in capfd.readouterr().err


@pytest.mark.anyio
async def test_a_server_that_prints_is_told_by_one_error_and_no_traceback(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    code = "print('listening, key sk-sesame'); raise SystemExit(3)"
    with pytest.raises(ToolError, match=r"wrote 'listening, key .*' to its standard output") as caught:
        await mcp([sys.executable, "-c", code], env={"KEY": "sk-sesame"}).aload()
    assert "sk-sesame" not in str(caught.value)
    assert caplog.records == []


@pytest.mark.anyio
async def test_nonsense_of_an_open_connection_is_a_line_without_a_traceback(caplog: pytest.LogCaptureFixture) -> None:
    """Programs that use the package themselves keep its tracebacks."""
    code = f"""
import os, sys
sys.path.insert(0, {str(PROGRAM.parent)!r})
from demo_server import make_server
out = open(os.dup(1), "w")
def add(a: int, b: int) -> int:
    print("adding", file=out, flush=True)
    return a + b
server = make_server()
server.remove_tool("add")
server.add_tool(add)
server.run("stdio")
"""
    async with mcp([sys.executable, "-c", code]) as tools:
        await tools.aload()
        caplog.clear()
        assert await _add(tools) == THREE
    [record] = caplog.records
    assert record.exc_info is None and record.getMessage().endswith(": ValidationError")
    caplog.clear()
    try:
        raise ValueError("theirs")
    except ValueError:
        logging.getLogger("mcp.client.stdio").exception("their own connection")
    assert caplog.records[0].exc_info is not None


def test_the_process_ends_with_its_last_reader() -> None:
    tools = mcp([sys.executable, str(PROGRAM), "stdio"], connect_timeout=SECONDS)
    pid = asyncio.run(_pid(tools))
    assert _is_alive(pid)
    del tools
    gc.collect()
    _wait_until(lambda: not _is_alive(pid))


def test_the_process_ends_with_the_program() -> None:
    program = (
        "import sys\nfrom mellea.tools import mcp\n"
        f"tools = mcp([sys.executable, {str(PROGRAM)!r}, 'stdio'])\n"
        "import asyncio\npid = {tool.name: tool for tool in tools.load()}['pid']\n"
        "print(asyncio.run(pid()).value['result'])\n"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert not _is_alive(int(done.stdout))


def test_nothing_is_left_of_connections_that_were_closed() -> None:
    def use() -> None:
        with mcp(make_server()) as tools:
            assert asyncio.run(_add(tools)) == THREE

    use()
    before = threading.active_count()
    for _ in range(20):
        use()
    assert threading.active_count() <= before
    assert [thread.name for thread in threading.enumerate()].count("mellea-mcp") == 1
    from mellea.stdlib.tools.mcp import connection

    assert not [owner for owner in connection._owners if owner.client is None]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork is a thing of Unix")
def test_a_child_process_opens_connections_of_its_own() -> None:
    program = (
        "import asyncio, os, sys, warnings\nwarnings.simplefilter('ignore')\nfrom mellea.tools import mcp\n"
        f"sys.path.insert(0, {str(PROGRAM.parent)!r})\nfrom demo_server import make_server\n"
        "tools = mcp(make_server())\n"
        "async def pid(): return (await {tool.name: tool for tool in await tools.aload()}['pid']()).value['result']\n"
        "assert asyncio.run(pid()) == os.getpid()\n"
        "child = os.fork()\n"
        "tools.close()\n"
        # One write a process: the two lines can't run into one another.
        "os.write(1, f'{asyncio.run(pid()) == os.getpid()}\\n'.encode())\n"
        "if child: os.waitpid(child, 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout.split()) == (0, ["True", "True"]), done.stderr
