"""Encodes a `Request` as the payload of a chat completion, in the dialect of a service."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from mellea.backends.http.call_ids import ANY_ID, IdShape, fit_ids
from mellea.backends.openai.chat.wire import JsonObject
from mellea.backends.openai.content import (
    as_url,
    find_filename,
    make_unsupported_error,
    signed_by,
    write_arguments,
    write_result,
)
from mellea.backends.openai.services import OPENAI, Service
from mellea.backends.openai.thinking import encode_thinking
from mellea.core.backend import BuiltinTool, OutputSchema, Request, ToolSpec
from mellea.core.blocks import CBlock, FileBlock, ImageBlock, ThinkingBlock, ToolOutput
from mellea.core.messages import Message, has_calls
from mellea.core.options import ModelOption

__all__ = ["encode"]

_LETTERS = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_IDS = {
    "openai": IdShape(re.compile(r"[\x21-\x7e]{1,40}")),
    "azure": IdShape(re.compile(r"[\x21-\x7e]{1,40}")),
    "mistral": IdShape(re.compile(r"[a-zA-Z0-9]{9}"), 9, _LETTERS),
}
"""The call ids that a service accepts: OpenAI 40 characters, Mistral nine letters and digits (2026-10)."""

_SOUNDS = {"audio/mpeg": "mp3", "audio/mp3": "mp3", "audio/wav": "wav", "audio/x-wav": "wav", "audio/wave": "wav"}


def encode(request: Request, model_id: str, service: Service = OPENAI) -> dict[str, Any]:
    """Return the payload.

    Raises:
        UnsupportedError: the format can't express something in the messages or the options.
    """
    options, is_streamed = request.options, request.options.get(ModelOption.STREAM, True)
    if request.output_schema is not None:
        request = _add_prompt(request, request.output_schema, service)
    payload: JsonObject = {"model": model_id, "messages": _encode_messages(request.messages, service)}
    payload["stream"] = bool(is_streamed)
    if is_streamed and service.has_stream_options:
        # Without it a stream has no usage; services that don't know the field reject it.
        payload["stream_options"] = {"include_usage": True}
    for option, name in service.options.items():
        if option in options:
            payload[name] = options[option]
    if "stop" in payload and not isinstance(payload["stop"], str):
        payload["stop"] = list(payload["stop"])
    if ModelOption.THINKING in options:
        payload |= encode_thinking(service, model_id, options[ModelOption.THINKING])
    if request.tools:
        payload["tools"] = [_encode_tool(tool) for tool in request.tools]
        if ModelOption.TOOL_CHOICE in options:
            payload["tool_choice"] = _encode_tool_choice(options[ModelOption.TOOL_CHOICE])
    if request.output_schema is not None:
        payload["response_format"] = _encode_format(request.output_schema, service)
    return payload


def _encode_format(schema: OutputSchema, service: Service) -> JsonObject:
    if service.structured_output != "native":
        return {"type": "json_object"}
    from mellea.backends.openai.schema import make_schema_name, make_sent_schema  # lazy: text needs no schema

    strict = make_sent_schema(schema.schema, service.holding)
    held = {"name": make_schema_name(schema.name), "schema": strict.schema, "strict": strict.is_strict}
    return {"type": "json_schema", "json_schema": held}


def _add_prompt(request: Request, schema: OutputSchema, service: Service) -> Request:
    if service.structured_output == "native":
        return request
    from mellea.backends.openai.schema import make_sent_schema  # lazy: text needs no schema
    from mellea.core.structured.prompting import prompt_for_schema  # lazy: text needs no schema

    # A service with only a JSON mode needs the schema, and the word JSON, in the prompt.
    return prompt_for_schema(request, make_sent_schema(schema.schema, "whole").schema)


def _encode_tool(tool: ToolSpec | BuiltinTool) -> JsonObject:
    if isinstance(tool, BuiltinTool):
        return dict(tool.config)
    function = {"name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)}
    return {"type": "function", "function": function}


def _encode_tool_choice(choice: str) -> Any:
    return choice if choice in ("auto", "required", "none") else {"type": "function", "function": {"name": choice}}


def _encode_messages(messages: Sequence[Message], service: Service) -> list[JsonObject]:
    if has_calls(messages):
        messages = fit_ids(messages, _IDS.get(service.name, ANY_ID))
    encoded: list[JsonObject] = []
    shown: list[JsonObject] = []  # files of tool results, which have to follow the results as one block
    for message in messages:
        has_outputs, files = False, list[JsonObject]()
        for block in message.blocks:
            if isinstance(block, ToolOutput) and not block.is_builtin:
                has_outputs = True
                encoded.append(_encode_output(block))
                files += _encode_files(block)
        # Only after all results of a turn: nothing else may be between them.
        if shown and not has_outputs:
            encoded.append({"role": "user", "content": shown})
            shown = []
        shown += files
        if message.role == "assistant":
            encoded.append(_encode_assistant(message, service))
        elif message.role != "tool":
            encoded.append({"role": message.role, "content": _encode_content(message, service)})
    return [*encoded, *([{"role": "user", "content": shown}] if shown else [])]


def _encode_output(output: ToolOutput) -> JsonObject:
    content = write_result(output) or ("(see the next message)" if output.files else "")
    return {"role": "tool", "tool_call_id": output.tool_call_id, "content": content}


def _encode_files(output: ToolOutput) -> list[JsonObject]:
    """Return the user message parts that hold a tool result's files: results are text only in this format."""
    if not output.files:
        return []
    name = output.tool_name or output.tool_call_id
    return [
        {"type": "text", "text": f"What the tool {name!r} gave back:"},
        *(_encode_part(file, marks=False) for file in output.files),
    ]


