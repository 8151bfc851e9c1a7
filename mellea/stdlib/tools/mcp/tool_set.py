"""`mcp(…)`: the tools, resources and prompts of an MCP server."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Self

from mellea.core.blocks import CBlock, FileBlock
from mellea.core.messages import Message
from mellea.core.numbers import is_number
from mellea.core.runtime.portal import blocking
from mellea.errors import UsageError
from mellea.stdlib.tools.mcp.connection import Connection, read_pages
from mellea.stdlib.tools.mcp.remote_tool import Approval, McpTool
from mellea.stdlib.tools.mcp.results import read_prompt, read_resource
from mellea.stdlib.tools.mcp.target import Target
from mellea.stdlib.tools.tool_set import ToolSet

__all__ = ["McpTools", "mcp"]

Filter = Iterable[str] | Callable[[McpTool], bool]
"""The server's names of tools, or a function of a tool."""

_MOST = 10_000
"""The maximum number of resources or prompts that are listed."""


class McpTools(ToolSet):
    """The tools, resources and prompts of one MCP server; made by `mcp(…)`, which explains the arguments.

    It connects at its first use, and again after the connection was lost or closed. It may be used from any task, loop
    or thread, by several at once, and by any number of calls. `with` and `async with` close the connection at the end
    of the block; otherwise it is closed when the set isn't referenced any more, or when the program ends.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        allow: Filter | None = None,
        deny: Filter | None = None,
        prefix: str = "",
        requires_approval: Approval = "annotated",
        cache: bool = True,
    ) -> None:
        self._connection = connection
        self._allow = _filter("allow", allow)
        self._deny = _filter("deny", deny)
        self._prefix = prefix
        self._approval = requires_approval
        self._cache = cache
        self._made: tuple[list[Any], tuple[McpTool, ...]] | None = None

    async def aload(self) -> Sequence[McpTool]:
        """Return the server's tools that pass the filters.

        Raises:
            ToolError: the server can't be reached or doesn't answer.
            UsageError: a filter names a tool that doesn't exist, or two tools have the same name.
            MissingExtraError: the package `mcp` can't be loaded.
        """
        listed = await self._connection.list_tools(cache=self._cache)
        made = self._made
        if made is None or made[0] is not listed:
            made = self._made = listed, self._make(listed)
        return made[1]

    load = blocking(aload)

    def _make(self, listed: list[Any]) -> tuple[McpTool, ...]:
        known = [tool.name for tool in listed]
        for name, chosen in (("allow", self._allow), ("deny", self._deny)):
            self._check_names(name, chosen, known)
        tools = [McpTool(tool, self._connection, prefix=self._prefix, approval=self._approval) for tool in listed]
        kept = tuple(tool for tool in tools if self._is_kept(tool))
        names = [tool.name for tool in kept]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise UsageError(
                f"two tools of the MCP server {self.name!r} get the same name {twice!r}; leave one out with deny="
            )
        return kept

    def _is_kept(self, tool: McpTool) -> bool:
        is_allowed = self._allow is None or _matches(self._allow, tool)
        return is_allowed and not (self._deny is not None and _matches(self._deny, tool))

    def _check_names(self, what: str, chosen: Any, known: Sequence[str]) -> None:
        if not isinstance(chosen, frozenset):
            return
        for name in sorted(chosen.difference(known)):
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(map(repr, known[:20])) or 'none'}"
            raise UsageError(f"{what}= names {name!r}, and the MCP server {self.name!r} has no such tool; {hint}")

    @property
    def name(self) -> str:
        """The server's name in errors and reprs: its URL or command without keys, or its own name."""
        return self._connection.target.label

    async def alist_resources(self) -> list[Any]:
        """Return the server's resources, as the package's `Resource`s: `.uri`, `.name`, `.mime_type`.

        Raises:
            ToolError: the server can't be reached, doesn't answer, or has no resources.
        """
        return await self._connection.request(
            "the list of resources", lambda client: read_pages(client.list_resources, "resources", _MOST)
        )

    list_resources = blocking(alist_resources)

    async def aread_resource(self, uri: str) -> list[CBlock | FileBlock]:
        """Return a resource as blocks, which can be in messages and prompts: texts, images, files.

        Raises:
            ToolError: there is no such resource, it is too large, or the server doesn't answer.
        """
        result = await self._connection.request(
            f"the resource {uri!r}", lambda client: client.read_resource(uri, cache_mode="bypass")
        )
        return read_resource(result.contents, self._connection.target.max_bytes)

    read_resource = blocking(aread_resource)

    async def alist_prompts(self) -> list[Any]:
        """Return the server's prompts, as the package's `Prompt`s: `.name`, `.description`, `.arguments`.

        Raises:
            ToolError: the server can't be reached, doesn't answer, or has no prompts.
        """
        return await self._connection.request(
            "the list of prompts", lambda client: read_pages(client.list_prompts, "prompts", _MOST)
        )

    list_prompts = blocking(alist_prompts)

    async def aget_prompt(self, name: str, arguments: Mapping[str, str] | None = None) -> tuple[Message, ...]:
        """Return a prompt of the server, filled in, as messages for `chat`.

        Raises:
            ToolError: there is no such prompt, an argument is missing, or the server doesn't answer.
        """
        result = await self._connection.request(
            f"the prompt {name!r}", lambda client: client.get_prompt(name, dict(arguments or {}))
        )
        return read_prompt(result, self._connection.target.max_bytes)

    get_prompt = blocking(aget_prompt)

    async def aclose(self) -> None:
        """Close the connection, and wait until it is closed; a later use opens another one."""
        await self._connection.close()

    close = blocking(aclose)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.aclose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<McpTools of {self.name!r}>"


