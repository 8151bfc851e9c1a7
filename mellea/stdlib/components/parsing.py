"""Parses a complete answer: as a value of a type, by its component, or as a message."""

from __future__ import annotations

from collections.abc import Set
from typing import TYPE_CHECKING, Any

from mellea.core.accumulator import Generation
from mellea.core.component import find_component
from mellea.core.messages import Message
from mellea.errors import MelleaError, OutputError, ParseError

if TYPE_CHECKING:
    from mellea.core.structured import OutputFormat

__all__ = ["parse_as", "parse_by", "parse_message"]


def parse_as(format: OutputFormat[Any], offered: Set[str] | None, generation: Generation) -> Any:
    """Parse an answer as a value of a type; `None` if it only calls tools, as a model does before it answers.

    Args:
        format: the type.
        offered: the names of the tools that the model may call; `None` if they weren't known yet.
        generation: the answer.

    Raises:
        ParseError: it is not a value of that type.
    """
    calls = generation.tool_calls
    if not calls or generation.text.strip():
        return format.parse(generation)
    # Tools answer the calls; the value comes in a later turn.
    if offered is None or any(call.tool_name in offered for call in calls):
        return None
    names = ", ".join(repr(call.tool_name) for call in calls)
    raise ParseError(
        f"the answer is not a valid {format.name!r}: it calls {names}, and no such tool was offered; write the value "
        "as the text of the answer"
    )


def parse_by(component: Any, generation: Generation) -> Any:
    """Parse an answer by its component.

    Raises:
        OutputError: the component's code is wrong.
        ParseError: it can't parse the answer.
    """
    try:
        return (find_component(component) or component).parse(generation)
    # Such an error already says what is wrong, and whether to ask again.
    except MelleaError:
        raise
    except (NameError, ImportError) as error:  # parse() may raise anything, depending on the model's text
        raise OutputError(f"parse() of {type(component).__name__} failed: {type(error).__name__}: {error}") from error
    except Exception as error:
        raise ParseError(
            f"{type(component).__name__} can't parse the answer {generation.text[:120]!r}: "
            f"{type(error).__name__}: {error}",
            partial=generation.text,
        ) from error


def parse_message(generation: Generation) -> Message:
    """Return an answer as a message."""
    return generation.message
