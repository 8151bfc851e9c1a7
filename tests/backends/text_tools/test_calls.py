"""Calls with tools where the model has none: the events, the values and the history of native tools."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from pydantic import BaseModel

import mellea
from mellea.backends import Capabilities, FallbackBackend, OutputSchema, Request, ToolSpec
from mellea.backends.text_tools import TextToolsBackend, with_tools
from mellea.core.accumulator import join_deltas
from mellea.core.blocks import CBlock, ImageBlock, ToolCall, ToolOutput
from mellea.core.events import (
    Event,
    ReasoningDelta,
    StepEnd,
    StreamEnd,
    TextDelta,
    ToolDelta,
    ToolEnd,
    ToolStart,
    Usage,
    UsageEvent,
)
from mellea.core.messages import Message
from mellea.errors import BackendError, ParseError, UnsupportedError, UsageError
from mellea.testing import Gate, ScriptedBackend
from mellea.tools import ToolExample

pytestmark = pytest.mark.anyio

NO_TOOLS = Capabilities(structured_output="prompt", prefill=True, images=True)
HELD = Capabilities(structured_output="native")
LOOK = '{"tool": "look", "arguments": {"place": "Rome"}}'


def look(place: str) -> str:
    """Look somewhere."""
    if place == "nowhere":
        raise LookupError("there is no such place")
    return f"a cat in {place}"


def now() -> str:
    """Tell the time."""
    return "noon"


def text_backend(*replies: Any, capabilities: Capabilities = NO_TOOLS, **kwargs: Any) -> ScriptedBackend:
    return ScriptedBackend(*replies, capabilities=capabilities, **kwargs)


def session(*replies: Any, **kwargs: Any) -> tuple[mellea.MelleaSession, ScriptedBackend]:
    backend = text_backend(*replies, **kwargs)
    return mellea.start_session(backend), backend


def said(request: Request) -> list[tuple[str, str]]:
    return [(message.role, message.text) for message in request.messages]


async def read(backend: Any, request: Request) -> list[Event]:
    return [event async for event in with_tools(backend).run(request)]


def request(*messages: Message, tools: Sequence[str] = ("look",), **options: Any) -> Request:
    parameters = {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]}
    specs = tuple(ToolSpec(name, f"{name}s", parameters) for name in tools)
    return Request(messages or (Message("user", "hello"),), specs, options=options)


NATIVE: list[list[str | Event]] = [
    [
        "I'll look.",
        ToolStart("", "look"),
        ToolDelta("", '{"place": "Rome"}'),
        ToolEnd(ToolCall("", "look", {"place": "Rome"}, '{"place": "Rome"}')),
        ToolStart("", "look"),
        ToolDelta("", '{"place": "nowhere"}'),
        ToolEnd(ToolCall("", "look", {"place": "nowhere"}, '{"place": "nowhere"}')),
        ToolStart("", "fly"),
        ToolDelta("", '{"to": 5}'),
        ToolEnd(ToolCall("", "fly", {"to": 5}, '{"to": 5}')),
    ],
    [
        ToolStart("", "look"),
        ToolDelta("", '{"room": 1}'),
        ToolEnd(ToolCall("", "look", {"room": 1}, '{"room": 1}')),
    ],
    ["There is ", '"a cat"', " in Rome.\n"],
]
TEXT = [
    [
        "I'll look.\n\n",
        '{"tool": "look", "arguments": {"place": "Rome"}}\n{"tool": "look", ',
        '"arguments": {"place": "nowhere"}}\n{"arguments": {"to": 5}, "tool": "fly"}',
    ],
    ['{"tool": "look", "arguments": {"room": 1}}'],
    ['{"answer": "There is ', '\\"a cat\\"', ' in Rome.\\n"}'],
]


def nameless(events: Sequence[Event]) -> list[Event]:
    """Return the events, joined, without what the providers give: ids and the time."""
    shown: list[Event] = []
    for event in join_deltas(events):
        match event:
            case ToolStart() | ToolDelta():
                event = replace(event, tool_call_id="")
            case ToolEnd(call):
                event = ToolEnd(replace(call, tool_call_id=""))
            case mellea.events.ToolResult(result):
                event = replace(event, result=replace(result, tool_call_id=""))
        shown.append(event)
    return shown


async def test_the_same_program_has_the_same_events_as_with_native_tools() -> None:
    @mellea.tool(name="look")
    async def look_slowly(place: str) -> str:
        """Look somewhere."""
        return look(place)

    logs = []
    native = [
        [replace(e, tool_call_id=str(n)) if isinstance(e, (ToolStart, ToolDelta)) else e for n, e in enumerate(reply)]
        for reply in NATIVE
    ]
    for backend in (ScriptedBackend(*native), text_backend(*TEXT)):
        m = mellea.start_session(backend)
        async with m.astream("Where is the cat?", tools=[look_slowly], tool_calls="run") as stream:
            events = [event async for event in stream.events()]
        logs.append((nameless(events), stream.result.value))
        assert len([event for event in events if isinstance(event, StepEnd)]) == 3
    assert logs[0] == logs[1]


async def test_an_answer_streams_while_it_is_written() -> None:
    gate = Gate()
    m, _ = session(['{"answer": "One, ', gate, 'two."}'])
    async with m.astream("Count.", tools=[look]) as stream:
        chunks = aiter(stream)
        assert str(await anext(chunks)) == "One, "
        gate.open()
        assert "".join([str(chunk) async for chunk in chunks]) == "two."


async def test_a_call_is_seen_when_it_begins() -> None:
    gate = Gate()
    m, _ = session(['{"tool": "look", "argu', gate, 'ments": {"place": "Rome"}}'])
    async with m.astream("Look.", tools=[look]) as stream:
        events = aiter(stream.events())
        while not isinstance(event := await anext(events), ToolStart):
            pass
        gate.open()
        assert event.tool_name == "look"
        assert [e.tool_call.tool_args async for e in events if isinstance(e, ToolEnd)] == [{"place": "Rome"}]


def test_it_works_without_an_event_loop_too() -> None:
    m, backend = session(LOOK, '{"answer": "A cat."}')
    assert m.instruct("Look.", tools=[look], tool_calls="run").value == "A cat."
    backend.assert_closed()


async def test_calls_are_shown_where_they_are_not_run() -> None:
    m, _ = session(LOOK)
    thunk = await m.ainstruct("Look.", tools=[look])
    assert [(call.tool_name, call.tool_args) for call in thunk.tool_calls] == [("look", {"place": "Rome"})]
    assert thunk.value == ""
    assert thunk.finish_reason == "tool_call"


async def test_the_model_is_told_the_protocol_its_calls_and_their_results() -> None:
    m, backend = session(f"Well.\n{LOOK}", '{"answer": "A cat."}', '{"answer": "Noon."}')
    await m.achat("Look.", tools=[look], tool_calls="run")
    first, second = backend.requests
    assert first.tools == second.tools == ()
    role, system = said(first)[0]
    assert role == "system"
    assert '{"tool": "look", "description": "Look somewhere.", "arguments": {"place": ' in system
    assert '{"answer": "…"}' in system
    assert said(second)[1:] == [
        ("user", "Look."),
        ("assistant", f"Well.\n{LOOK}"),
        ("user", '{"tool": "look", "result": "a cat in Rome"}\n'),
    ]


async def test_a_history_with_calls_is_text_also_where_no_tools_are_offered() -> None:
    call, other = ToolCall("a", "look", {"place": "Rome"}), ToolCall("b", "now", {})
    image = ImageBlock(media_type="image/png", data=b"x")
    messages = (
        Message("user", "Look."),
        Message("assistant", ["Well.", call, other]),
        Message("tool", ToolOutput("a", "look", [CBlock("a cat"), image])),
        Message("tool", ToolOutput("b", "now", "no clock", is_error=True)),
        Message("assistant", "A cat."),
        Message("user", "And now?"),
    )
    backend = text_backend("Nothing.", '{"answer": "Nothing."}')
    events = await read(backend, Request(messages))
    assert TextDelta("Nothing.") in events  # as it is: nothing asks for the protocol
    await read(backend, request(*messages))
    plain, spoken = backend.requests
    calls = f'Well.\n{LOOK}\n{{"tool": "now", "arguments": {{}}}}'
    results = [("user", '{"tool": "look", "result": "a cat"}\n'), ("user", '{"tool": "now", "error": "no clock"}\n')]
    assert said(plain)[1:] == [("assistant", calls), *results, ("assistant", "A cat."), ("user", "And now?")]
    assert said(spoken)[2:-2] == [("assistant", calls), *results]
    assert said(spoken)[-2] == ("assistant", '{"answer": "A cat."}')
    assert image in plain.messages[2].blocks


@pytest.mark.parametrize("bad", ["It is noon.", "", '{"name": "now"}', '{"tool": 5}'])
async def test_a_text_that_breaks_the_protocol_is_rejected_unseen_and_asked_for_once_more(bad: str) -> None:
    m, backend = session(list(bad), ['{"answer": "Noon."}'])
    async with m.astream("What time is it?", tools=[now]) as stream:
        events = [event async for event in stream.events()]
    assert [event for event in events if isinstance(event, TextDelta)] == [TextDelta("Noon.")]
    assert len(backend.requests) == 2
    shown = said(backend.requests[1])
    assert shown[-1][0] == "user"
    assert "Write one JSON object" in shown[-1][1]
    assert not bad or shown[-2][0] == "assistant"
    backend.assert_closed()


async def test_the_second_breach_is_an_error() -> None:
    m, backend = session("It is noon.")
    with pytest.raises(ParseError, match=r"asked twice .* It wrote 'It is noon\.'") as caught:
        await m.ainstruct("What time is it?", tools=[now])
    assert caught.value.raw == "It is noon."
    assert caught.value.partial == ""
    assert len(backend.requests) == 2
    backend.assert_closed()


@pytest.mark.parametrize("how", [{}, {"tool_calls": "run"}, {"format": int}])
async def test_whoever_reads_a_stream_is_told_of_the_second_breach(how: dict[str, Any]) -> None:
    m, _ = session("Hello?")
    with pytest.raises(ParseError, match="was asked twice"):
        _ = [chunk async for chunk in m.astream("x", tools=[look], **how)]
    with pytest.raises(ParseError, match="was asked twice"):
        _ = [event async for event in m.astream("x", tools=[look], **how).events()]


def test_whoever_reads_a_stream_in_plain_code_is_told_of_it_too() -> None:
    m, _ = session("Hello?")
    with pytest.raises(ParseError, match="was asked twice"):
        list(m.stream("x", tools=[look]))


@pytest.mark.parametrize("live", [False, True])
async def test_an_agents_stream_has_no_final_chunk_after_the_second_breach(live: bool) -> None:
    chunks = []
    with pytest.raises(ParseError, match="was asked twice"):
        async for chunk in mellea.Agent(text_backend(LOOK, "Hello?"), [look]).astream("x", live=live):
            chunks.append(chunk)
    assert chunks == []


async def test_both_attempts_are_paid_for() -> None:
    m, _ = session("no", '{"answer": "yes"}', usage=Usage(input_tokens=10, output_tokens=2))
    thunk = await m.ainstruct("x", tools=[now])
    assert thunk.usage == Usage(input_tokens=20, output_tokens=4)


async def test_other_events_pass() -> None:
    backend = text_backend([ReasoningDelta("hm"), '{"answer": "x"}', UsageEvent(Usage(1, 2)), StreamEnd("stop", "id")])
    events = await read(backend, request())
    assert join_deltas([e for e in events if not isinstance(e, mellea.core.events.KeepAlive)]) == [
        ReasoningDelta("hm"),
        TextDelta("x"),
        UsageEvent(Usage(1, 2)),
        StreamEnd("stop", "id"),
    ]


async def test_an_error_of_the_backend_is_the_same_error() -> None:
    m, backend = session(['{"answer": "One', BackendError("gone")])
    with pytest.raises(BackendError, match="gone") as caught:
        await m.ainstruct("Count.", tools=[now])
    assert caught.value.partial == "One"
    backend.assert_closed()


class City(BaseModel):
    name: str
    people: int


@pytest.mark.parametrize("capabilities", [NO_TOOLS, HELD], ids=["told", "held"])
async def test_an_answer_may_have_a_format(capabilities: Capabilities) -> None:
    m, backend = session(LOOK, ['{"answer": {"name": "Ro', 'me", "people": 3}', "}"], capabilities=capabilities)
    partials = []
    async with m.astream("Which city?", format=City, tools=[look], tool_calls="run") as stream:
        async for partial in stream.partials():
            partials.append(partial.data.get("name"))
    assert stream.parsed == City(name="Rome", people=3)
    assert "Rome" in partials
    assert "people" in said(backend.requests[0])[0][1]


@pytest.mark.parametrize("format", [int, list[str], City])
async def test_a_format_is_parsed_as_without_tools(format: Any) -> None:
    values: dict[Any, Any] = {int: 3, list[str]: ["a", "b"], City: {"name": "Rome", "people": 3}}
    m, _ = session(json.dumps({"answer": values[format]}))
    parsed = (await m.ainstruct("x", format=format, tools=[look])).parsed
    assert parsed == (City(**values[City]) if format is City else values[format])


@pytest.mark.parametrize(
    ("choice", "offered", "can_answer"),
    [
        ("auto", {"look", "now", "fly"}, True),
        ("required", {"look", "now", "fly"}, False),
        ("now", {"now"}, False),
        (["look", "now"], {"look", "now"}, False),
    ],
)
async def test_a_tool_choice_holds(choice: Any, offered: set[str], can_answer: bool) -> None:
    answers = ['{"answer": "Noon."}', LOOK.replace("look", "now")]
    backend = text_backend(*answers)
    events = await read(backend, request(tools=("look", "now", "fly"), tool_choice=choice))
    system = said(backend.requests[0])[0][1]
    assert {name for name in ("look", "now", "fly") if f'{{"tool": "{name}"' in system} == offered
    assert ('"answer"' in system) == can_answer
    assert "tool_choice" not in backend.requests[0].options
    names = [event.tool_call.tool_name for event in events if isinstance(event, ToolEnd)]
    assert (TextDelta("Noon.") in events) == can_answer
    assert names == ([] if can_answer else ["now"])
    assert can_answer or said(backend.requests[1])[-1][1].startswith("You have to call a tool before you answer.")


async def test_only_the_chosen_tools_can_be_called() -> None:
    backend = text_backend(LOOK, LOOK.replace("look", "now"))
    events = await read(backend, request(tools=("look", "now"), tool_choice="now"))
    assert [event.tool_call.tool_name for event in events if isinstance(event, ToolEnd)] == ["now"]
    assert said(backend.requests[1])[-1][1].startswith("You have to call 'now', not 'look'.")


async def test_no_tool_is_offered_where_the_choice_is_none() -> None:
    backend = text_backend("It is noon.")
    events = await read(backend, request(tool_choice="none"))
    assert events[0] == TextDelta("It is noon.")
    assert said(backend.requests[0]) == [("user", "hello")]


async def test_a_model_that_can_be_held_to_a_schema_is_held_to_the_protocol() -> None:
    backend = text_backend('{"arguments": {"place": "Rome"}, "tool": "look"}', capabilities=HELD)
    typed = replace(
        request(), output_schema=OutputSchema("n", {"$ref": "#/$defs/N", "$defs": {"N": {"type": "integer"}}})
    )
    events = await read(backend, typed)
    assert [event.tool_call.tool_args for event in events if isinstance(event, ToolEnd)] == [{"place": "Rome"}]
    (sent,) = backend.requests
    assert sent.output_schema is not None
    call, answer = sent.output_schema.schema["anyOf"]
    assert list(call["properties"]) == ["arguments", "tool"]
    assert call["properties"]["tool"] == {"const": "look"}
    (name,) = sent.output_schema.schema["$defs"]
    assert answer["properties"]["answer"] == {"$ref": f"#/$defs/{name}"}


async def test_a_tool_whose_schema_can_not_be_held_is_told_of_all_the_same() -> None:
    class Picky(ScriptedBackend):
        def run(self, request: Request) -> Any:
            if request.output_schema is not None:
                raise UnsupportedError("too much")
            return super().run(request)

    backend = Picky(LOOK, capabilities=HELD)
    events = await read(backend, request())
    assert [event.tool_call.tool_name for event in events if isinstance(event, ToolEnd)] == ["look"]


async def test_an_answer_that_was_begun_goes_on() -> None:
    m, backend = session(' upon a time"}')
    thunk = await m.ainstruct("Tell.", tools=[look], output_prefix="Once")
    assert thunk.value == "Once upon a time"
    assert said(backend.requests[0])[-1] == ("assistant", '{"answer": "Once')


async def test_what_else_a_backend_lacks_is_refused_before_anything_is_sent() -> None:
    m, backend = session("x", capabilities=Capabilities())
    with pytest.raises(UnsupportedError, match="structured output"):
        await m.ainstruct("x", format=int, tools=[look])
    assert backend.requests == []


async def test_a_chain_asks_each_model_in_its_own_way() -> None:
    gone, plain = ScriptedBackend(BackendError("gone")), text_backend(LOOK, '{"answer": "A cat."}')
    chain = FallbackBackend([gone, plain])
    m = mellea.start_session(chain)
    thunk = await m.ainstruct("Look.", tools=[look], tool_calls="run")
    assert thunk.value == "A cat."
    assert [tool.name for tool in gone.requests[0].tools] == ["look"]
    assert plain.requests[0].tools == ()


async def test_a_model_can_be_made_to_speak_the_protocol() -> None:
    backend = ScriptedBackend('{"answer": "A cat."}', capabilities=replace(NO_TOOLS, tools=True))
    m = mellea.start_session(TextToolsBackend(backend))
    assert (await m.ainstruct("Look.", tools=[look])).value == "A cat."
    assert backend.requests[0].tools == ()


async def test_what_was_sent_can_be_looked_at() -> None:
    class Shown(ScriptedBackend):
        def wire_payload(self, request: Request) -> dict[str, Any]:
            return {"tools": len(request.tools), "messages": len(request.messages)}

    m = mellea.start_session(Shown('{"answer": "x"}', capabilities=NO_TOOLS))
    thunk = await m.ainstruct("x", tools=[look])
    assert thunk.request.payload == {"tools": 0, "messages": 2}
    assert [tool.name for tool in thunk.request.tools] == ["look"]


EXAMPLE = ToolExample("What is in Oslo?", {"place": "Oslo"}, "a dog", "There is a dog.")


@pytest.mark.parametrize("capabilities", [NO_TOOLS, HELD], ids=["told", "held"])
async def test_the_worked_calls_of_a_tool_stand_before_the_conversation(capabilities: Capabilities) -> None:
    m, backend = session('{"answer": "x"}', '{"answer": 3}', capabilities=capabilities)
    tool = mellea.tool(examples=[EXAMPLE])(look)
    await m.ainstruct("Look.", tools=[tool])
    await m.ainstruct("Look.", tools=[tool], format=int)
    texts, typed = map(said, backend.requests)
    call = '{"tool": "look", "arguments": {"place": "Oslo"}}'
    if capabilities is HELD:
        call = '{"arguments": {"place": "Oslo"}, "tool": "look"}'
    turns = [("user", "What is in Oslo?"), ("assistant", call)]
    result = [("user", '{"tool": "look", "result": "a dog"}\n'), ("assistant", '{"answer": "There is a dog."}')]
    assert texts[1:] == [*turns, *result, ("user", "Look.")]
    assert typed[1:-1] == turns  # a worked answer would have another form


async def test_a_worked_call_has_to_be_a_valid_one() -> None:
    m, _ = session("x")
    tool = mellea.tool(examples=[ToolExample("x", {"city": "Oslo"})])(look)
    with pytest.raises(UsageError, match="an example of the tool 'look' is not a valid call: "):
        await m.ainstruct("x", tools=[tool])
    with pytest.raises(UsageError, match=r"examples= of the tool 'look' takes ToolExamples, not 5"):
        mellea.tool(examples=[5])(look)  # type: ignore[list-item]


async def test_penalties_that_nobody_asked_for_do_not_punish_the_protocol() -> None:
    backend = text_backend('{"answer": "x"}', model_options={"frequency_penalty": 0.2})
    backend.capabilities = replace(NO_TOOLS, options=NO_TOOLS.options | {"frequency_penalty"})
    m = mellea.start_session(backend)
    await m.ainstruct("x", tools=[look])
    await m.ainstruct("x", tools=[look], model_options={"frequency_penalty": 0.3})
    await m.ainstruct("x")
    assert [request.options.get("frequency_penalty") for request in backend.requests] == [None, 0.3, 0.2]


async def test_a_stream_that_is_left_is_closed() -> None:
    m, backend = session(['{"answer": "One', ", two", ', three"}'])
    async with m.astream("Count.", tools=[look]) as stream:
        async for _ in stream:
            break
    backend.assert_closed()


async def test_ids_of_calls_differ_within_and_between_answers() -> None:
    m, _ = session(f"{LOOK}{LOOK}", f"{LOOK}{LOOK}", '{"answer": "x"}')
    thunk = await m.ainstruct("Look.", tools=[look], tool_calls="run")
    ids = [e.tool_call.tool_call_id async for e in thunk.events() if isinstance(e, ToolEnd)]
    assert len(set(ids)) == len(ids) == 4
