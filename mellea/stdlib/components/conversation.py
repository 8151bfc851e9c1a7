"""Conversations: lists of messages that are sent unchanged."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from mellea.core.accumulator import Generation
from mellea.core.blocks import ImageBlock
from mellea.core.messages import Message, as_messages
from mellea.errors import UsageError

__all__ = ["Conversation", "as_message"]


class Conversation:
    """Messages that are sent to the model unchanged, without the session's context.

    Args:
        messages: `Message`s, or dicts in the form of OpenAI's chat API.

    Raises:
        UsageError: there is no message, or one of them is something else.
    """

    __slots__ = ("messages",)

    def __init__(self, messages: Iterable[Message | Mapping[str, Any]]) -> None:
        self.messages = as_messages(messages)
        if not self.messages:
            raise UsageError("the list of messages is empty; it takes at least one message")

    def parts(self) -> Sequence[Any]:
        """Return the messages' blocks."""
        return [block for message in self.messages for block in message.blocks]

    def messages_for_llm(self, render: Callable[[Any], list[Message]]) -> Sequence[Message]:
        """Return the messages, without a template."""
        return self.messages

    def format_for_llm(self) -> str:
        """Return all texts, a paragraph each, for a conversation inside another prompt."""
        return "\n\n".join(message.content for message in self.messages)

    def parse(self, generation: Generation) -> Message:
        """Return the answer as a message."""
        return generation.message


def as_message(content: Any, role: str = "user", images: Iterable[ImageBlock] | None = None) -> Message | Conversation:
    """Convert a user's content to a message or a whole conversation.

    Args:
        content: text, blocks, a `Message`, or a list of messages.
        role: the speaker.
        images: images that go with the text.

    Raises:
        UsageError: the content is empty, or can't become a message.
    """
    if isinstance(content, Message):
        return content
    if isinstance(content, (list, tuple)) and any(isinstance(item, (Message, Mapping)) for item in content):
        return Conversation(content)
    made = Message(role, content, images=images or ())
    if not made.blocks or (made.content == content and not made.content.strip()):
        raise UsageError(f"the message is empty: {content!r}; say something")
    return made
