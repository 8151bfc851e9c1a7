"""Programs that are served, in this process or as a program: `served.py stdio`, `served.py http PORT`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import anyio
from pydantic import BaseModel

import mellea
from mellea.core.blocks import ToolCall
from mellea.core.events import Event, StepStart, TextDelta, ToolEnd
from mellea.serve import McpServer, mcp
from mellea.testing import Pause, ScriptedBackend
from mellea.tools import ToolReturn

PIXEL = b"not really a picture"


class Ticket(BaseModel):
    title: str


def reply(request: Any) -> Any:
    """Answer by what is asked, so that the order of calls doesn't matter."""
    text = request.messages[-1].text
    if "poem" in text:
        return ["The ", Pause(0.1), "sea ", Pause(0.1), "is blue."]
    if "names" in text:
        return ['["Ann", ', Pause(0.1), '"Bo"]']
    return '{"title": "broken"}' if "ticket" in text else "no value"


session = mellea.MelleaSession(ScriptedBackend(reply))


@mellea.generative
def poem(topic: str) -> str:
    """Write a poem."""


@mellea.generative
async def names(topic: str) -> list[str]:
    """Write names."""


@mellea.command(output=Ticket)
def ticket(text: str) -> str:
    return f"Make a ticket of: {text}"


@mellea.generative
def number(text: str) -> int:
    """Count."""


def add(a: int, b: int) -> int:
    """Add two numbers.

    Args:
        a: the first one.
    """
    print("printed, and not a part of the protocol")
    return a + b


def shout(text: str) -> str:
    return text.upper()


def crash() -> None:
    raise ValueError("a secret of the program")


@mellea.tool(timeout=0.1)
async def hang() -> None:
    await anyio.sleep_forever()


@mellea.tool(requires_approval=True)
def drop(table: str) -> str:
    return table


def work(to: int) -> Iterator[Any]:
    for step in range(1, to + 1):
        yield {"progress": step, "total": to, "message": f"step {step}"}
    yield ToolReturn({"done": to}, "worked")


def files() -> list[Any]:
    return [
        "four",
        mellea.ImageBlock(data=PIXEL),
        mellea.FileBlock("audio/wav", data=PIXEL),
        mellea.FileBlock("text/csv", data=b"a,b", filename="table.csv"),
        mellea.FileBlock("text/html", url="https://example.com/page"),
    ]


class Run:
    """What an agent's run comes to, with more in it than clients are to see."""

    def __init__(self, text: str) -> None:
        self.messages = ["a secret of the program", text]

    @property
    def output(self) -> dict[str, str]:
        return {"answer": self.messages[-1]}


class Helper:
    """What an agent is to this room: it makes a tool of itself, which reports the events of its run."""

    def as_tool(self) -> Any:
        @mellea.tool
        def helper(text: str) -> Iterator[Any]:
            yield NestedLike(StepStart(1))
            yield NestedLike(ToolEnd(ToolCall("1", "look", {})))
            yield NestedLike(TextDelta(text))
            yield ToolReturn(Run(text), text)

        return helper


class NestedLike:
    def __init__(self, event: Event) -> None:
        self.event = event


def make_server() -> McpServer:
    asked = [function.with_options(session=session) for function in (poem, names, ticket, number)]
    return mcp(*asked, add, shout, crash, hang, drop, work, files, Helper(), name="served", instructions="Be brief.")


if __name__ == "__main__":
    if sys.argv[1] == "stdio":
        make_server().run()
    else:
        make_server().run("http", port=int(sys.argv[2]))
