"""The prompts after an attempt that failed its requirements."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mellea.core.accumulator import Generation
from mellea.core.component import TemplateRepresentation, is_component
from mellea.core.messages import Message
from mellea.core.requirement import Requirement, ValidationResult
from mellea.stdlib.components.conversation import Conversation

__all__ = ["Correction", "Repair", "format_failures"]

Failures = Sequence[tuple[Requirement, ValidationResult]]


def format_failures(failures: Failures) -> list[str]:
    """Return what failed and why, one line each; a reason that only repeats the requirement is left out."""
    lines = []
    for requirement, result in failures:
        named, reason = " ".join(str(requirement).split()), " ".join((result.reason or "").split())
        lines.append(named if not reason or reason in named else f"{named} ({reason})")
    return lines


@dataclass(frozen=True, slots=True)
class _Retry:
    """A repeated task; its answer is parsed as by the task itself.

    Args:
        task: the component whose answer failed.
        failures: the requirements that weren't met, and why.
    """

    task: Any
    failures: Failures

    @property
    def name(self) -> Any:
        """The name of the task in traces."""
        return getattr(self.task, "name", None)

    @property
    def output_prefix(self) -> Any:
        """The beginning of the answer, as in the task."""
        return getattr(self.task, "output_prefix", None)

    def parse(self, generation: Generation) -> Any:
        """Parse the answer as the task does."""
        if isinstance(self.task, Message):
            return generation.message
        # A corrected answer has the type of the task, not of the correction.
        return self.task.parse(generation) if is_component(self.task) else generation.text


@dataclass(frozen=True, slots=True)
class Repair(_Retry):
    """The task again, with the failed answer and what was wrong with it.

    Args:
        task: the component whose answer failed.
        failures: the requirements that weren't met, and why.
        answer: the text that failed.
    """

    answer: str = ""

    def parts(self) -> Sequence[Any]:
        """Return the task, which may hold thunks and images."""
        return [self.task]

    def messages_for_llm(self, render: Callable[[Any], list[Message]]) -> list[Message] | None:
        """Return the continued conversation with the correction, if the task is a conversation."""
        # Quoting messages in a prompt would lose who said what, so the conversation continues instead.
        task = self.task
        if not (isinstance(task, Conversation) or (isinstance(task, Message) and task.role != "user")):
            return None
        # Providers reject an empty message.
        answer = [Message("assistant", self.answer)] if self.answer.strip() else []
        return [*render(task), *answer, *render(Correction(task, self.failures))]

    def format_for_llm(self) -> TemplateRepresentation:
        """Return the template of a repair, and its values."""
        args = {"task": self.task, "answer": self.answer.strip(), "failures": format_failures(self.failures)}
        return TemplateRepresentation("Repair", args)


@dataclass(frozen=True, slots=True)
class Correction(_Retry):
    """What was wrong with the answer before, as the next message of the conversation.

    Args:
        task: the component whose answer failed; the conversation has it already.
        failures: the requirements that weren't met, and why.
    """

    def parts(self) -> Sequence[Any]:
        """Return nothing: it only has text."""
        return []

    def format_for_llm(self) -> TemplateRepresentation:
        """Return the template of a correction, and its values."""
        return TemplateRepresentation("Correction", {"failures": format_failures(self.failures)})
