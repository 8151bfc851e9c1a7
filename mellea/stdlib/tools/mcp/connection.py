"""A connection to an MCP server: one task opens, holds and closes it for all its users.

Rules:

- The package `mcp` requires that the task which enters a client also leaves it. So each connection has its own task (an
  `_Owner`) on the loop of our own thread, which outlives the loops of its users.
- Users submit their requests to that loop and wait on their own; it doesn't matter which task, loop or thread they use.
- A connection is opened at its first use. If it is lost, requests in flight fail, and the next use opens another one.
- A request is sent a second time only if the server can't have acted on it.
- The list of tools belongs to the connection, and is requested again after the server says that it has changed.
"""

from __future__ import annotations

import functools
import importlib.util
import math
import weakref
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol, TypeVar

import anyio
import anyio.to_thread

from mellea.core.runtime.loop import Loop, get_current_loop, launch
from mellea.core.runtime.loop_thread import LoopThread
from mellea.errors import MelleaError, MissingExtraError, ToolError
from mellea.stdlib.tools.mcp.package_log import quiet_package
from mellea.stdlib.tools.mcp.target import Target, require_mcp

__all__ = ["Connection"]

T = TypeVar("T")

_CLOSE_SECONDS = 8.0
"""How long the end of the program waits for connections to close; the package gives a process about 6 s."""

_REASON_SECONDS = 1.0
"""How long a lost request waits to learn why."""

_MOST_TOOLS = 2_000
"""The maximum number of tools from one server."""

_MOST_PAGES = 200
"""The maximum number of pages of a list."""


class Page(Protocol):
    """A page of a list, as the package returns it."""

    next_cursor: str | None


class _Owner:
    """The task that owns one connection. All of it happens on the loop of the thread.

    Attributes:
        client: the `mcp.Client`, while the connection is open.
        is_lost: whether it can no longer be used.
        has_forgotten: whether the server has rejected a request because it no longer knows the session.
        error: why it was lost or couldn't be opened, if known.
        tools: the server's tools as it last listed them; `None` if they have to be requested.
        nonsense: what the server wrote in place of a message, if it did.
    """

    def __init__(self, target: Target, connect_timeout: float) -> None:
        self.client: Any = None
        self.is_lost = False
        self.has_forgotten = False
        self.error: BaseException | None = None
        self.tools: list[Any] | None = None
        self.nonsense: str | None = None
        self.loop: Loop = get_current_loop()
        self.is_opened = anyio.Event()
        self.has_ended = anyio.Event()
        self._stop = anyio.Event()
        self._opening: anyio.CancelScope | None = None
        self._changes = 0
        self._listing = anyio.Lock()
        self._target = target
        self._connect_timeout = connect_timeout
        _owners.add(self)

    def stop(self) -> None:
        """Make the task close the connection; called on its loop."""
        self.is_lost = True
        self._stop.set()

    def abandon(self, reason: str) -> None:
        """Make the task close a connection that is no longer used, even while it is being opened."""
        self.error = self.error or ToolError(reason)
        self.stop()
        if not self.is_opened.is_set() and self._opening is not None:
            self._opening.cancel()

    def _forget_session(self) -> None:
        self.is_lost = self.has_forgotten = True  # the rejected request has closed it

    async def main(self) -> None:
        """Open the connection, hold it until it is lost or should be closed, and close it."""
        try:
            await anyio.to_thread.run_sync(require_mcp)
            quiet_package(lambda: self.client is not None)
            with anyio.CancelScope(deadline=anyio.current_time() + self._connect_timeout) as self._opening:
                async with self._target.connect(self.stop, self._forget_session, self._hear) as client:
                    self._opening.deadline = math.inf
                    self.client = client
                    self.is_opened.set()
                    await self._hold(client)
            if self._opening.cancelled_caught:
                self.error = self.error or ToolError(
                    f"it took longer than {self._connect_timeout:g} s (connect_timeout=)"
                )
        except anyio.get_cancelled_exc_class():
            raise
        except BaseException as error:  # noqa: BLE001 - those who use the connection are told
            self.error = _only(error)
        finally:
            self.is_lost = True
            self.client = None
            self.is_opened.set()

    def end(self) -> None:
        """Record that the task has ended."""
        self.is_lost = True
        self.is_opened.set()
        self.has_ended.set()
        _owners.discard(self)

    async def _hold(self, client: Any) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(self._subscribe, client)
            await self._stop.wait()
            group.cancel_scope.cancel()

    async def _subscribe(self, client: Any) -> None:
        """Subscribe to changes of the list; servers of 2026-07-28 only notify clients that ask for it."""
        from mcp.client.subscriptions import ListenNotSupportedError  # optional: the extra `mcp`

        tools = client.server_capabilities.tools
        if tools is None or not tools.list_changed:
            return
        try:
            async with client.listen(tools_list_changed=True) as changes:
                async for _ in changes:
                    self.forget_tools()
        except ListenNotSupportedError:
            return  # older servers notify everybody
        except Exception:  # noqa: BLE001 - a server that offers it and can't: the list is asked for each time
            self._changes = -1
        self.forget_tools()

    async def _hear(self, message: Any) -> None:
        if isinstance(message, Exception):
            self.nonsense = _find_input(message) or self.nonsense
        if getattr(message, "method", None) == "notifications/tools/list_changed":
            self.forget_tools()

    def forget_tools(self) -> None:
        """Make the next use request the tools again."""
        self.tools = None
        self._changes += 1

    async def list_tools(self, fetch: Callable[[], Awaitable[list[Any]]]) -> list[Any]:
        """Return the server's tools, requested once for all users."""
        async with self._listing:
            if self.tools is not None:
                return self.tools
            changes = self._changes
            tools = await fetch()
            if changes == self._changes >= 0:
                self.tools = tools
            return tools


