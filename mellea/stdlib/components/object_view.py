"""Views: how an object that knows nothing of models is rendered for one.

- Its text comes from its own `format_for_llm`, `stringify_func` or `template`; otherwise from its own `__str__`, unless
  fields are chosen; otherwise from its public fields.
- Its tools are its public methods with a docstring, or the chosen ones.
- Names that begin with an underscore, and fields that a pydantic model excludes, are only visible if they are chosen.
- What the classes of Python, pydantic and mellea define is neither a field nor a tool.
"""

from __future__ import annotations

import difflib
import enum
import inspect
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self, Unpack, cast, get_origin

from mellea.core.accumulator import Generation
from mellea.core.blocks import CBlock, FileBlock, ImageBlock
from mellea.core.component import VIEW, TemplateRepresentation, is_component
from mellea.core.messages import Message
from mellea.core.thunk import ModelOutputThunk
from mellea.errors import UsageError
from mellea.stdlib.components.arguments import ViewArguments
from mellea.stdlib.tools import Tool, as_tool

__all__ = [
    "SETTINGS",
    "ObjectMethod",
    "View",
    "Viewed",
    "find_own_format",
    "get_tools",
    "get_view",
    "make_promptable",
    "represent_by_view",
]

SETTINGS = "__mellea_settings__"
"""The attribute in which a subclass of `MObject` keeps its view."""

_NOT_OWN = frozenset({*sys.stdlib_module_names, "mellea", "pydantic"}) - {"__main__"}
_PROMPTABLE = (
    type(None), str, CBlock, Message, ModelOutputThunk, FileBlock, bool, int, float, enum.Enum,
    list, tuple, dict, set, frozenset,
)  # fmt: skip
_COMPONENT = frozenset({"format_for_llm", "parse", "parts"})


