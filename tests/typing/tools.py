"""What the decorators of tools keep of a function's type; this file is checked and never run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import assert_type

from mellea.stdlib.tools.mcp import McpTools
from mellea.tools import Tool, ToolReturn, ensure, mcp, require, tool


@tool
def plain(city: str, days: int = 1) -> str:
    return city * days


@tool(timeout=5, one_at_a_time=True, requires_approval=lambda amount: amount > 10)
def pay(amount: int) -> float:
    return amount


@tool
@require(lambda city: city, "a city is needed")
@ensure(bool, "nothing was found")
def look(city: str) -> list[str]:
    return [city]


@require(lambda city: city, "a city is needed")
@tool
def above(city: str) -> list[str]:
    return [city]


@require(lambda city: city, "a city is needed")
def bare(city: str) -> list[str]:
    return [city]


@tool
def search(word: str) -> Iterator[str | ToolReturn]:
    yield word


assert_type(plain("Oslo", days=2), str)
assert_type(pay(3), float)
assert_type(look("Oslo"), list[str])
assert_type(above("Oslo"), list[str])
assert_type(bare("Oslo"), list[str])
assert_type(search("sea"), Iterator[str | ToolReturn])
assert_type(mcp("uvx server", allow=["add"], requires_approval=lambda tool: not tool.read_only), McpTools)
plain(1)  # type: ignore[arg-type]
bare(1)  # type: ignore[arg-type]
kept: Tool[[int], float] = pay
