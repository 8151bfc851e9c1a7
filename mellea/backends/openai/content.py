"""Pieces that both of OpenAI's formats write in the same way: data URLs, results of tools, arguments, signatures."""

from __future__ import annotations

import json
from typing import Any

from mellea.core.blocks import CBlock, FileBlock, ToolCall, ToolOutput
from mellea.errors import UnsupportedError

__all__ = ["as_url", "find_filename", "make_unsupported_error", "signed_by", "write_arguments", "write_result"]


def as_url(block: FileBlock) -> str:
    """Return a file's URL: a data URL if its bytes are known."""
    return block.url if block.url is not None else f"data:{block.essence};base64,{block.base64()}"


def find_filename(block: FileBlock) -> str:
    """Return a file's name; the formats need one with an extension."""
    ending = block.essence.rpartition("/")[2].partition("+")[0]
    return block.filename or f"file.{'txt' if ending == 'plain' else ending}"


def write_arguments(call: ToolCall) -> str:
    """Return a call's arguments as JSON, since servers reject a history with anything else."""
    # The model's own text if it is valid: a provider's cache matches the history character by character.
    if call.is_valid and call.raw_args.strip():
        return call.raw_args
    return json.dumps(dict(call.tool_args), ensure_ascii=False, default=str)


def write_result(output: ToolOutput) -> str:
    """Return a tool's result as text."""
    text = "\n\n".join(part.value for part in output.parts if isinstance(part, CBlock))
    # The formats can't mark a failure, but the model has to know.
    return f"Error: {text}" if output.is_error else text


def signed_by(backend: str, signature: str | None) -> Any:
    """Return the content of a signature, `None` if there is none or it is another service's."""
    name, _, text = (signature or "").partition(":")
    # Another service can't use it, and some reject it.
    if name != backend or not text:
        return None
    try:
        return json.loads(text)
    except ValueError:
        return None


def make_unsupported_error(what: str, advice: str) -> UnsupportedError:
    """Create the error for something that the format can't express."""
    return UnsupportedError(f"{what}; {advice}")
