"""The types of agents: the answer's type follows from `output=`; this file is checked and never run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, assert_type

from mellea import Agent, StreamChunk
from mellea.stdlib.agents import AgentConversation, AgentRun, AgentStream, AsyncAgentStream


@dataclass
class Person:
    name: str


text = Agent("ollama/llama3.2")
people = Agent("ollama/llama3.2", [len], output=list[Person], instructions="Be brief.")
choice = Agent(output=Literal["yes", "no"])

assert_type(text, Agent[str])
assert_type(people, Agent[list[Person]])
assert_type(choice, Agent[Literal["yes", "no"]])
assert_type(text.run("x"), AgentRun[str])
assert_type(people.run("x").output, list[Person])
assert_type(people.run("x").parsed, list[Person] | None)
assert_type(people.stream("x"), AgentStream[list[Person]])
assert_type(people.astream("x"), AsyncAgentStream[list[Person]])
assert_type(people.conversation(), AgentConversation[list[Person]])
assert_type(next(iter(text.stream("x"))), StreamChunk)


async def read() -> None:
    assert_type(await people.arun("x"), AgentRun[list[Person]])
    assert_type((await people.conversation().asend("x")).output, list[Person])
    async for chunk in people.astream("x", chunk_size=8):
        assert_type(chunk, StreamChunk)
