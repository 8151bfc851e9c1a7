"""What a type checker has to see of a session's verbs. Checked by mypy and pyright, never run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal, Optional, assert_type

from mellea import ChatContext, ComputedModelOutputThunk, MelleaSession, Message, ModelOutputThunk, mfuncs
from mellea.core.accumulator import Generation
from mellea.core.results import EmbeddingResult, ImageResult
from mellea.core.sampling import SamplingResult
from mellea.core.videos import VideoResult
from mellea.stdlib.components import Document
from mellea.stdlib.streaming import AsyncStream, Partial, Stream


@dataclass
class Person:
    name: str


class Count:
    def parts(self) -> list[Any]:
        return []

    def format_for_llm(self) -> str:
        return "How many?"

    def parse(self, generation: Generation) -> int:
        return len(generation.text)


async def async_verbs(m: MelleaSession) -> None:
    assert_type(await m.ainstruct("x"), ComputedModelOutputThunk[str])
    assert_type(await m.ainstruct("x", await_result=False), ModelOutputThunk[str])
    assert_type(await m.ainstruct("x", format=Person), ComputedModelOutputThunk[Person])
    assert_type(await m.ainstruct("x", format=list[int], await_result=False), ModelOutputThunk[list[int]])
    assert_type((await m.ainstruct("x", format=Person)).parsed, Person)
    assert_type(await m.ainstruct("x", return_sampling_results=True), SamplingResult)
    assert_type(await m.achat("x"), ComputedModelOutputThunk[Message])
    assert_type(await m.achat("x", await_result=False), ModelOutputThunk[Message])
    assert_type(await m.achat("x", format=Person), ComputedModelOutputThunk[Person])
    assert_type(await m.achat("x", format=Person, await_result=False), ModelOutputThunk[Person])
    assert_type(await m.aact("x", await_result=False), ModelOutputThunk[Any])


def plain_verbs(m: MelleaSession) -> None:
    assert_type(m.instruct("x"), ComputedModelOutputThunk[str])
    assert_type(m.instruct("x").value, str)
    assert_type(m.instruct("x", format=Person).parsed, Person)
    assert_type(m.chat("x").parsed, Message)
    assert_type(m.chat("x", role="user", format=Person).parsed, Person)
    assert_type(m.act("x"), ComputedModelOutputThunk[str])
    assert_type(m.act(Message("user", "x")), ComputedModelOutputThunk[Message])
    assert_type(m.act(Document("x"), format=Person).parsed, Person)
    assert_type(m.act(Document("x")).parsed, str)
    assert_type(m.act(Count()).parsed, int)
    assert_type(m.generate_image("x"), ImageResult)
    assert_type(m.generate_video("x", seconds=8, progress=print), VideoResult)
    m.generate_video("x", seconds="8")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert_type(m.embed(["x"]), EmbeddingResult)


def formats_that_are_no_classes(m: MelleaSession) -> None:
    assert_type(m.instruct("x", format=Literal["a", "b"]).parsed, Literal["a", "b"])
    assert_type(m.instruct("x", format=Person | None), ComputedModelOutputThunk[Person | None])
    assert_type(m.query("x", "y", format=int | str).parsed, int | str)
    assert_type(m.instruct("x", format=Annotated[int, "above 0"]).parsed, int)
    assert_type(m.chat("x", format=Annotated[list[Person], "two"]).parsed, list[Person])
    assert_type(m.act(Document("x"), format=Optional[int]).parsed, int | None)  # noqa: UP045 - on purpose
    assert_type(m.chat("x", format={"type": "object"}).parsed, Any)


async def async_formats_that_are_no_classes(m: MelleaSession) -> None:
    assert_type(await m.ainstruct("x", format=int | None), ComputedModelOutputThunk[int | None])
    assert_type(await m.ainstruct("x", format=Literal[1, 2], await_result=False), ModelOutputThunk[Literal[1, 2]])
    assert_type(await m.achat("x", format=Person | int), ComputedModelOutputThunk[Person | int])
    assert_type(await m.aquery("x", "y", format=Literal["a"]), ComputedModelOutputThunk[Literal["a"]])
    assert_type(m.stream("x", format=Literal["a", "b"]), Stream[Literal["a", "b"]])
    assert_type(m.astream("x", format=Person | None), AsyncStream[Person | None])


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


async def arguments_are_checked(m: MelleaSession) -> None:
    m.instruct("x", strict=True, user_variables={"a": 1}, tools=[len], max_turns=3)
    m.instruct("x", strict="yes")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    m.instruct("x", stict=True)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    m.chat("x", strategy=None)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    m.stream("x", release="sentence", live=True)
    m.stream("x", release="page")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    assert_type(await m.aact("x", return_sampling_results=True), SamplingResult)


async def functions_without_a_session(m: MelleaSession) -> None:
    assert_type(await mfuncs.aembed("x", m.backend), EmbeddingResult)
    assert_type(mfuncs.generate_image("x", m.backend, n=2), ImageResult)
    assert_type(await mfuncs.agenerate_video("x", m.backend), VideoResult)
    assert_type(await mfuncs.ainstruct("x", ChatContext(), m.backend, format=int, strict=True), tuple[Any, ChatContext])
    assert_type(mfuncs.chat("x", ChatContext(), m.backend, role="user"), tuple[Any, ChatContext])
    mfuncs.chat("x", ChatContext(), m.backend, stict=True)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await mfuncs.aact("x", ChatContext(), m.backend, strict=3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
