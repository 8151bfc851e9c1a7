"""An MCP server of the package `mcp`, in this process or as a program: `demo_server.py stdio`, `… http PORT`."""

from __future__ import annotations

import os
import sys

import anyio
from mcp.server import MCPServer
from mcp.server.mcpserver import Context, Image
from mcp_types import (
    AudioContent,
    CallToolResult,
    EmbeddedResource,
    ImageContent,
    ResourceLink,
    TextContent,
    TextResourceContents,
    ToolAnnotations,
)

PIXEL = b"\x89PNG not really"


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def pid() -> int:
    return os.getpid()


async def count(to: int, ctx: Context) -> str:
    for number in range(to):
        await ctx.report_progress(number + 1, to, f"step {number + 1}")
    return "counted"


async def hang() -> str:
    await anyio.sleep_forever()
    return "never"


def drop(table: str) -> str:
    return f"dropped {table}"


def write(text: str) -> str:
    return text


def append(text: str) -> str:
    return text


def big(size: int) -> str:
    return "x" * size


def fail() -> str:
    raise ValueError("a secret of the server")


def picture() -> list[str | Image]:
    return ["a picture", Image(data=PIXEL, format="png")]


def everything() -> CallToolResult:
    return CallToolResult(
        content=[
            TextContent(text="text"),
            ImageContent(data="aGk=", mime_type="image/jpeg"),
            AudioContent(data="aGk=", mime_type="audio/wav"),
            ResourceLink(name="page", uri="https://example.com/page", description="a page"),
            EmbeddedResource(resource=TextResourceContents(uri="demo://greeting", text="embedded")),
        ],
        structured_content={"kinds": 5},
    )


def greeting() -> str:
    return "hello"


def pixel() -> bytes:
    return PIXEL


def review(code: str) -> str:
    """Ask for a review."""
    return f"Review this: {code}"


HINTS = {
    add: ToolAnnotations(read_only_hint=True),
    drop: ToolAnnotations(destructive_hint=True),
    write: ToolAnnotations(read_only_hint=False),
    append: ToolAnnotations(read_only_hint=False, destructive_hint=False),
}


def make_server(name: str = "demo") -> MCPServer:
    server = MCPServer(name, log_level="CRITICAL")
    for function in (add, pid, count, hang, drop, write, append, big, fail, picture, everything):
        server.add_tool(function, annotations=HINTS.get(function))
    server.resource("demo://greeting")(greeting)
    server.resource("demo://pixel.png", mime_type="image/png")(pixel)
    server.prompt()(review)
    return server


if __name__ == "__main__":
    if sys.argv[1] == "stdio":
        make_server().run("stdio")
    else:
        import uvicorn

        app = make_server().streamable_http_app()
        uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="critical")
