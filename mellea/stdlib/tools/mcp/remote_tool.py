"""A tool of an MCP server, as a tool of this program."""

from __future__ import annotations

import functools
import hashlib
import inspect
import string
from collections.abc import Callable, Mapping
from typing import Any, Literal

from mellea.core.backend import ToolSpec
from mellea.core.runtime.tasks import run_together
from mellea.core.serialise import json_value
from mellea.core.structured.schema_check import MismatchError, check
from mellea.core.structured.wellformed import find_schema_problem
from mellea.errors import ToolError, UsageError
from mellea.stdlib.tools.contracts import Check, Contract
from mellea.stdlib.tools.mcp.connection import Connection
from mellea.stdlib.tools.mcp.results import read_result
from mellea.stdlib.tools.progress import Report, ReportQueue
from mellea.stdlib.tools.returned import ToolReturn
from mellea.stdlib.tools.signature import Parameter
from mellea.stdlib.tools.tool import Tool

__all__ = ["Approval", "McpTool"]

Approval = Literal["annotated"] | bool | Callable[["McpTool"], bool]
"""Which tools of a server need a person's approval: those annotated so, all, none, or as a function decides."""

_ALLOWED = frozenset(string.ascii_letters + string.digits + "_-")

_LONGEST_NAME = 64

_LONGEST_DESCRIPTION = 20_000
"""The maximum length of a description, which is part of every request."""

_LONGEST_MESSAGE = 4_000
"""The maximum length of a progress notification."""

_MOST_REPORTS = 1_000
"""How many progress notifications wait for a caller whose loop is busy; beyond that, the oldest are dropped."""


