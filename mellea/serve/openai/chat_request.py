"""Reads a request for a chat completion: messages, the client's tools, options, and the format of the answer.

Source: OpenAI's API reference, "Create chat completion", and the types of the package `openai` 3.57 (2026-11).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mellea.core.backend import ToolSpec
from mellea.core.blocks import Block, CBlock, FileBlock, ImageBlock, ToolOutput
from mellea.core.messages import Message, parse_tool_call
from mellea.core.options import ModelOption, check_options
from mellea.errors import UsageError
from mellea.serve.openai.failures import ApiError
from mellea.serve.openai.fields import Fields
from mellea.serve.served_request import ServedRequest

__all__ = ["CompletionRequest", "read_chat_request", "read_data_url", "read_options", "read_tool_choice"]

_MOST_CHOICES = 8
_MOST_MESSAGES = 10_000

_NO_FETCH = "this server fetches no URLs; send the bytes as a data: URL"


@dataclass(frozen=True, slots=True)
class CompletionRequest:
    """A request for a chat completion.

    Args:
        model: the model's id.
        asked: the request to the model.
        choices: how many answers are requested.
        is_stream: whether they are streamed.
        has_usage: whether a stream ends with the usage.
    """

    model: str
    asked: ServedRequest
    choices: int
    is_stream: bool
    has_usage: bool


def read_chat_request(body: Any) -> CompletionRequest:
    """Read the body of a request.

    Raises:
        ApiError: something in it is wrong.
    """
    fields = Fields(body)
    messages = tuple(_read_message(each) for each in fields.objects("messages"))
    if not 0 < len(messages) <= _MOST_MESSAGES:
        raise ApiError(400, f"messages takes 1 to {_MOST_MESSAGES} messages, not {len(messages)}", param="messages")
    choices = fields.get("n", int)
    # Each choice is a separate request to the model, so a client could multiply its cost by any number.
    if choices is not None and not 0 < choices <= _MOST_CHOICES:
        raise fields.refuse("n", f"an integer from 1 to {_MOST_CHOICES}")
    usage = fields.inner("stream_options")
    return CompletionRequest(
        model=fields.need("model", str),
        asked=ServedRequest(messages, read_options(fields, _OPTIONS), _read_tools(fields), _read_schema(fields)),
        choices=choices or 1,
        is_stream=bool(fields.get("stream", bool)),
        has_usage=bool(usage is not None and usage.get("include_usage", bool)),
    )


def _read_message(fields: Fields) -> Message:
    role = fields.need("role", str)
    if role == "tool":
        output = ToolOutput(fields.need("tool_call_id", str), fields.get("name", str) or "", _read_text(fields))
        return Message("tool", output)
    # Newer models of OpenAI have "developer" in place of "system"; clients send either.
    role = "system" if role == "developer" else role
    if role not in ("system", "user", "assistant"):
        raise fields.refuse("role", "developer, system, user, assistant or tool")
    blocks: list[Any] = _read_content(fields)
    for call in fields.objects("tool_calls"):
        function = call.inner("function")
        if function is None:
            raise call.refuse("function", "an object")
        # Some clients send no arguments for a function that takes none.
        raw = function.get("arguments", str) or ""
        blocks.append(parse_tool_call(call.need("id", str), function.need("name", str), raw))
    # A refusal belongs to the conversation like any other answer.
    if refusal := fields.get("refusal", str):
        blocks.append(CBlock(refusal))
    return Message(role, blocks)


def _read_text(fields: Fields) -> str:
    content = fields.data.get("content")
    if content is None or isinstance(content, str):
        return content or ""
    # OpenAI's tool messages contain only text parts.
    return "".join(block.value for block in _read_content(fields) if isinstance(block, CBlock))


def _read_content(fields: Fields) -> list[Block]:
    content = fields.data.get("content")
    if content is None or isinstance(content, str):
        return [CBlock(content)] if content else []
    if not isinstance(content, list):
        raise fields.refuse("content", "a string or an array of parts")
    return [_read_part(part) for part in fields.objects("content")]


def _read_part(part: Fields) -> Block:
    match part.need("type", str):
        case "text":
            return CBlock(part.need("text", str))
        case "refusal":
            return CBlock(part.need("refusal", str))
        case "image_url":
            return _read_image(part)
        case "input_audio":
            return _read_audio(part)
        case "file":
            return _read_file(part)
    raise part.refuse("type", "text, refusal, image_url, input_audio or file")


def _read_inner(part: Fields, name: str) -> Fields:
    inner = part.inner(name)
    if inner is None:
        raise part.refuse(name, "an object")
    return inner


def _read_image(part: Fields) -> ImageBlock:
    inner = _read_inner(part, "image_url")
    url = inner.need("url", str)
    if url.startswith(("https://", "http://")):
        return ImageBlock(url=url)  # the model's provider fetches it, not this server
    media_type, data = read_data_url(url, inner.place("url"))
    return ImageBlock(media_type=media_type, data=data)


def _read_audio(part: Fields) -> FileBlock:
    inner = _read_inner(part, "input_audio")
    data = _decode(inner.need("data", str), inner.place("data"))
    return FileBlock(media_type=f"audio/{inner.need('format', str)}", data=data)


def _read_file(part: Fields) -> FileBlock:
    inner = _read_inner(part, "file")
    if inner.get("file_id", str) is not None:
        raise ApiError(400, "this server keeps no files; send file_data", param=inner.place("file_id"))
    media_type, data = read_data_url(inner.need("file_data", str), inner.place("file_data"))
    return FileBlock(media_type=media_type, data=data, filename=inner.get("filename", str))


def read_data_url(url: str, place: str) -> tuple[str, bytes]:
    """Return the media type and the bytes of a `data:` URL.

    Args:
        url: the URL.
        place: where it is in the request.

    Raises:
        ApiError: it is another URL, or damaged.
    """
    head, comma, data = url.partition(",")
    # Only base64: the length of a percent-encoded data: URL is unknown before decoding.
    if not comma or not head.startswith("data:") or not head.endswith(";base64"):
        raise ApiError(400, f"{place} has to be a data: URL in base64; {_NO_FETCH}", param=place)
    return head.removeprefix("data:").removesuffix(";base64"), _decode(data, place)


def _decode(data: str, place: str) -> bytes:
    try:
        # `validate`, since Python otherwise drops invalid characters, and a damaged file would reach the model.
        return base64.b64decode(data, validate=True)
    except binascii.Error as error:
        raise ApiError(400, f"{place} is not valid base64: {error}", param=place) from None


# -- options ------------------------------------------------------------------------------------------

Read = Callable[[Fields, str], Any]


def _read_number(fields: Fields, name: str) -> Any:
    return fields.number(name)


def _read_integer(fields: Fields, name: str) -> Any:
    return fields.get(name, int)


def _stop(fields: Fields, name: str) -> Any:
    value = fields.data.get(name)
    return [value] if isinstance(value, str) else fields.get(name, list)


def _read_effort(fields: Fields, name: str) -> Any:
    value = fields.get(name, str)
    # "none" turns thinking off; the provider checks every other level.
    return False if value == "none" else value


_OPTIONS: Mapping[str, tuple[str, Read]] = {
    "temperature": (ModelOption.TEMPERATURE, _read_number),
    "top_p": (ModelOption.TOP_P, _read_number),
    # The old and the new name; if both are sent, the later in this table wins.
    "max_tokens": (ModelOption.MAX_NEW_TOKENS, _read_integer),
    "max_completion_tokens": (ModelOption.MAX_NEW_TOKENS, _read_integer),
    "seed": (ModelOption.SEED, _read_integer),
    "stop": (ModelOption.STOP_SEQUENCES, _stop),
    "frequency_penalty": (ModelOption.FREQUENCY_PENALTY, _read_number),
    "presence_penalty": (ModelOption.PRESENCE_PENALTY, _read_number),
    "reasoning_effort": (ModelOption.THINKING, _read_effort),
    "top_k": (ModelOption.TOP_K, _read_integer),  # not OpenAI's, but accepted by vLLM and others
    "min_p": (ModelOption.MIN_P, _read_number),
}


def read_options(fields: Fields, table: Mapping[str, tuple[str, Read]]) -> dict[str, Any]:
    """Return the model options of a request.

    Args:
        fields: the request.
        table: the option for each of its fields, and how to read it.

    Raises:
        ApiError: one of them is wrong.
    """
    found: dict[str, Any] = {}
    for name, (option, read) in table.items():
        value = read(fields, name)
        if value is None or value == []:
            continue
        try:
            # One option at a time, so that the error can name the field of the request.
            check_options({option: value})
        except UsageError as error:
            raise ApiError(400, str(error), param=fields.place(name)) from None
        found[str(option)] = value
    choice = read_tool_choice(fields)
    if choice is not None:
        found[str(ModelOption.TOOL_CHOICE)] = choice
    return found


def read_tool_choice(fields: Fields) -> Any:
    """Return which tools have to be called, for the option `tool_choice`, from either format.

    Raises:
        ApiError: it is something else.
    """
    # Chat completions nest the function's name, responses don't; both forms are accepted for either.
    value = fields.data.get("tool_choice")
    if value is None or value in ("auto", "none", "required"):
        return value
    match value:
        case {"type": "function", "function": {"name": str(name)}} | {"type": "function", "name": str(name)}:
            return name
        case {"type": "allowed_tools", "allowed_tools": {"tools": list(tools)}} | {
            "type": "allowed_tools",
            "tools": list(tools),
        }:
            names = [_read_tool_name(tool) for tool in tools]
            if names and None not in names:
                return names
    raise fields.refuse("tool_choice", "auto, none, required, or an object that names a function")


def _read_tool_name(tool: Any) -> str | None:
    match tool:
        case {"name": str(name)} | {"function": {"name": str(name)}}:
            return name
    return None


def _read_tools(fields: Fields) -> tuple[ToolSpec, ...]:
    specs: list[ToolSpec] = []
    for tool in fields.objects("tools"):
        if tool.need("type", str) != "function":
            raise tool.refuse("type", "function; this server runs no tools itself")
        function = _read_inner(tool, "function")
        specs.append(
            ToolSpec(
                function.need("name", str),
                function.get("description", str) or "",
                function.get("parameters", dict) or {"type": "object", "properties": {}},
            )
        )
    return tuple(specs)


def _read_schema(fields: Fields) -> Mapping[str, Any] | None:
    form = fields.inner("response_format")
    if form is None:
        return None
    match form.need("type", str):
        case "text":
            return None
        # OpenAI's "JSON mode" promises an object and nothing else.
        case "json_object":
            return {"type": "object"}
        case "json_schema":
            return _read_inner(form, "json_schema").need("schema", dict)
    raise form.refuse("type", "text, json_object or json_schema")