class _Holder:
    """Holds a connection's owner, so that the owner notices when the connection is no longer used."""

    owner: _Owner | None = None

    def release(self) -> None:
        owner = self.owner
        if owner is not None and not owner.is_lost:
            owner.loop.post(lambda: owner.abandon("nobody uses it any more"))


class Connection:
    """A connection to one server, for any task, loop or thread.

    Args:
        target: what to connect to.
        connect_timeout: seconds that opening it may take.
        timeout: seconds that a request may take.

    Raises:
        MissingExtraError: the package `mcp` isn't installed.
    """

    def __init__(self, target: Target, connect_timeout: float, timeout: float) -> None:
        if importlib.util.find_spec("mcp") is None:
            raise MissingExtraError("MCP needs the package 'mcp'; install it with: pip install 'mellea[mcp]'")
        self.target = target
        self._connect_timeout = connect_timeout
        self._timeout = timeout
        self._holder = _Holder()
        weakref.finalize(self, self._holder.release).atexit = False  # the thread closes all of them

    async def request(self, what: str, work: Callable[[Any], Awaitable[T]]) -> T:
        """Let `work` use the client, and return its result.

        Args:
            what: a description for errors, such as "the tool 'add'".
            work: takes the `mcp.Client`; it runs on the connection's loop.

        Raises:
            ToolError: the server can't be reached, is lost, takes too long or refuses.
        """
        return await _thread.run(functools.partial(self._request, what, lambda owner: work(owner.client)))

    async def list_tools(self, *, cache: bool) -> list[Any]:
        """Return the server's tools, as `mcp.Tool`s.

        Args:
            cache: whether an earlier list may be used, if the server hasn't reported a change.

        Raises:
            ToolError: see `request`; or there are too many.
        """
        owner = self._holder.owner
        if cache and owner is not None and not owner.is_lost and (known := owner.tools) is not None:
            return known  # on the caller's own loop

        async def ask(owner: _Owner) -> list[Any]:
            if not cache:
                owner.tools = None
            return await owner.list_tools(lambda: read_pages(owner.client.list_tools, "tools", _MOST_TOOLS))

        return await _thread.run(functools.partial(self._request, "the list of tools", ask))

    async def close(self) -> None:
        """Close the connection, if it is open; a later use opens another one."""
        owner = self._holder.owner
        if owner is None or (owner.is_lost and owner.has_ended.is_set()):
            return

        async def close() -> None:
            if owner.loop.is_current():  # after a fork, loop and connection are the parent's
                owner.abandon("this program closed it")
                await owner.has_ended.wait()

        if not owner.loop.has_ended():
            await _thread.run(close)

    async def _open(self) -> _Owner:
        """Return the owner of an open connection; on the thread's loop."""
        owner = self._holder.owner
        if owner is None or owner.is_lost or not owner.loop.is_current():
            owner = self._holder.owner = _Owner(self.target, self._connect_timeout)
            launch(owner.main, owner.end)
        await owner.is_opened.wait()
        if owner.client is None:
            if isinstance(owner.error, MissingExtraError):
                raise owner.error.clone()
            raise ToolError(f"the MCP server {self.target.label!r} can't be reached: {self._reason(owner)}")
        return owner

    async def _request(self, what: str, work: Callable[[_Owner], Awaitable[T]]) -> T:
        owner = await self._open()
        try:
            return await self._try_in_time(what, owner, work)
        except _UnsentError:
            owner = await self._open()
            return await self._try_in_time(what, owner, work)

    async def _try_in_time(self, what: str, owner: _Owner, work: Callable[[_Owner], Awaitable[T]]) -> T:
        with anyio.move_on_after(self._timeout):
            return await self._try(what, owner, work)
        raise ToolError(
            f"the MCP server {self.target.label!r} took longer than {self._timeout:g} s for {what} (timeout=)"
        )

    async def _try(self, what: str, owner: _Owner, work: Callable[[_Owner], Awaitable[T]]) -> T:
        from mcp.shared.exceptions import MCPError  # optional: the extra `mcp`
        from mcp_types import CONNECTION_CLOSED

        try:
            return await work(owner)
        except MelleaError:
            raise
        except MCPError as error:
            if owner.has_forgotten and error.code != CONNECTION_CLOSED:
                owner.stop()
                raise _UnsentError(f"the MCP server {self.target.label!r} has ended the session") from None
            if error.code != CONNECTION_CLOSED:
                said = self.target.explain(error)
                raise ToolError(f"the MCP server {self.target.label!r} refuses {what}: {said}") from None
        except Exception as error:  # noqa: BLE001 - of the package, about what the server sent
            if not owner.is_lost:
                said = self.target.explain(_only(error))
                raise ToolError(f"{what} of the MCP server {self.target.label!r} failed: {said}") from None
        owner.stop()
        with anyio.move_on_after(_REASON_SECONDS):
            await owner.has_ended.wait()
        raise ToolError(
            f"the connection to the MCP server {self.target.label!r} was lost before it answered {what}: "
            f"{self._reason(owner)}; "
            "the next use connects again"
        ) from None

    def _reason(self, owner: _Owner) -> str:
        error = owner.error
        if isinstance(error, MelleaError):
            return str(error)
        if error is not None and not _is_closed(error):
            return self.target.explain(error)
        if self.target.command and owner.nonsense is not None:
            # A common mistake: a server that prints something.
            wrote = self.target.conceal(owner.nonsense)
            return (
                f"it wrote {wrote!r} to its standard output, which isn't a message of MCP; then it ended, or closed "
                "the connection; a server prints to its standard error whatever isn't a message"
            )
        advice = "; its standard error may say why" if self.target.command else ""
        return f"it ended, or closed the connection{advice}"


