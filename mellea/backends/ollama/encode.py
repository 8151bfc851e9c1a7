"""From a `Request` to the body of `/api/chat`."""

from __future__ import annotations

from collections.abc import Mapping

from mellea.backends.http.call_ids import fit_ids
from mellea.backends.http.fields import make_jsonable
from mellea.backends.ollama.schema import write_tool_schema
from mellea.backends.ollama.wire import OPTIONS, PROVIDER, JsonObject
from mellea.core.backend import BuiltinTool, Request, ToolSpec
from mellea.core.blocks import CBlock, FileBlock, ImageBlock, ThinkingBlock, ToolCall, ToolOutput
from mellea.core.messages import Message, has_calls
from mellea.core.options import ModelOption
from mellea.errors import UnsupportedError

__all__ = ["encode"]

_LARGEST_SEED = 2**31
"""The seed is an integer of 32 bits with a sign."""


def encode(request: Request, model: str) -> JsonObject:
    """Return the payload of a request.

    Raises:
        UnsupportedError: Ollama's format can't express what is asked.
    """
    options = request.options
    payload: JsonObject = {
        "model": model,
        "messages": _encode_messages(request, model),
        "stream": options.get(ModelOption.STREAM, True),
    }
    if tools := _encode_tools(request, model):
        payload["tools"] = tools
    if request.output_schema is not None:
        # Unchanged: the server makes a grammar of the whole schema, including references.
        payload["format"] = make_jsonable(request.output_schema.schema)
    if (thinking := options.get(ModelOption.THINKING)) is not None:
        payload["think"] = _encode_thinking(thinking, model)
    if settings := {name: options[option] for option, name in OPTIONS.items() if option in options}:
        payload["options"] = settings
        if "seed" in settings:
            settings["seed"] %= _LARGEST_SEED
        if isinstance(stop := settings.get("stop"), str):
            settings["stop"] = [stop]
    return payload


def _encode_messages(request: Request, model: str) -> list[JsonObject]:
    conversation = fit_ids(request.messages) if has_calls(request.messages) else request.messages
    names = {
        block.tool_call_id: block.tool_name
        for message in conversation
        for block in message.blocks
        if isinstance(block, ToolCall)
    }
    messages: list[JsonObject] = []
    for message in conversation:
        outputs = [block for block in message.blocks if isinstance(block, ToolOutput) and not block.is_builtin]
        messages += [_encode_tool_message(output, names, model) for output in outputs]
        if message.role != "tool":
            messages.append(_encode_message(message, model))
    return messages


def _encode_message(message: Message, model: str) -> JsonObject:
    said: JsonObject = {"role": message.role, "content": message.text}
    if images := [_encode_image(block, model) for block in message.files]:
        said["images"] = images
    # Signed thinking is another provider's.
    thoughts = [block.text for block in message.blocks if isinstance(block, ThinkingBlock) and block.signature is None]
    if thoughts and message.role == "assistant":
        said["thinking"] = "".join(thoughts)
    if calls := message.tool_calls:
        said["tool_calls"] = [_encode_tool_call(index, call) for index, call in enumerate(calls)]
    return said


def _encode_tool_call(index: int, call: ToolCall) -> JsonObject:
    function = {"index": index, "name": call.tool_name, "arguments": make_jsonable(call.tool_args)}
    return {"id": call.tool_call_id, "type": "function", "function": function}


def _encode_tool_message(output: ToolOutput, names: Mapping[str, str], model: str) -> JsonObject:
    text = "\n\n".join(part.value for part in output.parts if isinstance(part, CBlock))
    images = [_encode_image(file, model) for file in output.files]
    said: JsonObject = {
        "role": "tool",
        "tool_name": output.tool_name or names.get(output.tool_call_id, ""),
        "tool_call_id": output.tool_call_id,
        # The format can't mark a failure, but the model has to know.
        "content": f"Error: {text}" if output.is_error else text,
    }
    # The server reads images in messages of any role.
    return {**said, "images": images} if images else said


def _encode_image(block: FileBlock, model: str) -> str:
    if not (isinstance(block, ImageBlock) or block.essence.startswith("image/")):
        raise _make_unsupported_error(
            f"files of the type {block.media_type!r}, only images; give its text instead", model
        )
    if block.url is not None:
        raise _make_unsupported_error(f"the address of an image ({block.url!r}); give its bytes", model)
    return block.base64()


def _encode_tools(request: Request, model: str) -> list[JsonObject]:
    choice = request.options.get(ModelOption.TOOL_CHOICE, "auto")
    if choice not in ("auto", "none"):
        raise _make_unsupported_error(f"the tool choice {choice!r}; it takes 'auto' and 'none'", model)
    for tool in request.tools:
        if isinstance(tool, BuiltinTool):
            raise _make_unsupported_error(f"the tool {tool.name!r} of the provider {tool.provider!r}", model)
    # `"none"` isn't in the format; not declaring the tools comes to the same.
    return [_encode_tool(tool) for tool in request.tools if isinstance(tool, ToolSpec)] if choice == "auto" else []


def _encode_tool(tool: ToolSpec) -> JsonObject:
    function = {
        "name": tool.name,
        "description": tool.description,
        "parameters": write_tool_schema(make_jsonable(tool.parameters)),
    }
    return {"type": "function", "function": function}


def _encode_thinking(value: bool | int | str, model: str) -> bool | str:
    if isinstance(value, int) and not isinstance(value, bool):
        raise _make_unsupported_error(
            "a number of tokens to think; thinking takes True, False, or an effort such as 'low'", model
        )
    return False if value == "none" else value


def _make_unsupported_error(what: str, model: str) -> UnsupportedError:
    message = f"the backend {PROVIDER!r} with model {model!r} doesn't support {what}"
    return UnsupportedError(message, backend=PROVIDER, model=model)
