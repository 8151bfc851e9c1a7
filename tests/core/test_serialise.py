"""What is saved as JSON comes back equal; what is unknown, damaged or too big is refused with a clear error."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mellea.core import events
from mellea.core.accumulator import Generation
from mellea.core.backend import BuiltinTool, OutputSchema, ToolExample, ToolSpec
from mellea.core.blocks import Block, CBlock, FileBlock, ImageBlock, Source, ThinkingBlock, ToolCall, ToolOutput
from mellea.core.events import Event, KeepAlive, TextDelta, Usage
from mellea.core.messages import Message
from mellea.core.serialise import KINDS, VERSION, from_json, to_json
from mellea.core.thunk import ComputedModelOutputThunk
from mellea.errors import StateError, UsageError
from tests.core.test_events import ONE_OF_EACH

_texts = st.text(max_size=20)
_some = st.none() | _texts
_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_texts, inner, max_size=3),
    max_leaves=6,
)
_bytes = st.binary(max_size=20)
_files = st.one_of(
    st.builds(FileBlock, _texts, data=_bytes, filename=_some),
    st.builds(FileBlock, _texts, url=_texts, filename=_some),
    st.builds(ImageBlock, data=_bytes),
    st.builds(ImageBlock, _texts, url=_texts),
)
_calls = st.builds(
    ToolCall, _texts, _texts, st.dictionaries(_texts, _values, max_size=3), _texts, st.booleans(), st.booleans(), _some
)
_simple_blocks = (
    st.builds(CBlock, _texts, st.booleans()) | _files | st.builds(ThinkingBlock, _texts, _some) | _calls
    | st.builds(Source, _some, _some, _some)
)  # fmt: skip
_results = _values | _simple_blocks | st.lists(_values | _simple_blocks, max_size=3)
_outputs = st.builds(ToolOutput, _texts, _texts, _results, st.booleans(), st.booleans(), _values)
_blocks = _simple_blocks | _outputs
_counts = st.none() | st.integers(0)
_usages = st.builds(Usage, _counts, _counts, _counts, _counts, _counts)
_messages = st.builds(Message, st.sampled_from(["system", "user", "assistant", "tool"]), st.lists(_blocks, max_size=3))
_reasons = st.sampled_from(["stop", "length", "content_filter", "tool_call", "error", "other"])
_generations = st.builds(
    Generation, _texts, _messages, st.none() | _usages, st.none() | _reasons, _some, _some,
    st.lists(st.builds(Source, _some), max_size=2).map(tuple), st.lists(_messages, max_size=2).map(tuple),
)  # fmt: skip

_BY_ANNOTATION: dict[str, st.SearchStrategy[Any]] = {
    "str": _texts, "str | None": _some, "int": st.integers(), "bool": st.booleans(), "bytes | None": st.none() | _bytes,
    "ToolCall": _calls, "ToolOutput": _outputs, "Usage": _usages, "Any": _values, "FinishReason": _reasons,
    "Source": st.builds(Source, _some, _some, _some),
    "Event": st.builds(TextDelta, _texts) | st.builds(events.StepStart, st.integers()),
}  # fmt: skip


def _any_event(cls: type) -> st.SearchStrategy[Any]:
    """Make events of a class; an annotation that this file doesn't know fails here, so that no new one is forgotten."""
    parts = [_BY_ANNOTATION[field.type] for field in dataclasses.fields(cls)]  # type: ignore[index]
    return st.builds(cls, *parts)


_EVENTS = [cls for cls in KINDS.values() if issubclass(cls, Event)]
_objects = st.dictionaries(_texts, _values, max_size=3)
_examples = st.builds(ToolExample, _texts, _objects, _texts, _texts)
_tools = st.builds(ToolSpec, _texts, _texts, _objects, st.lists(_examples, max_size=2).map(tuple))
_specs = _tools | _examples | st.builds(OutputSchema, _texts, _objects)
_everything = st.one_of(_messages, _blocks, _usages, _generations, _specs, *map(_any_event, _EVENTS))


@given(_everything)
def test_every_kind_comes_back_equal(value: Any) -> None:
    again = from_json(to_json(value))
    assert type(again) is type(value)
    assert again == value


@given(st.lists(_everything, max_size=4))
def test_a_list_comes_back_equal_and_the_text_is_the_same_each_time(values: list[Any]) -> None:
    text = to_json(values)
    assert from_json(text) == values
    assert to_json(from_json(text)) == text
    assert from_json(text.encode()) == values


