"""Encodes a `Request` as the payload of a response.

Nothing is stored at the provider (`store: false`): each request has the whole conversation, with encrypted
reasoning and the items of the tools that the provider ran.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from mellea.backends.http.call_ids import IdShape, fit_ids
from mellea.backends.openai.content import (
    as_url,
    find_filename,
    make_unsupported_error,
    signed_by,
    write_arguments,
    write_result,
)
from mellea.backends.openai.responses.wire import JsonObject
from mellea.backends.openai.schema import make_schema_name, make_sent_schema
from mellea.backends.openai.services import OPENAI, Service
from mellea.backends.openai.thinking import find_effort, is_reasoning_model
from mellea.core.backend import BuiltinTool, Request, ToolSpec
from mellea.core.blocks import CBlock, FileBlock, ImageBlock, ThinkingBlock, ToolCall, ToolOutput
from mellea.core.messages import Message, has_calls
from mellea.core.options import ModelOption

__all__ = ["OPTIONS", "encode"]

_CALL_ID = IdShape(re.compile(r"[\x21-\x7e]{1,64}"))

OPTIONS = {
    str(ModelOption.TEMPERATURE): "temperature",
    str(ModelOption.MAX_NEW_TOKENS): "max_output_tokens",
    str(ModelOption.TOP_P): "top_p",
}
"""The model options that are passed on as they are, and the format's names for them."""

_RESULTS = {
    "web_search": "web_search_call.action.sources",
    "file_search": "file_search_call.results",
    "code_interpreter": "code_interpreter_call.outputs",
}
"""What requests a tool's results, which otherwise stay at the provider."""


def encode(request: Request, model_id: str, service: Service = OPENAI) -> dict[str, Any]:
    """Return the body of a request to the Responses API, as a dict.

    Raises:
        UnsupportedError: the wire format can't express something in the messages or the options.
    """
    options = request.options
    # Not stored: each request has the whole conversation, so reasoning is requested encrypted.
    payload: JsonObject = {"model": model_id, "input": _encode_items(request.messages, service.name), "store": False}
    payload["stream"] = bool(options.get(ModelOption.STREAM, True))
    for option, name in OPTIONS.items():
        if option in options:
            payload[name] = options[option]
    if ModelOption.THINKING in options:
        payload["reasoning"] = _encode_reasoning(model_id, options[ModelOption.THINKING])
    if request.tools:
        payload["tools"] = [_encode_tool(tool) for tool in request.tools]
        if ModelOption.TOOL_CHOICE in options:
            payload["tool_choice"] = _encode_tool_choice(options[ModelOption.TOOL_CHOICE], request.tools)
    if include := _list_includes(request, model_id, service):
        payload["include"] = include
    if request.output_schema is not None:
        strict = make_sent_schema(request.output_schema.schema, service.holding)
        name = make_schema_name(request.output_schema.name)
        held = {"type": "json_schema", "name": name, "schema": strict.schema, "strict": strict.is_strict}
        payload["text"] = {"format": held}
    return payload


def _encode_reasoning(model_id: str, thinking: bool | str | int) -> JsonObject:
    effort = find_effort(model_id, thinking)
    # Users who request thinking want to see it; the provider sends a summary, and only on request.
    return {"effort": effort} if thinking in (False, 0, "none") else {"effort": effort, "summary": "auto"}


def _list_includes(request: Request, model_id: str, service: Service) -> list[str]:
    # Local servers don't know the field, and some reject unknown fields.
    if service.is_local:
        return []
    include = ["reasoning.encrypted_content"] if is_reasoning_model(model_id) else []
    names = {tool.name for tool in request.tools if isinstance(tool, BuiltinTool)}
    return include + [wanted for name, wanted in _RESULTS.items() if name in names]


def _encode_tool(tool: ToolSpec | BuiltinTool) -> JsonObject:
    if isinstance(tool, BuiltinTool):
        return dict(tool.config)
    return {
        "type": "function",
        "name": tool.name,
        "description": tool.description,
        "parameters": dict(tool.parameters),
        "strict": False,  # the default here makes every parameter required
    }


def _encode_tool_choice(choice: str, tools: Iterable[ToolSpec | BuiltinTool]) -> Any:
    if choice in ("auto", "required", "none"):
        return choice
    builtin = next((tool for tool in tools if isinstance(tool, BuiltinTool) and tool.name == choice), None)
    return {"type": choice} if builtin is not None else {"type": "function", "name": choice}


