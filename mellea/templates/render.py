"""Rendering: a value never becomes a template, and a variable that isn't there is an error.

Values are rendered before a template sees them: texts and thunks become texts, components what their own templates
make of them; lists and dicts stay as they are, for templates that loop over them. What a template then puts
out is text as it is, and anything else as JSON.

A text that the provider is to cache is put out with a mark after it, a random number that is in no other text.
At the end the text is split into blocks at the marks, which are removed.

Two kinds of prompts are the most common, and need no Jinja2: a plain description, and a description with only
`{{name}}` in it. All others are compiled by `environment.py`; a test holds the two ways to the same text.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import re
from collections.abc import Generator, Iterable, Mapping
from functools import cache, lru_cache, partial
from typing import TYPE_CHECKING, Any

from pydantic_core import PydanticSerializationError, to_jsonable_python

from mellea.core.blocks import Block, CBlock, ImageBlock
from mellea.core.component import TemplateRepresentation, fields_in, find_component, is_component, walk
from mellea.core.messages import Message
from mellea.core.thunk import ModelOutputThunk
from mellea.core.values import quick_value
from mellea.errors import UsageError
from mellea.templates.sources import PromptTemplate, find_prompt, is_verbatim

if TYPE_CHECKING:
    from jinja2 import Template

    from mellea.templates.environment import Jinja

__all__ = [
    "Rendered",
    "check_variables",
    "fill",
    "find",
    "find_variables",
    "render",
    "render_blocks",
    "render_messages",
    "to_text",
    "warn_of_placeholder",
]

_log = logging.getLogger("mellea")

_AS_IT_IS = (str, type(None), bool, int, float)
_AS_THEY_ARE = frozenset(_AS_IT_IS)


@quick_value
class Rendered:
    """A rendered component.

    Args:
        blocks: the text; in several blocks where the provider is to remember the prompt up to the end of one.
        images: the images in the component and in all that it is made of.
    """

    blocks: tuple[CBlock, ...]
    images: tuple[ImageBlock, ...] = ()


class _Rendering:
    """What is the same for everything in one rendering.

    Args:
        model: the model it is for.
        has_blocks: whether texts that the provider is to cache are marked.
    """

    __slots__ = ("has_blocks", "images", "mark", "model")

    def __init__(self, model: str | None = None, *, has_blocks: bool = False) -> None:
        self.model = model
        self.has_blocks = has_blocks
        self.mark = ""  # made when the first text needs it
        self.images: list[ImageBlock] = []

    def render_block(self, block: CBlock) -> str:
        """Return a block's text, with the mark if it is to be cached."""
        return _Kept(block.value, self.make_mark()) if block.cache else block.value

    def make_mark(self) -> str:
        """Return what is after texts that are to be cached, or nothing where there are no blocks."""
        if self.has_blocks and not self.mark:
            # Random, so that no untrusted text can contain it and split the prompt.
            self.mark = f"~{int.from_bytes(os.urandom(12))}~"
        return self.mark


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
    return _render_representation(representation, _Rendering(model))


def render_blocks(representation: TemplateRepresentation | str, *, model: str | None = None) -> Rendered:
    """Return the text of a component's representation in blocks, divided after each `CBlock(cache=True)`.

    White space around the whole text is dropped; the arguments and errors are those of `render`.
    """
    alone: Any = representation
    if isinstance(representation, TemplateRepresentation):
        has_more = representation.is_inline or representation.images or representation.cache
        prompt = None if has_more else find_prompt(representation.template, model, representation.package)
        alone = None if prompt is None else _get_alone(prompt, representation.args)
    if type(alone) is str:
        text = alone.strip()
        return Rendered((CBlock(text),) if text else ())
    rendering = _Rendering(model, has_blocks=True)
    text = _render_representation(representation, rendering).strip()
    if not rendering.mark:
        return Rendered((CBlock(text),) if text else (), tuple(rendering.images))
    # Only now, because only the rendered template shows how texts were joined, and the marks move with them.
    *kept, rest = text.split(rendering.mark)
    blocks = [*[CBlock(text, cache=True) for text in kept], CBlock(rest)]
    return Rendered(tuple(block for block in blocks if block.value), tuple(rendering.images))


# -- from components to messages -----------------------------------------------------------------------------


