"""Questions about an object, and requests to change it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mellea.core.accumulator import Generation
from mellea.core.blocks import CBlock
from mellea.core.component import TemplateRepresentation
from mellea.core.thunk import ModelOutputThunk
from mellea.errors import UsageError
from mellea.stdlib.components.object_view import make_promptable

__all__ = ["Query", "Transform"]


class Query:
    """A question about an object.

    Args:
        obj: any object: a text, a component, a plain value, or an object of your own class, which is rendered as `mify`
            would do.
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
        raise UsageError(f"{what} takes a text, not {text!r}")
    if isinstance(text, (str, CBlock)) and not str(text).strip():
        raise UsageError(f"{what} is empty: {text!r}; say what the model is to do")