@pytest.mark.parametrize("event", ONE_OF_EACH, ids=lambda event: type(event).__name__)
def test_every_event_that_a_reader_sees_can_be_saved(event: Event) -> None:
    if isinstance(event, KeepAlive):  # no reader sees it
        with pytest.raises(UsageError, match="KeepAlive"):
            to_json(event)
    else:
        assert from_json(to_json(event)) == event


def test_every_block_can_be_saved() -> None:
    assert set(Block.__args__) | {ImageBlock} <= set(KINDS.values())


def test_what_a_provider_signed_comes_back_unchanged() -> None:
    message = Message(
        "assistant",
        [
            ThinkingBlock("hm", 'anthropic:block:{"type":"compaction","content":"…"}'),
            ToolCall("c1", "look", {"q": [1]}, '{"q": [1]}', signature="gemini:c2ln"),
            ToolCall("c2", "search", {}, "", is_builtin=True),
            ToolOutput("c2", "search", [{"url": "https://example.org"}], is_builtin=True),
        ],
    )
    assert from_json(to_json(message), Message) == message


def test_the_json_is_the_documented_one() -> None:
    message = Message("tool", ToolOutput("c1", "plot", [CBlock("done"), ImageBlock(data=b"png")]))
    assert json.loads(to_json(message)) == {
        "format": "mellea",
        "version": VERSION,
        "value": {
            "type": "message",
            "role": "tool",
            "blocks": [
                {
                    "type": "tool_output",
                    "tool_call_id": "c1",
                    "tool_name": "plot",
                    "result": {
                        "list": [
                            {"block": {"type": "text", "value": "done"}},
                            {"block": {"type": "image", "data": "cG5n"}},
                        ]
                    },
                }
            ],
        },
    }


def test_half_a_character_becomes_the_mark_for_one_that_cant_be_read() -> None:
    half = "\ud83d"
    saved = [TextDelta(f"a{half}"), events.ToolProgress("c1", "look", {half: [half]})]
    assert from_json(to_json(saved)) == [
        TextDelta("a\ufffd"),
        events.ToolProgress("c1", "look", {"\ufffd": ["\ufffd"]}),
    ]
    escaped = to_json(TextDelta("HERE")).replace("HERE", "\\ud83d \\ud83d\\ude00")
    assert from_json(escaped) == TextDelta("\ufffd \U0001f600")


@dataclasses.dataclass
class Point:
    x: int
    y: float


def test_free_values_come_back_as_json_values() -> None:
    output = ToolOutput("c1", "look", {"at": Point(1, float("nan")), "pair": (1, 2)}, value=Point(1, 2))
    again = from_json(to_json(output))
    assert again.result == {"at": {"x": 1, "y": "NaN"}, "pair": [1, 2]}
    assert again.value == {"x": 1, "y": 2}


def test_a_value_for_the_program_without_a_json_form_is_left_out_and_a_result_without_one_is_refused() -> None:
    assert from_json(to_json(ToolOutput("c1", "look", "seen", value=object()))).value is None
    assert from_json(to_json(events.ToolProgress("c1", "look", object()))).value is None
    with pytest.raises(UsageError, match="no JSON form"):
        to_json(ToolOutput("c1", "look", object()))


def test_a_computed_thunk_in_a_message_is_saved_as_its_text() -> None:
    message = Message("user", ["It was ", ComputedModelOutputThunk("a cat")])
    assert from_json(to_json(message)).content == "It was a cat"


@pytest.mark.parametrize("value", [3, "text", None, {"a": 1}, object(), [3], ToolCall, BuiltinTool("x", "y", {})])
def test_what_is_of_no_known_kind_is_refused_when_it_is_saved(value: Any) -> None:
    with pytest.raises(UsageError, match="can't be saved"):
        to_json(value)


