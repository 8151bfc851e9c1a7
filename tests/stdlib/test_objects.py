"""The verbs query and transform, of sessions and over (context, backend)."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from typing import Any

import anyio
import pytest

import mellea
from mellea import mfuncs
from mellea.core import Capabilities, Message, ToolCall, ToolOutput
from mellea.core.events import ToolEnd
from mellea.errors import StreamingError, ToolError, UsageError
from mellea.stdlib.components import Table, Transform, get_tools, mify
from mellea.stdlib.context import ChatContext, SimpleContext
from mellea.testing import Gate, ScriptedBackend
from mellea.testing.scripted import EVERYTHING

pytestmark = pytest.mark.anyio


@mify
@dataclass
class Basket:
    goods: list[str] = field(default_factory=list)

    def with_added(self, thing: str, number: int = 1) -> Basket:
        """Add a thing.

        Args:
            thing: what.
            number: how many of it.
        """
        return Basket([*self.goods, *[thing] * number])

    async def count(self) -> int:
        """Count the things."""
        return len(self.goods)

    def burn(self) -> None:
        """Burn it."""
        raise KeyError("fire")


def call(name: str, /, **args: Any) -> ToolEnd:
    return ToolEnd(ToolCall(f"call-{name}", name, args, "…"))


async def test_a_question_about_an_object() -> None:
    backend = ScriptedBackend("two", '{"n": 2}')
    m = mellea.start_session(backend)
    answer = await m.aquery(Basket(["tea", "oil"]), "How many things?")
    assert answer.value == answer.parsed == "two"
    assert backend.prompts == ['Basket:\n- goods: ["tea", "oil"]\n\nAnswer this from the above: How many things?']
    assert backend.requests[0].tools == ()

    @dataclass
    class Count:
        n: int

    assert (await m.aquery(Basket(), "How many?", format=Count)).parsed == Count(2)


async def test_objects_methods_can_be_run_on_the_way_to_an_answer() -> None:
    basket = Basket(["tea", "oil"])
    backend = ScriptedBackend([call("count")], lambda request: f"{request.messages[-1].blocks[0].result} things")
    m = mellea.start_session(backend)
    answer = await m.aquery(basket, "How many?", tools=get_tools(basket), tool_calls="run")
    assert answer.value == "2 things"


async def test_a_transformation_returns_what_the_called_method_returns() -> None:
    backend = ScriptedBackend([call("with_added", thing="oil", number=2)], [call("count")])
    m = mellea.start_session(backend)
    assert await m.atransform(Basket(["tea"]), "Add two bottles of oil.") == Basket(["tea", "oil", "oil"])
    assert await m.atransform(Basket(["tea"]), "Replace it by its number.") == 1
    assert [tool.name for tool in backend.requests[0].tools] == ["with_added", "count", "burn"]
    assert "If one of the tools does this, call it." in backend.prompts[0]


async def test_a_transformation_in_words_is_a_thunk() -> None:
    backend = ScriptedBackend("a full basket")
    m = mellea.start_session(backend)
    thunk = await m.atransform(Basket(), "Fill it.")
    assert thunk.value == "a full basket"
    assert (await m.atransform(Basket(), "Count it.", await_result=False)).is_computed() is False


async def test_a_model_without_tools_may_change_an_object_in_words_or_call_its_methods_in_text() -> None:
    can = replace(EVERYTHING, tools=False)
    m = mellea.start_session(ScriptedBackend('{"answer": "full"}', capabilities=can))
    assert (await m.atransform(Basket(), "Fill it.")).value == "full"
    assert m.backend.requests[0].tools == ()  # type: ignore[attr-defined]
    m = mellea.start_session(ScriptedBackend("[3]"))
    assert (await m.atransform(Basket(), "Fill it.", format=list[int])).parsed == [3]
    assert m.backend.requests[0].tools == ()  # type: ignore[attr-defined]


async def test_a_model_writes_a_new_table() -> None:
    table = Table([["Ann", 3]], ["name", "age"])
    text = "| name | age | city |\n| --- | --- | --- |\n| Ann | 3 | Oslo |"
    m = mellea.start_session(ScriptedBackend([call("from_markdown", text=text)], [call("transpose")]))
    assert await m.atransform(table, "Add a city.") == Table([["Ann", "3", "Oslo"]], ["name", "age", "city"])
    assert await m.atransform(table, "Transpose it.") == table.transpose()


async def test_a_method_goes_into_the_history_with_its_result() -> None:
    backend = ScriptedBackend([call("with_added", thing="oil"), call("burn")], "done")
    m = mellea.start_session(backend, ctx=ChatContext())
    await m.atransform(Basket(), "Add oil.")
    await m.achat("And now?")
    transform, answer, tool, question = backend.requests[1].messages
    assert transform.role == "user"
    assert [each.tool_name for each in answer.tool_calls] == ["with_added", "burn"]
    assert tool.blocks == (
        ToolOutput("call-with_added", "with_added", 'Basket:\n- goods: ["oil"]'),
        ToolOutput("call-burn", "burn", "not run", is_error=True),
    )
    assert question == Message("user", "And now?")
    assert isinstance(m.ctx.turns()[0].input, Transform)


async def test_of_several_calls_the_first_is_run_and_the_log_says_so(caplog: pytest.LogCaptureFixture) -> None:
    m = mellea.start_session(ScriptedBackend([call("count"), call("burn")]))
    with caplog.at_level(logging.WARNING, "mellea"):
        assert await m.atransform(Basket(), "Count it, then burn it.") == 0
    assert "called 2 methods; only the first, 'count', was run" in caplog.text


async def test_a_call_that_cant_be_run_is_an_error() -> None:
    backend = ScriptedBackend([call("fly")], [call("with_added", number="many")], [call("burn")])
    m = mellea.start_session(backend)
    with pytest.raises(ToolError, match="no tool 'fly'; the tools are 'with_added', 'count', 'burn'"):
        await m.atransform(Basket(), "Fly.")
    with pytest.raises(ToolError, match="thing"):
        await m.atransform(Basket(), "Add many.")
    with pytest.raises(KeyError, match="fire"):
        await m.atransform(Basket(), "Burn it.")


async def test_the_functional_forms_return_the_context_too() -> None:
    backend = ScriptedBackend("one", [call("count")])
    answer, context = await mfuncs.aquery(Basket(), "How many?", ChatContext(), backend)
    assert answer.value == "one"
    result, context = await mfuncs.atransform(Basket(), "Count it.", context, backend)
    assert result == 0
    assert [turn.input is not None for turn in context.turns()] == [True, True, True]
    thunk, simple = await mfuncs.atransform(Basket(), "Count it.", SimpleContext(), backend, await_result=False)
    await thunk
    assert thunk.tool_calls[0].tool_name == "count"
    assert simple.last_output() is thunk


def test_the_plain_forms() -> None:
    backend = ScriptedBackend("one", [call("count")])
    m = mellea.start_session(backend)
    assert m.query(Basket(), "How many?").value == "one"
    assert m.transform(Basket(["x"]), "Count it.") == 1
    assert mfuncs.transform(Basket(["x", "y"]), "Count it.", SimpleContext(), backend)[0] == 2
    assert mfuncs.query("text", "Long?", SimpleContext(), ScriptedBackend("no"))[0].value == "no"
    for verb in (m.query, m.transform):
        with pytest.raises(StreamingError, match="await_result=False"):
            verb(Basket(), "x", await_result=False)
    with pytest.raises(UsageError, match="query takes no argument 'tolls'; did you mean 'tools'"):
        m.query(Basket(), "x", tolls=[])  # type: ignore[call-overload]


async def test_promise_11_a_thunk_in_a_field_is_awaited() -> None:
    gate = Gate()
    backend = ScriptedBackend([gate, "salt"], lambda request: request.messages[-1].content)
    m = mellea.start_session(backend)
    spice: Any = await m.ainstruct("Name a spice.", await_result=False)
    answer = await m.aquery(Basket([spice]), "What is in it?", await_result=False)
    await anyio.sleep(0.01)
    assert len(backend.requests) == 1
    gate.open()
    assert '["salt"]' in str(await answer)


async def test_a_backend_that_can_do_nothing_but_text_still_transforms() -> None:
    m = mellea.start_session(ScriptedBackend('{"answer": "x"}', capabilities=Capabilities()))
    assert (await m.atransform(Basket(), "Empty it.")).value == "x"


async def test_an_answer_without_the_asked_format_is_asked_for_once_more_by_every_verb() -> None:
    for verb, said in (("achat", ("q",)), ("aquery", ({"a": 1}, "q")), ("atransform", ({"a": 1}, "q"))):
        m = mellea.start_session(ScriptedBackend("no", "[1]"))
        assert (await getattr(m, verb)(*said, format=list[int])).parsed == [1]
        thunk, _ = await getattr(mfuncs, verb)(*said, SimpleContext(), ScriptedBackend("no", "[1]"), format=list[int])
        assert thunk.parsed == [1]
        pending = await getattr(m, verb)(*said, format=list[int], await_result=False)
        assert (await pending).parsed == [1]


async def test_an_answer_that_calls_a_tool_isnt_one_without_the_asked_format() -> None:
    def look(x: int) -> int:
        """Look."""
        return x

    backend = ScriptedBackend([ToolEnd(ToolCall("1", "look", {"x": 1}))])
    m = mellea.start_session(backend)
    for verb in (m.ainstruct, m.achat):
        thunk = await verb("q", format=list[int], tools=[look])
        assert (thunk.parsed, [call.tool_name for call in thunk.tool_calls]) == (None, ["look"])
    stream = m.astream("q", format=list[int], tools=[look])
    assert [item async for item in stream.items()] == [partial async for partial in stream.partials()] == []
    assert stream.output is None
    assert len(backend.requests) == 3
