"""From messages to Anthropic's turns: blocks of content under two roles, with the system prompt apart.

Adjacent messages of one role become one turn, and tool results come first in theirs. Thinking and calls of the
provider's own tools are sent back unchanged, recognised by their signature or id; those of other providers are left
out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from mellea.backends.anthropic.calls import call_extras
from mellea.backends.anthropic.kept import read_kept_block
from mellea.backends.anthropic.wire import (
    DOCUMENT_TYPES,
    FILES_URL,
    IMAGE_TYPES,
    MAX_CACHE_MARKS,
    MCP_PREFIX,
    SERVER_PREFIX,
    SIGNATURE,
    Json,
    JsonObject,
)
from mellea.backends.http.call_ids import IdShape, fit_ids
from mellea.core.blocks import Block, CBlock, FileBlock, ImageBlock, ThinkingBlock, ToolCall, ToolOutput
from mellea.core.messages import Message, has_calls
from mellea.errors import UnsupportedError

__all__ = ["encode_messages", "find_container"]

_REDACTED = "redacted_thinking:"

_ID_SHAPE = IdShape(re.compile(r"[a-zA-Z0-9_-]{1,64}"))
"""What a call's id has to be ("String should match pattern '^[a-zA-Z0-9_-]+$'", seen 2026); others are refused."""


def encode_messages(messages: Sequence[Message]) -> JsonObject:
    """Return `messages`, and `system` where there is one.

    Raises:
        UnsupportedError: a file can't be sent.
    """
    system = [block for message in messages if message.role == "system" for block in _encode_texts(message.blocks)]
    turns: list[JsonObject] = []
    for message in fit_ids(messages, _ID_SHAPE) if has_calls(messages) else messages:
        if message.role == "system":
            continue
        role = "assistant" if message.role == "assistant" else "user"
        content = _encode_assistant(message.blocks) if role == "assistant" else _encode_user(message.blocks)
        # Roles have to alternate, and tools' results are the user's: neighbours become one turn.
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += content
        elif content:
            turns.append({"role": role, "content": content})
    for turn in turns:
        # Tool results have to precede the user's other content.
        turn["content"].sort(key=lambda block: block["type"] != "tool_result")
    # Cache marks come last, so that only those that are really sent are counted.
    _strip_end(turns)
    _limit_marks([system, *(turn["content"] for turn in turns)])
    return {"messages": turns} | ({"system": _join(system)} if system else {})


def find_container(messages: Sequence[Message]) -> str | None:
    """Return the container whose code is waiting for tool results, if any."""
    # Only in the current turn: a container of an earlier one may have expired.
    calls = [block for message in messages[-2:] for block in message.blocks if isinstance(block, ToolCall)]
    found = [extras["container"] for call in calls if "container" in (extras := call_extras(call))]
    return found[-1] if found else None


def _encode_user(blocks: Iterable[Block]) -> list[JsonObject]:
    content: list[JsonObject] = []
    for block in blocks:
        if isinstance(block, CBlock):
            _add_text(content, block)
        elif isinstance(block, FileBlock):
            content.append(_encode_file(block))
        elif isinstance(block, ToolOutput) and not block.is_builtin:
            content.append(_encode_tool_result(block))
    return content


def _encode_assistant(blocks: Iterable[Block]) -> list[JsonObject]:
    content: list[JsonObject] = []
    callers: dict[str, Json] = {}
    for block in blocks:
        if isinstance(block, CBlock):
            _add_text(content, block)
        elif isinstance(block, ThinkingBlock):
            content += _encode_thinking(block)
        elif isinstance(block, ToolCall):
            call = _call(block)
            content += call
            callers |= {each["id"]: each["caller"] for each in call if "caller" in each}
        elif isinstance(block, ToolOutput):
            content += _encode_builtin_result(block, callers)
        elif isinstance(block, FileBlock) and not (block.url or "").startswith(FILES_URL):
            # What the provider's own tools produced is already in their results.
            raise UnsupportedError(
                "Anthropic takes no files in an assistant's message; put the file into a user's message"
            )
    return content


def _encode_texts(blocks: Iterable[Block]) -> list[JsonObject]:
    content: list[JsonObject] = []
    for block in blocks:
        if isinstance(block, CBlock):
            _add_text(content, block)
    return content


def _add_text(content: list[JsonObject], block: CBlock) -> None:
    """Append a text; neighbouring texts up to a cache mark form one block, and blank ones are dropped."""
    last = content[-1] if content else {}
    # A mark ends its block: text after it must not become a part of what is cached.
    if last.get("type") == "text" and "cache_control" not in last:
        last["text"] += block.value
    # The API rejects a text that is only white space.
    elif block.value.strip():
        content.append({"type": "text", "text": block.value})
    if block.cache and content and content[-1]["type"] == "text":
        content[-1]["cache_control"] = {"type": "ephemeral"}


