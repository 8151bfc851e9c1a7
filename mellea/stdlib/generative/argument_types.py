"""Check the arguments of a prompt function against its annotations, before the model is asked.

Rules:

- Only plain data is checked: `None`, booleans, numbers, text, bytes, and lists, tuples, sets and dicts of these.
  Thunks, components and other objects pass: annotations often name only what the text of an object stands for.
- Plain data passes if pydantic could read it as the annotated type, since a prompt shows `"4"` and `4` alike. So the
  rows of a CSV file pass. The value isn't converted.
- A number passes as a text. A dict without some of an object's keys passes for the object.
- What pydantic doesn't know (protocols, type variables, names that can't be found, the library's own kinds of text)
  accepts everything, apart from `None` where the annotation is a class.
- A default is never checked: `text: str = None` says that `None` is allowed.
- Values that are instances of an annotated class are recognised without pydantic.
"""

from __future__ import annotations

import functools
import inspect
import reprlib
import types
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from mellea.core.blocks import CBlock
from mellea.core.component import Component
from mellea.core.numbers import show_argument
from mellea.core.structured.annotations import is_alias, is_typed_dict, resolve_alias
from mellea.core.structured.kinds import find_field_info, format_type
from mellea.core.thunk import ModelOutputThunk
from mellea.errors import UsageError
from mellea.stdlib.tools.defaults import make_adapter
from mellea.stdlib.tools.signature import resolve_type_hints

__all__ = ["ArgumentTypes"]

_SCALARS = frozenset({type(None), bool, int, float, complex, str, bytes})
_LISTS = frozenset({list, tuple, set, frozenset})
_LIKE: Mapping[Any, tuple[Any, ...]] = {int: (int, bool), float: (float, int, bool), str: (str, int, float)}
"""Which other classes are as good as one in a prompt."""

_OWN = (CBlock, Component, ModelOutputThunk)
_DEEPEST = 50
"""How deeply a value may be nested to be checked."""

_short = reprlib.Repr()
_short.maxstring = _short.maxother = 80


class ArgumentTypes:
    """The types of a function's parameters, read when it is first called.

    Args:
        function: the function.
        what: its name in error messages.
        signature: its signature.
    """

    def __init__(self, function: Callable[..., Any], what: str, signature: inspect.Signature) -> None:
        self._function, self._what = function, what
        self._parameters = dict(signature.parameters)
        self._types: dict[str, _ArgumentType] | None = None

    def check(self, arguments: Mapping[str, Any]) -> None:
        """Check the arguments of a call.

        Raises:
            UsageError: one of them can't be a value of its type.
        """
        known = self._types
        if known is None:
            known = self._types = self._read()
        for name, value in arguments.items():
            kind = known.get(name)
            if kind is not None and type(value) not in kind.classes:
                self._check_slowly(name, kind, value)

    def _check_slowly(self, name: str, kind: _ArgumentType, value: Any) -> None:
        parameter = self._parameters[name]
        if parameter.kind is parameter.VAR_POSITIONAL:
            for each in value:
                self._check_one(f"*{name}", kind, each)
        elif parameter.kind is parameter.VAR_KEYWORD:
            for key, each in value.items():
                self._check_one(key, kind, each)
        elif value is not parameter.default:
            self._check_one(name, kind, value)

    def _check_one(self, name: str, kind: _ArgumentType, value: Any) -> None:
        if type(value) in kind.classes or not _is_plain(value, _DEEPEST) or (why := kind.find_problem(value)) is None:
            return
        shown = format_type(kind.kind)
        if value is None:
            why = f"; annotate it with `{shown} | None` if it may be missing"
        raise UsageError(f"{self._what} takes {name!r} as {shown}, not {show_argument(value, _short.repr)}{why}")

    def _read(self) -> dict[str, _ArgumentType]:
        found = {}
        for name, parameter in self._parameters.items():
            if parameter.annotation is parameter.empty or find_field_info(None, parameter.default) is not None:
                continue  # `Field(…)` checks its own values
            try:
                kind = resolve_type_hints(self._function, self._what, of=(name,)).get(name, Any)
            except UsageError:  # a name that is unknown at run time: nothing can be said about its values
                continue
            members = _list_members(kind)
            if not any(_accepts_anything(member) for member in members):
                found[name] = _ArgumentType(kind, members)
        return found

    def __getstate__(self) -> dict[str, Any]:
        # Read again where it is unpickled, since pydantic's validators can't be pickled.
        return {**self.__dict__, "_types": None}


