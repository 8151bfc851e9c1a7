"""Makes prompts from functions and their arguments: from the docstring's sections, or from the body's result."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import re
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mellea.core.accumulator import Generation
from mellea.core.arguments import find_advice
from mellea.core.blocks import CBlock
from mellea.core.component import is_component
from mellea.core.runtime.tasks import find_outcome
from mellea.core.thunk import ModelOutputThunk
from mellea.errors import ConfigurationError, UsageError
from mellea.stdlib.generative.argument_types import ArgumentTypes
from mellea.stdlib.generative.settings import RESERVED, WAYS
from mellea.stdlib.tools.defaults import FieldDefaults
from mellea.stdlib.tools.docstring import parse_docstring
from mellea.stdlib.tools.signature import get_name, resolve_type_hints
from mellea.stdlib.verb import InstructArguments
from mellea.templates import to_text

__all__ = ["Arguments", "BodyWording", "BoundArguments", "DocstringWording", "Prompt", "Wording"]


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt: the description, and the other arguments for `instruct`."""

    description: Any
    parts: InstructArguments = field(default_factory=InstructArguments)


@dataclass(frozen=True, slots=True)
class BoundArguments:
    """The arguments of one call of a prompt function.

    Attributes:
        args: the positional ones as they were given, for the function's body.
        kwargs: the named ones as they were given.
        values: all of them by name, defaults included. For a method, its object is among them under the name of
            its class if it can be rendered (a component, a dataclass or a pydantic model), else left out.
    """

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    values: Mapping[str, Any]


class DocstringWording:
    """Makes the prompt from the function's docstring and the arguments of the call.

    The text of the docstring is the task, with its sections on the result and its notes. Its arguments section
    explains the arguments, which follow the task; its examples become `icl_examples`.

    Args:
        function: the function, whose body is never run.

    Raises:
        UsageError: it is not a function, or a parameter has a name that calls keep for themselves.
    """

    needs_values = False
    """Whether the prompt depends on the values of the arguments, so that thunks among them have to be awaited first."""

    def __init__(self, function: Callable[..., Any]) -> None:
        if isinstance(function, (staticmethod, classmethod)):
            kind = type(function).__name__
            raise UsageError(
                f"a prompt is made from a function, and {function.__name__}() is a @{kind} already; put @{kind} on top"
            )
        if isinstance(function, type):
            raise UsageError(f"a prompt is made from a function, not from the class {function!r}")
        self.name = get_name(function)
        try:
            self._signature = inspect.signature(function)
        except (TypeError, ValueError):
            raise UsageError(f"a prompt is made from a function, not from {function!r}") from None
        # A call couldn't distinguish such an argument from its own option.
        if taken := next((name for name in self._signature.parameters if name in RESERVED), None):
            raise UsageError(f"{self.name}() has a parameter {taken!r}, a name that is reserved for calls; rename it")
        self._doc = parse_docstring(inspect.getdoc(function))
        self._fields = FieldDefaults(f"{self.name}()", self._signature, functools.partial(_find_hints, function))
        self._types = ArgumentTypes(function, f"{self.name}()", self._signature)
        # A `Field(…)` checks values, and a thunk has none yet.
        self.needs_values = self.needs_values or bool(self._fields)
        self._is_method = next(iter(self._signature.parameters), "") in ("self", "cls")

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> BoundArguments:
        """Bind the arguments of a call to the parameters.

        Raises:
            UsageError: one is missing, there is one too many, or one is of another type.
        """
        try:
            bound = self._signature.bind(*args, **kwargs)
        except TypeError as error:
            # Advice is only possible for a misspelt or foreign name; Python's own message names a missing argument.
            unknown = next((name for name in kwargs if name not in self._signature.parameters), None)
            ways = {name: way for name, way in WAYS.items() if name not in self._signature.parameters}
            advice = "" if unknown is None else f"; {find_advice(unknown, self._find_names(), ways)}"
            raise UsageError(
                f"{self.name}() can't be called like this: {error}; it is {self.name}{self._fields.shown}{advice}"
            ) from None
        self._types.check(bound.arguments)
        bound.apply_defaults()
        if self._fields:
            self._fields.fill(bound)
            args, kwargs = bound.args, bound.kwargs
        values = dict(bound.arguments)
        if self._is_method:
            # The object goes by the name of its class, since `self` would tell the model nothing.
            owner = values.pop(next(iter(values)))
            if _is_renderable(owner):
                values = {type(owner).__name__: owner, **values}
        return BoundArguments(args, kwargs, values)

    def _find_names(self) -> tuple[str, ...]:
        return (*self._signature.parameters, *RESERVED[1:])

    async def prompt(self, bound: BoundArguments) -> Prompt:
        """Make the prompt.

        Raises:
            UsageError: an argument isn't what the `Field(…)` of its parameter allows.
        """
        return self.prompt_now(self._check_fields(bound))

    def _check_fields(self, bound: BoundArguments) -> BoundArguments:
        """Check and convert the arguments whose parameters have a `Field(…)`."""
        if not self._fields:
            return bound
        checked = self._fields.check(bound.values)
        # Bound once more, so that the body gets the converted values in the positions that it was called with.
        again = self._signature.bind(*bound.args, **bound.kwargs)
        again.arguments |= checked
        return BoundArguments(again.args, again.kwargs, {**bound.values, **checked})

    def prompt_now(self, bound: BoundArguments) -> Prompt:
        """Make the prompt where there is nothing to wait for.

        Raises:
            ConfigurationError: Python has removed the docstring.
        """
        doc = self._doc
        if not doc.text and sys.flags.optimize > 1:  # perhaps it had one; the name is no task
            raise ConfigurationError(
                f"the prompt of {self.name}() is its docstring, and Python runs with -OO (PYTHONOPTIMIZE=2), which "
                "removes docstrings; run it without, or with -O"
            )
        said = [doc.text or _make_sentence(self.name)]
        said += [f"{title}: {doc.sections[title]}" for title in ("Returns", "Notes") if title in doc.sections]
        parts: InstructArguments = {"name": self.name}
        # Values are no part of the template: a value with `{{…}}` in it must not be rendered.
        if bound.values:
            parts["input"] = Arguments(bound.values, {**self._fields.descriptions, **doc.arguments})
        if examples := doc.sections.get("Examples"):
            parts["icl_examples"] = [examples]
        return Prompt("\n\n".join(said), parts)


