"""What a type checker has to see of a session's verbs. Checked by mypy and pyright, never run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, assert_type

from mellea import ComputedModelOutputThunk, MelleaSession, Message, ModelOutputThunk
from mellea.core.results import EmbeddingResult, ImageResult
from mellea.core.sampling import SamplingResult
from mellea.stdlib.streaming import AsyncStream, Partial, Stream


@dataclass
class Person:
    name: str


async def async_verbs(m: MelleaSession) -> None:
    assert_type(await m.ainstruct("x"), ComputedModelOutputThunk[str])
    assert_type(await m.ainstruct("x", await_result=False), ModelOutputThunk[str])
    assert_type(await m.ainstruct("x", format=Person), ComputedModelOutputThunk[Person])
    assert_type(await m.ainstruct("x", format=list[int], await_result=False), ModelOutputThunk[list[int]])
    assert_type((await m.ainstruct("x", format=Person)).parsed, Person)
    assert_type(await m.ainstruct("x", return_sampling_results=True), SamplingResult)
    assert_type(await m.achat("x"), ComputedModelOutputThunk[Message])
    assert_type(await m.achat("x", await_result=False), ModelOutputThunk[Message])


def plain_verbs(m: MelleaSession) -> None:
    assert_type(m.instruct("x"), ComputedModelOutputThunk[str])
    assert_type(m.instruct("x").value, str)
    assert_type(m.instruct("x", format=Person).parsed, Person)
    assert_type(m.chat("x").parsed, Message)
    assert_type(m.act("x"), ModelOutputThunk[Any])
    assert_type(m.generate_image("x"), ImageResult)
    assert_type(m.embed(["x"]), EmbeddingResult)


def streams(m: MelleaSession) -> None:
    assert_type(m.stream("x"), Stream[str])
    assert_type(m.stream("x", format=Person), Stream[Person])
    assert_type(m.stream("x", format=Person).output, Person)
    assert_type(m.astream("x"), AsyncStream[str])
    for chunk in m.stream("x"):
        assert_type(chunk, str)


def items_of_streams(m: MelleaSession) -> None:
    for person in m.stream("x", format=list[Person]).items():
        assert_type(person, Person)
    for partial in m.stream("x", format=Person).partials():
        assert_type(partial, Partial[Person])


async def items_of_async_streams(m: MelleaSession) -> None:
    async for person in m.astream("x", format=list[Person]).items():
        assert_type(person, Person)
    async for partial in m.astream("x", format=Person).partials():
        assert_type(partial, Partial[Person])


async def async_streams(m: MelleaSession) -> None:
    async for chunk in m.astream("x"):
        assert_type(chunk, str)
