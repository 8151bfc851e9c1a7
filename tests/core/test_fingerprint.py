"""The fingerprint of a request: the same wherever it is taken, and another for whatever decides the answer."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mellea.core.backend import BuiltinTool, OutputSchema, Request, ToolExample, ToolSpec
from mellea.core.blocks import CBlock, FileBlock, ImageBlock, Source, ThinkingBlock, ToolCall, ToolOutput
from mellea.core.messages import Message, parse_tool_call, user_message
from mellea.core.options import Deadlines
from mellea.errors import UsageError

ROOT = Path(__file__).parents[2]

BLOCKS: dict[str, Any] = {
    "text": CBlock("Grüße, \ud83d, 你好"),
    "file": FileBlock("application/pdf", b"%PDF", filename="a.pdf"),
    "address of a file": FileBlock("application/pdf", url="https://a.example/a.pdf"),
    "image": ImageBlock(data=b"\x89PNG"),
    "thinking": ThinkingBlock("hm", "p:sig"),
    "call": ToolCall("c1", "f", {"a": [1, 2.5, None, True]}, '{"a": [1, 2.5, null, true]}'),
    "broken call": parse_tool_call("c1", "f", "[oh"),
    "builtin call": ToolCall("c1", "f", {}, is_builtin=True),
    "result": ToolOutput("c1", "f", {"b": [1]}),
    "failed result": ToolOutput("c1", "f", "no", is_error=True),
    "result with a file": ToolOutput("c1", "f", ["see", ImageBlock(data=b"\x89PNG")]),
    "source": Source("https://a.example", "A", "says"),
}

FULL = Request(
    tuple(Message("user", [block]) for block in BLOCKS.values()),
    tools=(
        ToolSpec("f", "does", {"type": "object", "properties": {"x": {}, "y": {}}}),
        BuiltinTool("p", "s", {"n": 1}),
    ),
    output_schema=OutputSchema("out", {"type": "integer", "maximum": 3.0}),
    options={"temperature": 0.7, "stop": ["a", "b"], "seed": 1, "extra_body": {"deep": {"x": [1, {"y": 2}]}}},
)

KNOWN = "60ccdff05da676c5e780fe3c6a3ea8028d7766c36b247504e9ca9e9050f99c34"


def text(value: str = "hi", **changes: Any) -> Request:
    return replace(Request((user_message(value),)), **changes)


def test_it_is_what_it_always_was() -> None:
    """Written down: whoever stored answers finds them with the next version, on every Python."""
    assert FULL.fingerprint("p", "m") == KNOWN
    assert text().fingerprint() == "ab20d1922e6f4c3f05fa43f42a9440a1768dbe5ae9fe3d0256d24bae6496adad"


def test_it_is_the_same_in_another_process() -> None:
    code = "from tests.core.test_fingerprint import FULL; print(FULL.fingerprint('p', 'm'))"
    for seed in ("0", "1"):
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            timeout=60,
            cwd=ROOT,
            env={"PYTHONHASHSEED": seed},
        )
        assert done.stdout.strip() == KNOWN, done.stderr


def test_every_kind_of_block_counts() -> None:
    found = {Request((Message("user", [block]),)).fingerprint() for block in BLOCKS.values()}
    assert len(found) == len(BLOCKS)


CHANGES: dict[str, Any] = {
    "role": {"messages": (Message("assistant", "hi"),)},
    "text": {"messages": (user_message("ho"),)},
    "blocks": {"messages": (user_message("h", "i"),)},
    "messages": {"messages": (user_message("h"), user_message("i"))},
    "tool": {"tools": (ToolSpec("f", "d", {}),)},
    "another tool": {"tools": (ToolSpec("f", "e", {}),)},
    "example": {"tools": (ToolSpec("f", "d", {}, (ToolExample("x", {"y": 1}),)),)},
    "parameters": {"tools": (ToolSpec("f", "d", {"type": "object"}),)},
    "builtin tool": {"tools": (BuiltinTool("p", "f", {}),)},
    "its settings": {"tools": (BuiltinTool("p", "f", {"n": 1}),)},
    "schema": {"output_schema": OutputSchema("a", {})},
    "another schema": {"output_schema": OutputSchema("a", {"type": "object"})},
    "temperature": {"options": {"temperature": 0}},
    "seed": {"options": {"seed": 0}},
    "stop": {"options": {"stop": ["x"]}},
    "body": {"options": {"extra_body": {"x": 1}}},
    "true": {"options": {"thinking": True}},
    "one": {"options": {"thinking": 1}},
    "file": {"messages": (user_message(FileBlock("text/plain", b"x")),)},
    "its bytes": {"messages": (user_message(FileBlock("text/plain", b"y")),)},
    "its kind": {"messages": (user_message(FileBlock("text/html", b"y")),)},
    "its name": {"messages": (user_message(FileBlock("text/html", b"y", filename="y")),)},
}


def test_whatever_decides_the_answer_counts() -> None:
    found = [text(**change).fingerprint() for change in CHANGES.values()]
    found += [text().fingerprint(), text().fingerprint("p"), text().fingerprint("p", "m"), text().fingerprint("", "m")]
    assert len(set(found)) == len(found)


SAME: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "deadlines": ({}, {"deadlines": Deadlines(total=1.0)}),
    "streamed": ({}, {"options": {"stream": False}}),
    "headers": ({}, {"options": {"extra_headers": {"x-api-key": "a"}}}),
    "keys in the body": (
        {"options": {"extra_body": {"api_key": "a"}}},
        {"options": {"extra_body": {"api_key": "b"}}},
    ),
    "keys in a tool": (
        {"tools": (BuiltinTool("p", "f", {"authorization_token": "a"}),)},
        {"tools": (BuiltinTool("p", "f", {"authorization_token": "b"}),)},
    ),
    "cache marks": ({}, {"messages": (user_message(CBlock("hi", cache=True)),)}),
    "0 and 0.0": ({"options": {"temperature": 0}}, {"options": {"temperature": 0.0}}),
    "a stop and a list of it": ({"options": {"stop": "x"}}, {"options": {"stop": ("x",)}}),
    "order of options": ({"options": {"seed": 1, "top_p": 1}}, {"options": {"top_p": 1, "seed": 1}}),
    "order in a schema": (
        {"output_schema": OutputSchema("a", {"x": 1, "y": [{"a": 1, "b": 2}]})},
        {"output_schema": OutputSchema("a", {"y": [{"b": 2, "a": 1}], "x": 1})},
    ),
    "names of a media type": (
        {"messages": (user_message(ImageBlock(media_type="image/jpg", data=b"x")),)},
        {"messages": (user_message(ImageBlock(media_type="image/JPEG", data=b"x")),)},
    ),
    "sets": (
        {"options": {"extra_body": {"x": {"a", "b", "c"}}}},
        {"options": {"extra_body": {"x": {"c", "b", "a"}}}},
    ),
}


@pytest.mark.parametrize("case", SAME)
def test_what_does_not_decide_the_answer_does_not_count(case: str) -> None:
    one, other = SAME[case]
    assert text(**one).fingerprint() == text(**other).fingerprint()


def test_what_has_no_form_is_refused() -> None:
    with pytest.raises(UsageError, match="a value of type 'object', which has no JSON form"):
        text(options={"extra_body": {"x": object()}}).fingerprint()
