"""Converts an MCP server's tool results, resources and prompts to blocks and messages.

Content as in the specification of 2025-11-25: text, images, audio, links to resources and embedded resources.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from mellea.core.blocks import CBlock, FileBlock, ImageBlock
from mellea.core.messages import Message
from mellea.errors import ToolError
from mellea.stdlib.tools.returned import ToolReturn

__all__ = ["read_content", "read_prompt", "read_resource", "read_result"]


def read_result(result: Any, max_bytes: int) -> Any:
    """Return the result of a tool: a string or blocks, or a `ToolReturn` if the server also sends a value.

    Args:
        result: the package's `CallToolResult`.
        max_bytes: its maximum size.

    Raises:
        ToolError: the tool failed, or the result is larger.
    """
    blocks = read_content(result.content, max_bytes)
    if result.is_error:
        said = " ".join(block.value for block in blocks if isinstance(block, CBlock))
        raise ToolError(said or "the tool failed, and its server doesn't say why")
    text = _together(blocks)
    if result.structured_content is None:
        return text
    return ToolReturn(result.structured_content, text if blocks else result.structured_content)


def read_content(content: Iterable[Any], max_bytes: int) -> list[CBlock | FileBlock]:
    """Convert a server's content to blocks.

    Raises:
        ToolError: it is larger than allowed, or its base64 is wrong.
    """
    blocks = [_read_block(item) for item in content]
    size = sum(_size(block) for block in blocks)
    if size > max_bytes:
        raise ToolError(f"the result has {size} bytes, more than the limit max_bytes={max_bytes}")
    return blocks


def read_resource(contents: Iterable[Any], max_bytes: int) -> list[CBlock | FileBlock]:
    """Return the contents of a resource as blocks; otherwise like `read_content`."""
    blocks = [_read_contents(item) for item in contents]
    size = sum(_size(block) for block in blocks)
    if size > max_bytes:
        raise ToolError(f"the resource has {size} bytes, more than the limit max_bytes={max_bytes}")
    return blocks


def read_prompt(result: Any, max_bytes: int) -> tuple[Message, ...]:
    """Return the messages of a prompt; otherwise like `read_content`."""
    return tuple(Message(message.role, read_content([message.content], max_bytes)) for message in result.messages)


def _together(blocks: list[CBlock | FileBlock]) -> Any:
    """Return texts as one string, joined by line breaks, and anything else as blocks."""
    if all(isinstance(block, CBlock) for block in blocks):
        return "\n".join(str(block) for block in blocks)
    return blocks[0] if len(blocks) == 1 else blocks


def _read_block(item: Any) -> CBlock | FileBlock:
    match item.type:
        case "text":
            return CBlock(item.text)
        case "image":
            return ImageBlock(media_type=item.mime_type, data=_decode(item.data))
        case "audio":
            return FileBlock(media_type=item.mime_type, data=_decode(item.data))
        case "resource":
            return _read_contents(item.resource)
        case "resource_link":
            said = f"{item.title or item.name}: {item.uri}"
            return CBlock(f"{said} ({item.description})" if item.description else said)
        case other:
            raise ToolError(f"the result has content of the unknown kind {other!r}")


def _read_contents(contents: Any) -> CBlock | FileBlock:
    text = getattr(contents, "text", None)
    if isinstance(text, str):
        return CBlock(text)
    media_type = contents.mime_type or "application/octet-stream"
    data = _decode(contents.blob)
    filename = urlsplit(str(contents.uri)).path.rpartition("/")[2] or None
    kind = ImageBlock if media_type.startswith("image/") else FileBlock
    return kind(media_type=media_type, data=data, filename=filename)


def _decode(data: str) -> bytes:
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        raise ToolError("the result holds data that isn't base64") from None


def _size(block: CBlock | FileBlock) -> int:
    return len(block.value.encode("utf-8", "replace")) if isinstance(block, CBlock) else len(block.data or b"")