class McpTool(Tool[..., Any]):
    """A tool of an MCP server: calling it returns a coroutine.

    Arguments are checked against the server's schema before anything is sent; the server checks them as well.

    Attributes:
        remote_name: the server's name for it. `name`, for models, has only letters, digits, `_` and `-`, at most 64.
        title: its name for people, if the server has one.
        output_schema: the JSON Schema of its structured result, if the server has one.
        read_only: whether it only reads, according to the server; `None` if it doesn't say.
        destructive: whether it may destroy something, according to the server; `None` if it doesn't say.
        annotations: all hints from the server by their names on the wire. They are the server's own claims.
    """

    def __init__(self, tool: Any, connection: Connection, *, prefix: str = "", approval: Approval = False) -> None:
        hints = tool.annotations
        self.annotations: dict[str, Any] = hints.model_dump(by_alias=True, exclude_none=True) if hints else {}
        self.read_only: bool | None = hints.read_only_hint if hints else None
        self.destructive: bool | None = hints.destructive_hint if hints else None
        self.remote_name: str = tool.name
        self.title: str | None = tool.title
        self.output_schema: Mapping[str, Any] | None = tool.output_schema
        self.name = _model_name(prefix + tool.name)
        self.timeout = None  # the connection has a time-out
        self.one_at_a_time = False
        self.runs = "here"
        self.__name__ = self.name
        self.__doc__ = (tool.description or tool.title or "")[:_LONGEST_DESCRIPTION]
        self._schema: Mapping[str, Any] = tool.input_schema
        self._connection = connection
        self._contracts = ()
        self._approval: Check | None = None
        properties = self._schema.get("properties")
        names = properties if isinstance(properties, Mapping) else {}
        self._parameters = tuple(Parameter(name, inspect.Parameter.KEYWORD_ONLY, None) for name in names)
        self._set_approval(self._needs_approval(approval))

    def _needs_approval(self, approval: Approval) -> bool:
        if approval != "annotated":
            return approval(self) if callable(approval) else approval
        if self.read_only is None and self.destructive is None:
            return False
        return not self.read_only and self.destructive is not False  # the defaults of the specification

    def _set_approval(self, requires: bool | Callable[..., Any]) -> None:
        self.requires_approval = requires
        self._approval = None if isinstance(requires, bool) else Check(requires, "requires_approval=")

    @functools.cached_property
    def spec(self) -> ToolSpec:
        """The tool as the model sees it: with the server's description and schema."""
        return ToolSpec(self.name, self.__doc__ or "", self._schema).bind(self)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return a coroutine that calls the tool with these arguments, by name."""
        if args:
            raise ToolError(f"the tool {self.name!r} takes its arguments by name")
        return self.call(kwargs)

    def _check_values(self, args: Mapping[str, Any] | None) -> dict[str, Any]:
        """Check the arguments, including edited ones, against the server's schema before anything is sent."""
        if args is not None and not isinstance(args, Mapping):
            raise ToolError(f"the tool {self.name!r} takes its arguments as an object, not {args!r}")
        values = dict(args or {})
        if self._is_sound:
            try:
                check(json_value(values), self._schema, self._schema)
            except (MismatchError, UsageError) as error:
                raise ToolError(f"the arguments don't fit: {error}") from None
        return values

    @functools.cached_property
    def _is_sound(self) -> bool:
        """Whether the server's schema is valid; if not, only the server can say what is wrong with arguments."""
        return find_schema_problem(self._schema) is None

    async def _run(self, values: Mapping[str, Any], report: Report) -> Any:
        named = self._name_arguments(values) if self._contracts else {}
        for contract in self._contracts:
            if not contract.is_ensured:
                await contract.hold(self.name, named)
        result = await self._send(dict(values), report)
        for contract in self._contracts:
            if contract.is_ensured:
                await contract.hold(self.name, named, ToolReturn.of(result).value)
        return result

    async def _send(self, values: dict[str, Any], report: Report) -> Any:
        queue = ReportQueue(_MOST_REPORTS)  # progress arrives on the connection's loop

        async def note(progress: float, total: float | None, message: str | None) -> None:
            said = {"progress": progress, "total": total, "message": message and message[:_LONGEST_MESSAGE]}
            queue.put({name: value for name, value in said.items() if value is not None})

        async def call() -> Any:
            try:
                return await self._connection.request(
                    f"the tool {self.remote_name!r}",
                    lambda client: client.call_tool(self.remote_name, values, progress_callback=note),
                )
            finally:
                queue.end()

        async def relay() -> None:
            while (said := await queue.take()) is not None:
                for value in said:
                    report(value)

        result, _ = await run_together([call, relay])
        return read_result(result, self._connection.target.max_bytes)

    def with_contract(self, contract: Contract) -> McpTool:
        """Return this tool with one more condition, which comes before the others."""
        contract.check.fit([parameter.name for parameter in self._parameters])
        return self._copy_with({"_contracts": (contract, *self._contracts)})

    def rename(self, name: str) -> McpTool:
        """Return this tool under another name; requests to the server use its own."""
        return self._copy_with({"name": name, "__name__": name})

    def _traced_(self, trace: Callable[[Any], Any]) -> McpTool:
        """Return this tool with a span around each call of the server."""
        return self._copy_with({"_send": trace(self._send)})

    def _copy_with(self, attributes: Mapping[str, Any]) -> McpTool:
        twin: McpTool = object.__new__(type(self))
        twin.__dict__.update({**self.__dict__, **attributes})
        twin.__dict__.pop("spec", None)  # it contains the name
        return twin

    def __get__(self, instance: Any, owner: type | None = None) -> McpTool:
        return self

    def __repr__(self) -> str:
        return f"<McpTool {self.name!r} of {self._connection.target.label!r}>"


def _model_name(name: str) -> str:
    """Return a name that every provider accepts; a long one ends with a hash."""
    name = "".join([letter if letter in _ALLOWED else "_" for letter in name]) or "_"
    if len(name) <= _LONGEST_NAME:
        return name
    mark = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{name[: _LONGEST_NAME - 9]}_{mark}"
