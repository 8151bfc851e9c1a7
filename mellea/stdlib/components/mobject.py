"""Objects that a model can query and transform, and whose methods it can call."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol, TypeVar, Unpack, overload, runtime_checkable

from mellea.core.accumulator import Generation
from mellea.core.component import VIEW
from mellea.core.entrance import entrance
from mellea.errors import UsageError
from mellea.stdlib.components.arguments import ViewArguments
from mellea.stdlib.components.object_view import (
    SETTINGS,
    ObjectMethod,
    View,
    find_own_format,
    get_view,
    represent_by_view,
)

__all__ = ["MObject", "MifiedProtocol", "mify"]

T = TypeVar("T")

_NOTHING: Final = object()
_METHODS = ("parts", "format_for_llm", "parse")


_WAYS = {
    "exclude": "fields_exclude={…} hides fields, funcs_exclude={…} methods",
    "include": "fields_include={…} chooses the fields, funcs_include={…} the methods",
    "fields": "fields_include={…} chooses the fields",
    "hidden": "fields_exclude={…} hides fields",
    "tools": "funcs_include={…} chooses the methods",
}


class MObject:
    """Base class of objects that a model can query and transform.

    Class arguments choose what the model sees, with the names that `mify` uses:
    `class Store(MObject, fields_exclude={"password"})`. A subclass may also override the methods.
    """

    __slots__ = ()

    @entrance("a subclass of MObject", ViewArguments, **_WAYS)
    def __init_subclass__(cls, **arguments: Unpack[ViewArguments]) -> None:
        super().__init_subclass__()
        view = View.make(**arguments)
        if view != View():  # otherwise the class inherits its base class's view
            setattr(cls, SETTINGS, view)

    def parts(self) -> Sequence[Any]:
        """Return the fields that the model sees."""
        return list(get_view(self).get_fields(self).values())

    format_for_llm = represent_by_view

    def parse(self, generation: Generation) -> Any:
        """Return the text of the answer."""
        return generation.text


@runtime_checkable
class MifiedProtocol(Protocol):
    """Mellea 0.8's name for what `mify` adds to objects: `isinstance` says whether one has it."""

    def parts(self) -> Sequence[Any]:
        """Return the fields that the model sees."""

    def format_for_llm(self) -> Any:
        """Return the object as the model sees it."""


@overload
def mify(
    obj: T,
    /,
    **arguments: Unpack[ViewArguments],
) -> T: ...
@overload
def mify(
    **arguments: Unpack[ViewArguments],
) -> Callable[[T], T]: ...
@entrance("mify", ViewArguments, **_WAYS)
def mify(
    obj: Any = _NOTHING,
    /,
    **arguments: Unpack[ViewArguments],
) -> Any:
    """Let a model see the objects of a class, or one object, and call their documented methods.

    It works as a decorator, with or without arguments, and on an object, which is marked and returned. By default the
    model sees the object's own `__str__` if it has one, otherwise its public fields.

    Args:
        obj: a class or an object.
        fields_include: the fields that the model sees, by name; properties work, too.
        fields_exclude: the fields that it doesn't see.
        funcs_include: the methods that are tools, by default the public ones with a docstring.
        funcs_exclude: the methods that aren't tools.
        stringify_func: makes the whole text that the model sees.
        template: a Jinja2 template with the fields as its variables, or the name of one.

    Raises:
        UsageError: an argument has a wrong type or no effect, or the object can't be marked.
    """
    view = View.make(**arguments)

    def mark(obj: Any) -> Any:
        if inspect.isroutine(obj) or inspect.ismodule(obj):
            raise UsageError(f"mify takes a class or an object, not {obj!r}")
        cls = obj if isinstance(obj, type) else type(obj)
        if (wording := view.list_wording()) and find_own_format(cls) is not None:
            raise UsageError(
                f"{cls.__name__} is rendered by its own format_for_llm(), so {wording[0]} would have no effect; "
                "leave one of them out"
            )
        if isinstance(obj, type):
            _mark_class(obj, view)
        else:
            _mark_object(obj, view)
        return obj

    return mark if obj is _NOTHING else mark(obj)


def _mark_class(cls: type, view: View) -> None:
    setattr(cls, VIEW, view)
    # Also add a component's methods, for callers that use them, unless the class already has these names.
    taken = {name for each in cls.__mro__ for name in getattr(each, "__annotations__", ())}
    for name in _METHODS:
        if name not in taken and not hasattr(cls, name):
            setattr(cls, name, getattr(MObject, name))


def _mark_object(obj: Any, view: View) -> None:
    try:
        object.__setattr__(obj, VIEW, view)
    except (AttributeError, TypeError):
        raise UsageError(
            f"the object {obj!r:.80} can't be marked, since it accepts no attributes; mify its class, or pass the "
            "object as it is: query and transform take any object"
        ) from None
    for name in _METHODS:
        if not hasattr(obj, name):
            object.__setattr__(obj, name, ObjectMethod(getattr(MObject, name), obj))
