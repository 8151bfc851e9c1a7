"""`Request.change_texts`: every text that is sent, and nothing else."""

from __future__ import annotations

from mellea.core import CBlock, FileBlock, ImageBlock, Message, Request, ThinkingBlock, ToolCall, ToolOutput
from mellea.core.messages import parse_tool_call


def change(*blocks: object, role: str = "user") -> tuple[object, ...]:
    request = Request((Message(role, list(blocks)),), options={"seed": 1})
    changed = request.change_texts(lambda text: text.replace("ä", "ae"))
    assert changed.options == request.options and changed.messages[0].role == role
    assert request.messages[0].blocks == blocks, "the request itself stays"
    return changed.messages[0].blocks


def test_each_kind_of_block_has_its_texts_changed_and_keeps_the_rest() -> None:
    image = ImageBlock(data="ä".encode())
    assert change(CBlock("ä", cache=True), image) == (CBlock("ae", cache=True), image)
    assert change(ThinkingBlock("ä"), ThinkingBlock("ä", "by somebody")) == (
        ThinkingBlock("ae"),
        ThinkingBlock("ä", "by somebody"),
    )
    assert change(FileBlock("text/plain", b"\xe4", filename="ä.txt")) == (
        FileBlock("text/plain", b"\xe4", filename="ae.txt"),
    )
    pictures = ToolOutput("1", "look", ["ä", CBlock("ä"), image, 3], is_error=True)
    assert change(pictures) == (ToolOutput("1", "look", ["ae", CBlock("ae"), image, 3], is_error=True),)


def test_arguments_are_changed_where_they_are_escaped_too_and_what_the_model_wrote_agrees() -> None:
    call = parse_tool_call("1", "look", '{"at": "\\u00e4", "deep": [{"ä": "ä"}]}')
    (changed,) = change(call, role="assistant")
    assert isinstance(changed, ToolCall)
    assert changed == parse_tool_call("1", "look", '{"at": "ae", "deep": [{"ä": "ae"}]}')
    broken = parse_tool_call("1", "look", '{"at": "ä')
    assert change(broken, role="assistant") == (parse_tool_call("1", "look", '{"at": "ae'),)
    empty = ToolCall("1", "look", {"at": "ä"})
    assert change(empty, role="assistant") == (ToolCall("1", "look", {"at": "ae"}),)