@dataclass(frozen=True, slots=True)
class View:
    """Which parts of an object a model sees, and how they are rendered.

    Args:
        fields_include: names of the fields, properties included; all public ones by default.
        fields_exclude: names of fields to leave out.
        funcs_include: names of the methods that are tools; by default the public ones with a docstring.
        funcs_exclude: names of methods that aren't tools.
        stringify_func: makes the object's text.
        template: the name of a template, or a template itself if there is a brace in it; the fields are its variables.
    """

    fields_include: tuple[str, ...] | None = None
    fields_exclude: tuple[str, ...] = ()
    funcs_include: tuple[str, ...] | None = None
    funcs_exclude: tuple[str, ...] = ()
    stringify_func: Callable[[Any], str] | None = None
    template: str | None = None

    @classmethod
    def make(cls, **arguments: Unpack[ViewArguments]) -> Self:
        """Check the arguments, which are those of `mify`.

        Args:
            fields_include: the fields that the model sees, by name; properties work, too.
            fields_exclude: the fields that it doesn't see.
            funcs_include: the methods that are tools, by default the public ones with a docstring.
            funcs_exclude: the methods that aren't tools.
            stringify_func: makes the whole text that the model sees.
            template: a Jinja2 template with the fields as its variables, or the name of one.

        Raises:
            UsageError: one has a wrong type, or two exclude each other.
        """
        fields_include, fields_exclude = arguments.get("fields_include"), arguments.get("fields_exclude")
        funcs_include, funcs_exclude = arguments.get("funcs_include"), arguments.get("funcs_exclude")
        stringify_func, template = arguments.get("stringify_func"), arguments.get("template")
        if stringify_func is not None and not callable(stringify_func):
            raise UsageError(f"stringify_func takes a function of the object, not {stringify_func!r}")
        if template is not None and not isinstance(template, str):
            raise UsageError(f"template takes a template or its name, not {template!r}")
        if stringify_func is not None and (template is not None or fields_include is not None or fields_exclude):
            raise UsageError("stringify_func makes the whole text; leave out fields_include, fields_exclude, template")
        return cls(
            None if fields_include is None else _check_names("fields_include", fields_include),
            _check_names("fields_exclude", fields_exclude or ()),
            None if funcs_include is None else _check_names("funcs_include", funcs_include),
            _check_names("funcs_exclude", funcs_exclude or ()),
            stringify_func,
            template,
        )

    def list_wording(self) -> list[str]:
        """Return the names of the settings that decide about the text of an object."""
        names = ("fields_exclude", "fields_include", "stringify_func", "template")
        return [name for name in names if getattr(self, name) not in (None, ())]

    def __call__(self, obj: Any) -> Viewed:
        """Return the component that renders an object."""
        return Viewed(obj, self)

    def get_fields(self, obj: Any) -> dict[str, Any]:
        """Return the fields that the model sees.

        Raises:
            UsageError: the object doesn't have a chosen field.
        """
        found = _get_public_fields(obj)
        if self.fields_include is not None:
            # In the object's own order, since a set of names has none; then chosen names that aren't public fields.
            known = [name for name in found if name in self.fields_include]
            found = {name: _get_field(obj, name) for name in dict.fromkeys([*known, *self.fields_include])}
        for name in self.fields_exclude:
            if name not in found and not hasattr(obj, name):
                raise _make_missing_error(obj, name, found)
        return {name: value for name, value in found.items() if name not in self.fields_exclude}

    def get_tools(self, obj: Any) -> tuple[Tool[..., Any], ...]:
        """Return the methods that are tools.

        Raises:
            UsageError: a chosen name isn't a method, or a model can't call the method.
        """
        names = _list_documented_methods(obj) if self.funcs_include is None else self.funcs_include
        for name in (*names, *self.funcs_exclude):
            if not callable(getattr(obj, name, None)):
                raise UsageError(f"{type(obj).__name__} has no method {name!r} to show to a model")
        return tuple(as_tool(getattr(obj, name), name) for name in names if name not in self.funcs_exclude)

    def represent(self, obj: Any) -> TemplateRepresentation | str:
        """Return the object's representation.

        Raises:
            UsageError: the object doesn't have a chosen field, or `stringify_func` doesn't return a string.
        """
        if (own := find_own_format(type(obj))) is not None:
            return cast("TemplateRepresentation | str", own(obj))
        return self.represent_fields(obj)

    def represent_fields(self, obj: Any) -> TemplateRepresentation | str:
        """Return the representation of an object's fields, whatever its own `format_for_llm` says.

        Raises:
            UsageError: as `represent` does.
        """
        if self.stringify_func is not None:
            text = self.stringify_func(obj)
            if not isinstance(text, str):
                raise UsageError(f"stringify_func of {type(obj).__name__} returns a string, not {text!r}")
            return text
        is_chosen = self.fields_include is not None or bool(self.fields_exclude)
        if self.template is None and not is_chosen and _has_own_text(type(obj)):
            return str(obj)
        fields = self.get_fields(obj)
        if self.template is not None:
            return TemplateRepresentation(self.template, fields, is_inline="{" in self.template)
        images = tuple(value for value in fields.values() if isinstance(value, ImageBlock))
        make_promptable = {name: value for name, value in fields.items() if not isinstance(value, ImageBlock)}
        return TemplateRepresentation("MObject", {"name": type(obj).__name__, "fields": make_promptable}, images)


@dataclass(frozen=True, slots=True, eq=False)
class ObjectMethod:
    """A method of one object, not of its class. Unlike a bound method it can be pickled with its object."""

    function: Callable[..., Any]
    owner: Any = field(repr=False)

    def __call__(self, *arguments: Any) -> Any:
        """Call the function with the object."""
        return self.function(self.owner, *arguments)

    def __reduce__(self) -> Any:
        # Pickled as a call, in which the object refers to the one being pickled.
        return ObjectMethod, (self.function, self.owner)


@dataclass(frozen=True, slots=True)
class Viewed:
    """The component that a view makes of an object."""

    obj: Any
    view: View

    def parts(self) -> Sequence[Any]:
        """Return the fields that the model sees; all public ones if a function makes the text."""
        return list(self.view.get_fields(self.obj).values())

    def format_for_llm(self) -> TemplateRepresentation | str:
        """Return the object's representation."""
        return self.view.represent(self.obj)

    def parse(self, generation: Generation) -> str:
        """Return the text of the answer."""
        return generation.text


def get_view(obj: Any) -> View:
    """Return the view of an object: its own, its class's, or the default one."""
    view = getattr(obj, VIEW, None) or getattr(type(obj), SETTINGS, None)
    return view if isinstance(view, View) else View()


def represent_by_view(obj: Any) -> TemplateRepresentation | str:
    """Return the object's representation: its fields, or what its view makes of them.

    This is `MObject.format_for_llm`, which a subclass may call with `super()`.
    """
    return get_view(obj).represent_fields(obj)


