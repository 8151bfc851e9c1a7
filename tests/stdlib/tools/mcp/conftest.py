"""Real servers of the package `mcp`: in this process, as a program on standard input and output, over HTTP."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mellea.stdlib.tools.mcp import McpTool, McpTools
from mellea.tools import mcp
from tests.ports import Port
from tests.stdlib.tools.mcp.demo_server import make_server

PROGRAM = Path(__file__).with_name("demo_server.py")
SECONDS = 60.0
"""How long anything may take here; far more than it needs, for machines that have other work."""


class HttpServer:
    """The demo server in a process of its own, at an address that stays when it is started again."""

    def __init__(self) -> None:
        self._port = Port()
        self.url = f"http://127.0.0.1:{self._port.number}/mcp"
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen([sys.executable, str(PROGRAM), "http", str(self._port.number)])
        deadline = time.monotonic() + SECONDS
        while True:
            try:
                socket.create_connection(("127.0.0.1", self._port.number)).close()
                return
            except OSError:
                assert time.monotonic() < deadline and self._process.poll() is None, "the server didn't start"
                time.sleep(0.05)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def end(self) -> None:
        self.kill()
        self._port.release()


@pytest.fixture(scope="session")
def http_server() -> Iterator[HttpServer]:
    server = HttpServer()
    yield server
    server.end()


@pytest.fixture
def own_http_server() -> Iterator[HttpServer]:
    """One that a test may kill."""
    server = HttpServer()
    yield server
    server.end()


Connect = Callable[..., McpTools]


@pytest.fixture(scope="session")
def stdio_tools() -> Iterator[McpTools]:
    """One set for many tests, since a process takes a second to start."""
    with mcp([sys.executable, str(PROGRAM), "stdio"]) as tools:
        yield tools


@pytest.fixture(params=["in-process", "stdio", "http"])
def connect(request: pytest.FixtureRequest) -> Iterator[Connect]:
    """Makes a set of tools of a server of each kind; the one of a process is shared, if it takes no settings."""
    made: list[McpTools] = []

    def make(**settings: Any) -> McpTools:
        if request.param == "stdio" and not settings:
            shared: McpTools = request.getfixturevalue("stdio_tools")
            return shared
        servers: dict[str, Callable[[], Any]] = {
            "in-process": make_server,
            "stdio": lambda: [sys.executable, str(PROGRAM), "stdio"],
            "http": lambda: request.getfixturevalue("http_server").url,
        }
        made.append(mcp(servers[request.param](), connect_timeout=SECONDS, **settings))
        return made[-1]

    yield make
    for tools in made:
        tools.close()


def named(tools: Any) -> dict[str, McpTool]:
    return {tool.remote_name: tool for tool in tools}
