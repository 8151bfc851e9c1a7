"""Instructions: a task for a model, with everything that belongs to it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mellea.core.accumulator import Generation
from mellea.core.blocks import CBlock, ImageBlock
from mellea.core.component import TemplateRepresentation, walk
from mellea.core.requirement import Requirement
from mellea.core.thunk import ModelOutputThunk
from mellea.errors import UsageError
from mellea.templates import check_variables

__all__ = ["Instruction"]


@dataclass(frozen=True, slots=True)
class Instruction:
    """A task for a model.

    Args:
        description: the task in words. With `user_variables`, `{{name}}` in it is a placeholder. Nothing else is a
            template.
        requirements: what the output has to meet, in the order of the prompt; texts or `Requirement`s.
        input: a value that the task is about; anything but a text is rendered as JSON.
        images: images that the task is about.
        icl_examples: examples of what is wanted.
        grounding_context: texts that the answer is to be based on, by name. Those with a `CBlock(cache=True)` in
            them are before the task, so that calls with other tasks can reuse them.
        user_variables: values for the description, which has a placeholder for each; never read as templates
            themselves.
        prefix: text before the description.
        output_prefix: the beginning of the output.
        name: a name for the task, which observers see.

    Raises:
        UsageError: the description is empty or not text, a variable has no placeholder, or another argument has a wrong
            type.
    """

    description: str | CBlock | ModelOutputThunk[Any]
    requirements: tuple[str | Requirement, ...] = ()
    input: Any = None
    images: tuple[ImageBlock, ...] = ()
    icl_examples: tuple[Any, ...] = ()
    grounding_context: Mapping[str, Any] = field(default_factory=dict)
    user_variables: Mapping[str, Any] = field(default_factory=dict)
    prefix: str | CBlock | None = None
    output_prefix: str | CBlock | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        if type(self.description) is not str or not self.description.strip():  # rare
            _check_text("description", self.description, ModelOutputThunk)
        for name in ("prefix", "output_prefix", "name"):
            if (text := getattr(self, name)) is not None:
                _check_text(name, text)
        if {type(self.requirements), type(self.images), type(self.icl_examples)} != {tuple}:
            for name in ("requirements", "images", "icl_examples"):
                _freeze_sequence(self, name)
        for name in ("grounding_context", "user_variables"):
            if type(value := getattr(self, name)) is dict and not value:
                object.__setattr__(self, name, {})  # it may be the caller's
            else:
                _freeze_mapping(self, name)
        if self.requirements or self.images:
            _check_items(self)
        if self.user_variables:
            _check_variables(self)

    def parts(self) -> Sequence[Any]:
        """Return all values in the instruction; thunks among them are awaited before it is rendered."""
        several = filter(None, (self.icl_examples, self.grounding_context, self.user_variables))
        return [self.description, self.input, *several, *self.images]

    def format_for_llm(self) -> TemplateRepresentation:
        """Return the instruction's template and values.

        All but the description are in `_NO_PARTS` of `templates/sources.py`, too.
        """
        # What the provider should cache goes first, since a cache holds prefixes of prompts.
        context = self.grounding_context
        kept = {name: text for name, text in context.items() if _is_cached(text)} if context else context
        shown = [str(item) for item in self.requirements if not _is_hidden(item)] if self.requirements else []
        args = {
            "description": self._fill_description() if self.user_variables else self.description,
            "requirements": shown,
            "input": self.input,
            "icl_examples": self.icl_examples or [],
            "kept_context": kept,
            "grounding_context": {name: text for name, text in context.items() if name not in kept}
            if kept
            else context,
            "prefix": self.prefix,
        }
        return TemplateRepresentation("Instruction", args, self.images)

    def _fill_description(self) -> Any:
        cache = _is_cached(self.description)
        return TemplateRepresentation(str(self.description), self.user_variables, is_inline=True, cache=cache)

    def parse(self, generation: Generation) -> str:
        """Return the text of the answer."""
        return generation.text


def _is_hidden(requirement: str | Requirement) -> bool:
    # A model that reads such a requirement may try to satisfy it in words; it is only checked.
    return isinstance(requirement, Requirement) and (requirement.check_only or requirement.description is None)


def _is_cached(text: Any) -> bool:
    return any(isinstance(part, CBlock) and part.cache for part in walk(text))


def _check_text(name: str, value: Any, *others: type) -> None:
    if not isinstance(value, (str, CBlock, *others)):
        is_said = name == "description" and isinstance(value, (list, tuple, dict))
        hint = "; m.chat(…) and m.stream(…) take a list of messages" if is_said else ""
        raise UsageError(f"{name} takes a string, not {value!r}{hint}")
    if isinstance(value, (str, CBlock)) and not str(value).strip():
        raise UsageError(f"{name} is empty: {value!r}; say what the model is to do")


def _check_items(instruction: Instruction) -> None:
    for requirement in instruction.requirements:
        if not isinstance(requirement, (str, Requirement)):
            raise UsageError(
                f"requirements takes strings and Requirements, not {requirement!r}; "
                "req(…, validation_fn=simple_validate(…)) makes one of a function of the text"
            )
    for image in instruction.images:
        if not isinstance(image, ImageBlock):
            raise UsageError(f"images takes ImageBlocks, not {image!r}; ImageBlock.from_path(…) reads a file")


def _check_variables(instruction: Instruction) -> None:
    """Reject variables that no placeholder uses."""
    description = instruction.description
    # A model's text may contain `{{…}}`, and would then decide what the prompt shows.
    if isinstance(description, ModelOutputThunk):
        raise UsageError(
            "user_variables fills in a description that the program writes; a text that a model wrote is never a "
            "template, so leave user_variables out, or give the thunk as a variable"
        )
    for name in instruction.user_variables:
        # The whole name: `{{user}}` isn't a placeholder for `use`.
        placeholder = re.compile(rf"\{{\{{-?\s*{re.escape(name)}\b")
        for argument, text in _list_other_texts(instruction):
            if placeholder.search(text):
                raise UsageError(
                    f"{text[:60]!r} in {argument} has a placeholder for {name!r}, but only the description is filled "
                    f"in: write {{{{{name}}}}} there, and the value itself in {argument}"
                )
    check_variables(str(description), instruction.user_variables)


def _list_other_texts(instruction: Instruction) -> Iterator[tuple[str, str]]:
    for requirement in instruction.requirements:
        yield "requirements", str(requirement)
    for name in ("prefix", "output_prefix"):
        text = getattr(instruction, name)
        if text is not None:
            yield name, str(text)


def _freeze_sequence(instruction: Instruction, name: str) -> None:
    value = getattr(instruction, name)
    if type(value) is tuple:
        return
    if value is None:
        value = ()
    if isinstance(value, (str, bytes)) or not isinstance(value, Sequence):
        raise UsageError(f"{name} takes a list, not {value!r}; put it into one")
    object.__setattr__(instruction, name, tuple(value))


def _freeze_mapping(instruction: Instruction, name: str) -> None:
    value = getattr(instruction, name)
    if value is None:
        value = {}
    if not isinstance(value, (dict, Mapping)) or not all(isinstance(key, str) for key in value):
        raise UsageError(f"{name} takes a dict with names as keys, not {value!r}")
    object.__setattr__(instruction, name, dict(value))
