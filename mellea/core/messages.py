"""Messages: what goes to a model and what comes back, the same for every provider."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

from mellea.core.attributes import MESSAGE_WAYS, find_attribute
from mellea.core.blocks import Block, CBlock, FileBlock, ImageBlock, Source, ThinkingBlock, ToolCall, ToolOutput
from mellea.core.surrogates import replace_surrogates, replace_surrogates_in
from mellea.errors import UsageError

__all__ = [
    "Message",
    "Role",
    "as_messages",
    "assistant_message",
    "has_calls",
    "parse_tool_call",
    "system_message",
    "user_message",
]

Role = Literal["system", "user", "assistant", "tool"]

_ROLES: tuple[str, ...] = get_args(Role)

_ROLES_ELSEWHERE = {
    "human": "user",
    "ai": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "developer": "system",
    "function": "tool",
}


@dataclass(frozen=True, slots=True, init=False)
class Message:
    """One message of a conversation.

    Args:
        role: `"system"`, `"user"`, `"assistant"` or `"tool"`.
        content: text, a block, or a sequence of both. A thunk may be among them; it is awaited
            before the message is sent.
        images: images to put after the content.

    Raises:
        UsageError: the role is unknown, or the content has a wrong type.
    """

    role: Role
    blocks: tuple[Block, ...]

    def __init__(self, role: str, content: Any = "", *, images: Iterable[ImageBlock] = ()) -> None:
        if role not in _ROLES:
            # Names from other libraries, and the mistake of giving the text first.
            near = _ROLES_ELSEWHERE.get(role) if isinstance(role, str) else None
            hint = f"; did you mean {near!r}?" if near else "; its text is the second argument"
            raise UsageError(f"a message's role is one of {', '.join(map(repr, _ROLES))}, not {role!r}{hint}")
        blocks = _make_blocks(content)
        if type(images) is not tuple or images:
            several = isinstance(images, Iterable) and not isinstance(images, str)
            blocks += tuple(map(_as_image, images if several else [images]))
        # Frozen, and made with a constructor of its own.
        object.__setattr__(self, "role", role)
        object.__setattr__(self, "blocks", blocks)

    if not TYPE_CHECKING:  # type checkers then report unknown names

        def __getattr__(self, name: str) -> Any:
            return find_attribute(self, name, MESSAGE_WAYS)

    @property
    def content(self) -> str:
        """The text of the message; the same as `text`."""
        blocks = self.blocks
        if len(blocks) == 1 and type(block := blocks[0]) is CBlock:  # the usual case
            return block.value
        return "".join([block.value for block in blocks if isinstance(block, CBlock)])

    @property
    def text(self) -> str:
        """The text of the message, all text blocks joined."""
        return self.content

    @property
    def files(self) -> tuple[FileBlock, ...]:
        """The files and images in the message."""
        return tuple(block for block in self.blocks if isinstance(block, FileBlock))

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The calls of your own tools that the message asks for; the provider's own tools are in `blocks`."""
        return tuple(block for block in self.blocks if isinstance(block, ToolCall) and not block.is_builtin)

    @property
    def thinking(self) -> str:
        """The model's reasoning before the answer; `""` if there is none."""
        return "".join([block.text for block in self.blocks if isinstance(block, ThinkingBlock)])

    def change_texts(self, change: Callable[[str], str]) -> Message:
        """Return a copy with each text in it changed: see `Request.change_texts`.

        Args:
            change: takes a text and returns its replacement.

        Raises:
            UsageError: it isn't a function, or returned something other than a string.
        """
        checked = _check_change(change)
        return Message(self.role, [_change_block(block, checked) for block in self.blocks])

    def __str__(self) -> str:
        return self.content