def _document(value: Any, **fields: Any) -> str:
    return json.dumps({"format": "mellea", "version": VERSION, "value": value} | fields)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "isn't JSON"),
        ("[", "isn't JSON"),
        (b"\xff", "isn't JSON"),
        ("[" * 100_000 + "]" * 100_000, "isn't JSON|nested too deeply"),
        (_document(json.loads("[" * 400 + "]" * 400)).replace("[]", "[" * 400 + "]" * 400), "nested too deeply|value"),
        ("9" * 5000, "isn't JSON"),
        ('{"format": "mellea", "version": 1, "value": NaN}', "NaN is not JSON"),
        ("{}", "isn't a document that mellea saved"),
        ("[]", "isn't a document that mellea saved"),
        (_document([], version=2), "version 2, and this version of mellea reads 1"),
        (_document([], version=True), "version True"),
        (_document([], version="1"), "version '1'"),
        (_document([], more=1), "'more'"),
        (_document(3), "value is not an object with a 'type'"),
        (_document([{"type": "text", "value": "a"}, {"type": 3}]), r"value\[1\] is not an object"),
        (_document({"type": "os.system", "value": "a"}), "unknown kind 'os.system'"),
        (_document({"type": "text", "value": "a", "colour": "red"}), "unknown field 'colour'"),
        (_document({"type": "text"}), "lacks the field 'value'"),
        (_document({"type": "text", "value": 3}), "value.value is not text: 3"),
        (_document({"type": "step_start", "step": True}), "value.step is not a whole number: true"),
        (_document({"type": "stream_end", "finish_reason": "tired"}), "value.finish_reason should be one of 'stop'"),
        (_document({"type": "stream_end", "finish_reason": ["stop"]}), "value.finish_reason should be one of"),
        (_document({"type": "file", "media_type": "a/b", "data": "é"}), "value.data is not base64"),
        (_document({"type": "file", "media_type": "a/b", "data": 3}), "value.data is not base64"),
        (_document({"type": "file", "media_type": "a/b"}), "either data or url"),
        (_document({"type": "message", "role": "user", "blocks": {}}), "value.blocks is not a list"),
        (
            _document({"type": "message", "role": "user", "blocks": [{"type": "step_end", "step": 1}]}),
            "not a 'step_end'",
        ),
        (_document({"type": "message", "role": "user", "blocks": [[]]}), "not a list"),
        (_document({"type": "tool_call", "tool_call_id": "", "tool_name": "", "tool_args": []}), "not an object"),
        (_document({"type": "tool_output", "tool_call_id": "", "tool_name": "", "result": 3}), "'json', 'block' or"),
    ],
)
def test_what_cant_be_read_back_is_refused_and_the_error_says_where(text: str | bytes, message: str) -> None:
    with pytest.raises(StateError, match=message):
        from_json(text)


@given(st.text(max_size=200) | _values.map(_document))
def test_whatever_comes_from_outside_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(StateError):
        from_json(text)


@given(st.data())
def test_a_document_with_one_character_changed_is_read_or_refused(data: st.DataObject) -> None:
    text = to_json(
        [Message("assistant", [ToolCall("c1", "look", {"q": 1}, '{"q": 1}'), "ok"]), events.StreamEnd("stop")]
    )
    place = data.draw(st.integers(0, len(text) - 1))
    changed = text[:place] + data.draw(st.characters()) + text[place + 1 :]
    with contextlib.suppress(StateError):
        from_json(changed)


def test_another_kind_than_the_one_asked_for_is_refused() -> None:
    assert from_json(to_json([TextDelta("a")]), Event) == [TextDelta("a")]
    with pytest.raises(StateError, match="holds a 'text_delta', not a 'message'"):
        from_json(to_json([TextDelta("a")]), Message)


def test_both_ways_are_bounded() -> None:
    text = to_json(TextDelta("x" * 1000))
    with pytest.raises(UsageError, match="limit=500"):
        to_json(TextDelta("x" * 1000), limit=500)
    with pytest.raises(StateError, match="limit=500"):
        from_json(text, limit=500)
    assert from_json(text, limit=len(text)) == TextDelta("x" * 1000)


@pytest.mark.parametrize(
    "document",
    [
        {"format": "mellea", "version": "9" * 5000, "value": {}},
        {"format": "mellea", "version": 1, "value": {"type": "x" * 5000}},
        {"format": "mellea", "version": 1, "value": {"type": "text", "value": "a", "x" * 5000: 1}},
        {"format": "mellea", "version": 1, "value": {}, "x" * 5000: 1},
        {"format": "mellea", "version": 1, "value": {"type": "chat_context", "x" * 5000: 1}},
    ],
    ids=["version", "kind", "field", "document's field", "context's field"],
)
def test_an_error_shows_the_beginning_of_what_is_unknown(document: dict[str, object]) -> None:
    with pytest.raises(StateError) as caught:
        from_json(json.dumps(document))
    assert len(str(caught.value)) < 300
