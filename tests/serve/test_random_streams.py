"""Random events, and random requests: the parts are those that clients read, and nothing but a refusal comes out."""

from __future__ import annotations

import json
import random
from typing import Any, get_args

import anyio
import pytest

import mellea
from mellea import serve
from mellea.core.blocks import Source, ToolOutput
from mellea.core.messages import parse_tool_call
from mellea.errors import UsageError
from mellea.events import (
    AttemptAccepted,
    AttemptRejected,
    AttemptStart,
    ChunkValidated,
    Event,
    FileEvent,
    NestedEvent,
    ReasoningDelta,
    SourceEvent,
    StepEnd,
    StepStart,
    StreamEnd,
    TextDelta,
    ToolDelta,
    ToolEnd,
    ToolProgress,
    ToolResult,
    ToolStart,
    Usage,
)
from mellea.serve import chat_request
from mellea.serve.ai_sdk.parts import Version
from mellea.serve.ai_sdk.ui_stream import UiEncoder
from mellea.serve.response import Ending
from mellea.testing import ScriptedBackend
from mellea.testing.scripted import Pause
from tests.serve import ui_protocol
from tests.serve.asgi import ask
from tests.serve.test_response import SOURCES, _made, _plain_generator
from tests.serve.ui_streams import describe
from tests.soak import examples

pytestmark = pytest.mark.anyio


class _Events:
    """Random events as a run may emit them."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self._calls = 0

    def run(self) -> tuple[list[Event], str | None]:
        """Return events, and the text that clients may see at the end; `None` if it isn't told."""
        events: list[Event] = []
        if self._chance.random() < 0.4:
            self._attempts(events)
        else:
            self._steps(events)
        return events, _text_of(events)

    def _attempts(self, events: list[Event]) -> None:
        numbers = range(1, self._chance.randint(1, 4) + 1)
        for number in numbers:
            events.append(AttemptStart(number))
            self._steps(events)
            if number < len(numbers) or self._chance.random() < 0.3:
                events.append(AttemptRejected(number, "r", self._chance.choice([None, "why"])))
        chosen = self._chance.choice(numbers) if isinstance(events[-1], AttemptRejected) else numbers[-1]
        events.append(AttemptAccepted(chosen))

    def _steps(self, events: list[Event]) -> None:
        if self._chance.random() < 0.5:
            self._content(events)
            return
        for step in range(1, self._chance.randint(1, 3) + 1):
            events.append(StepStart(step))
            self._content(events)
            events.append(StepEnd(step))

    def _content(self, events: list[Event]) -> None:
        for _ in range(self._chance.randint(0, 5)):
            self._chance.choice([self._text, self._text, self._thought, self._call, self._rest])(events)

    def _text(self, events: list[Event]) -> None:
        events.append(TextDelta(self._chance.choice(["", "a", "é ", "🐟", "x" * 50])))

    def _thought(self, events: list[Event]) -> None:
        events.append(ReasoningDelta(self._chance.choice(["", "hm "]), self._chance.choice([None, "p:sig"])))

    def _call(self, events: list[Event]) -> None:
        self._calls += 1
        name = self._chance.choice(["c", f"c{self._calls}"])
        args = self._chance.choice(["{}", '{"a":1}', '{"a":'])
        if self._chance.random() < 0.7:
            events.append(ToolStart(name, "tool"))
            events += [ToolDelta(name, piece) for piece in (args[:1], args[1:]) if self._chance.random() < 0.9]
        events.append(ToolEnd(parse_tool_call(name, "tool", args)))
        if self._chance.random() < 0.3:
            events.append(ToolProgress(name, "tool", self._chance.choice([1, "x", float("nan"), object()])))
        if self._chance.random() < 0.3:
            events.append(NestedEvent(name, "inner/1", TextDelta("x")))
        if self._chance.random() < 0.8:
            result = self._chance.choice(["text", 3, None, {"a": float("inf")}, [b"x"]])
            events.append(ToolResult(ToolOutput(name, "tool", result, self._chance.random() < 0.3)))

    def _rest(self, events: list[Event]) -> None:
        rest: list[Event] = [
            FileEvent("image/png", b"x"),
            FileEvent("image/png", url="https://x.test"),
            SourceEvent(Source("https://x.test")),
            SourceEvent(Source()),
            StreamEnd("stop"),
            ChunkValidated(1, "x"),
        ]
        events.append(self._chance.choice(rest))