def render_messages(value: Any, model: str | None = None) -> list[Message]:
    """Render a component, a message or a text as messages; every thunk in it has to be computed.

    A component with a method `messages_for_llm(render)` makes them itself, with `render` for what is inside it; where
    that returns `None`, and for all other components, `format_for_llm()` becomes one message from the user.

    Args:
        value: what to render.
        model: the model it is for, whose family may have templates of its own.

    Raises:
        UsageError: the template can't be rendered.
    """
    if isinstance(value, Message):
        return [_render_message(_fill_in_thunks(value), model)]
    if isinstance(value, (str, CBlock)):
        return [Message("user", value)]
    component = find_component(value)
    if component is None:
        raise UsageError(f"expected text, a message or a component, not {value!r}")
    make_own = getattr(type(component), "messages_for_llm", None)
    if make_own is not None and (own := make_own(component, partial(render_messages, model=model))) is not None:
        return [_fill_in_thunks(message) for message in own]
    rendered = render_blocks(component.format_for_llm(), model=model)
    return [Message("user", [*rendered.blocks, *rendered.images])]


def _fill_in_thunks(message: Message) -> Message:
    """Replace computed thunks by their text."""
    if not any(isinstance(block, ModelOutputThunk) for block in message.blocks):
        return message
    # A copy: the message in the context keeps its thunk, which later turns may still need.
    blocks = [CBlock(str(block)) if isinstance(block, ModelOutputThunk) else block for block in message.blocks]
    return Message(message.role, blocks)


def _render_message(message: Message, model: str | None) -> Message:
    if is_verbatim("Message", model):  # as nearly always; a long history has thousands of messages
        return message

    def render_block(block: Block) -> Block:
        if not isinstance(block, CBlock):
            return block
        args = {"role": message.role, "content": block.value}
        return CBlock(render(TemplateRepresentation("Message", args), model=model), cache=block.cache)

    return Message(message.role, [render_block(block) for block in message.blocks])


# -- from components to text ---------------------------------------------------------------------------------


def find(name: str, model: str | None = None, package: str | None = None) -> Template:
    """Return the template of this name that fits the model best, compiled.

    Args:
        name: the template's name, without its ending.
        model: the model, as its provider calls it.
        package: the package to search first, added or not.

    Raises:
        UsageError: there is no such template, or Jinja2 can't read it.
    """
    return _load_jinja().load(find_prompt(name, model, package))


def fill(description: str, variables: Mapping[str, Any], *, model: str | None = None) -> str:
    """Replace the `{{name}}`s of a description by variables.

    Raises:
        UsageError: a variable is missing, or the description is not a template.
    """
    return render(TemplateRepresentation(description, variables, is_inline=True), model=model)


def fill_text(content: Any, variables: Mapping[str, Any] | None) -> Any:
    """Fill in the placeholders of a text; without variables it is returned unchanged.

    Raises:
        UsageError: it is not a text, or a variable has no placeholder.
    """
    if not variables:
        return content
    if not isinstance(content, str):
        raise UsageError(f"user_variables fills in a text, not {content!r}; write the values into it yourself")
    check_variables(content, variables)
    return fill(content, variables)


_warned: set[str] = set()
"""The names of placeholders that a warning was about; it is given once for each, and for a few of them."""

_MOST_WARNINGS = 20
_LONGEST_NAME = 64


def warn_of_placeholder(text: str) -> None:
    """Warn, once for each name, of a placeholder in a text that is sent as it is, since no variables were given."""
    found = _PLACEHOLDER.search(text)
    if found is None or found[1] in _warned or len(_warned) >= _MOST_WARNINGS or len(found[1]) > _LONGEST_NAME:
        return
    _warned.add(found[1])
    _log.warning(
        "the text has {{%s}}, which is sent as it is, since no user_variables={%r: …} were given", found[1], found[1]
    )


