"""Messages: made from text, blocks and dicts in OpenAI's form."""

from __future__ import annotations

import base64
import pickle
from typing import Any

import pytest

from mellea.core.blocks import CBlock, FileBlock, ImageBlock, ThinkingBlock, ToolCall, ToolOutput
from mellea.core.messages import (
    Message,
    as_messages,
    assistant_message,
    parse_tool_call,
    system_message,
    user_message,
)
from mellea.core.thunk import ComputedModelOutputThunk
from mellea.errors import UsageError

IMAGE = ImageBlock(data=b"png")


def one(mapping: Any) -> Message:
    return as_messages([mapping])[0]


def test_a_message_tells_its_text_files_calls_and_thoughts_apart() -> None:
    call, builtin = ToolCall("1", "look", {}), ToolCall("2", "search", {}, is_builtin=True)
    document = FileBlock("application/pdf", b"pdf")
    message = assistant_message(ThinkingBlock("hm"), "a", call, CBlock("b"), IMAGE, builtin, document)
    assert (message.content, message.text, str(message), message.thinking) == ("ab", "ab", "ab", "hm")
    assert message.files == (IMAGE, document)
    assert message.tool_calls == (call,)


def test_three_short_ways_and_the_long_one_agree() -> None:
    assert system_message("x") == Message("system", "x")
    assert user_message("x", IMAGE) == Message("user", ["x", IMAGE]) == Message("user", "x", images=[IMAGE])
    assert assistant_message() == Message("assistant")


def test_empty_text_is_no_block() -> None:
    assert Message("user", "").blocks == ()
    assert Message("user", ["", "a"]).blocks == (CBlock("a"),)


def test_a_message_is_a_value() -> None:
    message = user_message("x", IMAGE)
    assert pickle.loads(pickle.dumps(message)) == message
    assert hash(message) == hash(user_message("x", IMAGE))
    with pytest.raises(AttributeError):
        message.role = "system"  # type: ignore[misc]


def test_an_unknown_role_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="'system', 'user', 'assistant', 'tool', not 'bot'"):
        Message("bot", "x")


@pytest.mark.parametrize("content", [5, None, b"bytes", {"type": "text"}, ["a", 5], object()])
def test_content_that_is_neither_text_nor_a_block_is_refused(content: Any) -> None:
    with pytest.raises(UsageError, match="content is text, blocks or thunks"):
        Message("user", content)


def test_a_thunk_may_stand_in_a_message() -> None:
    thunk: ComputedModelOutputThunk[str] = ComputedModelOutputThunk("x")
    assert user_message("a", thunk).blocks[1] is thunk


def test_dicts_become_messages_and_messages_stay() -> None:
    message = user_message("b")
    assert as_messages([{"role": "system", "content": "a"}, message]) == (system_message("a"), message)
    assert as_messages(iter([message]))[0] is message


def test_the_developer_role_is_the_system_role() -> None:
    assert one({"role": "developer", "content": "a"}) == system_message("a")


def test_parts_of_text_and_images_become_blocks() -> None:
    url = "data:image/gif;base64," + base64.b64encode(b"gif").decode()
    message = one(
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "see"},
                {"type": "image_url", "image_url": {"url": url}},
                {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
                "!",
            ],
        }
    )
    assert message.content == "see!"
    assert message.files == (
        ImageBlock(media_type="image/gif", data=b"gif"),
        ImageBlock(url="https://example.org/a.png"),
    )


def test_a_turn_with_tool_calls_and_no_content_is_taken() -> None:
    function = {"name": "look", "arguments": '{"q": 1}'}
    message = one({"role": "assistant", "content": None, "tool_calls": [{"id": "1", "function": function}]})
    assert message.tool_calls == (ToolCall("1", "look", {"q": 1}, '{"q": 1}'),)


def test_a_tools_answer_is_taken() -> None:
    message = one({"role": "tool", "tool_call_id": "1", "name": "look", "content": "found"})
    assert message.blocks == (ToolOutput("1", "look", "found"),)


@pytest.mark.parametrize(
    "wrong",
    [
        "hello",
        {"content": "no role"},
        {"role": "user", "contents": "misspelt"},
        {"role": "user", "content": 5},
        {"role": "user", "content": [{"type": "video"}]},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,%%%"}}]},
        {"role": "assistant", "tool_calls": [{"id": "1"}]},
        {"role": "assistant", "tool_calls": [{"id": 1, "function": {"name": "x", "arguments": "{}"}}]},
        {"role": None, "content": "x"},
        ["user", "x"],
        None,
    ],
)
def test_what_is_no_message_is_refused(wrong: Any) -> None:
    with pytest.raises(UsageError):
        as_messages([wrong])


@pytest.mark.parametrize("wrong", ["hello", {"role": "user", "content": "x"}, None, 5])
def test_one_message_alone_isnt_a_list_of_messages(wrong: Any) -> None:
    with pytest.raises(UsageError, match="list"):
        as_messages(wrong)


def test_a_dict_isnt_mutated() -> None:
    given = {"role": "user", "content": [{"type": "text", "text": "a"}]}
    as_messages([given])
    assert given == {"role": "user", "content": [{"type": "text", "text": "a"}]}


@pytest.mark.parametrize("raw", ["", "  ", "{}"])
def test_no_arguments_at_all_are_an_empty_object(raw: str) -> None:
    call = parse_tool_call("1", "now", raw)
    assert (call.tool_args, call.is_valid, call.raw_args) == ({}, True, raw)


@pytest.mark.parametrize("raw", ["[1]", "{", "5", '"x"', "null", "{'a': 1}", "[" * 100_000])
def test_arguments_that_are_no_object_are_kept_and_marked(raw: str) -> None:
    call = parse_tool_call("1", "look", raw)
    assert (call.tool_args, call.is_valid, call.raw_args) == ({}, False, raw)