def _text_of(events: list[Event]) -> str | None:
    if not any(isinstance(event, AttemptStart) for event in events):
        return "".join(event.chunk for event in events if isinstance(event, TextDelta))
    texts: dict[int, str] = {}
    number, chosen = 0, None
    for event in events:
        if isinstance(event, AttemptStart):
            number = event.number
            texts.setdefault(number, "")
        elif isinstance(event, AttemptAccepted):
            chosen = event.number
        elif isinstance(event, TextDelta):
            texts[number] += event.chunk
    return None if chosen is None else texts[chosen]


async def test_whatever_a_run_emits_is_a_stream_that_clients_read() -> None:
    for seed in range(examples(1000)):
        events, text = _Events(seed).run()
        shown = []
        for version in get_args(Version):
            encoder = UiEncoder(version)
            body = b"".join(map(encoder.feed, events))
            ending = random.Random(seed).choice([Ending(usage=Usage(1, 2)), Ending(ValueError()), Ending(None, True)])
            message = ui_protocol.read(body + encoder.finish(ending), version)
            said = "".join(part["text"] for part in message.parts if part["type"] == "text")
            if ending.error is None and not ending.is_stopped:
                assert said == text, seed
            # What it says is the same in all versions; a step that was reset may be left empty in version 7.
            shown.append([line for line in describe(message.parts) if line != "step"])
        assert shown[0] == shown[1] == shown[2], seed
    await anyio.lowlevel.checkpoint()


VALID = {
    "id": "chat",
    "trigger": "submit-message",
    "messages": [
        {"id": "s", "role": "system", "parts": [{"type": "text", "text": "x"}]},
        {
            "id": "u",
            "role": "user",
            "parts": [
                {"type": "text", "text": "x"},
                {"type": "file", "mediaType": "image/png", "url": "data:image/png;base64,eA=="},
            ],
        },
        {
            "id": "a",
            "role": "assistant",
            "parts": [
                {"type": "step-start"},
                {"type": "reasoning", "text": "x", "providerMetadata": {"mellea": {"signature": "p:x"}}},
                {"type": "tool-t", "toolCallId": "c1", "state": "output-available", "input": {}, "output": 1},
                {
                    "type": "dynamic-tool",
                    "toolName": "t",
                    "toolCallId": "c2",
                    "state": "approval-responded",
                    "input": {},
                    "approval": {"id": "q", "approved": True, "signature": "x"},
                },
                {"type": "data-approval", "id": "q", "data": {"approvalId": "q"}},
            ],
        },
    ],
    "approvals": [{"id": "q", "approved": True}],
}

VALUES: list[Any] = [
    None,
    True,
    0,
    -1.5,
    10**30,
    "",
    "x",
    "\ud800",
    "output-denied",
    "tool-",
    [],
    {},
    [[]],
    {"type": "x"},
]


def _mutate(value: Any, chance: random.Random) -> Any:
    """Change something, somewhere in a JSON value."""
    if chance.random() < 0.2 or not isinstance(value, (dict, list)) or not value:
        return chance.choice(VALUES)
    if isinstance(value, dict):
        key = chance.choice(list(value))
        if chance.random() < 0.2:
            return {name: item for name, item in value.items() if name != key}
        return {**value, key: _mutate(value[key], chance)}
    place = chance.randrange(len(value))
    return [*value[:place], _mutate(value[place], chance), *value[place + 1 :]]


@pytest.mark.parametrize("secret", [None, b"secret"])
async def test_whatever_is_sent_is_read_or_refused(secret: Any) -> None:
    for seed in range(examples(4000)):
        chance = random.Random(seed)
        data = VALID
        for _ in range(chance.randint(1, 3)):
            data = _mutate(data, chance)
        try:
            asked = chat_request(json.dumps(data), secret=secret)
        except UsageError:
            continue
        assert all(message.role != "system" for message in asked.messages)
        assert secret is None or not asked.replies
    await anyio.lowlevel.checkpoint()


async def _leave_at(seed: int) -> None:
    chance = random.Random(seed)
    script = ["Once ", Pause(chance.choice([0, 0.001])), "upon ", Pause(float("inf"))]
    backend = ScriptedBackend(script)
    make = chance.choice([each for each in SOURCES.values() if each is not _plain_generator])
    stream = await _made(make, mellea.start_session(backend))
    form = chance.choice([serve.text, serve.sse, serve.ui])
    leave = anyio.Event()

    async def leave_soon() -> None:
        await anyio.sleep(chance.choice([0, 0.0005, 0.001, 0.005]) * chance.random())
        leave.set()

    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            group.start_soon(leave_soon)
            await ask(form(stream), leave=leave)
    backend.assert_closed()


async def test_whenever_a_client_leaves_the_model_stops() -> None:
    for seed in range(examples(200)):
        await _leave_at(seed)