def check_variables(description: str, variables: Iterable[str]) -> None:
    """Refuse a variable that no placeholder of the description uses: it would be missing from the prompt.

    Raises:
        UsageError: names the first one.
    """
    used, given = find_variables(description), list(variables)
    if used is None or not used.issubset(given):  # missing values are reported when it is filled
        return
    unused = next((name for name in given if name not in used), None)
    if unused is None:
        return
    # A typical slip of people who are used to `str.format`.
    has_single = re.search(rf"(?<!\{{)\{{{re.escape(unused)}\}}", description) is not None
    others = ", ".join(f"{{{{{name}}}}}" for name in sorted(used))
    slip = f"it has {others}" if others else f"it says {description[:60]!r}"
    slip = f"{{{unused}}}, with single braces, is ordinary text" if has_single else slip
    raise UsageError(
        f"the variable {unused!r} is given, but the description has no placeholder {{{{{unused}}}}} for it: {slip}; "
        f"write {{{{{unused}}}}} there, or leave {unused!r} out of user_variables"
    )


def find_variables(description: str) -> frozenset[str] | None:
    """Return the names that a template takes from outside; `None` where other templates may take some too."""
    pieces = _split(description)
    return _load_jinja().names_in(description) if pieces is None else frozenset(pieces[1::2])


def to_text(value: Any, *, model: str | None = None) -> str:
    """Return a value as prompt text: texts and computed thunks as they are, components rendered, the rest as JSON.

    Raises:
        UsageError: a thunk in it isn't computed, or it has no JSON form.
    """
    if isinstance(value, str):
        return value
    return _put_out(_prepare_whole(value, _Rendering(model)))


def _prepare_whole(value: Any, rendering: _Rendering) -> Any:
    try:
        return _prepare(value, rendering)
    except RecursionError:
        raise UsageError(
            f"a {type(value).__name__} can't be put into a prompt: it is nested too deeply, or contains itself"
        ) from None


def _prepare(value: Any, rendering: _Rendering) -> Any:
    if type(value) in _AS_THEY_ARE or isinstance(value, _AS_IT_IS):
        return value
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_prepare(item, rendering) for item in value]
    # After the plain types, which nearly all values are.
    if isinstance(value, CBlock):
        return rendering.render_block(value)
    # `str` raises if it isn't computed, because partial text must not get into a prompt.
    if isinstance(value, ModelOutputThunk):
        return str(value)
    if isinstance(value, (dict, Mapping)):  # a dict is recognised without checking the abstract class
        return {key: _prepare(item, rendering) for key, item in value.items()}
    return _prepare_object(value, rendering)


def _prepare_object(value: Any, rendering: _Rendering) -> Any:
    if isinstance(value, Message):
        rendering.images.extend(block for block in value.blocks if isinstance(block, ImageBlock))
        said = [block for block in value.blocks if isinstance(block, (CBlock, ModelOutputThunk))]
        return "".join([_put_out(_prepare(block, rendering)) for block in said])
    if isinstance(value, ImageBlock):
        # An image can't be inside text; it goes after the prompt, and the text says which one is meant.
        rendering.images.append(value)
        return f"(image {len(rendering.images)})"
    if isinstance(value, TemplateRepresentation):
        return _render_representation(value, rendering)
    component = find_component(value)
    if component is not None:
        return _render_representation(component.format_for_llm(), rendering)
    if isinstance(value, Generator):
        raise UsageError(
            "a generator can't be put into a prompt, because that would exhaust it; make a list of it first"
        )
    # Field by field if something inside renders itself, because it may have fields that it doesn't show.
    fields = fields_in(value)
    if any(is_component(part) or isinstance(part, (CBlock, ModelOutputThunk)) for part in walk(fields)):
        return {name: _prepare(item, rendering) for name, item in fields.items()}
    return value


def _render_representation(representation: TemplateRepresentation | str, rendering: _Rendering) -> str:
    if isinstance(representation, str):
        return representation
    if not isinstance(representation, TemplateRepresentation):
        raise UsageError(f"format_for_llm() returns a TemplateRepresentation or a text, not {representation!r}")
    if representation.is_inline:
        text = _fill(representation.template, _prepare_args(representation, rendering))
    else:
        prompt = find_prompt(representation.template, rendering.model, representation.package)
        # The short path: most instructions are a single text with an empty template around it, and Jinja2 takes tenths
        # of a millisecond.
        alone: Any = _get_alone(prompt, representation.args)
        if type(alone) is not str:
            args = _prepare_args(representation, rendering)
            alone = _get_alone(prompt, args)
            alone = _load_jinja().render(prompt, args) if alone is None else _trim(alone)
        text = alone.strip("\n")
    # After the parts, whose images are numbered in the text.
    rendering.images.extend(representation.images)
    return text + rendering.make_mark() if representation.cache else text