def mcp(
    server: Any,
    *,
    allow: Filter | None = None,
    deny: Filter | None = None,
    prefix: str = "",
    requires_approval: Approval = "annotated",
    cache: bool = True,
    headers: Mapping[str, str] | None = None,
    auth: Any = None,
    env: Mapping[str, str] | None = None,
    cwd: str | os.PathLike[str] | None = None,
    connect_timeout: float = 30.0,
    timeout: float = 300.0,
    max_bytes: int = 10_000_000,
    mode: str = "auto",
) -> McpTools:
    """Use the tools of an MCP server: `tools=mcp("https://…/mcp")`, or in a list with others.

    Nothing is opened before the first use. It needs the extra `mcp`.

    Args:
        server: a URL (streamable HTTP); a command that starts a server (a string, split like in a shell but run without
            one, or a list); or a server in this process, such as `mcp.server.MCPServer` or the result of
            `mellea.serve.mcp`, which then runs on the connections' thread.
        allow: the tools to use: their names at the server, or a function of an `McpTool`.
        deny: the tools to leave out.
        prefix: a prefix of their names, so that two servers may have tools with the same name.
        requires_approval: which of them need a person's approval. By default (`"annotated"`) those annotated as
            destructive, or as not read-only unless they are annotated as not destructive; without annotations none is
            needed. Annotations are the server's own claims: if you don't trust it, pass `True`, or a function of an
            `McpTool`.
        cache: whether to keep the list of tools until the server reports a change, or the connection is lost.
        headers: additional headers for a URL, such as `{"Authorization": "Bearer …"}`.
        auth: an `httpx2.Auth` for a URL, such as the OAuth providers of `mcp.client.auth`.
        env: additional environment variables of a command, which only inherits a few, such as `PATH`.
        cwd: the folder that a command runs in.
        connect_timeout: seconds that connecting may take.
        timeout: seconds that a tool call, or another request, may take.
        max_bytes: the largest answer, and the largest result of a tool.
        mode: how the protocol version is negotiated, as in `mcp.Client`: `"legacy"` for servers that fail when
            asked for the current one.

    Raises:
        UsageError: an argument is wrong.
        MissingExtraError: the package `mcp` isn't installed.
    """
    for name, seconds in (("connect_timeout", connect_timeout), ("timeout", timeout)):
        if not is_number(seconds) or seconds <= 0:
            raise UsageError(f"{name} takes seconds above 0, not {seconds!r}")
    if isinstance(max_bytes, bool) or not isinstance(max_bytes, int) or max_bytes < 1:
        raise UsageError(f"max_bytes takes a whole number from 1, not {max_bytes!r}")
    if not isinstance(prefix, str):
        raise UsageError(f"prefix takes a string, not {prefix!r}")
    if requires_approval not in ("annotated", True, False) and not callable(requires_approval):
        raise UsageError(f"requires_approval takes 'annotated', True, False or a function, not {requires_approval!r}")
    target = Target.of(server, headers=headers, auth=auth, env=env, cwd=cwd, max_bytes=max_bytes, mode=mode)
    return McpTools(
        Connection(target, connect_timeout, timeout),
        allow=allow,
        deny=deny,
        prefix=prefix,
        requires_approval=requires_approval,
        cache=cache,
    )


def _filter(name: str, given: Filter | None) -> Any:
    if given is None or callable(given):
        return given
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise UsageError(f"{name} takes a list of names, or a function of a tool, not {given!r}")
    return frozenset(given)


def _matches(chosen: Any, tool: McpTool) -> bool:
    return tool.remote_name in chosen if isinstance(chosen, frozenset) else bool(chosen(tool))
