"""What a type checker has to see of a thunk. Checked by mypy and pyright, never run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal, assert_type

import mellea
from mellea import MelleaSession
from mellea.core.blocks import FileBlock, ToolCall
from mellea.core.context import Context, Turn
from mellea.core.events import Event, FinishReason, Usage
from mellea.core.iterators import EventIterator, TextIterator
from mellea.core.messages import Message
from mellea.core.structured import Partial
from mellea.core.structured.iterators import ItemIterator, PartialIterator
from mellea.core.thunk import ComputedModelOutputThunk, ModelOutputThunk


async def waiting(thunk: ModelOutputThunk[int]) -> None:
    assert_type(await thunk, ComputedModelOutputThunk[int])
    assert_type(await thunk.avalue(), str)
    assert_type(await thunk.cancel(), None)
    async with thunk as same:
        assert_type(same, ModelOutputThunk[int])


async def reading(thunk: ModelOutputThunk[list[str]]) -> None:
    assert_type(await thunk.astream(), str)
    assert_type(aiter(thunk), TextIterator)
    assert_type(thunk.events(), EventIterator)
    async for delta in thunk:
        assert_type(delta, str)
    async for event in thunk.events():
        assert_type(event, Event)
    assert_type(thunk.partial, str)


async def reading_items(
    thunk: ModelOutputThunk[list[str]],
    several: ModelOutputThunk[Sequence[int]],
    any_number: ModelOutputThunk[Iterable[int]],
) -> None:
    assert_type(thunk.items(), ItemIterator[str])
    assert_type(several.items(on_error="skip"), ItemIterator[int])
    assert_type(any_number.items(), ItemIterator[int])
    async for item in thunk.items():
        assert_type(item, str)


async def items_of_a_field(thunk: ModelOutputThunk[Usage]) -> None:
    async for item in thunk.items():  # which one it is, only the class at run time tells
        assert_type(item, Any)


async def reading_partial_objects(thunk: ModelOutputThunk[Usage]) -> None:
    assert_type(thunk.partials(), PartialIterator[Usage])
    async for partial in thunk.partials():
        assert_type(partial, Partial[Usage])
        assert_type(partial.path, str)
        assert_type(partial.text, str)
        assert_type(partial.data, Any)
        assert_type(partial.state("a"), Literal["pending", "incomplete", "complete"])


def what_it_came_to(thunk: ModelOutputThunk[int]) -> None:
    assert_type(thunk.is_computed(), bool)
    assert_type(thunk.value, str | None)
    assert_type(thunk.parsed, int | None)
    assert_type(thunk.parsed_repr, int | None)
    assert_type(thunk.message, Message | None)
    assert_type(thunk.usage, Usage | None)
    assert_type(thunk.finish_reason, FinishReason | None)
    assert_type(thunk.time_to_first_token, float | None)
    assert_type(thunk.tool_calls, tuple[ToolCall, ...])
    assert_type(thunk.files, tuple[FileBlock, ...])


def a_known_value() -> None:
    thunk = ComputedModelOutputThunk("7", 7)
    assert_type(thunk, ComputedModelOutputThunk[int])
    text: ComputedModelOutputThunk[str] = ComputedModelOutputThunk("seven")
    assert_type(text.parsed, str)
    assert_type(text.value, str)
    assert_type(text.message, Message)


def a_computed_thunk_is_a_thunk(thunk: ComputedModelOutputThunk[int]) -> ModelOutputThunk[int]:
    return thunk


async def run_together(m: MelleaSession, one: ModelOutputThunk[int], two: ComputedModelOutputThunk[int]) -> None:
    assert_type(await mellea.gather(m.ainstruct("a"), m.ainstruct("b")), list[ComputedModelOutputThunk[str]])
    assert_type(
        await mellea.gather(m.ainstruct("a"), one), list[ComputedModelOutputThunk[str] | ComputedModelOutputThunk[int]]
    )
    assert_type(await mellea.gather(*[one, one]), list[ComputedModelOutputThunk[int]])
    assert_type(await mellea.gather(*[one, one], progress=True), list[ComputedModelOutputThunk[int]])
    assert_type(await mellea.gather(one, one, progress=print), list[ComputedModelOutputThunk[int]])
    assert_type(await mellea.resolve(one), int)
    assert_type(await mellea.resolve([one, one]), list[int])
    assert_type(await mellea.resolve([two]), list[int])
    assert_type(await mellea.resolve({"a": one}), dict[str, int])
    assert_type(await mellea.resolve((one, "text")), Any)


def a_context(context: Context) -> None:
    assert_type(context.add("a text"), Context)
    assert_type(context.turns(), list[Turn])
    assert_type(context.last_output(), ModelOutputThunk[Any] | None)


def events_are_a_sequence_of_one_type(events: Sequence[Event]) -> None:
    for event in events:
        assert_type(event, Event)