def _check_change(change: Callable[[str], str]) -> Callable[[str], str]:
    """Return the program's function with a check that it returns strings."""
    if not callable(change):
        raise UsageError(f"change_texts takes a function from a text to another, not {change!r}")

    def checked(text: str) -> str:
        changed = change(text)
        if not isinstance(changed, str):
            name = getattr(change, "__qualname__", type(change).__name__)
            raise UsageError(
                f"change_texts takes a function that returns a text, and {name}() returned {changed!r}; return the "
                "text itself where there is nothing to change"
            )
        return changed

    return checked


def _change_block(block: Any, change: Callable[[str], str]) -> Any:
    match block:
        case CBlock():
            return replace(block, value=change(block.value))
        case ToolCall():
            args = _change_all(block.tool_args, change)
            # The model's text may escape a character that `change` looks for, so it is serialised again.
            written = json.dumps(args, ensure_ascii=False, default=str) if block.is_valid else change(block.raw_args)
            return replace(block, tool_args=args, raw_args=written if block.raw_args.strip() else block.raw_args)
        case ToolOutput():
            return replace(block, result=_change_all(block.result, change))
        case ThinkingBlock() if block.signature is None:  # a signed one has to be sent back unchanged
            return replace(block, text=change(block.text))
        case FileBlock() if block.filename is not None:
            return replace(block, filename=change(block.filename))
        case Source():
            known = {name: getattr(block, name) for name in ("title", "text")}
            return replace(block, **{name: text and change(text) for name, text in known.items()})
        case _:
            return block