def _encode_thinking(block: ThinkingBlock) -> list[JsonObject]:
    # The API rejects unsigned thinking, and can't verify another provider's signatures.
    if block.signature is None or not block.signature.startswith(SIGNATURE):
        return []
    if (kept := read_kept_block(block.signature)) is not None:
        return [kept]
    signature = block.signature.removeprefix(SIGNATURE)
    if signature.startswith(_REDACTED):
        return [{"type": "redacted_thinking", "data": signature.removeprefix(_REDACTED)}]
    return [{"type": "thinking", "thinking": block.text, "signature": signature}]


def _call(call: ToolCall) -> list[JsonObject]:
    # This provider doesn't know what another one ran; the outcome is in the text.
    if call.is_builtin and not _is_own(call.tool_call_id):
        return []
    kind = "tool_use" if not call.is_builtin else "server_tool_use"
    # The container goes to the top of the request, see `find_container`.
    extras = {name: value for name, value in call_extras(call).items() if name != "container"}
    return [
        {"type": kind, "id": call.tool_call_id, "name": call.tool_name, "input": dict(call.tool_args)} | extras,
    ]


def _encode_builtin_result(output: ToolOutput, callers: JsonObject) -> list[JsonObject]:
    if not output.is_builtin or not _is_own(output.tool_call_id):
        return []
    result: JsonObject = {"tool_use_id": output.tool_call_id, "content": output.result}
    if output.tool_call_id.startswith(MCP_PREFIX):
        return [{"type": "mcp_tool_result", "is_error": output.is_error, **result}]
    # Two tools search for tools, and their results are of one kind.
    name = "tool_search" if output.tool_name.startswith("tool_search_tool") else output.tool_name
    kind = "tool_search_tool_result" if name == "tool_search" else f"{name}_tool_result"
    caller = {"caller": callers[output.tool_call_id]} if output.tool_call_id in callers else {}
    return [{"type": kind, **result, **caller}]


def _is_own(call_id: str) -> bool:
    return call_id.startswith((SERVER_PREFIX, MCP_PREFIX))


def _encode_tool_result(output: ToolOutput) -> JsonObject:
    parts = output.parts
    content = parts[0].value if len(parts) == 1 and isinstance(parts[0], CBlock) else _encode_user(parts)
    block: JsonObject = {"type": "tool_result", "tool_use_id": output.tool_call_id, "content": content}
    return block | ({"is_error": True} if output.is_error else {})


def _encode_file(block: FileBlock) -> JsonObject:
    is_image = isinstance(block, ImageBlock) or block.essence.startswith("image/")
    kind = "image" if is_image else "document"
    title = {"title": block.filename} if block.filename and not is_image else {}
    if block.url is not None:
        return {"type": kind, "source": _encode_address(block.url), **title}
    if block.essence in (IMAGE_TYPES if is_image else DOCUMENT_TYPES):
        source = {"type": "base64", "media_type": block.essence, "data": block.base64()}
    elif not is_image and block.essence.startswith("text/"):
        source = {"type": "text", "media_type": "text/plain", "data": (block.data or b"").decode("utf-8", "replace")}
    else:
        known = IMAGE_TYPES if is_image else {*DOCUMENT_TYPES, "text/*"}
        raise UnsupportedError(
            f"Anthropic takes no {kind} of the type {block.media_type!r}; convert it to {', '.join(sorted(known))}, or "
            "try gemini"
        )
    return {"type": kind, "source": source, **title}


def _encode_address(url: str) -> JsonObject:
    if url.startswith(FILES_URL):
        return {"type": "file", "file_id": url.removeprefix(f"{FILES_URL}/").removesuffix("/content")}
    return {"type": "url", "url": url}


def _join(system: list[JsonObject]) -> str | list[JsonObject]:
    if any("cache_control" in block for block in system):
        return system
    # A single string where no marks are needed, since gateways to other models only accept that.
    return "\n\n".join(block["text"] for block in system)


def _strip_end(turns: list[JsonObject]) -> None:
    """Strip white space from the end of a prefix: the provider rejects it."""
    if turns and turns[-1]["role"] == "assistant" and turns[-1]["content"][-1]["type"] == "text":
        last = turns[-1]["content"][-1]
        last["text"] = last["text"].rstrip()


def _limit_marks(contents: Iterable[list[JsonObject]]) -> None:
    """Keep only the last cache marks: each one covers everything before it."""
    marked = [block for content in contents for block in content if "cache_control" in block]
    for block in marked[:-MAX_CACHE_MARKS]:
        del block["cache_control"]
