"""Components: pieces of a generative program that a prompt can be rendered from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar, cast, runtime_checkable

from mellea.core.accumulator import Generation
from mellea.core.blocks import Block, CBlock, ImageBlock
from mellea.core.messages import Message
from mellea.errors import UsageError

__all__ = ["Component", "TemplateRepresentation"]

T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True)
class TemplateRepresentation:
    """How a component is rendered: a template, and the values for it.

    Args:
        template: name of the template, without its ending; with `is_inline`, the template itself.
        args: values by name: texts, blocks, computed thunks, other components and representations, and lists
            and dicts of them. They are inserted unchanged; a value is never treated as a template.
        images: images that go with the text.
        package: the package whose templates are searched first, as for `mellea.templates.add_package`.
        is_inline: whether `template` is the template itself.
        cache: ask the provider to cache the prompt up to the end of this text.
    """

    template: str
    args: Mapping[str, Any] = field(default_factory=dict)
    images: tuple[ImageBlock, ...] = ()
    package: str | None = None
    is_inline: bool = False
    cache: bool = False


@runtime_checkable
class Component(Protocol[T_co]):
    """A piece of a generative program: it renders a prompt, and parses the answer."""

    def parts(self) -> Sequence[Any]:
        """Return what the component is made of: blocks, thunks, other components, plain values."""

    def format_for_llm(self) -> TemplateRepresentation | str:
        """Return the template and its values, or the text itself."""

    def parse(self, generation: Generation) -> T_co:
        """Parse the complete answer into the typed result."""


# isinstance() with a protocol takes 20 microseconds to say no, and most values are of these types.
_PLAIN = (str, type(None), CBlock, bytes, int, float, type)
_EXACTLY_PLAIN = frozenset((*_PLAIN, bool))


VIEW = "__mellea_view__"
"""The attribute, of an object or of its class, that makes the component which renders the object.

It is for classes that aren't components: their own fields and methods may have any names.
"""


def find_component(value: Any) -> Component[Any] | None:
    """Return the component that renders the value: itself, or the one made by its view; `None` if there is none."""
    if isinstance(value, _PLAIN):
        return None
    view = getattr(value, VIEW, None)
    if view is not None and callable(view):
        return cast("Component[Any]", view(value))
    # The result is cached per class; only an object that may have its own methods needs the slow check.
    if issubclass(type(value), Component) or (hasattr(value, "__dict__") and isinstance(value, Component)):
        return cast("Component[Any]", value)
    return None


def is_component(value: Any) -> bool:
    """Return whether the value is a component, or has a view that makes one."""
    return find_component(value) is not None


def as_component(value: Any) -> Any:
    """Return a text, a block or a component as something that can be rendered.

    Raises:
        UsageError: it is not a text, a message or a component, or the text is empty.
    """
    if isinstance(value, str):
        value = CBlock(value)
    if isinstance(value, CBlock) and not value.value.strip():
        raise UsageError(f"the text to send is empty: {value.value!r}")
    if isinstance(value, (CBlock, Message)) or find_component(value) is not None:
        return value
    raise UsageError(f"expected text, a message or a component, not {value!r}")


_DEEPEST = 10_000
"""How deep values may be nested; a `parts()` that makes new components each time would never end."""


def fields_in(value: Any) -> dict[str, Any]:
    """Return the fields of a dataclass instance or a pydantic model, by name; empty for anything else."""
    names: Any = getattr(value, "__dataclass_fields__", None) or getattr(type(value), "model_fields", ())
    return {name: getattr(value, name, None) for name in names}


def walk(value: Any) -> list[Any]:
    """Return the value and everything inside it, depth first: parts of components, items of lists, values of dicts.

    Raises:
        UsageError: a component's `parts()` doesn't return a list, or values are nested without end.
    """
    found: list[Any] = []
    seen: set[int] = set()  # the ids of containers; `found` keeps each of them alive
    # An explicit stack: users' values may be nested deeper than Python's recursion limit.
    waiting = [(value, 0)]
    while waiting:
        item, depth = waiting.pop()
        found.append(item)
        if isinstance(item, _PLAIN) or id(item) in seen:
            continue
        if depth > _DEEPEST:
            raise UsageError(
                f"a {type(value).__name__} can't be put into a prompt: it is nested too deeply, or endless"
            )
        # Only containers, which may contain themselves; equal texts are all returned.
        seen.add(id(item))
        parts = list(_inside(item))
        if _EXACTLY_PLAIN.issuperset(map(type, parts)):  # the usual case: nothing inside
            found += parts
        else:
            waiting += [(part, depth + 1) for part in reversed(parts)]
    return found


def _inside(value: Any) -> Iterable[Any]:
    if isinstance(value, (list, tuple, set, frozenset)):
        return value
    if isinstance(value, Message):
        return value.blocks
    if isinstance(value, Mapping):
        return value.values()
    component = find_component(value)
    if component is None:
        # Blocks are dataclasses, too, but contain none of the program's values.
        return [] if isinstance(value, Block) else fields_in(value).values()
    parts = component.parts()
    if not isinstance(parts, (list, tuple, Iterable)):  # the first two spare the slow check of the abstract class
        raise UsageError(f"parts() of {type(value).__name__} returns a list of what is inside, not {parts!r}")
    return parts
