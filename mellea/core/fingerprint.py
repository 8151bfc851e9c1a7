"""A digest of what decides an answer, the same in every process and Python version.

Form 1: the SHA-256, in hexadecimal, of JSON with sorted keys, no blanks and ASCII alone. Whole numbers are written
without a fraction, so that a temperature of 0 and one of 0.0 are the same; bytes are replaced by their digest. If the
form changes, so does its number, and with it every digest: values stored under old digests aren't found, and never
mistaken for others.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Set
from typing import Any

from mellea.core.blocks import Block, CBlock, FileBlock, ImageBlock, Source, ThinkingBlock, ToolCall, ToolOutput
from mellea.core.masking import hide_keys
from mellea.core.messages import Message
from mellea.core.options import ModelOption
from mellea.errors import UsageError

__all__ = ["digest", "find_message_form", "find_options_form"]

_FORM = 1

_HOW = frozenset(map(str, (ModelOption.EXTRA_HEADERS, ModelOption.STREAM, ModelOption.TIMEOUT)))
"""The options that affect the transport of a request, not its content."""


def digest(parts: Mapping[str, Any]) -> str:
    """Return the fingerprint of values that JSON can represent.

    Raises:
        UsageError: one of them has no form in JSON.
    """
    # Includes the number of the form, so that fingerprints of another form never match.
    text = json.dumps(
        {"form": _FORM, **_write_canonically(parts)}, sort_keys=True, separators=(",", ":"), allow_nan=False
    )
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def find_message_form(message: Message) -> dict[str, Any]:
    """Return the parts of a message that reach a model."""
    return {"role": message.role, "blocks": [_block_form(block) for block in message.blocks]}


def find_options_form(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that shape an answer, without keys."""
    found = {str(name): value for name, value in options.items() if name not in _HOW}
    if (stop := found.get(ModelOption.STOP_SEQUENCES)) is not None:
        # Three spellings of the same option.
        found[ModelOption.STOP_SEQUENCES] = [stop] if isinstance(stop, str) else list(stop)
    if (body := found.get(ModelOption.EXTRA_BODY)) is not None:
        # A journal must not hold keys, and the answer doesn't depend on the key.
        found[ModelOption.EXTRA_BODY] = hide_keys(body)
    return found


def _block_form(block: Block) -> dict[str, Any]:
    match block:
        case CBlock():  # prompt caching affects the price, not the answer
            return {"text": block.value}
        case FileBlock():
            kind = "image" if isinstance(block, ImageBlock) else "file"
            content = {"url": block.url} if block.data is None else {"data": block.data}
            return {"kind": kind, "media_type": block.essence, "filename": block.filename, **content}
        case ThinkingBlock():
            return {"thinking": block.text, "signature": block.signature}
        case ToolCall():
            return {
                "call": block.tool_call_id,
                "tool": block.tool_name,
                "args": block.tool_args if block.is_valid else block.raw_args,
                "is_builtin": block.is_builtin,
                "signature": block.signature,
            }
        case ToolOutput():
            return {
                "result_of": block.tool_call_id,
                "tool": block.tool_name,
                "parts": [_block_form(part) for part in block.parts],
                "is_error": block.is_error,
                "is_builtin": block.is_builtin,
            }
        case Source():
            return {"source": block.url, "title": block.title, "text": block.text}
    raise UsageError(f"a {type(block).__name__} in a message has no fingerprint; it has to be computed first")


def _write_canonically(value: Any) -> Any:
    """Return a value in its canonical JSON form."""
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, Mapping):
        return {str(name): _write_canonically(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_write_canonically(item) for item in value]
    if isinstance(value, Set):  # the order of a set differs from process to process
        return sorted([_write_canonically(item) for item in value], key=lambda item: json.dumps(item, sort_keys=True))
    if isinstance(value, (bytes, bytearray)):
        return {"sha256": hashlib.sha256(value).hexdigest()}
    raise UsageError(
        f"the request has no fingerprint: it holds a value of type {type(value).__name__!r}, which has no JSON form; "
        "give numbers, texts, lists and dicts in the options, the schema and the tools"
    )


def _number(value: float) -> int | float | str:
    if not math.isfinite(value):
        return repr(value)  # not a number in JSON
    return int(value) if value.is_integer() and abs(value) < 2**53 else value
