"""`mellea.serve.mcp(…)`: programs as the tools of an MCP server, over standard input and output or streamable HTTP.

Each program becomes a `Tool`, so that arguments are checked, time-outs apply and progress is reported as usual. The
package `mcp` implements the protocol; it is loaded when the server is prepared.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import ipaddress
import json
import logging
import sys
from collections.abc import Mapping
from typing import Any, Literal, cast

import anyio

from mellea._version import __version__
from mellea.core.blocks import Block, CBlock, FileBlock, ImageBlock
from mellea.core.events import Event, TextDelta, ToolEnd
from mellea.core.runtime.tasks import run_together
from mellea.errors import MelleaError, MissingExtraError, UsageError
from mellea.serve.programs import Program, as_served_tools
from mellea.serve.stdin_lines import claim_stdin
from mellea.stdlib.tools import Tool, ToolReturn, serialise_result
from mellea.stdlib.tools.progress import ReportQueue

__all__ = ["McpServer", "mcp"]

_log = logging.getLogger("mellea.serve")

_PAUSE_SECONDS = 0.05
"""The shortest time between two progress notifications; values in between go into the next one."""

_GRACE_SECONDS = 5
"""How long calls over HTTP may continue when the server is stopped; an open stream would never end by itself."""

_LONGEST_MESSAGE = 4_000
"""Characters of one notification of progress."""


class McpServer:
    """An MCP server with programs as its tools; made by `mcp(…)`.

    Attributes:
        name: its name.
        tools: its tools.
    """

    def __init__(self, tools: tuple[Tool[..., Any], ...], name: str, instructions: str | None) -> None:
        if importlib.util.find_spec("mcp") is None:
            raise MissingExtraError("MCP needs the package 'mcp'; install it with: pip install 'mellea[mcp]'")
        self.name = name
        self.tools = tools
        self._instructions = instructions
        self._by_name = {tool.name: tool for tool in tools}

    def run(self, transport: Literal["stdio", "http"] = "stdio", *, host: str = "127.0.0.1", port: int = 8000) -> None:
        """Serve until the client leaves, or the program is interrupted.

        Args:
            transport: `"stdio"` for a client that has started this program; its prints then go to standard
                error. `"http"` for streamable HTTP at `http://host:port/mcp`.
            host: a loopback address; to serve others, put `asgi()` behind your own server that authenticates its
                callers.
            port: the port.

        Raises:
            UsageError: an argument is wrong.
        """
        anyio.run(functools.partial(self.arun, transport, host=host, port=port))

    async def arun(
        self, transport: Literal["stdio", "http"] = "stdio", *, host: str = "127.0.0.1", port: int = 8000
    ) -> None:
        """Serve until the wait is cancelled; otherwise like `run`. HTTP needs asyncio."""
        if transport not in ("stdio", "http"):
            raise UsageError(f"transport takes 'stdio' or 'http', not {transport!r}")
        if transport == "http":
            await self._serve_http(host, port)
            return
        await self._serve_stdio()

    async def _serve_stdio(self) -> None:
        if sys.stdin is None or sys.stdout is None:
            raise UsageError("a server over standard input and output needs both, and one of them is closed")
        from mcp.server.stdio import stdio_server  # optional: the extra `mcp`

        server = self.mcp_server
        with claim_stdin() as lines:
            # With our own lines: waiting for the package's can't be cancelled, so Ctrl-C would do nothing.
            async with stdio_server(cast(Any, lines)) as (reading, writing):
                # Descriptor 1 is stderr here. The program's prints are flushed meanwhile: from a buffer they
                # would be written when the descriptor belongs to the protocol again.
                sys.stdout.flush()
                with contextlib.redirect_stdout(sys.stderr):
                    await server.run(reading, writing, server.create_initialization_options())

    async def _serve_http(self, host: str, port: int) -> None:
        if not _is_loopback(host):
            raise UsageError(
                f"host={host!r} isn't a loopback address; anyone who can reach the server can run its programs, so put "
                ".asgi() behind a server that authenticates its callers"
            )
        import uvicorn  # optional: it comes with the extra `mcp`

        config = uvicorn.Config(
            self.asgi(host), host=host, port=port, log_level="warning", timeout_graceful_shutdown=_GRACE_SECONDS
        )
        await uvicorn.Server(config).serve()

    def asgi(self, host: str = "127.0.0.1") -> Any:
        """Return an ASGI application (of Starlette) that serves streamable HTTP at `/mcp`.

        Args:
            host: on a loopback address requests for other hosts are rejected, since a page in a browser could send
                them.
        """
        return self.mcp_server.streamable_http_app(host=host)

    @property
    def mcp_server(self) -> Any:
        """A new `mcp.server.Server` of the package, for your own transports."""
        from mcp.server import Server  # optional: the extra `mcp`

        return Server(
            self.name,
            version=__version__,
            instructions=self._instructions,
            on_list_tools=self._list_tools,
            on_call_tool=self._call_tool,
        )

    async def _list_tools(self, context: Any, params: Any) -> Any:
        from mcp_types import ListToolsResult  # optional: the extra `mcp`

        return ListToolsResult(tools=[_describe(tool) for tool in self.tools])

    async def _call_tool(self, context: Any, params: Any) -> Any:
        """Run a tool. The client learns what is wrong with a call, but about a crash only that it happened."""
        tool = self._by_name.get(params.name)
        if tool is None:
            known = ", ".join(map(repr, self._by_name))
            return _make_failure(f"there is no tool {params.name!r}; the tools are {known}")
        progress = _Progress(context.session.report_progress)

        async def call() -> Any:
            try:
                return await tool.call(params.arguments, on_progress=progress.queue.put)
            finally:
                progress.queue.end()

        try:
            returned, _ = await run_together([call, progress.send])
            return _answer(ToolReturn.of(returned))
        except MelleaError as error:
            return _make_failure(str(error))
        except Exception as error:  # noqa: BLE001 - of the user's function
            _log.exception("the tool %r failed", tool.name)
            return _make_failure(f"the tool {tool.name!r} failed with {type(error).__name__}; see its server's log")

    def __repr__(self) -> str:
        return f"<McpServer {self.name!r} of {', '.join(self._by_name)}>"


def mcp(*programs: Program, name: str = "mellea", instructions: str | None = None) -> McpServer:
    """Make an MCP server with programs as its tools: `mellea.serve.mcp(f, g).run()`. It needs the extra `mcp`.

    Args:
        programs: functions, `@tool`s, `@generative` functions and `@command`s, and objects with `as_tool()`. Those
            that a model answers use the session that is current where the server runs, and report the model's text as
            progress.
        name: the server's name.
        instructions: what clients may tell their models about it.

    Raises:
        UsageError: one of them can't be served, or two have the same name.
        MissingExtraError: the package `mcp` isn't installed.
    """
    return McpServer(as_served_tools(programs), name, instructions)


class _Progress:
    """Sends a tool's progress, in order, several values in one notification if they arrive fast."""

    def __init__(self, notify: Any) -> None:
        self.queue = ReportQueue()
        self._notify = notify
        self._sent = 0.0

    async def send(self) -> None:
        """Send progress until the tool has ended."""
        while (values := await self.queue.take()) is not None:
            *_, last = values
            if isinstance(last, Mapping) and isinstance(last.get("progress"), (int, float)):  # as other servers do
                await self._send(last["progress"], last.get("total"), last.get("message"))
            else:
                message = "".join(map(_describe_progress, values))
                await self._send(self._sent + len(values), None, message or None)
            await anyio.sleep(_PAUSE_SECONDS)

    async def _send(self, progress: float, total: Any, message: Any) -> None:
        self._sent = max(progress, self._sent)  # the protocol requires it to increase
        said = None if message is None else str(message)[:_LONGEST_MESSAGE]
        await self._notify(self._sent, total if isinstance(total, (int, float)) else None, said)