class BodyWording(DocstringWording):
    """Takes the prompt that the function's body returns; if it returns nothing, makes it as `DocstringWording` does."""

    needs_values = True

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        self._function = function

    async def prompt(self, bound: BoundArguments) -> Prompt:
        """Run the body, in a worker thread unless it is async, and return its prompt.

        Raises:
            UsageError: the body returned something other than a text.
        """
        bound = self._check_fields(bound)
        text = await find_outcome(functools.partial(self._function, *bound.args, **bound.kwargs))
        # A body with only a docstring: the prompt is the same as for a generative function.
        if text is None:
            return self.prompt_now(bound)
        if not isinstance(text, (str, CBlock, ModelOutputThunk)):
            raise UsageError(f"the body of {self.name}() has to return the prompt, which is a string, not {text!r}")
        return Prompt(text, {"name": self.name})


Wording = DocstringWording | BodyWording


def _find_hints(function: Callable[..., Any], names: Collection[str]) -> Mapping[str, Any]:
    try:
        return resolve_type_hints(function, "", of=names)
    except UsageError:  # a name isn't known any more; `Field(…)` is checked anyway
        return {}


def _is_renderable(owner: Any) -> bool:
    if isinstance(owner, type):
        return False
    return is_component(owner) or dataclasses.is_dataclass(owner) or hasattr(type(owner), "model_fields")


def _make_sentence(name: str) -> str:
    # Without a docstring the task is only known by the name: `classifySentiment` and `classify_sentiment`.
    words = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", name).replace("_", " ").strip()
    return f"{words[:1].upper()}{words[1:]}."


@dataclass(frozen=True, slots=True)
class Arguments:
    """Named values that a prompt is about; thunks among them are awaited before it is rendered.

    Args:
        values: the values by name.
        descriptions: a short description for each value that has one.
    """

    values: Mapping[str, Any]
    descriptions: Mapping[str, str] = field(default_factory=dict)

    def parts(self) -> Sequence[Any]:
        """Return the values."""
        return list(self.values.values())

    def format_for_llm(self) -> str:
        """Return a line for each value; a text of several lines is below its name."""
        return "\n".join(self._render(name, to_text(value)) for name, value in self.values.items())

    def _render(self, name: str, text: str) -> str:
        # A component may render its own heading.
        if text.startswith(f"{name}:"):  # it begins with its own name
            return f"{text.rstrip()}\n"
        description = self.descriptions.get(name)
        label = f"{name} ({description.rstrip('.')})" if description else name
        return f"{label}:\n{text}\n" if "\n" in text else f"{label}: {text}"

    def parse(self, generation: Generation) -> str:
        """Return the text of the answer."""
        return generation.text
