"""Rendering, in a sandbox: a value never becomes a template, and a variable that isn't there is an error."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import FileSystemLoader, StrictUndefined, Template, TemplateError, TemplateNotFound
from jinja2.sandbox import ImmutableSandboxedEnvironment
from pydantic_core import PydanticSerializationError, to_jsonable_python

from mellea.core.blocks import CBlock
from mellea.core.component import Component, TemplateRepresentation, is_component
from mellea.core.messages import Message
from mellea.core.thunk import ModelOutputThunk
from mellea.errors import MelleaError, UsageError

__all__ = ["fill", "render", "to_text"]

_environment = ImmutableSandboxedEnvironment(
    loader=FileSystemLoader(Path(__file__).parent / "prompts"),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    autoescape=False,  # prompts are plain text
    auto_reload=False,  # they come with the package; a look at the file for each prompt would be in vain
)


def render(representation: TemplateRepresentation | str) -> str:
    """Return the text of a component's representation; a text stays as it is.

    Raises:
        UsageError: there is no such template, or a value is missing.
    """
    if isinstance(representation, str):
        return representation
    if not isinstance(representation, TemplateRepresentation):
        raise UsageError(f"format_for_llm() returns a TemplateRepresentation or a text, not {representation!r}")
    try:
        template = _environment.get_template(f"{representation.template}.jinja2")
    except TemplateNotFound:
        raise UsageError(f"there is no prompt template {representation.template!r}") from None
    return _render(template, representation.args, f"the template {representation.template!r}")


def fill(description: str, variables: Mapping[str, Any]) -> str:
    """Put variables into a description, where it says `{{name}}`.

    Raises:
        UsageError: a variable is missing, or the description is no template.
    """
    values = {name: to_text(value) for name, value in variables.items()}
    return _render(_compiled(description), values, f"the description {description[:60]!r}")


def to_text(value: Any) -> str:
    """Say a value in a prompt: texts and computed thunks as they are, components rendered, the rest as JSON.

    Raises:
        UsageError: a thunk in it isn't computed, or it has no JSON form.
    """
    if isinstance(value, (str, CBlock, ModelOutputThunk)):
        return str(value)
    if isinstance(value, Message):
        return value.content
    try:
        if is_component(value):
            return render(value.format_for_llm())
        return _to_json(value)
    except RecursionError:
        raise UsageError(
            f"a {type(value).__name__} can't be said in a prompt: it is nested too deep, or contains itself"
        ) from None


def _to_json(value: Any) -> str:
    try:
        return json.dumps(to_jsonable_python(value, fallback=_plain), ensure_ascii=False)
    except (PydanticSerializationError, ValueError) as error:
        shown = repr(value)[:200]
        raise UsageError(f"{shown} can't be said in a prompt: {error}; convert it with str() first") from error


def _plain(value: Any) -> Any:
    if isinstance(value, (CBlock, ModelOutputThunk, Component)):
        return to_text(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    raise ValueError(f"{type(value).__name__} has no JSON form")


@lru_cache(maxsize=256)
def _compiled(description: str) -> Template:
    try:
        return _environment.from_string(description)
    except Exception as error:
        raise UsageError(
            f"the description {description[:60]!r} is no template: {error}; "
            "leave out user_variables= if its braces are meant as text"
        ) from error


def _render(template: Template, args: Mapping[str, Any], what: str) -> str:
    try:
        return template.render(args)
    except MelleaError:
        raise
    except Exception as error:  # an expression in it may fail with anything
        known = ", ".join(map(repr, args)) or "none"
        said = str(error) if isinstance(error, TemplateError) else f"{type(error).__name__}: {error}"
        raise UsageError(f"{what} can't be filled: {said}; the variables given are {known}") from error
