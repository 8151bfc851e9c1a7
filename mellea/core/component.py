"""Components: pieces of a generative program that know how to be said to a model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar, runtime_checkable

from mellea.core.accumulator import Generation
from mellea.core.blocks import CBlock, ImageBlock
from mellea.core.messages import Message
from mellea.errors import UsageError

__all__ = ["Component", "TemplateRepresentation"]

T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True)
class TemplateRepresentation:
    """What a component says: a template, and the values for it.

    Args:
        template: name of the template, without its ending.
        args: values by name. They are put in as they are; a value is never read as a template.
        images: images that go with the text.
    """

    template: str
    args: Mapping[str, Any] = field(default_factory=dict)
    images: tuple[ImageBlock, ...] = ()


@runtime_checkable
class Component(Protocol[T_co]):
    """A piece of a generative program that can be said to a model, and understands the answer."""

    def parts(self) -> Sequence[Any]:
        """Return what the component is made of: blocks, thunks, other components, plain values."""

    def format_for_llm(self) -> TemplateRepresentation | str:
        """Return the template and the values that say it, or the text itself."""

    def parse(self, generation: Generation) -> T_co:
        """Make the typed result out of the complete answer."""


# Asking a protocol whether a value is one of it takes 20 microseconds for a no, and most values are these.
_PLAIN = (str, type(None), CBlock, bytes, int, float, type)


def is_component(value: Any) -> bool:
    """Tell whether the value can be said to a model as a component."""
    if isinstance(value, _PLAIN):
        return False
    # The answer for a class is remembered; only a value that may have got methods by itself needs the long look.
    return issubclass(type(value), Component) or (hasattr(value, "__dict__") and isinstance(value, Component))


_DEEPEST = 10_000
"""How deep anything may be nested; parts that are made anew each time would never end."""


def walk(value: Any) -> list[Any]:
    """Return the value and all that is inside: parts of components, items of lists, values of dicts.

    Raises:
        UsageError: a component's `parts()` gives no list, or ever new components.
    """
    found: list[Any] = []
    seen: set[int] = set()  # of what has an inside; `found` keeps each of them alive
    waiting = [(value, 0)]
    while waiting:
        item, depth = waiting.pop()
        found.append(item)
        if isinstance(item, _PLAIN) or id(item) in seen:
            continue
        if depth > _DEEPEST:
            raise UsageError(f"a {type(value).__name__} can't be said in a prompt: it is nested too deep, or endlessly")
        seen.add(id(item))
        waiting += [(part, depth + 1) for part in list(_inside(item))[::-1]]
    return found


def _inside(value: Any) -> Iterable[Any]:
    if isinstance(value, (list, tuple, set, frozenset)):
        return value
    if isinstance(value, Mapping):
        return value.values()
    if isinstance(value, Message):
        return value.blocks
    if not is_component(value):
        return ()
    parts = value.parts()
    if not isinstance(parts, Iterable):
        raise UsageError(f"parts() of {type(value).__name__} returns a list of what is inside, not {parts!r}")
    return parts