def _encode_items(messages: Sequence[Message], backend: str) -> list[JsonObject]:
    if has_calls(messages):
        messages = fit_ids(messages, _CALL_ID)
    items: list[JsonObject] = []
    for message in messages:
        if message.role == "assistant":
            items += _Assistant(message, backend).items()
            continue
        # A result's type depends on its call.
        custom = {item["call_id"] for item in items if item["type"] == "custom_tool_call"}
        outputs = [block for block in message.blocks if isinstance(block, ToolOutput) and not block.is_builtin]
        items += [_encode_output(output, custom) for output in outputs]
        if parts := [_encode_part(block) for block in message.blocks if isinstance(block, (CBlock, FileBlock))]:
            is_text = all(part["type"] == "input_text" for part in parts)
            content = message.content if is_text else parts
            items.append({"type": "message", "role": message.role, "content": content})
    return items


class _Assistant:
    """Writes an assistant's message as its original items, in order."""

    def __init__(self, message: Message, backend: str) -> None:
        self._message = message
        self._backend = backend
        self._items: list[JsonObject] = []
        self._image: JsonObject | None = None  # an image's item, waiting for its image
        self._is_over = False  # the last message; more text starts another one

    def items(self) -> list[JsonObject]:
        for block in self._message.blocks:
            match block:
                case CBlock():
                    self._add_text(block.value)
                case ThinkingBlock():
                    self._add_thought(block)
                case ToolCall(is_builtin=True):
                    self._add_builtin(block)
                case ToolCall():
                    self._call(block)
                case FileBlock():
                    self._add_file(block)
        return self._items

    def _add_text(self, text: str) -> None:
        is_more = bool(self._items) and self._items[-1]["type"] == "message" and not self._is_over
        if not is_more:
            text = text.removeprefix("\n\n") if self._is_over else text  # the decoder's separator
            self._items.append({"type": "message", "role": "assistant", "content": []})
            self._is_over = False
        self._items[-1]["content"].append({"type": "output_text", "text": text, "annotations": []})

    def _add_thought(self, block: ThinkingBlock) -> None:
        kept = signed_by(self._backend, block.signature)
        if isinstance(kept, dict) and kept.get("type") == "message":
            self._end_message(kept)
        elif isinstance(kept, dict):
            summary = [{"type": "summary_text", "text": block.text}] if block.text else []
            self._items.append({"type": "reasoning", "summary": summary, **kept})

    def _end_message(self, kept: JsonObject) -> None:
        """Set the last message's phase, which the provider needs back."""
        if self._items and self._items[-1]["type"] == "message":
            self._items[-1]["phase"] = kept["phase"]
            self._is_over = True

    def _add_builtin(self, call: ToolCall) -> None:
        item = signed_by(self._backend, call.signature)
        if not isinstance(item, dict):
            return  # another provider's
        # Its image is the next block; without it the item would be rejected.
        if item.get("type") == "image_generation_call":
            self._image = item
        else:
            self._items.append(item)

    def _call(self, call: ToolCall) -> None:
        own = {"call_id": call.tool_call_id, "name": call.tool_name}
        kept = signed_by(self._backend, call.signature)
        if isinstance(kept, dict) and kept.get("type") == "custom_tool_call":
            self._items.append({"type": "custom_tool_call", **own, "input": call.raw_args})
        else:
            self._items.append({"type": "function_call", **own, "arguments": write_arguments(call)})

    def _add_file(self, block: FileBlock) -> None:
        if self._image is not None and block.data is not None:
            self._items.append({**self._image, "result": block.base64()})
            self._image = None
        elif block.url is not None and "/containers/" in block.url:
            return  # the code interpreter's own, which stays in its container
        elif not any(isinstance(other, ToolCall) and other.is_builtin for other in self._message.blocks):
            raise make_unsupported_error(
                "the Responses format has no form for a file in an assistant's message",
                "put it into a user's message",
            )


def _encode_output(output: ToolOutput, custom: set[str]) -> JsonObject:
    kind = "custom_tool_call_output" if output.tool_call_id in custom else "function_call_output"
    said: Any = write_result(output)
    if output.files:
        said = [_encode_part(part) for part in output.parts]
    return {"type": kind, "call_id": output.tool_call_id, "output": said}


def _encode_part(block: CBlock | FileBlock) -> JsonObject:
    if isinstance(block, CBlock):
        return {"type": "input_text", "text": block.value}
    if isinstance(block, ImageBlock) or block.essence.startswith("image/"):
        return {"type": "input_image", "image_url": as_url(block), "detail": "auto"}
    if block.essence.startswith("audio/"):
        raise make_unsupported_error("the Responses format takes no sound", "use api='chat'")
    if block.data is None:
        return {"type": "input_file", "file_url": block.url}
    return {"type": "input_file", "filename": find_filename(block), "file_data": as_url(block)}