def _is_closed(error: BaseException) -> bool:
    """Return whether the package reports only that the connection was closed, which is no reason."""
    from mcp_types import CONNECTION_CLOSED  # optional: the extra `mcp`

    return getattr(error, "code", None) == CONNECTION_CLOSED


def _find_input(error: Exception) -> str | None:
    """Return the line that isn't a message, of the package's error about it."""
    from pydantic import ValidationError  # lazy: as in the other files of tools

    if not isinstance(error, ValidationError):
        return None
    line = error.errors(include_url=False, include_context=False)[0]["input"]
    return line.strip() or None if isinstance(line, str) else None


class _UnsentError(ToolError):
    """The server can't have acted on the request."""


async def read_pages(fetch: Callable[..., Coroutine[Any, Any, Page]], name: str, most: int) -> list[Any]:
    """Return all items of a list that a server sends in pages.

    Args:
        fetch: requests a page, given the `cursor`.
        name: the attribute of a page that holds its items.
        most: the maximum number of items.

    Raises:
        ToolError: there are more, or the pages don't end.
    """
    found: list[Any] = []
    cursor: str | None = None
    for _ in range(_MOST_PAGES):
        page = await fetch(cursor=cursor)
        found += getattr(page, name)
        if len(found) > most:
            raise ToolError(f"the MCP server lists more than {most} {name}")
        cursor = page.next_cursor
        if cursor is None:
            return found
    raise ToolError(f"the MCP server's list of {name} doesn't end: {_MOST_PAGES} pages were read")


def _only(error: BaseException) -> BaseException:
    """Return the first error in a group that isn't a group itself."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


_owners: set[_Owner] = set()


async def _close_all() -> None:
    owners = [owner for owner in _owners if owner.loop.is_current()]  # after a fork, this may be the parent's
    for owner in owners:
        owner.abandon("the program is ending")
    for owner in owners:
        await owner.has_ended.wait()


_thread = LoopThread("mellea-mcp", _CLOSE_SECONDS, _close_all)