def _prepare_args(representation: TemplateRepresentation, rendering: _Rendering) -> dict[str, Any]:
    return {
        name: value if type(value) in _AS_THEY_ARE else _prepare_whole(value, rendering)
        for name, value in representation.args.items()
    }


def _get_alone(prompt: PromptTemplate, args: Mapping[str, Any]) -> Any:
    """Return the value that is all the prompt consists of; `None` if there are others, or if that isn't known."""
    if prompt.alone is None:
        return None
    text = args.get(prompt.alone)
    return text if args == {**prompt.nothing, prompt.alone: text} else None


@cache
def _load_jinja() -> Jinja:
    from mellea.templates.environment import Jinja  # lazy: its import takes longer than a short prompt to send

    return Jinja(_put_out, {"block": _trim})


# -- descriptions with nothing but names to fill in ----------------------------------------------------------

_PLACEHOLDER = re.compile(r"\{\{\s*([A-Za-z_][A-Za-z0-9_]*)\s*\}\}")

_CONSTANTS = ("True", "False", "None", "true", "false", "none")
_OPERATORS = ("and", "or", "not", "in", "is", "if", "else")
_GLOBALS = ("range", "dict", "lipsum", "cycler", "joiner", "namespace")
_LOCALS = ("self", "super", "caller", "varargs", "kwargs", "loop")
_JINJAS_OWN = frozenset((*_CONSTANTS, *_OPERATORS, *_GLOBALS, *_LOCALS))
"""Names that mean something in a template by themselves."""


@lru_cache(maxsize=256)
def _split(description: str) -> tuple[str, ...] | None:
    """Split a description into texts and the names between them; `None` if it needs Jinja2 to be read.

    Jinja2 reads `{%` and `{#` as its own, turns every kind of line end into `\\n`, and drops the last one.
    """
    pieces = tuple(_PLACEHOLDER.split(description))
    is_simple = (
        "\r" not in description
        and not any(text.endswith("{") or "{{" in text or "{%" in text or "{#" in text for text in pieces[::2])
        and _JINJAS_OWN.isdisjoint(pieces[1::2])
    )
    return (*pieces[:-1], pieces[-1].removesuffix("\n")) if is_simple else None


def _fill(description: str, args: Mapping[str, Any]) -> str:
    pieces = _split(description)
    # If a name is missing, Jinja2 raises the error, which says which one and what is available.
    if pieces is None or not all(name in args for name in pieces[1::2]):
        return _load_jinja().render_text(description, args)
    texts = list(pieces)
    texts[1::2] = [_put_out(args[name]) for name in pieces[1::2]]
    return "".join(texts)


# -- from values to text -------------------------------------------------------------------------------------


def _put_out(value: Any) -> str:
    """Turn what a template puts out into text."""
    if isinstance(value, str):
        # `format` turns it into plain text, so that the mark is appended only once.
        return f"{value:s}{value.mark}" if isinstance(value, _Kept) else value
    return _to_json(value)


def _trim(value: Any) -> str:
    """Turn a value into text without empty lines before and after it; a filter for templates."""
    if isinstance(value, _Kept):
        return value.strip("\n") + value.mark
    return _put_out(value).strip("\n")


def _to_json(value: Any) -> str:
    try:
        return json.dumps(to_jsonable_python(value, fallback=_make_plain), ensure_ascii=False)
    except (PydanticSerializationError, ValueError) as error:
        shown = repr(value)[:200]
        raise UsageError(
            f"{shown} can't be put into a prompt: {error}; convert it with str() first, or leave it out, as "
            "mify(…, fields_exclude=…) does with an object's field"
        ) from error


def _make_plain(value: Any) -> Any:
    # Inside a value that pydantic serialises, such as a model's field.
    if isinstance(value, (CBlock, ModelOutputThunk)) or is_component(value):
        return to_text(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, os.PathLike):
        # pydantic_core only knows `pathlib`, but other classes may be paths as well.
        return os.fspath(value)
    raise ValueError(f"{type(value).__name__} has no JSON form")