def find_own_format(cls: type) -> Callable[[Any], Any] | None:
    """Return the class's own `format_for_llm`, if it has one."""
    own = getattr(cls, "format_for_llm", None)
    return None if own is represent_by_view else own


def make_promptable(obj: Any) -> Any:
    """Return a value that can be rendered in a prompt: the object itself, or a component made by its view."""
    if isinstance(obj, _PROMPTABLE) or is_component(obj):
        return obj
    # Dates, paths and similar values have no fields, and are rendered as they are.
    return Viewed(obj, get_view(obj)) if _list_user_classes(type(obj)) or _get_public_fields(obj) else obj


def get_tools(obj: Any) -> tuple[Tool[..., Any], ...]:
    """Return the methods of an object that a model may call, as tools.

    Raises:
        UsageError: a chosen method doesn't exist, or a model can't call it.
    """
    return get_view(obj).get_tools(obj)


def _check_names(argument: str, names: Iterable[str]) -> tuple[str, ...]:
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise UsageError(f"{argument} takes a set of names, not {names!r}; put it into one")
    # Sets have no order, and a prompt that differs from run to run is never cached.
    found = tuple(sorted(names) if isinstance(names, (set, frozenset)) else names)
    if not all(isinstance(name, str) for name in found):
        raise UsageError(f"{argument} takes a set of names, not {names!r}")
    return found


def _get_field(obj: Any, name: str) -> Any:
    try:
        return getattr(obj, name)
    except AttributeError:
        raise _make_missing_error(obj, name, _get_public_fields(obj)) from None


def _make_missing_error(obj: Any, name: str, known: Iterable[str]) -> UsageError:
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(map(repr, known)) or 'none'}"
    return UsageError(f"{type(obj).__name__} has no field {name!r}; {hint}")


def _list_user_classes(cls: type) -> list[type]:
    """Return the classes whose attributes count as the object's own, base classes first: the user's, and `MObject`s."""
    # Base classes first, so that fields are in the order in which they are defined.
    classes = cls.__mro__[::-1]
    return [each for each in classes if each.__module__.partition(".")[0] not in _NOT_OWN or SETTINGS in vars(each)]


def _get_public_fields(obj: Any) -> dict[str, Any]:
    names: dict[str, None] = {}
    for cls in _list_user_classes(type(obj)):
        annotations = inspect.get_annotations(cls)
        names |= dict.fromkeys(name for name, hint in annotations.items() if not _is_class_variable(hint))
        # A single name may be given as a plain string, which would be split into letters.
        slots = vars(cls).get("__slots__", ())
        names |= dict.fromkeys([slots] if isinstance(slots, str) else slots)
    names |= dict.fromkeys(getattr(obj, "__dict__", ()))
    # A bare annotation has no value; and names that begin with `_` are private.
    found = {name: getattr(obj, name) for name in names if not name.startswith("_") and hasattr(obj, name)}
    # `Field(exclude=True)` means that the field must not leave the program.
    excluded = {name for name, field in getattr(type(obj), "model_fields", {}).items() if field.exclude}
    return {name: value for name, value in found.items() if not _is_method(value) and name not in excluded}


def _is_method(value: Any) -> bool:
    return inspect.isroutine(value) or isinstance(value, ObjectMethod)


def _is_class_variable(hint: Any) -> bool:
    if isinstance(hint, str):  # as under `from __future__ import annotations`
        return hint.startswith(("ClassVar", "typing.ClassVar"))
    return hint is ClassVar or get_origin(hint) is ClassVar


def _list_documented_methods(obj: Any) -> list[str]:
    names: dict[str, bool] = {}
    for cls in _list_user_classes(type(obj)):
        for name, member in vars(cls).items():
            if isinstance(member, (staticmethod, classmethod, Tool)) or inspect.isfunction(member):
                # A subclass that overrides a method without a docstring hides it from the model.
                names[name] = bool((getattr(member, "__doc__", None) or "").strip())
    return [
        name for name, is_documented in names.items() if is_documented and name[0] != "_" and name not in _COMPONENT
    ]


def _has_own_text(cls: type) -> bool:
    return any("__str__" in vars(each) for each in _list_user_classes(cls))
