"""From components to messages: how a request is rendered."""

from __future__ import annotations

from typing import Any

from mellea.core.blocks import Block, CBlock
from mellea.core.component import TemplateRepresentation, component_of
from mellea.core.messages import Message
from mellea.core.thunk import ModelOutputThunk
from mellea.errors import UsageError
from mellea.stdlib.components.conversation import Conversation
from mellea.stdlib.components.repair import Correction, Repair
from mellea.templates import is_verbatim, render, render_blocks

__all__ = ["as_component", "render_messages"]


def as_component(value: Any) -> Any:
    """Return a text, a block or a component as something that can be rendered.

    Raises:
        UsageError: it is not a text, a message or a component, or the text is empty.
    """
    if isinstance(value, str):
        value = CBlock(value)
    if isinstance(value, CBlock) and not value.value.strip():
        raise UsageError(f"the text to send is empty: {value.value!r}")
    if isinstance(value, (CBlock, Message)) or component_of(value) is not None:
        return value
    raise UsageError(f"expected a text, a message or a component, not {value!r}")


def render_messages(value: Any, model: str | None = None) -> list[Message]:
    """Render a component, a message or a text as messages; every thunk in it has to be computed.

    Args:
        value: what to render.
        model: the model it is for, whose family may have templates of its own.

    Raises:
        UsageError: the template can't be rendered.
    """
    if isinstance(value, Conversation):
        return [_fill_in_thunks(message) for message in value.messages]
    if isinstance(value, Message):
        return [_render_message(_fill_in_thunks(value), model)]
    # Messages can't be quoted in a prompt without losing who said what; so the conversation goes on instead.
    if isinstance(value, Repair) and _is_sent_as_is(value.task):
        # Providers refuse an empty message.
        answer = [Message("assistant", value.answer)] if value.answer.strip() else []
        correction = Correction(value.task, value.failures)
        return [*render_messages(value.task, model), *answer, *render_messages(correction, model)]
    if isinstance(value, (str, CBlock)):
        return [Message("user", value)]
    component = component_of(value)
    if component is None:
        raise UsageError(f"expected a text, a message or a component, not {value!r}")
    rendered = render_blocks(component.format_for_llm(), model=model)
    return [Message("user", [*rendered.blocks, *rendered.images])]


def _is_sent_as_is(task: Any) -> bool:
    """Whether a task consists of messages of its own, so that it can't be included in another prompt."""
    return isinstance(task, Conversation) or (isinstance(task, Message) and task.role != "user")


def _fill_in_thunks(message: Message) -> Message:
    """Replace computed thunks by their text."""
    if not any(isinstance(block, ModelOutputThunk) for block in message.blocks):
        return message
    # A copy: the message in the context keeps its thunk, which later turns may still need.
    blocks = [CBlock(str(block)) if isinstance(block, ModelOutputThunk) else block for block in message.blocks]
    return Message(message.role, blocks)


def _render_message(message: Message, model: str | None) -> Message:
    if is_verbatim("Message", model):  # as nearly always; a long history has thousands of messages
        return message

    def render_block(block: Block) -> Block:
        if not isinstance(block, CBlock):
            return block
        args = {"role": message.role, "content": block.value}
        return CBlock(render(TemplateRepresentation("Message", args), model=model), cache=block.cache)

    return Message(message.role, [render_block(block) for block in message.blocks])