def _describe_progress(value: Any) -> str:
    """Return a reported value as text for a client: for an agent's events, the text and the calls."""
    if isinstance(value, str):
        return value
    event = getattr(value, "event", value)
    if isinstance(event, TextDelta):
        return event.chunk
    if isinstance(event, ToolEnd):
        return f"[{event.tool_call.tool_name}]\n"
    return "" if isinstance(event, Event) else f"{_to_text(value)}\n"


def _describe(tool: Tool[..., Any]) -> Any:
    from mcp_types import Tool as McpTool  # optional: the extra `mcp`
    from mcp_types import ToolAnnotations

    hints = getattr(tool, "annotations", None)  # another server's tool, passed on
    annotations = ToolAnnotations.model_validate(hints) if hints else None
    if annotations is None and tool.requires_approval:
        annotations = ToolAnnotations(destructive_hint=True, read_only_hint=False)  # its clients then ask their users
    spec = tool.spec
    return McpTool(
        name=spec.name,
        description=spec.description,
        input_schema=dict(spec.parameters),
        annotations=annotations,
    )


def _answer(returned: ToolReturn) -> Any:
    from mcp_types import CallToolResult  # optional: the extra `mcp`

    given = returned.value
    # Only an agent's answer is served, not its steps with all tool results.
    is_run = given is not returned.text and hasattr(type(given), "output")
    value = serialise_result(given.output if is_run else given)
    told = serialise_result(returned.text)
    several = isinstance(told, list) and any(isinstance(item, Block) for item in told)
    content = [_encode_content(item) for item in (told if several else [told])]
    structured = None
    if isinstance(value, Mapping):
        structured = dict(value)
    elif not isinstance(value, (str, Block)) and not (isinstance(value, list) and several):
        structured = {"result": value}
    return CallToolResult(content=content, structured_content=structured)


def _encode_content(item: Any) -> Any:
    from mcp_types import (  # optional: the extra `mcp`
        AudioContent,
        BlobResourceContents,
        EmbeddedResource,
        ImageContent,
        ResourceLink,
        TextContent,
    )

    if isinstance(item, FileBlock):
        if item.url is not None:
            return ResourceLink(name=item.filename or item.url, uri=item.url, mime_type=item.media_type)
        if isinstance(item, ImageBlock) or item.essence.startswith("image/"):
            return ImageContent(data=item.base64(), mime_type=item.media_type)
        if item.essence.startswith("audio/"):
            return AudioContent(data=item.base64(), mime_type=item.media_type)
        uri = f"file:///{item.filename or 'file'}"
        return EmbeddedResource(resource=BlobResourceContents(uri=uri, mime_type=item.media_type, blob=item.base64()))
    return TextContent(text=item.value if isinstance(item, CBlock) else _to_text(item))


def _to_text(value: Any) -> str:
    said = serialise_result(value)
    return said if isinstance(said, str) else json.dumps(said, ensure_ascii=False, default=str)


def _make_failure(message: str) -> Any:
    from mcp_types import CallToolResult, TextContent  # optional: the extra `mcp`

    return CallToolResult(content=[TextContent(text=message)], is_error=True)


def _is_loopback(host: Any) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
