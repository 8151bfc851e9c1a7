"""Encodes a `Request` for the engine: the body of a chat completion, with its own additions."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from mellea.backends.llama_cpp.schema import write_grammar
from mellea.core.backend import Request
from mellea.core.blocks import CBlock, ToolCall, ToolOutput
from mellea.core.messages import Message
from mellea.core.options import ModelOption
from mellea.errors import BadRequestError, UnsupportedError

__all__ = ["MAX_TOKENS", "OPTIONS", "encode", "encode_messages"]

OPTIONS = {
    ModelOption.TEMPERATURE: "temperature",
    ModelOption.MAX_NEW_TOKENS: "max_tokens",
    ModelOption.TOP_P: "top_p",
    ModelOption.TOP_K: "top_k",
    ModelOption.MIN_P: "min_p",
    ModelOption.SEED: "seed",
    ModelOption.STOP_SEQUENCES: "stop",
    ModelOption.FREQUENCY_PENALTY: "frequency_penalty",
    ModelOption.PRESENCE_PENALTY: "presence_penalty",
    ModelOption.REPEAT_PENALTY: "repeat_penalty",
}
"""The options that reach the model, and the engine's names for them."""

MAX_TOKENS = 1024
"""Default length of an answer, since a small model sometimes doesn't stop."""

PENALTY_WINDOW = 512
"""How many tokens back the penalties look, prompt included. The engine's default of 64 is shorter than the period
with which a small model repeats itself."""

_RANDOM_SEED = 2**32 - 1
"""A seed has 32 bits, and this value means "any"."""


def encode(request: Request, text_tokens: int = MAX_TOKENS) -> dict[str, Any]:
    """Return the engine's payload but for the messages, which `encode_messages` writes once the model is known.

    Args:
        request: what is asked.
        text_tokens: the default length of an answer without a schema.

    Raises:
        UnsupportedError: the engine can't enforce the schema, or the request continues an answer under a schema.
    """
    payload: dict[str, Any] = {
        "stream": True,
        "stream_options": {"include_usage": True},
        # Emit progress, and check the cancel flag, after each batch of the prompt.
        "return_progress": True,
        # A trailing assistant message is continued; the answer must not repeat it.
        "echo": False,
        "max_tokens": text_tokens if request.output_schema is None else MAX_TOKENS,
        "repeat_last_n": PENALTY_WINDOW,
    }
    for option, name in OPTIONS.items():
        if option in request.options:
            payload[name] = request.options[option]
    if "seed" in payload:
        # The remainder never is the value that means "any".
        payload["seed"] %= _RANDOM_SEED
    if "stop" in payload:
        payload["stop"] = _stop(payload["stop"])
    if request.output_schema is not None:
        if request.messages and request.messages[-1].role == "assistant" and _encode_content(request.messages[-1], str):
            raise UnsupportedError(
                "the embedded model can't continue an assistant message under a schema; leave out format= or "
                "output_prefix="
            )
        payload["grammar"] = write_grammar(request.output_schema.schema, payload["max_tokens"])
    return payload


def encode_messages(request: Request, guard: Callable[[str], str] = str) -> list[dict[str, str]]:
    """Return the conversation as the engine accepts it.

    Args:
        request: what is asked.
        guard: breaks the model's control tokens in a text; applied to every text of a message.

    Raises:
        BadRequestError: a message can't be sent as UTF-8.
    """
    messages = [{"role": message.role, "content": _encode_content(message, guard)} for message in request.messages]
    if messages and messages[-1] == {"role": "assistant", "content": ""}:
        messages.pop()  # nothing to continue, and the template would render an odd turn
    return messages


def _encode_content(message: Message, guard: Callable[[str], str]) -> str:
    # Adjacent texts are guarded as one: a mark may be split between them.
    content, texts = "", [""]
    for block in message.blocks:
        if isinstance(block, CBlock):
            texts.append(block.value)
        # Calls and outputs in a history are written in Hermes' format, since few small models' templates support them.
        elif isinstance(block, ToolCall):
            call = {"name": block.tool_name, "arguments": dict(block.tool_args)}
            content += f"{guard(''.join(texts))}<tool_call>\n{guard(_write_json(call))}\n</tool_call>"
            texts = []
        elif isinstance(block, ToolOutput):
            result = block.result if isinstance(block.result, str) else _write_json(block.result)
            texts.append(f"Error: {result}" if block.is_error else result)
    # The marks around calls are outside of what is guarded: they are meant to be marks.
    return _check_text(content + guard("".join(texts)))


def _check_text(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise BadRequestError(
            f"a message has a lone surrogate, {text[error.start]!r}, which isn't text; "
            "clean it first: text.encode('utf-8', 'replace').decode()",
            backend="llama_cpp",
        ) from error
    return text


def _write_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def _stop(value: str | list[str]) -> list[str]:
    # The engine treats an empty stop sequence as already reached.
    return [text for text in ([value] if isinstance(value, str) else value) if text]
