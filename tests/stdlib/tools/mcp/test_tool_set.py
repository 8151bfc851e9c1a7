"""What a set of MCP tools gives: names, filters, approvals, results, resources, prompts; limits, and no keys."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from mcp.server import MCPServer
from mcp.server.mcpserver import Context

import mellea
from mellea.core.blocks import CBlock, FileBlock, ImageBlock, ToolCall
from mellea.core.events import ToolEnd, ToolProgress, ToolResult
from mellea.errors import MissingExtraError, ParseError, ToolError, UsageError
from mellea.stdlib.tools.mcp import McpTools
from mellea.testing import ScriptedBackend
from mellea.tools import Edited, ToolReturn, ToolSet, mcp, require
from tests.stdlib.tools.mcp.conftest import SECONDS, Connect, HttpServer, named
from tests.stdlib.tools.mcp.demo_server import PIXEL, make_server

KEY = "sk-very-secret-0123456789"


def _calls(name: str, **arguments: Any) -> ToolEnd:
    return ToolEnd(ToolCall("1", name, arguments, json.dumps(arguments)))


def _names(tools: McpTools) -> list[str]:
    return [tool.name for tool in tools.load()]


# In calls of a model.


@pytest.mark.parametrize("as_list", [False, True])
def test_a_call_loads_the_set_and_runs_its_tools(as_list: bool) -> None:
    backend = ScriptedBackend(_calls("add", a=1, b=2), "It is 3.")
    with mcp(make_server(), allow=["add"]) as tools:
        given: Any = [tools] if as_list else tools
        answer = mellea.MelleaSession(backend).instruct("What is 1 + 2?", tools=given, tool_calls="run")
    assert answer.value == "It is 3."
    assert [tool.name for tool in backend.requests[0].tools] == ["add"]
    (output,) = backend.requests[1].messages[-1].blocks
    assert getattr(output, "result", None) == "3"


def test_a_set_stands_among_other_tools_in_their_order() -> None:
    def first() -> str:
        return ""

    def last() -> str:
        return ""

    backend = ScriptedBackend("hi")
    with mcp(make_server(), allow=["add", "pid"]) as tools:
        mellea.MelleaSession(backend).instruct("?", tools=[first, tools, last])
    assert [tool.name for tool in backend.requests[0].tools] == ["first", "add", "pid", "last"]


@pytest.mark.anyio
async def test_progress_of_the_server_is_seen_in_the_stream() -> None:
    backend = ScriptedBackend(_calls("count", to=3), "Done.")
    async with mcp(make_server(), allow=["count"]) as tools:
        stream = mellea.MelleaSession(backend).astream("Count.", tools=tools, tool_calls="run")
        events = [event async for event in stream.events()]
    assert [event.value for event in events if isinstance(event, ToolProgress)] == [
        {"progress": number, "total": 3, "message": f"step {number}"} for number in (1, 2, 3)
    ]
    assert [event.result.value for event in events if isinstance(event, ToolResult)] == [{"result": "counted"}]


def test_prompt_functions_and_ask_take_sets() -> None:
    @mellea.generative
    def answer(question: str) -> str:
        """Answer the question."""

    backend = ScriptedBackend(_calls("add", a=1, b=2), "3", _calls("add", a=1, b=2), "3")
    session = mellea.MelleaSession(backend)
    with mcp(make_server(), allow=["add"]) as tools:
        assert answer(session, "1 + 2?", tools=tools) == "3"
        assert mellea.ask("1 + 2?", session=session, tools=tools) == "3"


def test_two_tools_of_one_name_are_told_when_the_set_is_loaded() -> None:
    def add() -> str:
        return ""

    session = mellea.MelleaSession(ScriptedBackend("hi"))
    with mcp(make_server(), allow=["add"]) as tools:
        with pytest.raises(UsageError, match="two tools have the name 'add'"):
            session.instruct("?", tools=[add, tools])
        with pytest.raises(UsageError, match=r"tool_choice='sub' is not one of the call's tools"):
            session.instruct("?", tools=tools, model_options={"tool_choice": "sub"})


def test_an_answer_that_only_calls_tools_is_not_a_value_yet() -> None:
    session = mellea.MelleaSession(ScriptedBackend(_calls("add", a=1, b=2)))
    with mcp(make_server(), allow=["add"]) as tools:
        assert session.instruct("?", tools=tools, format=int).parsed is None
    with pytest.raises(ParseError):
        session.instruct("?", format=int)


def test_a_server_that_cannot_be_reached_fails_the_call_and_nothing_is_asked() -> None:
    backend = ScriptedBackend("hi")
    with pytest.raises(ToolError, match="can't be reached"):
        mellea.MelleaSession(backend).instruct("?", tools=mcp("no-such-program"))
    assert not backend.requests


def test_any_set_of_tools_can_be_loaded_when_it_is_needed() -> None:
    class Mine(ToolSet):
        async def aload(self) -> Any:
            return [mellea.tool(make_answer)]

    def make_answer() -> str:
        return ""

    backend = ScriptedBackend("hi")
    mellea.MelleaSession(backend).instruct("?", tools=Mine())
    assert [tool.name for tool in backend.requests[0].tools] == ["make_answer"]


# Which tools, and how they are called.


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({"allow": ["add", "pid"]}, ["add", "pid"]),
        ({"allow": ["add", "pid"], "deny": ["pid"]}, ["add"]),
        ({"allow": lambda tool: tool.read_only}, ["add"]),
        ({"allow": ["add", "drop"], "deny": lambda tool: tool.destructive}, ["add"]),
        ({"allow": ["add"], "prefix": "demo_"}, ["demo_add"]),
    ],
)
def test_tools_are_filtered_and_prefixed(settings: dict[str, Any], names: list[str]) -> None:
    with mcp(make_server(), **settings) as tools:
        assert _names(tools) == names


def test_a_filter_that_names_what_is_not_there_is_told() -> None:
    with mcp(make_server(), allow=["ad"]) as tools, pytest.raises(UsageError, match="did you mean 'add'"):
        tools.load()


@pytest.mark.parametrize(
    ("name", "model_name"),
    [("files.read", "files_read"), ("a/b c", "a_b_c"), ("x" * 100, None)],
)
@pytest.mark.filterwarnings("ignore")
def test_names_become_names_for_models(name: str, model_name: str | None) -> None:
    server = MCPServer("names", log_level="CRITICAL")
    server.add_tool(lambda: "called", name=name)
    with mcp(server) as tools:
        (tool,) = tools.load()
        assert model_name is None or tool.name == model_name
        assert len(tool.name) <= 64
        assert tool.remote_name == name
        assert anyio.run(tool.call) == "called"


def test_names_that_come_to_one_are_told() -> None:
    server = MCPServer("names", log_level="CRITICAL")
    server.add_tool(lambda: "", name="a.b")
    server.add_tool(lambda: "", name="a_b")
    with mcp(server) as tools, pytest.raises(UsageError, match="get the same name 'a_b'"):
        tools.load()


@pytest.mark.parametrize(
    ("requires_approval", "asked"),
    [
        ("annotated", {"drop", "write"}),
        (False, set()),
        (True, {"add", "pid", "drop", "write", "append"}),
        (lambda tool: tool.read_only is not True, {"pid", "drop", "write", "append"}),
    ],
)
def test_approval_is_read_off_the_annotations(requires_approval: Any, asked: set[str]) -> None:
    names = ["add", "pid", "drop", "write", "append"]
    with mcp(make_server(), allow=names, requires_approval=requires_approval) as tools:
        assert {tool.name for tool in tools.load() if tool.requires_approval} == asked


def test_a_tool_keeps_what_it_is_under_another_name_and_with_a_condition() -> None:
    with mcp(make_server(), allow=["add"]) as tools:
        (add,) = tools.load()
        small = require(lambda a: a < 10, "a has to be small")(add.rename("plus"))
        assert (small.name, small.spec.name, small.spec.parameters) == ("plus", "plus", add.spec.parameters)
        assert anyio.run(small.call, {"a": 1, "b": 2}).value == {"result": 3}
        with pytest.raises(ToolError, match="a has to be small"):
            anyio.run(small.call, {"a": 10, "b": 2})


@pytest.mark.anyio
@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_the_list_is_kept_until_the_server_says_that_it_has_changed(mode: str) -> None:
    server = make_server()
    listed = 0
    plain = server._tool_manager.list_tools

    def counted() -> Any:
        nonlocal listed
        listed += 1
        return plain()

    server._tool_manager.list_tools = counted  # type: ignore[method-assign]

    async def grow(ctx: Context) -> str:
        server.add_tool(lambda: "", name="grown")
        await ctx.notify_tools_changed()
        await ctx.session.send_tool_list_changed()
        return "grown"

    server.add_tool(grow)
    async with mcp(server, mode=mode) as tools:
        before = await tools.aload()
        asked = listed
        assert await tools.aload() is before
        assert listed == asked
        await named(before)["grow"]()
        with anyio.fail_after(SECONDS):
            while "grown" not in named(await tools.aload()):
                await anyio.sleep(0.01)


# What comes back.


@pytest.mark.anyio
async def test_results_are_blocks_with_the_value_besides(connect: Connect) -> None:
    tools = named(await connect().aload())
    assert await tools["add"](a=1, b=2) == ToolReturn({"result": 3}, "3")
    picture = await tools["picture"]()
    blocks = picture.text if isinstance(picture, ToolReturn) else picture
    assert blocks == [CBlock("a picture"), ImageBlock(data=PIXEL)]
    assert await tools["everything"]() == ToolReturn(
        {"kinds": 5},
        [
            CBlock("text"),
            ImageBlock(media_type="image/jpeg", data=b"hi"),
            FileBlock(media_type="audio/wav", data=b"hi"),
            CBlock("page: https://example.com/page (a page)"),
            CBlock("embedded"),
        ],
    )


@pytest.mark.anyio
async def test_failures_are_tool_errors(connect: Connect) -> None:
    tools = named(await connect().aload())
    with pytest.raises(ToolError, match="Error executing tool fail"):
        await tools["fail"]()
    with pytest.raises(ToolError, match=r"the arguments don't fit: a: should be integer, not \"one\""):
        await tools["add"](a="one", b=2)
    with pytest.raises(ToolError, match="as an object"):
        await tools["add"].call([1])  # type: ignore[arg-type]
    with pytest.raises(ToolError, match="by name"):
        tools["add"](1, 2)


def test_edited_arguments_outside_the_servers_schema_are_refused_before_anything_runs() -> None:
    call = ToolEnd(ToolCall("c1", "drop", {"table": "old"}))
    with mcp(make_server(), allow=["drop"]) as tools:
        agent = mellea.Agent(ScriptedBackend(call, "Done."), tools)
        pending = agent.run("Drop it.").pending
        assert pending is not None
        for wrong in ({"table": 5}, {"tabel": "x"}, {}):
            with pytest.raises(
                UsageError, match=r"edited arguments of 'c1' don't fit the tool 'drop'.*nothing was run"
            ):
                agent.resume(pending, {"c1": Edited(wrong)})
        (output,) = agent.resume(pending, {"c1": Edited({"table": "older"})}).steps[0].results
        assert output.value == {"result": "dropped older"}


def test_arguments_that_dont_fit_a_servers_schema_ask_nobody_and_run_nothing() -> None:
    with mcp(make_server(), allow=["drop"]) as tools:
        agent = mellea.Agent(ScriptedBackend(ToolEnd(ToolCall("c1", "drop", {"table": 5})), "Well."), tools)
        run = agent.run("Drop it.")
    assert run.pending is None
    assert run.steps[0].results[0].is_error and "should be string" in str(run.steps[0].results[0].result)


def test_a_server_whose_schema_makes_no_sense_checks_the_arguments_alone() -> None:
    with mcp(make_server(), allow=["add"]) as tools:
        (tool,) = tools.load()
        tool._schema = {"type": "object", "properties": {"a": {"$ref": "#/nowhere"}}, "required": 5}
        tool.__dict__.pop("_is_sound", None)
        assert tool.check_args({"a": "one"}) == {"a": "one"}


@pytest.mark.anyio
async def test_resources_and_prompts_are_read(connect: Connect) -> None:
    tools = connect()
    assert {str(resource.uri) for resource in await tools.alist_resources()} == {"demo://greeting", "demo://pixel.png"}
    assert await tools.aread_resource("demo://greeting") == [CBlock("hello")]
    assert await tools.aread_resource("demo://pixel.png") == [ImageBlock(data=PIXEL, filename=None)]
    assert [prompt.name for prompt in await tools.alist_prompts()] == ["review"]
    (message,) = await tools.aget_prompt("review", {"code": "1 + 1"})
    assert (message.role, message.text) == ("user", "Review this: 1 + 1")
    with pytest.raises(ToolError, match="refuses the resource 'demo://none'"):
        await tools.aread_resource("demo://none")
    with pytest.raises(ToolError, match="refuses the prompt 'none'"):
        await tools.aget_prompt("none")


def test_plain_code_reads_them_as_well() -> None:
    with mcp(make_server()) as tools:
        assert tools.read_resource("demo://greeting") == [CBlock("hello")]
        assert len(tools.list_resources()) == 2
        assert tools.get_prompt("review", {"code": "x"})[0].text == "Review this: x"
        assert len(tools.list_prompts()) == 1


@pytest.mark.anyio
async def test_results_are_bounded(connect: Connect) -> None:
    tools = connect(max_bytes=50_000)
    listed = named(await tools.aload())
    with pytest.raises(ToolError, match="max_bytes"):
        await listed["big"](size=60_000)
    assert (await listed["add"](a=1, b=2)).value == {"result": 3}


@pytest.mark.anyio
async def test_an_endless_list_is_given_up() -> None:
    from mcp.server import Server
    from mcp_types import ListToolsResult, Tool

    async def list_tools(context: Any, params: Any) -> ListToolsResult:
        return ListToolsResult(tools=[Tool(name="again", input_schema={"type": "object"})], next_cursor="more")

    async with mcp(Server("endless", on_list_tools=list_tools)) as tools:
        with pytest.raises(ToolError, match="doesn't end"):
            await tools.aload()


# Keys, and what is wrong at once.


@pytest.mark.parametrize(
    ("server", "settings"),
    [
        (f"http://user:{KEY}@127.0.0.1:9/mcp?key={KEY}", {}),
        (f"http://127.0.0.1:9/{KEY}/mcp", {"headers": {"Authorization": f"Bearer {KEY}"}}),
        ([sys.executable, "-c", "exit(1)", KEY], {"env": {"API_KEY": KEY}}),
        ([f"no-such-{KEY}"[:7], KEY], {"env": {"API_KEY": KEY}}),
    ],
)
def test_keys_are_never_shown(server: Any, settings: dict[str, Any]) -> None:
    tools = mcp(server, connect_timeout=SECONDS, **settings)
    with pytest.raises(ToolError, match="can't be reached") as caught:
        tools.load()
    error: BaseException | None = caught.value
    said = repr(tools) + repr(tools._connection.target)
    while error is not None:
        said += repr(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    assert KEY not in said


def test_headers_reach_the_server(http_server: HttpServer) -> None:
    """And what is asked of a server that isn't there any more is an error with its address."""
    with mcp(http_server.url, headers={"X-Any": "thing"}, allow=["add"]) as tools:
        assert _names(tools) == ["add"]
        assert repr(tools) == f"<McpTools of {http_server.url!r}>"
        assert repr(tools.load()[0]) == f"<McpTool 'add' of {http_server.url!r}>"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: mcp(None), "takes the address of a server"),
        (lambda: mcp(""), "command of an MCP server is empty"),
        (lambda: mcp("say 'hi"), "can't be split"),
        (lambda: mcp("http://"), "names no host"),
        (lambda: mcp("http://127.0.0.1:9/", env={"A": "b"}), "env= and cwd= go with a command"),
        (lambda: mcp("run", headers={"A": "b"}), "headers= and auth= go with the address"),
        (lambda: mcp("run", env={"A": 1}), "env= takes a dict of strings"),  # type: ignore[dict-item]
        (lambda: mcp("run", timeout=0), "timeout takes a number of seconds above 0"),
        (lambda: mcp("run", max_bytes=0), "max_bytes takes a whole number"),
        (lambda: mcp("run", allow="add"), "allow takes a list of names"),
        (lambda: mcp("run", requires_approval="never"), "requires_approval takes"),  # type: ignore[arg-type]
        (lambda: mcp("run", prefix=1), "prefix takes a string"),  # type: ignore[arg-type]
    ],
)
def test_wrong_arguments_are_told_at_once(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make()


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'mellea\[mcp\]'"):
        mcp("run")


def test_nothing_is_opened_or_loaded_before_the_first_use() -> None:
    import subprocess

    program = (
        "import sys, threading\nfrom mellea.tools import mcp\ntools = mcp('no-such-program')\n"
        "print(threading.active_count(), 'mcp' in sys.modules, 'pydantic' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "False", "False"]