class _ArgumentType:
    """The type of one parameter.

    Args:
        kind: the type.
        members: the members of a union, the type itself otherwise.

    Attributes:
        classes: the classes whose instances are of this type, whatever is in them.
    """

    def __init__(self, kind: Any, members: list[Any]) -> None:
        self.kind = kind
        self._known = tuple(member for member in members if isinstance(member, type) and get_origin(member) is None)
        self.classes = frozenset(like for each in self._known for like in _LIKE.get(each, (each,)))
        self._is_classes = len(self._known) == len(members)

    @functools.cached_property
    def _adapter(self) -> Any:
        try:
            return make_adapter(_loosen(self.kind), {"coerce_numbers_to_str": True})
        except Exception:  # noqa: BLE001 - pydantic, or a class of the user, has no schema for it
            return None

    def find_problem(self, value: Any) -> str | None:
        """Return why a plain value isn't of this type, `None` if it may be; an empty text if that is obvious."""
        if value is None and self._is_classes:
            return None if isinstance(None, self._known) else ""
        if self._adapter is None:
            return None
        from pydantic import PydanticUserError, ValidationError  # lazy: most values are of the very classes

        try:
            self._adapter.validate_python(value)
        except PydanticUserError:  # a class that it mentions isn't defined yet
            return None
        except ValidationError as error:
            found = [each for each in error.errors(include_url=False, include_input=False) if each["type"] != "missing"]
            if not found:
                return None
            place = ".".join(map(str, found[0]["loc"]))
            if place:
                return f"; {place}: {found[0]['msg']}"
            # The limits of an `Annotated` aren't in the name of the type.
            return f"; {found[0]['msg']}" if get_origin(self.kind) is Annotated else ""
        return None


def _is_plain(value: Any, depth: int) -> bool:
    if type(value) in _SCALARS:
        return True
    if depth <= 0:
        return False
    if type(value) is dict:
        return all(_is_plain(each, depth - 1) for pair in value.items() for each in pair)
    return type(value) in _LISTS and all(_is_plain(each, depth - 1) for each in value)


def _list_members(kind: Any) -> list[Any]:
    """Return the members of a union, the type itself otherwise, without what changes nothing about their values."""
    if is_alias(kind):
        return _list_members(resolve_alias(kind))
    if hasattr(kind, "__supertype__"):
        return _list_members(kind.__supertype__)
    origin = get_origin(kind)
    # Other marks, such as `Field(gt=0)`, are pydantic's to check.
    if origin is Annotated and all(isinstance(mark, str) for mark in kind.__metadata__):
        return _list_members(kind.__origin__)
    if origin in (Union, types.UnionType):
        return [member for option in get_args(kind) for member in _list_members(option)]
    return [type(None) if kind is None else kind]


def _accepts_anything(kind: Any) -> bool:
    base = get_origin(kind) or kind
    # Type variables, `Any`, forward references and values that aren't types at all are no classes.
    is_unknown = base is kind and not isinstance(kind, type)
    return is_unknown or base in (Any, object) or getattr(base, "_is_protocol", False) is True


def _loosen(kind: Any) -> Any:
    """Return a type for pydantic that accepts more: anything for what it doesn't know, and any dict for a TypedDict."""
    origin, args = get_origin(kind), get_args(kind)
    base = origin or kind
    if kind is ... or is_alias(kind):
        return kind
    if _accepts_anything(kind) or (isinstance(base, type) and issubclass(base, _OWN)):
        return Any
    # Their keys aren't checked, since pydantic refuses those of `typing` before Python 3.12.
    if is_typed_dict(base):
        return dict[str, Any]
    if origin is Annotated:
        return Annotated[(_loosen(kind.__origin__), *kind.__metadata__)]
    if origin in (None, Literal, Callable):
        return kind
    inner = tuple(map(_loosen, args))
    if origin in (Union, types.UnionType):
        return Union[inner]  # noqa: UP007 - of a tuple
    return kind if inner == args else origin[inner]
