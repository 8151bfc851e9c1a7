"""From components to messages: the wording of a request."""

from __future__ import annotations

from typing import Any

from mellea.core.blocks import Block, CBlock
from mellea.core.component import TemplateRepresentation, is_component
from mellea.core.messages import Message
from mellea.core.thunk import ModelOutputThunk
from mellea.errors import UsageError
from mellea.stdlib.components.conversation import Conversation
from mellea.templates import render

__all__ = ["as_component", "messages_of"]


def as_component(value: Any) -> Any:
    """Take a text, a block or a component as something that can be said.

    Raises:
        UsageError: it is something else, or an empty text.
    """
    if isinstance(value, str):
        value = CBlock(value)
    if isinstance(value, CBlock) and not value.value.strip():
        raise UsageError(f"the text to send is empty: {value.value!r}")
    if isinstance(value, (CBlock, Message)) or is_component(value):
        return value
    raise UsageError(f"expected a text, a message or a component, not {value!r}")


def messages_of(value: Any) -> list[Message]:
    """Say a component, a message or a text as messages; every thunk in it has to be computed.

    Raises:
        UsageError: its template can't be filled.
    """
    if isinstance(value, Conversation):
        return [_plain(message) for message in value.messages]
    if isinstance(value, Message):
        return [_worded(_plain(value))]
    if isinstance(value, (str, CBlock)):
        return [Message("user", value)]
    representation = value.format_for_llm()
    images = representation.images if isinstance(representation, TemplateRepresentation) else ()
    return [Message("user", [render(representation).strip(), *images])]


def _plain(message: Message) -> Message:
    """Put the text of computed thunks in their place."""
    blocks = [CBlock(str(block)) if isinstance(block, ModelOutputThunk) else block for block in message.blocks]
    return Message(message.role, blocks)


def _worded(message: Message) -> Message:
    def word(block: Block) -> Block:
        if not isinstance(block, CBlock):
            return block
        args = {"role": message.role, "content": block.value}
        return CBlock(render(TemplateRepresentation("Message", args)), cache=block.cache)

    return Message(message.role, [word(block) for block in message.blocks])