def _encode_assistant(message: Message, service: Service) -> JsonObject:
    encoded: JsonObject = {"role": "assistant", "content": message.content}
    calls = [
        {
            "id": call.tool_call_id,
            "type": "function",
            "function": {"name": call.tool_name, "arguments": write_arguments(call)},
        }
        for call in message.tool_calls
    ]
    # Some services reject an empty list.
    if calls:
        encoded["tool_calls"] = calls
        if service.thinking_back:  # even if it is empty: without the field the turn is rejected
            encoded[service.thinking_back] = message.thinking
    if details := _encode_details(message, service):
        encoded["reasoning_details"] = details
    if message.files:
        encoded["images"] = _encode_images_back(message, service)
    return encoded


def _encode_details(message: Message, service: Service) -> list[Any]:
    found: list[Any] = []
    for block in message.blocks:
        if isinstance(block, ThinkingBlock):
            details = signed_by(service.name, block.signature)
            found += details if isinstance(details, list) else []
    return found


def _encode_images_back(message: Message, service: Service) -> list[JsonObject]:
    # Gateways with a `reasoning` field accept the images that their models have generated.
    if service.thinking != "reasoning" or not all(isinstance(block, ImageBlock) for block in message.files):
        raise make_unsupported_error(
            "chat completions can't hold a file in an assistant's message", "put it into a user's message"
        )
    return [{"type": "image_url", "image_url": {"url": as_url(block)}} for block in message.files]


_TEXTS = frozenset({CBlock})


def _encode_content(message: Message, service: Service) -> str | list[JsonObject]:
    marks = service.has_cache_marks
    # The usual case, and every service understands a plain string.
    if not marks and _TEXTS.issuperset(map(type, message.blocks)):
        return message.content
    blocks = [block for block in message.blocks if isinstance(block, (CBlock, FileBlock))]
    if all(isinstance(block, CBlock) and not (marks and block.cache) for block in blocks):
        return message.content
    return [_encode_part(block, marks=marks) for block in blocks]


def _encode_part(block: CBlock | FileBlock, *, marks: bool) -> JsonObject:
    if isinstance(block, CBlock):
        part: JsonObject = {"type": "text", "text": block.value}
        return part | {"cache_control": {"type": "ephemeral"}} if marks and block.cache else part
    if isinstance(block, ImageBlock) or block.essence.startswith("image/"):
        return {"type": "image_url", "image_url": {"url": as_url(block)}}
    if block.data is None:
        raise make_unsupported_error(
            f"chat completions don't fetch files, such as {block.url!r}", "give its data instead"
        )
    if block.essence in _SOUNDS:
        return {"type": "input_audio", "input_audio": {"data": block.base64(), "format": _SOUNDS[block.essence]}}
    return {"type": "file", "file": {"filename": find_filename(block), "file_data": as_url(block)}}
