"""`mellea mcp serve`: the functions, tools and agents of a file as tools of an MCP server."""

from __future__ import annotations

import sys
from contextlib import nullcontext, redirect_stdout
from typing import Annotated, Any

import typer

from mellea.cli import output
from mellea.cli.arguments import Model
from mellea.cli.programs import find_programs
from mellea.errors import UsageError
from mellea.serve import McpServer
from mellea.serve import mcp as make_server
from mellea.stdlib.agents import Agent
from mellea.stdlib.generative import AsyncPromptFunction, PromptFunction
from mellea.stdlib.session import MelleaSession, start_session
from mellea.stdlib.tools import Tool

__all__ = ["app"]

app = typer.Typer(help="Serve programs as MCP tools.", no_args_is_help=True)


@app.callback()
def start() -> None:
    """Serve programs as MCP tools."""


@app.command("serve")
def serve(
    file: Annotated[str, typer.Argument(metavar="FILE.py[:NAME,…]", help="The program, and what to serve of it.")],
    model: Model = None,
    http: Annotated[bool, typer.Option("--http", help="Serve streamable HTTP, instead of stdin and stdout.")] = False,
    host: Annotated[str, typer.Option(help="With --http, the loopback address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="With --http, the port.")] = 8000,
    name: Annotated[
        str | None, typer.Option(help="The server's name; by default that of the file.", show_default=False)
    ] = None,
    instructions: Annotated[
        str | None, typer.Option(help="A description of the server, for the models of its clients.", show_default=False)
    ] = None,
) -> None:
    """Serve the functions, tools and agents of a file as MCP tools.

    This serves the names in the file's __all__, or else all its generative functions, commands, tools and agents.
    FILE.py:NAME,NAME selects some, and may also name plain functions. If the file makes its own server
    (mellea.serve.mcp), that is served unchanged.
    """
    # The protocol uses stdout, so whatever the file prints during its import must not go there.
    with nullcontext() if http else redirect_stdout(sys.stderr):
        server = _make(file, name, instructions)
    with start_session(model):
        if http:
            shown = f"[{host}]" if ":" in host else host
            output.note(f"serving {', '.join(tool.name for tool in server.tools)} at http://{shown}:{port}/mcp")
            server.run("http", host=host, port=port)
        else:
            server.run()


def _make(file: str, name: str | None, instructions: str | None) -> McpServer:
    module, programs = find_programs(
        file,
        (Tool, Agent, PromptFunction, AsyncPromptFunction, McpServer),
        "generative function, tool or agent",
    )
    made = [given for given, value in programs.items() if isinstance(value, McpServer)]
    if not made:
        tools = [_as_program(given, value) for given, value in programs.items()]
        return make_server(*tools, name=name or module.__name__, instructions=instructions)
    if len(made) > 1:
        raise UsageError(f"{file} has several servers, {', '.join(made)}; name one, as in FILE.py:{made[0]}")
    if name is not None or instructions is not None:
        raise UsageError(f"{file} makes its own server, {made[0]}; --name and --instructions are for files without one")
    server: McpServer = programs[made[0]]
    return server


def _as_program(name: str, value: Any) -> Any:
    # An agent without a name gets its variable's name: clients need a name to call it by.
    if isinstance(value, Agent) and value.name == "agent":
        return value.as_tool(name)
    if isinstance(value, MelleaSession):
        raise UsageError(f"{name!r} can't be a tool: a session has no arguments; name functions, tools or agents")
    return value
