"""`Field(…)` as the default of a parameter means what pydantic means, in tools, commands and generative functions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import anyio
import pytest
from pydantic import Field

import mellea
from mellea import command, generative, tool
from mellea.core.structured.strict import StrictTypes
from mellea.errors import ToolError, UsageError
from mellea.stdlib.tools import Tool
from mellea.testing import ScriptedBackend


def look(
    limit: int = Field(default=3, ge=1, description="how many"),
    city: str = Field(description="where"),
    tags: list[str] = Field(default_factory=list, alias="labels"),  # noqa: B008 - on purpose
) -> str:
    """Look around.

    Args:
        limit: the docstring's word.
    """
    return f"{limit!r} {city!r} {tags!r}"


def test_a_tools_schema_tells_defaults_limits_descriptions_and_what_is_required() -> None:
    schema = Tool(look).spec.parameters
    assert schema["required"] == ["city"]
    assert schema["properties"]["limit"] == {"default": 3, "description": "how many", "minimum": 1, "type": "integer"}
    assert "labels" in schema["properties"]


def test_a_tool_gets_pydantics_defaults_and_never_a_field() -> None:
    async def main() -> None:
        assert await Tool(look).call({"city": "Oslo"}) == "3 'Oslo' []"
        assert await Tool(look).call({"city": "Oslo", "labels": ["x"], "limit": 1}) == "1 'Oslo' ['x']"
        for wrong in ({}, {"city": "Oslo", "limit": 0}):
            with pytest.raises(ToolError):
                await Tool(look).call(wrong)

    anyio.run(main)


def test_a_tool_that_a_program_calls_gets_them_too() -> None:
    assert tool(look)(city="Oslo") == "3 'Oslo' []"
    with pytest.raises(UsageError, match="'city'"):
        tool(look)()
    with pytest.raises(UsageError, match="0 isn't a valid 'limit'"):
        tool(look)(0, "Oslo")


def test_a_default_in_annotated_is_one_for_a_model() -> None:
    def count(n: Annotated[int, Field(default=3, ge=1)]) -> int:
        return n

    assert anyio.run(Tool(count).call, {}) == 3


@command
def name_towns(n: int = Field(default=3, le=5)) -> str:
    return f"Name {n} towns."


@generative
def towns(n: int = Field(default=3, le=5, description="how many"), *, land: str = Field()) -> str:
    """Name towns."""


def test_a_command_and_a_generative_function_get_pydantics_defaults() -> None:
    backend = ScriptedBackend("ok", "ok", "ok")
    m = mellea.start_session(backend)
    name_towns(m)
    towns(m, land="Peru")
    "".join(name_towns.stream(m, 2))
    assert backend.prompts[0] == "Name 3 towns."
    assert "n (how many): 3" in backend.prompts[1]
    assert backend.prompts[2] == "Name 2 towns."


def test_a_required_or_wrong_argument_is_refused_and_nothing_is_sent() -> None:
    backend = ScriptedBackend("ok")
    m = mellea.start_session(backend)
    with pytest.raises(UsageError, match="'land'"):
        towns(m)
    with pytest.raises(UsageError, match="9 isn't a valid 'n'"):
        name_towns(m, 9)
    with pytest.raises(UsageError, match="9 isn't a valid 'n'"):
        towns(m, 9, land="Peru")
    assert not backend.requests


def test_a_thunk_as_an_argument_is_checked_when_it_is_there() -> None:
    backend = ScriptedBackend("9", "ok")
    m = mellea.start_session(backend)

    async def main() -> None:
        thunk = await m.ainstruct("How many?", format=int, await_result=False)

        @generative
        async def some(n: int = Field(default=3, le=5)) -> str:
            """Name towns."""

        with pytest.raises(UsageError, match="'n'"):
            await some(m, thunk)  # type: ignore[arg-type]

    anyio.run(main)


@dataclass
class Node:
    name: str
    kids: list[Node] | None = None


def test_a_class_that_several_parameters_take_is_defined_once() -> None:
    def move(a: Node, b: Node, c: list[Node]) -> str:
        return ""

    assert len(Tool(move).spec.parameters["$defs"]) == 1
    types = StrictTypes()
    assert types.rewrite(Node) is types.rewrite(Node)


def test_an_error_shows_the_field_as_it_was_written() -> None:
    @generative
    def count(word: str = Field(min_length=1), n: int = Field(3)) -> int:
        """Count."""

    m = mellea.start_session(ScriptedBackend("1"))
    with pytest.raises(UsageError, match=r"count\(word: 'str' = Field\(…\), n: 'int' = Field\(3\)\)"):
        count(m)
    with pytest.raises(UsageError, match=r"n: 'int' = Field\(3\)"):
        count(m, words="x")  # type: ignore[call-arg]
