"""From a function and its arguments to a prompt: the docstring's sections, or what the body returns."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from mellea.core.arguments import advice_for
from mellea.core.blocks import CBlock
from mellea.core.component import is_component
from mellea.core.runtime.tasks import outcome_of
from mellea.core.thunk import ModelOutputThunk
from mellea.errors import UsageError
from mellea.stdlib.generative.arguments import Arguments
from mellea.stdlib.generative.settings import RESERVED, WAYS
from mellea.stdlib.tools.defaults import FieldDefaults
from mellea.stdlib.tools.docstring import parse_docstring
from mellea.stdlib.tools.signature import get_name, resolve_type_hints

__all__ = ["BodyWording", "Call", "DocstringWording", "Prompt", "Wording"]


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is said to the model: a description, and what `instruct` takes besides."""

    description: Any
    parts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Call:
    """The arguments of one call.

    Attributes:
        args: as they were given, for the function's body.
        kwargs: likewise.
        values: all of them by name, defaults included. Of a method, the object stands among them under its class's
            name, if it can be said: a component, a dataclass or a pydantic model. Other objects are left out.
    """

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    values: Mapping[str, Any]


class DocstringWording:
    """Words a call by the function's docstring and its arguments.

    The text of the docstring is the task. Its arguments section explains the arguments, which stand below;
    what it says of the result and its notes go with the task; its examples are examples.

    Args:
        function: the function, whose body is never run.

    Raises:
        UsageError: it is not a function, or a parameter has a name that calls keep for themselves.
    """

    needs_values = False
    """Whether the prompt takes the arguments' values, so that it can't be made before they are there."""

    def __init__(self, function: Callable[..., Any]) -> None:
        if isinstance(function, (staticmethod, classmethod)):
            kind = type(function).__name__
            raise UsageError(
                f"a prompt is made of a function, and {function.__name__}() is a @{kind} already; put @{kind} on top"
            )
        if isinstance(function, type):
            raise UsageError(f"a prompt is made of a function, not of the class {function!r}")
        self.name = get_name(function)
        try:
            self._signature = inspect.signature(function)
        except (TypeError, ValueError):
            raise UsageError(f"a prompt is made of a function, not of {function!r}") from None
        if taken := next((name for name in self._signature.parameters if name in RESERVED), None):
            raise UsageError(
                f"{self.name}() has a parameter {taken!r}, a name which its calls keep for themselves; rename it"
            )
        self._doc = parse_docstring(inspect.getdoc(function))
        self._fields = FieldDefaults(f"{self.name}()", self._signature, functools.partial(_hints_of, function))
        self.needs_values = self.needs_values or bool(self._fields)
        self._is_method = next(iter(self._signature.parameters), "") in ("self", "cls")

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Call:
        """Give the arguments of a call to the parameters.

        Raises:
            UsageError: one is missing, or there is one too many.
        """
        try:
            bound = self._signature.bind(*args, **kwargs)
        except TypeError as error:
            unknown = next((name for name in kwargs if name not in self._signature.parameters), None)
            advice = "" if unknown is None else f"; {advice_for(unknown, self._names(), WAYS)}"
            raise UsageError(
                f"{self.name}() can't be called so: {error}; it is {self.name}{self._fields.shown}{advice}"
            ) from None
        bound.apply_defaults()
        if self._fields:
            self._fields.fill(bound)
            args, kwargs = bound.args, bound.kwargs
        values = dict(bound.arguments)
        if self._is_method:
            owner = values.pop(next(iter(values)))
            if _can_be_said(owner):
                values = {type(owner).__name__: owner, **values}
        return Call(args, kwargs, values)

    def _names(self) -> tuple[str, ...]:
        return (*self._signature.parameters, *RESERVED[1:])

    async def prompt(self, call: Call) -> Prompt:
        """Return what to say.

        Raises:
            UsageError: an argument isn't what the `Field(…)` of its parameter allows.
        """
        return self.prompt_now(self._checked(call))

    def _checked(self, call: Call) -> Call:
        """Return the call with the arguments as the fields of its parameters make them."""
        if not self._fields:
            return call
        checked = self._fields.check(call.values)
        bound = self._signature.bind(*call.args, **call.kwargs)
        bound.arguments |= checked
        return Call(bound.args, bound.kwargs, {**call.values, **checked})

    def prompt_now(self, call: Call) -> Prompt:
        """Return what to say, without anything to wait for."""
        doc = self._doc
        said = [doc.text or _in_words(self.name)]
        said += [f"{title}: {doc.sections[title]}" for title in ("Returns", "Notes") if title in doc.sections]
        parts: dict[str, Any] = {"name": self.name}
        if call.values:
            parts["input"] = Arguments(call.values, {**self._fields.descriptions, **doc.arguments})
        if examples := doc.sections.get("Examples"):
            parts["icl_examples"] = [examples]
        return Prompt("\n\n".join(said), parts)


class BodyWording(DocstringWording):
    """Words a call by what the function's body returns; if that is nothing, as `DocstringWording` does."""

    needs_values = True

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        self._function = function

    async def prompt(self, call: Call) -> Prompt:
        """Run the body, a sync one in a worker thread, and return what to say.

        Raises:
            UsageError: the body returned something else than a text.
        """
        call = self._checked(call)
        said = await outcome_of(functools.partial(self._function, *call.args, **call.kwargs))
        if said is None:
            return self.prompt_now(call)
        if not isinstance(said, (str, CBlock, ModelOutputThunk)):
            raise UsageError(f"the body of {self.name}() returns the prompt, a text, not {said!r}")
        return Prompt(said, {"name": self.name})


Wording = DocstringWording | BodyWording


def _hints_of(function: Callable[..., Any], names: Collection[str]) -> Mapping[str, Any]:
    try:
        return resolve_type_hints(function, "", of=names)
    except UsageError:  # a name isn't known any more; what stands in `Field(…)` is checked all the same
        return {}


def _can_be_said(owner: Any) -> bool:
    if isinstance(owner, type):
        return False
    return is_component(owner) or dataclasses.is_dataclass(owner) or hasattr(type(owner), "model_fields")


def _in_words(name: str) -> str:
    words = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", name).replace("_", " ").strip()
    return f"{words[:1].upper()}{words[1:]}."
