"""What an MCP client connects to: the URL of a server, a command that starts one, or a server in this process."""

from __future__ import annotations

import functools
import os
import shlex
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio

from mellea.core.masking import scrub
from mellea.errors import MissingExtraError, ToolError, UsageError

__all__ = ["Target", "require_mcp"]

_SHORTEST_SECRET = 6
"""The length from which on a value of a header or a variable counts as a key that errors must not show."""

_LONGEST_SEGMENT = 15
"""The most characters of a part of a URL's path that are shown; some services put a key there."""


@dataclass(frozen=True, slots=True)
class Target:
    """A server, and how to reach it.

    Attributes:
        label: its name in errors and reprs, without keys.
        url: its URL, for streamable HTTP.
        command: the program and its arguments, for standard input and output.
        server: the server itself, in this process.
        headers: additional headers of each request.
        auth: an `httpx2.Auth`, such as the OAuth providers of `mcp.client.auth`.
        env: additional environment variables of the command.
        cwd: the folder that the command runs in.
        max_bytes: the largest response that is read.
        mode: how the protocol version is negotiated, as in `mcp.Client`.
    """

    label: str
    url: str | None = field(default=None, repr=False)
    command: tuple[str, ...] = field(default=(), repr=False)
    server: Any = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    auth: Any = field(default=None, repr=False)
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    cwd: str | None = field(default=None, repr=False)
    max_bytes: int = 10_000_000
    mode: str = "auto"

    @classmethod
    def of(
        cls,
        server: Any,
        *,
        headers: Mapping[str, str] | None,
        auth: Any,
        env: Mapping[str, str] | None,
        cwd: str | os.PathLike[str] | None,
        max_bytes: int,
        mode: str,
    ) -> Target:
        """Create a target from the arguments of `mcp(…)`.

        Raises:
            UsageError: it is neither a URL, nor a command, nor a server; or an argument doesn't apply to it.
        """
        settings: dict[str, Any] = {
            "headers": _strings("headers", headers),
            "auth": auth,
            "env": _strings("env", env),
            "cwd": None if cwd is None else os.fspath(cwd),
            "max_bytes": max_bytes,
            "mode": mode,
        }
        if isinstance(server, str) and server.lower().startswith(("http://", "https://")):
            target = cls(_label_of_url(server), url=server, **settings)
        elif isinstance(server, (str, list, tuple)):
            command = _split(server)
            target = cls(_label_of_command(command), command=command, **settings)
        elif server is None or isinstance(server, (bytes, type)) or not hasattr(server, "name"):
            raise UsageError(
                "mcp(…) takes the address of a server ('http://…'), a command that starts one ('uvx …' or a list), or "
                f"a server such as mcp.server.MCPServer('name'), not {server!r}"
            )
        else:
            target = cls(f"{server.name}", server=server, **settings)
        target._check()
        return target

    def _check(self) -> None:
        if self.url is None and (self.headers or self.auth is not None):
            raise UsageError("headers= and auth= go with the address of a server; for a command use env=")
        if not self.command and (self.env or self.cwd is not None):
            raise UsageError("env= and cwd= go with a command that starts a server")

    def explain(self, error: BaseException) -> str:
        """Return an error's message, without this target's keys."""
        said = self.conceal(str(error))
        return f"{type(error).__name__}: {said}" if said else type(error).__name__

    def conceal(self, text: str) -> str:
        """Return the beginning of a text in one line, without this target's keys."""
        values = [*self.headers.values(), *self.env.values(), *self.command[1:]]
        values += [word for value in self.headers.values() for word in value.split()]
        if self.url is not None:
            parts = urlsplit(self.url)
            values += [parts.query, parts.username or "", parts.password or ""]
            values += [piece.partition("=")[2] for piece in parts.query.split("&")]
            values += [part for part in parts.path.split("/") if len(part) > _LONGEST_SEGMENT]
        said = " ".join(text.split())[:300]
        return scrub(said, {value for value in values if len(value) >= _SHORTEST_SECRET})

    @asynccontextmanager
    async def connect(
        self,
        on_end: Callable[[], None],
        on_session_lost: Callable[[], None],
        on_message: Callable[[Any], Awaitable[None]],
    ) -> AsyncIterator[Any]:
        """Open a connection and yield its client: an `mcp.Client` that has been entered.

        Args:
            on_end: called when a started server closes its output, for example because it was killed.
            on_session_lost: called when a server at a URL rejects a request because it has lost the session, for
                example after a restart.
            on_message: called with each notification from the server.
        """
        from mcp import Client, StdioServerParameters  # optional: the extra `mcp`
        from mcp.client.stdio import stdio_client

        settings: dict[str, Any] = {"message_handler": on_message, "cache": None, "mode": self.mode}
        if self.server is not None:
            server = getattr(self.server, "mcp_server", self.server)  # of `mellea.serve.mcp`
            async with Client(server, **settings) as client:
                yield client
        elif self.url is not None:
            async with (
                self._http(on_session_lost) as transport,
                Client(transport, **settings) as client,
            ):
                yield client
        else:
            program, *arguments = self.command
            parameters = StdioServerParameters(command=program, args=arguments, env=dict(self.env), cwd=self.cwd)
            with _error_stream() as errlog:
                transport = _watch(stdio_client(parameters, errlog=errlog), on_end)
                async with Client(transport, **settings) as client:
                    yield client

    @asynccontextmanager
    async def _http(self, on_session_lost: Callable[[], None]) -> AsyncIterator[Any]:
        import httpx2  # optional: it comes with the extra `mcp`
        from mcp.client.streamable_http import streamable_http_client

        # Decompression would need a limit as well, so servers are asked not to compress.
        client = httpx2.AsyncClient(
            headers={**self.headers, "Accept-Encoding": "identity"},
            auth=self.auth,
            timeout=httpx2.Timeout(30.0, read=None),  # a call has its own time-out
            event_hooks={"response": [functools.partial(self._check_response, on_session_lost)]},
        )
        async with client:
            yield streamable_http_client(self.url or "", http_client=client, max_sse_event_size=self.max_bytes)

    async def _check_response(self, on_session_lost: Callable[[], None], response: Any) -> None:
        """Reject compressed responses, and those that exceed the limit as soon as they do."""
        if response.status_code == 404 and "mcp-session-id" in response.request.headers:
            on_session_lost()  # 2025-11-25, Streamable HTTP, session management: the client has to begin a new one
        if response.headers.get("content-encoding", "identity").strip().lower() != "identity":
            raise ToolError(f"the MCP server {self.label!r} compressed its answer, which wasn't asked for")
        if not response.headers.get("content-type", "").lower().startswith("text/event-stream"):
            response.stream = _limit_bytes(response.stream, self.max_bytes, self.label)


