"""Questions about an object, and requests to change it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any

from mellea.core.accumulator import Generation
from mellea.core.blocks import CBlock, ToolCall, ToolOutput
from mellea.core.component import TemplateRepresentation, is_component, walk
from mellea.core.messages import Message
from mellea.core.thunk import ModelOutputThunk
from mellea.errors import UsageError
from mellea.stdlib.components.object_view import make_promptable
from mellea.stdlib.tools import Tool, ToolReturn, perform, serialise_result
from mellea.templates import to_text

__all__ = ["Query", "Transform", "call_method", "render_result"]


class Query:
    """A question about an object.

    Args:
        obj: any object: a text, a component, a plain value, or an object of your own class, which is rendered as by
            `mify`.
        query: the question.

    Raises:
        UsageError: the question is empty or not text, or there is no object.
    """

    __slots__ = ("obj", "query")

    def __init__(self, obj: Any, query: str | CBlock | ModelOutputThunk[Any]) -> None:
        self.obj = obj
        self.query = query
        _check("query", obj, query)

    def parts(self) -> Sequence[Any]:
        """Return the object and the question."""
        return [make_promptable(self.obj), self.query]

    def format_for_llm(self) -> TemplateRepresentation:
        """Return the template, the object and the question."""
        return TemplateRepresentation("Query", {"content": make_promptable(self.obj), "query": self.query})

    def parse(self, generation: Generation) -> str:
        """Return the text of the answer."""
        return generation.text

    def __repr__(self) -> str:
        return f"Query({self.obj!r}, {self.query!r})"


class Transform:
    """A change to an object.

    Args:
        obj: any object, as for `Query`.
        transformation: the change to make.
        has_tools: whether the model may call the object's methods instead of writing the changed version.

    Raises:
        UsageError: the transformation is empty or not text, or there is no object.
    """

    __slots__ = ("has_tools", "obj", "transformation")

    def __init__(
        self, obj: Any, transformation: str | CBlock | ModelOutputThunk[Any], *, has_tools: bool = False
    ) -> None:
        self.obj = obj
        self.transformation = transformation
        self.has_tools = has_tools
        _check("transformation", obj, transformation)

    def parts(self) -> Sequence[Any]:
        """Return the object and the change."""
        return [make_promptable(self.obj), self.transformation]

    def format_for_llm(self) -> TemplateRepresentation:
        """Return the template, the object and the change."""
        args = {
            "content": make_promptable(self.obj),
            "transformation": self.transformation,
            "has_tools": self.has_tools,
        }
        return TemplateRepresentation("Transform", args)

    def parse(self, generation: Generation) -> str:
        """Return the text of the answer."""
        return generation.text

    def __repr__(self) -> str:
        return f"Transform({self.obj!r}, {self.transformation!r})"


def _check(what: str, obj: Any, text: Any) -> None:
    if obj is None or isinstance(obj, type):
        raise UsageError(f"a {what} is about an object, not about {obj!r}")
    if not isinstance(text, (str, CBlock, ModelOutputThunk)):
        raise UsageError(f"{what} takes a string, not {text!r}")
    if isinstance(text, (str, CBlock)) and not str(text).strip():
        raise UsageError(f"{what} is empty: {text!r}; say what the model is to do")


_log = logging.getLogger("mellea")


async def call_method(calls: Sequence[ToolCall], tools: Iterable[Tool[..., Any]]) -> tuple[Any, Message]:
    """Run the first of the calls; return its result, and the tool message for the model.

    Raises:
        ToolError: there is no such method, or the arguments aren't valid.
        Exception: what the method raises.
    """
    # Only one: methods may change the object, and the model saw it before the first.
    first, *others = calls
    result = ToolReturn.of(await perform(first, {tool.name: tool for tool in tools}))
    if others:
        _log.warning("the model called %d methods; only the first, %r, was run", len(calls), first.tool_name)
    outputs = [ToolOutput(first.tool_call_id, first.tool_name, _render_for_message(result.text))]
    # Providers reject a history with a call that has no output.
    outputs += [ToolOutput(call.tool_call_id, call.tool_name, "not run", is_error=True) for call in others]
    return result.value, Message("tool", outputs)


def render_result(result: Any) -> Any:
    """Return a tool's result as prompt text; components render by their own template."""
    # Plain values take the fast path, pydantic's serialiser, which also handles dates and sets.
    has_components = any(is_component(part) or isinstance(part, ModelOutputThunk) for part in walk(result))
    return to_text(result) if has_components else serialise_result(result)


def _render_for_message(result: Any) -> str:
    try:
        return to_text(make_promptable(result))
    except UsageError:  # it can't be rendered, but the method has run
        return str(result)