def _change_all(value: Any, change: Callable[[str], str]) -> Any:
    """Change the texts in a JSON value, or in the blocks that a tool has returned, but not names of fields."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {name: _change_all(item, change) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_change_all(item, change) for item in value]
    return _change_block(value, change)


def system_message(*content: Any) -> Message:
    """Make a message that tells the model how to behave."""
    return Message("system", content)


def user_message(*content: Any) -> Message:
    """Make a message from the user: text, images, files."""
    return Message("user", content)


def assistant_message(*content: Any) -> Message:
    """Create a message as if the model had written it."""
    return Message("assistant", content)


_WITHOUT_CALLS = frozenset({CBlock, ThinkingBlock, FileBlock, ImageBlock})


def has_calls(messages: Iterable[Message]) -> bool:
    """Return whether tool calls, or their results, are in the messages."""
    for message in messages:  # noqa: SIM110 - a generator would be a call for each message of a long history
        if not _WITHOUT_CALLS.issuperset(map(type, message.blocks)):
            return True
    return False


def as_messages(messages: Iterable[Message | Mapping[str, Any]]) -> tuple[Message, ...]:
    """Convert messages, or dicts in the form of a chat completions API, to messages.

    Raises:
        UsageError: one of them is neither, or has no role; or it is one message instead of a list.
    """
    if isinstance(messages, (str, bytes, Mapping)) or not isinstance(messages, Iterable):
        raise UsageError(f"expected a list of messages, not {messages!r}; put it into a list")
    return tuple(item if isinstance(item, Message) else _from_mapping(item) for item in messages)


def parse_tool_call(tool_call_id: str, tool_name: str, raw_args: str, *, is_builtin: bool = False) -> ToolCall:
    """Parse a tool call from the arguments as the model wrote them; an empty text counts as `{}`."""
    raw_args = replace_surrogates(raw_args)
    try:
        # Models leave out the braces of a call without arguments.
        args = json.loads(raw_args) if raw_args.strip() else {}
        args = replace_surrogates_in(args) if "\\u" in raw_args else args  # an escape may be a lone surrogate
    except (ValueError, RecursionError):  # the model may write any number of brackets
        args = None
    is_valid = isinstance(args, dict)
    return ToolCall(tool_call_id, tool_name, args if isinstance(args, dict) else {}, raw_args, is_valid, is_builtin)


def _as_image(image: Any) -> ImageBlock:
    if isinstance(image, ImageBlock):
        return image
    raise UsageError(f"images takes ImageBlocks, not {image!r}; ImageBlock.from_path(…) reads a file")


_BLOCKS: tuple[type, ...] = get_args(Block)
_EXACT_BLOCKS = frozenset(_BLOCKS)


def _make_blocks(content: Any) -> tuple[Block, ...]:
    if type(content) is str:
        return (CBlock(content),) if content else ()
    several = isinstance(content, (list, tuple)) or (isinstance(content, Sequence) and not isinstance(content, bytes))
    pieces = content if several and not isinstance(content, str) else (content,)
    if _EXACT_BLOCKS.issuperset(map(type, pieces)):  # the usual case for a model's answer
        return tuple(pieces)
    return tuple([block for piece in pieces if (block := _as_block(piece)) is not None])


def _as_block(piece: Any) -> Block | None:
    if isinstance(piece, str):
        return CBlock(piece) if piece else None
    if isinstance(piece, _BLOCKS):
        return cast(Block, piece)
    if hasattr(piece, "avalue"):  # a thunk; the call that sends the message replaces it with its text
        return cast(Block, piece)
    raise UsageError(
        f"a message's content is text, blocks or thunks, not {piece!r}; convert other values with str() first, and put "
        "messages into a list"
    )


def _from_mapping(item: Any) -> Message:
    if not isinstance(item, Mapping) or "role" not in item:
        raise UsageError(f"expected a Message or a dict with 'role' and 'content', not {item!r}")
    # An unknown key, such as `tool_call`, would silently drop a part of the history.
    unknown = item.keys() - {"role", "content", "tool_calls", "tool_call_id", "name"}
    if unknown:
        raise UsageError(f"a message dict has no key {sorted(unknown)[0]!r}; use 'role' and 'content'")
    if "content" not in item and not item.get("tool_calls"):
        raise UsageError(f"expected a Message or a dict with 'role' and 'content', not {item!r}")
    role, content = item["role"], item.get("content")
    if role == "developer":  # the newer name for the system role
        role = "system"
    if role == "tool":
        output = ToolOutput(str(item.get("tool_call_id", "")), str(item.get("name", "")), content)
        return Message("tool", output)
    # `None` next to calls, as in the format itself.
    parts = [] if content is None else [content] if isinstance(content, str) else _parts(content)
    calls = item.get("tool_calls") or ()
    if not isinstance(calls, Sequence):
        raise UsageError(f"a message dict's 'tool_calls' is a list, not {calls!r}")
    return Message(role, [*parts, *map(_read_tool_call, calls)])


def _parts(content: Any) -> list[Any]:
    if not isinstance(content, Sequence):
        raise UsageError(f"a message dict's 'content' is text or a list of parts, not {content!r}")
    return [_read_part(part) if isinstance(part, Mapping) else part for part in content]


def _read_part(part: Mapping[str, Any]) -> Block:
    match part:
        case {"type": "text", "text": str(text)}:
            return CBlock(text)
        case {"type": "image_url", "image_url": {"url": str(url)}}:
            return _read_image(url)
        case _:
            raise UsageError(f"a content part is {{'type': 'text', …}} or {{'type': 'image_url', …}}, not {part!r}")


def _read_image(url: str) -> ImageBlock:
    # The provider fetches a URL; nothing is downloaded here.
    if not url.startswith("data:"):
        return ImageBlock(url=url)
    head, _, payload = url.removeprefix("data:").partition(",")
    try:
        return ImageBlock(media_type=head.removesuffix(";base64"), data=base64.b64decode(payload, validate=True))
    except binascii.Error as error:
        raise UsageError(f"the data of an image URL is not base64: {url[:60]!r}") from error


def _read_tool_call(call: Any) -> ToolCall:
    match call:
        case {"id": str(call_id), "function": {"name": str(name), "arguments": str(arguments)}}:
            return parse_tool_call(call_id, name, arguments)
        case _:
            raise UsageError(f"a tool call in a message dict has 'id' and 'function', not {call!r}")