def require_mcp() -> None:
    """Load the package `mcp`; it takes a second or more, so never on a user's loop.

    Raises:
        MissingExtraError: it isn't installed.
    """
    try:
        import mcp.client.streamable_http  # noqa: F401 - optional: the extra `mcp`
    except ImportError as error:
        raise MissingExtraError(
            f"MCP needs the package 'mcp' ({error}); install it with: pip install 'mellea[mcp]'"
        ) from None


def _limit_bytes(stream: Any, limit: int, label: str) -> Any:
    import httpx2  # optional: it comes with the extra `mcp`

    class Bounded(httpx2.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            seen = 0
            async for chunk in stream:
                seen += len(chunk)
                if seen > limit:
                    raise ToolError(f"the MCP server {label!r} sent more than {limit} bytes, the limit max_bytes=")
                yield chunk

        async def aclose(self) -> None:
            await stream.aclose()

    return Bounded()


@asynccontextmanager
async def _watch(transport: Any, on_end: Callable[[], None]) -> AsyncIterator[Any]:
    async with transport as (reading, writing):
        yield _Watched(reading, on_end), writing


class _Watched:
    """The messages of a server, and a notice of their end."""

    def __init__(self, stream: Any, on_end: Callable[[], None]) -> None:
        self._stream = stream
        self._on_end = on_end

    async def receive(self) -> Any:
        try:
            return await self._stream.receive()
        except (anyio.EndOfStream, anyio.ClosedResourceError, anyio.BrokenResourceError):
            self._on_end()
            raise

    async def __anext__(self) -> Any:
        try:
            return await self.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None

    def __aiter__(self) -> _Watched:
        return self

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def __aenter__(self) -> _Watched:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.aclose()


@contextmanager
def _error_stream() -> Iterator[Any]:
    """Yield the destination of a server's standard error: the program's own, or nothing if that isn't a file."""
    stream = next((stream for stream in (sys.stderr, sys.__stderr__) if _is_file(stream)), None)
    if stream is not None:
        yield stream
        return
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        yield nowhere


def _is_file(stream: Any) -> bool:
    try:
        return stream is not None and stream.fileno() >= 0
    except (OSError, ValueError):  # as in a notebook
        return False


def _strings(name: str, given: Mapping[str, str] | None) -> dict[str, str]:
    if given is None:
        return {}
    is_right = isinstance(given, Mapping) and all(isinstance(part, str) for pair in given.items() for part in pair)
    if not is_right:  # the values may be keys, so they aren't shown
        raise UsageError(f"{name}= takes a dict of strings, not a {type(given).__name__} with other values")
    return dict(given)


def _split(command: str | Sequence[str]) -> tuple[str, ...]:
    try:
        words = shlex.split(command, posix=os.name != "nt") if isinstance(command, str) else list(command)
    except ValueError as error:
        raise UsageError(f"the command of an MCP server can't be split into words: {error}; give a list") from None
    if not words or not all(isinstance(word, str) and word for word in words[:1]):
        raise UsageError("the command of an MCP server is empty; give its program and arguments")
    if not all(isinstance(word, (str, os.PathLike)) for word in words):
        raise UsageError("the command of an MCP server is a list of strings")
    return tuple(os.fspath(word) for word in words)


def _label_of_command(command: Sequence[str]) -> str:
    """Return the program's name, and the script's after an interpreter: other arguments may be keys."""
    scripts = [Path(word).name for word in command[1:] if word.endswith((".py", ".js", ".ts"))][:1]
    return " ".join([Path(command[0]).name, *scripts])


def _label_of_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise UsageError(f"the address of an MCP server isn't valid: {error}") from None
    if not parts.hostname:
        raise UsageError("the address of an MCP server names no host")
    path = "/".join("…" if len(part) > _LONGEST_SEGMENT else part for part in parts.path.split("/"))
    return f"{parts.scheme}://{parts.hostname}{'' if port is None else f':{port}'}{path}"
