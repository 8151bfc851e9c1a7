"""Jinja2: the sandbox for templates, and the templates compiled in it. Imported by the first prompt that needs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from jinja2 import BaseLoader, Environment, StrictUndefined, Template, TemplateError, TemplateNotFound, Undefined, meta
from jinja2.sandbox import ImmutableSandboxedEnvironment

from mellea.errors import MelleaError, UsageError
from mellea.templates.sources import PromptTemplate, find_source

__all__ = ["Jinja"]


class Jinja:
    """Compiles templates, each once, and fills them.

    Args:
        finalize: turns a template's output into text.
        filters: more filters for templates, by name.
    """

    def __init__(self, finalize: Callable[[Any], str], filters: Mapping[str, Callable[[Any], str]]) -> None:
        self._environment = environment = _Environment(
            # Sandboxed: a template may come from a third-party package, and a description may be built from anything.
            loader=_Loader(),
            # Otherwise a missing name would render as nothing, which goes unnoticed in a prompt.
            undefined=StrictUndefined,
            # A tag alone on its line leaves no line behind, so templates can be indented without indenting the prompt.
            trim_blocks=True,
            lstrip_blocks=True,
            autoescape=False,  # prompts are plain text
            finalize=_refuse_undefined(finalize),
        )
        environment.filters.update({name: _refuse_undefined(turn) for name, turn in filters.items()})
        self.load = lru_cache(maxsize=1024)(self._load)
        self.names_in = lru_cache(maxsize=256)(self._find_names)
        self._compile = lru_cache(maxsize=256)(self._compile_text)

    def render(self, prompt: PromptTemplate, args: Mapping[str, Any]) -> str:
        """Return the text of a template.

        Raises:
            UsageError: Jinja2 can't read the template, or it can't be filled.
        """
        return _fill(self.load(prompt), args, f"the template {prompt.name!r}")

    def render_text(self, template: str, args: Mapping[str, Any]) -> str:
        """Return the text of a template that is in no file.

        Raises:
            UsageError: it is not a template, or it can't be filled.
        """
        return _fill(self._compile(template), args, f"the description {template[:60]!r}")

    def _load(self, prompt: PromptTemplate) -> Template:
        try:
            return self._environment.get_template(prompt.name)
        except TemplateError as error:
            raise UsageError(f"the prompt template {prompt.name!r} can't be read: {error}") from error

    def _find_names(self, template: str) -> frozenset[str] | None:
        """Return the variables that a template uses; `None` if it includes templates that may use more."""
        try:
            tree = self._environment.parse(template)
            # `""`: there are none; `None` would be one whose name is only known when it is rendered.
            has_others = next(meta.find_referenced_templates(tree), "") != ""
            names = meta.find_undeclared_variables(tree) - self._environment.globals.keys()
            return None if has_others else frozenset(names)
        except TemplateError:  # rendering reports it
            return None

    def _compile_text(self, template: str) -> Template:
        try:
            return self._environment.from_string(template)
        except Exception as error:
            raise UsageError(
                f"the description {template[:60]!r} is not a template: {error}; "
                "leave out user_variables= if its braces are meant as text"
            ) from error


class _Loader(BaseLoader):
    """Loads `source:path`."""

    def get_source(self, environment: Environment, template: str) -> tuple[str, str | None, Callable[[], bool] | None]:
        found = find_source(template)
        # A name is text like any other: `../../secret` must not be read.
        if found is None or not _is_inside(found[1]):
            raise TemplateNotFound(template)
        source, path = found
        try:
            text = source.load(path)
        except (OSError, UnicodeDecodeError) as error:
            raise TemplateNotFound(template, f"{template!r} can't be read: {error}") from error
        # A folder that is added again counts as a new source, and is read again.
        return text, str(source.root.joinpath(path)), lambda: find_source(template) == found


def _is_inside(path: str) -> bool:
    return "\\" not in path and not {"", ".", ".."}.intersection(path.split("/"))


class _Environment(ImmutableSandboxedEnvironment):
    def join_path(self, template: str, parent: str) -> str:
        """Name the template that another one includes or extends."""
        # Looked up next to the including template first, so that a package's templates include each other by short
        # names.
        found = None if ":" in template else find_source(template, parent)
        return template if found is None else f"{found[0].name}:{found[1]}"


def _refuse_undefined(turn: Callable[[Any], str]) -> Callable[[Any], str]:
    def turn_unless_undefined(value: Any) -> str:
        # Rendering a missing value is an error that names it.
        return turn(value) if type(value) is str or not isinstance(value, Undefined) else str(value)

    return turn_unless_undefined


def _fill(template: Template, args: Mapping[str, Any], what: str) -> str:
    try:
        return template.render(args)
    # The first already says what to do; the second is explained further up, where the value is known.
    except (MelleaError, RecursionError):
        raise
    except Exception as error:  # an expression in it may raise anything
        known = ", ".join(map(repr, args)) or "none"
        said = str(error) if isinstance(error, TemplateError) else f"{type(error).__name__}: {error}"
        raise UsageError(f"{what} can't be filled: {said}; the variables given are {known}") from error
