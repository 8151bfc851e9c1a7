"""Rendering: a value never becomes a template, and a variable that isn't there is an error.

Values are said before a template sees them: texts and thunks become texts, components what their own templates
make of them; lists and dicts stay what they are, for templates that go through them. What a template then puts
out is text as it is, and anything else as JSON.

A text that is to be remembered by the provider is put out with a mark behind it, a random number that stands in no
other text. At the end the marks divide the whole into blocks, and are gone.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import secrets
from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from jinja2 import Template, TemplateError, Undefined, meta
from pydantic_core import PydanticSerializationError, to_jsonable_python

from mellea.core.blocks import CBlock, ImageBlock
from mellea.core.component import TemplateRepresentation, component_of, fields_in, is_component, walk
from mellea.core.messages import Message
from mellea.core.thunk import ModelOutputThunk
from mellea.errors import MelleaError, UsageError
from mellea.templates.sources import ENVIRONMENT, find

__all__ = ["Rendered", "check_variables", "fill", "render", "render_blocks", "to_text"]

_AS_IT_IS = (str, type(None), bool, int, float)


@dataclass(frozen=True, slots=True)
class Rendered:
    """What a component has become.

    Args:
        blocks: the text; in several blocks where the provider is to remember the prompt up to the end of one.
        images: the images in the component and in all that it is made of.
    """

    blocks: tuple[CBlock, ...]
    images: tuple[ImageBlock, ...] = ()


@dataclass(frozen=True, slots=True)
class _Voice:
    """What is the same for all that is said in one go: for which model, the mark, and the images found so far."""

    model: str | None = None
    mark: str = ""
    images: list[ImageBlock] = field(default_factory=list)


class _Kept(str):
    """A text that the provider is to remember; what a filter makes of it is an ordinary text again."""

    mark: str

    def __new__(cls, text: str, mark: str) -> _Kept:
        kept = super().__new__(cls, text)
        kept.mark = mark
        return kept


def render(representation: TemplateRepresentation | str, *, model: str | None = None) -> str:
    """Return the text of a component's representation; a text stays as it is.

    Args:
        representation: what `format_for_llm()` returns.
        model: the model it is for, whose family may have templates of its own.

    Raises:
        UsageError: there is no such template, or a value is missing.
    """
    return _representation(representation, _Voice(model))


def render_blocks(representation: TemplateRepresentation | str, *, model: str | None = None) -> Rendered:
    """Return the text of a component's representation in blocks, divided behind each `CBlock(cache=True)`.

    White space around the whole text is dropped; the arguments and errors are those of `render`.
    """
    voice = _Voice(model, f"~{secrets.randbits(96)}~")
    *kept, rest = _representation(representation, voice).strip().split(voice.mark)
    blocks = [*[CBlock(text, cache=True) for text in kept], CBlock(rest)]
    return Rendered(tuple(block for block in blocks if block.value), tuple(voice.images))


def fill(description: str, variables: Mapping[str, Any], *, model: str | None = None) -> str:
    """Put variables into a description, where it says `{{name}}`.

    Raises:
        UsageError: a variable is missing, or the description is not a template.
    """
    return render(TemplateRepresentation(description, variables, is_inline=True), model=model)


def check_variables(description: str, variables: Iterable[str]) -> None:
    """Refuse a variable that no placeholder of the description uses: it would be missing from the prompt.

    Raises:
        UsageError: names the first one.
    """
    used, given = _used_variables(description), list(variables)
    if used is None or not used.issubset(given):  # what is missing is told where it is filled
        return
    unused = next((name for name in given if name not in used), None)
    if unused is None:
        return
    has_single = re.search(rf"(?<!\{{)\{{{re.escape(unused)}\}}", description) is not None
    others = ", ".join(f"{{{{{name}}}}}" for name in sorted(used))
    slip = f"it has {others}" if others else f"it says {description[:60]!r}"
    slip = f"{{{unused}}}, with single braces, is ordinary text" if has_single else slip
    raise UsageError(
        f"the variable {unused!r} is given, but the description has no placeholder {{{{{unused}}}}} for it: {slip}; "
        f"write {{{{{unused}}}}} there, or leave {unused!r} out of user_variables"
    )


@lru_cache(maxsize=256)
def _used_variables(description: str) -> frozenset[str] | None:
    """Return the names that a template takes from outside; `None` where other templates may take some too."""
    try:
        tree = ENVIRONMENT.parse(description)
        has_others = next(meta.find_referenced_templates(tree), "") != ""
        return None if has_others else frozenset(meta.find_undeclared_variables(tree) - ENVIRONMENT.globals.keys())
    except TemplateError:  # which is told where it is filled
        return None


def to_text(value: Any, *, model: str | None = None) -> str:
    """Say a value in a prompt: texts and computed thunks as they are, components rendered, the rest as JSON.

    Raises:
        UsageError: a thunk in it isn't computed, or it has no JSON form.
    """
    if isinstance(value, str):
        return value
    return _put_out(_said_whole(value, _Voice(model)))


def _said_whole(value: Any, voice: _Voice) -> Any:
    try:
        return _said(value, voice)
    except RecursionError:
        raise UsageError(
            f"a {type(value).__name__} can't be said in a prompt: it is nested too deep, or contains itself"
        ) from None


def _said(value: Any, voice: _Voice) -> Any:
    if isinstance(value, _AS_IT_IS):
        return value
    if isinstance(value, CBlock):
        return _Kept(value.value, voice.mark) if value.cache else value.value
    if isinstance(value, ModelOutputThunk):
        return str(value)
    if isinstance(value, Mapping):
        return {key: _said(item, voice) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_said(item, voice) for item in value]
    return _said_object(value, voice)


def _said_object(value: Any, voice: _Voice) -> Any:
    if isinstance(value, Message):
        voice.images.extend(block for block in value.blocks if isinstance(block, ImageBlock))
        said = [block for block in value.blocks if isinstance(block, (CBlock, ModelOutputThunk))]
        return "".join([_put_out(_said(block, voice)) for block in said])
    if isinstance(value, ImageBlock):
        voice.images.append(value)
        return f"(image {len(voice.images)})"
    if isinstance(value, TemplateRepresentation):
        return _representation(value, voice)
    component = component_of(value)
    if component is not None:
        return _representation(component.format_for_llm(), voice)
    if isinstance(value, Generator):
        raise UsageError("a generator can't be said in a prompt, which would use it up; make a list of it first")
    # Field by field where something inside says itself, and may have fields that it doesn't show.
    fields = fields_in(value)
    if any(is_component(part) or isinstance(part, (CBlock, ModelOutputThunk)) for part in walk(fields)):
        return {name: _said(item, voice) for name, item in fields.items()}
    return value


def _representation(representation: TemplateRepresentation | str, voice: _Voice) -> str:
    if isinstance(representation, str):
        return representation
    if not isinstance(representation, TemplateRepresentation):
        raise UsageError(f"format_for_llm() returns a TemplateRepresentation or a text, not {representation!r}")
    args = {name: _said_whole(value, voice) for name, value in representation.args.items()}
    voice.images.extend(representation.images)
    if representation.is_inline:
        what = f"the description {representation.template[:60]!r}"
        text = _filled(_compiled(representation.template), args, what)
    else:
        template = find(representation.template, voice.model, representation.package)
        text = _filled(template, args, f"the template {representation.template!r}").strip("\n")
    return text + voice.mark if representation.cache else text


def _put_out(value: Any) -> str:
    """Turn what a template puts out into text."""
    if isinstance(value, str):
        return f"{value:s}{value.mark}" if isinstance(value, _Kept) else value
    if isinstance(value, Undefined):
        return str(value)  # which raises
    return _to_json(value)


def _trimmed(value: Any) -> str:
    """Turn a value into text without empty lines before and after it; a filter for templates."""
    if isinstance(value, _Kept):
        return value.strip("\n") + value.mark
    return _put_out(value).strip("\n")


ENVIRONMENT.finalize = _put_out
ENVIRONMENT.filters["block"] = _trimmed


def _to_json(value: Any) -> str:
    try:
        return json.dumps(to_jsonable_python(value, fallback=_plain), ensure_ascii=False)
    except (PydanticSerializationError, ValueError) as error:
        shown = repr(value)[:200]
        raise UsageError(
            f"{shown} can't be said in a prompt: {error}; convert it with str() first, or leave it out, as "
            "mify(…, fields_exclude=…) does with an object's field"
        ) from error


def _plain(value: Any) -> Any:
    if isinstance(value, (CBlock, ModelOutputThunk)) or is_component(value):
        return to_text(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise ValueError(f"{type(value).__name__} has no JSON form")


@lru_cache(maxsize=256)
def _compiled(description: str) -> Template:
    try:
        return ENVIRONMENT.from_string(description)
    except Exception as error:
        raise UsageError(
            f"the description {description[:60]!r} is not a template: {error}; "
            "leave out user_variables= if its braces are meant as text"
        ) from error


def _filled(template: Template, args: Mapping[str, Any], what: str) -> str:
    try:
        return template.render(args)
    except (MelleaError, RecursionError):
        raise
    except Exception as error:  # an expression in it may fail with anything
        known = ", ".join(map(repr, args)) or "none"
        said = str(error) if isinstance(error, TemplateError) else f"{type(error).__name__}: {error}"
        raise UsageError(f"{what} can't be filled: {said}; the variables given are {known}") from error
