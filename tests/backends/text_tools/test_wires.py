"""The protocol over every provider's wire: the same program on a loopback server, with the same events as elsewhere."""

from __future__ import annotations

import json
from typing import Any

import pytest

import mellea
from mellea.backends.text_tools import TextToolsBackend
from mellea.core.events import TextDelta, ToolEnd, ToolResult
from tests.backends.http.misbehaving import LAST, Connection, chunk, misbehaving
from tests.backends.test_every_wire import WIRES, Wire

pytestmark = pytest.mark.anyio

SAID = ('{\\"tool\\": \\"look\\", \\"arg', 'uments\\": {\\"place\\": \\"Rome\\"}}', '{\\"answer\\": \\"A c', 'at.\\"}')


async def look(place: str) -> str:
    """Look somewhere."""
    return f"a cat in {place}"


def tell(wire: Wire, text: str) -> bytes:
    """Return the wire's frame for a text, made of its frame for one of the two words that it knows."""
    word = "all " if text in (SAID[0], SAID[2]) else "well"
    return wire.text(word).replace(f'"{word}"'.encode(), f'"{text}"'.encode())


@pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire.name)
async def test_a_program_with_tools_runs_on_every_wire(wire: Wire) -> None:
    def behave(connection: Connection) -> None:
        said = SAID[:2] if len(connection.server.requests) == 1 else SAID[2:]
        frames = [chunk(tell(wire, text)) for text in said]
        connection.send(wire.head, *frames, chunk(wire.end), LAST)

    with misbehaving(behave, behave) as server:
        backend = wire.make(server.url)
        m = mellea.start_session(TextToolsBackend(backend))
        async with m.astream("Where is the cat?", tools=[look], tool_calls="run") as stream:
            events = [event async for event in stream.events()]
        await backend.aclose()
    assert stream.result.value == "A cat."
    calls = [event.tool_call for event in events if isinstance(event, ToolEnd)]
    assert [(call.tool_name, call.tool_args) for call in calls] == [("look", {"place": "Rome"})]
    assert [event.result.result for event in events if isinstance(event, ToolResult)] == ["a cat in Rome"]
    assert [event.chunk for event in events if isinstance(event, TextDelta)] == ["A c", "at."]
    sent: list[Any] = [json.loads(body) for _, _, body in server.requests]
    assert not any(body.get("tools") for body in sent)
    assert "a cat in Rome" in json.dumps(sent[1])
