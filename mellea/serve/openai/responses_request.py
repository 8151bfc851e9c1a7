"""Reads a request for a response: items, instructions, the client's tools, options, and the format of the answer.

Source: OpenAI's API reference, "Create a model response", and the types of the package `openai` 3.57 (2026-11).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mellea.core.backend import ToolSpec
from mellea.core.blocks import Block, CBlock, FileBlock, ImageBlock, ToolOutput
from mellea.core.messages import Message, parse_tool_call
from mellea.core.options import ModelOption
from mellea.serve.openai.chat_request import read_data_url, read_options
from mellea.serve.openai.failures import ApiError
from mellea.serve.openai.fields import Fields
from mellea.serve.served_request import ServedRequest

__all__ = ["ResponseRequest", "read_response_request"]

_MOST_ITEMS = 10_000
_LARGEST_METADATA = 16


@dataclass(frozen=True, slots=True)
class ResponseRequest:
    """A request for a response.

    Args:
        model: the model's id.
        messages: the new messages, without instructions.
        instructions: the system prompt of this request.
        asked: the rest of the request to the model.
        previous: the response that it continues.
        is_stream: whether the answer is streamed.
        is_stored: whether later requests may continue it.
        echo: fields that the response repeats.
    """

    model: str
    messages: tuple[Message, ...]
    instructions: str | None
    asked: ServedRequest
    previous: str | None
    is_stream: bool
    is_stored: bool
    echo: Mapping[str, Any]


def read_response_request(body: Any) -> ResponseRequest:
    """Read the body of a request.

    Raises:
        ApiError: something in it is wrong.
    """
    fields = Fields(body)
    # Rejected rather than ignored: a client that gets an answer would assume that they were applied.
    for name in ("background", "conversation", "prompt"):
        if fields.data.get(name):
            raise ApiError(400, f"this server doesn't have {name}", param=name, code="unsupported")
    messages = _read_input(fields)
    instructions = fields.get("instructions", str)
    options = read_options(fields, _OPTIONS)
    reasoning = fields.inner("reasoning")
    if reasoning is not None and (effort := reasoning.get("effort", str)) is not None:
        options[str(ModelOption.THINKING)] = False if effort == "none" else effort
    # OpenAI stores by default, and clients rely on that to continue a response.
    stored = fields.get("store", bool)
    return ResponseRequest(
        model=fields.need("model", str),
        messages=messages,
        instructions=instructions,
        asked=ServedRequest((), options, _read_tools(fields), _read_schema(fields)),
        previous=fields.get("previous_response_id", str),
        is_stream=bool(fields.get("stream", bool)),
        is_stored=True if stored is None else stored,
        echo=_read_echo(fields),
    )


_OPTIONS = {
    "temperature": (ModelOption.TEMPERATURE, lambda fields, name: fields.number(name)),
    "top_p": (ModelOption.TOP_P, lambda fields, name: fields.number(name)),
    "max_output_tokens": (ModelOption.MAX_NEW_TOKENS, lambda fields, name: fields.get(name, int)),
}


def _read_echo(fields: Fields) -> dict[str, Any]:
    metadata = fields.get("metadata", dict) or {}
    if len(metadata) > _LARGEST_METADATA:
        raise fields.refuse("metadata", f"an object of at most {_LARGEST_METADATA} fields")
    text = fields.get("text", dict) or {}
    # Clients' types need these fields in each response, whether or not the request had them.
    return {
        "instructions": fields.get("instructions", str),
        "max_output_tokens": fields.get("max_output_tokens", int),
        "metadata": metadata,
        "parallel_tool_calls": True,
        "previous_response_id": fields.get("previous_response_id", str),
        "reasoning": fields.get("reasoning", dict) or {"effort": None, "summary": None},
        "temperature": fields.number("temperature"),
        "text": {"format": {"type": "text"}, **text},
        "tool_choice": fields.data.get("tool_choice") or "auto",
        "tools": fields.get("tools", list) or [],
        "top_p": fields.number("top_p"),
        "truncation": "disabled",
    }


def _read_input(fields: Fields) -> tuple[Message, ...]:
    given = fields.data.get("input")
    if isinstance(given, str):
        return (Message("user", given),)
    if not isinstance(given, list):
        raise fields.refuse("input", "a string or an array of items")
    if not 0 < len(given) <= _MOST_ITEMS:
        raise ApiError(400, f"input takes 1 to {_MOST_ITEMS} items, not {len(given)}", param="input")
    messages: list[Message] = []
    for item in fields.objects("input"):
        message = _read_item(item)
        if message is None:
            continue
        if messages and message.role == messages[-1].role == "assistant":  # text and calls of one answer
            messages[-1] = Message("assistant", (*messages[-1].blocks, *message.blocks))
        else:
            messages.append(message)
    return tuple(messages)


def _read_item(item: Fields) -> Message | None:
    # An item without a type is a message; the SDK's shortest form leaves it out.
    match item.get("type", str) or "message":
        case "message":
            return _read_message(item)
        case "function_call":
            raw = item.get("arguments", str) or ""
            return Message("assistant", parse_tool_call(item.need("call_id", str), item.need("name", str), raw))
        case "function_call_output":
            # Only the call's id is sent back; the name of the tool is in the call itself.
            return Message("tool", ToolOutput(item.need("call_id", str), "", _read_output(item)))
        case "reasoning":  # an earlier answer's; no other model could continue from it
            return None
    raise item.refuse("type", "message, function_call, function_call_output or reasoning")


def _read_message(item: Fields) -> Message:
    role = item.need("role", str)
    role = "system" if role == "developer" else role
    if role not in ("system", "user", "assistant"):
        raise item.refuse("role", "developer, system, user or assistant")
    content = item.data.get("content")
    if isinstance(content, str):
        return Message(role, content)
    if not isinstance(content, list):
        raise item.refuse("content", "a string or an array of parts")
    return Message(role, [_read_part(part) for part in item.objects("content")])


def _read_output(item: Fields) -> Any:
    output = item.data.get("output")
    if isinstance(output, str):
        return output
    if not isinstance(output, list):
        raise item.refuse("output", "a string or an array of parts")
    return [_read_part(part) for part in item.objects("output")]


def _read_part(part: Fields) -> Block:
    match part.need("type", str):
        case "input_text" | "output_text" | "text":
            return CBlock(part.need("text", str))
        case "refusal":
            return CBlock(part.need("refusal", str))
        case "input_image":
            return _read_image(part)
        case "input_file":
            return _read_file(part)
    raise part.refuse("type", "input_text, output_text, input_image or input_file")


def _read_image(part: Fields) -> ImageBlock:
    url = part.need("image_url", str)
    if url.startswith(("https://", "http://")):
        return ImageBlock(url=url)  # the model's provider fetches it, not this server
    media_type, data = read_data_url(url, part.place("image_url"))
    return ImageBlock(media_type=media_type, data=data)


def _read_file(part: Fields) -> FileBlock:
    media_type, data = read_data_url(part.need("file_data", str), part.place("file_data"))
    return FileBlock(media_type=media_type, data=data, filename=part.get("filename", str))


def _read_tools(fields: Fields) -> tuple[ToolSpec, ...]:
    specs: list[ToolSpec] = []
    for tool in fields.objects("tools"):
        if tool.need("type", str) != "function":
            raise tool.refuse("type", "function; this server runs no tools itself", code="unsupported")
        schema = tool.get("parameters", dict) or {"type": "object", "properties": {}}
        specs.append(ToolSpec(tool.need("name", str), tool.get("description", str) or "", schema))
    return tuple(specs)


def _read_schema(fields: Fields) -> Mapping[str, Any] | None:
    text = fields.inner("text")
    form = None if text is None else text.inner("format")
    if form is None:
        return None
    match form.need("type", str):
        case "text":
            return None
        case "json_object":
            return {"type": "object"}
        case "json_schema":
            return form.need("schema", dict)
    raise form.refuse("type", "text, json_object or json_schema")
