"""Where templates come from: users' folders and packages, then this package; in each, model families first.

- A source is a folder of `Name.jinja2` files. A folder in it, such as `llama/` or `granite-3-2/`, holds those of
  a model family: it counts where its name is part of the model's, compared word by word, and the longest such
  name goes first.
- The source that was added last is searched first, and this package's own last.
- A template that includes or extends another one gets it from its own source, else from this package; a
  source's name and a colon before the other's name chooses (`{% extends "mellea:Instruction.jinja2" %}`).
- What is in a source is read once.

Nothing here needs Jinja2, which takes longer to import than a short prompt takes to send: `environment.py` compiles
what is found here, once a prompt needs it.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

from mellea.errors import UsageError

__all__ = ["PromptTemplate", "add_folder", "add_package", "find_prompt", "find_source", "is_verbatim"]

_OWN = "mellea"
_ENDING = ".jinja2"
_VERBATIM = "{{ content }}"

_INSTRUCTIONS = frozenset({"Instruction.jinja2", "claude/Instruction.jinja2"})

_NO_PARTS: Mapping[str, Any] = {
    "requirements": [],
    "input": None,
    "icl_examples": [],
    "kept_context": {},
    "grounding_context": {},
    "prefix": None,
}
"""The variables of an instruction's template besides its description, with the values of a description alone, which
mellea's own templates say as it is.

A test holds the names against those of `Instruction`, and renders each both ways.
"""


@dataclass(frozen=True, slots=True, eq=False)
class PromptTemplate:
    """A template that was found, not compiled yet.

    Args:
        name: its source and path, such as `"mellea:claude/Instruction.jinja2"`.
        text: what is in the file.
        alone: the variable that is the whole text when the others are as in `nothing`; `None` if that isn't known.
        nothing: the other variables, with nothing in them.
    """

    name: str
    text: str
    alone: str | None = None
    nothing: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class TemplateSource:
    """A place that templates come from.

    Args:
        name: what errors and other templates call it.
        root: the folder, which may be inside a zipped package.
        paths: the templates in it.
    """

    name: str
    root: Any  # a Path, or a Traversable of importlib.resources, which isn't imported for a prompt
    paths: frozenset[str]

    @classmethod
    def read(cls, name: str, root: Any) -> TemplateSource:
        """List the templates of a folder, once."""
        return cls(name, root, frozenset(path for path in _list_files(root) if path.endswith(_ENDING)))

    def find(self, name: str, model: str | None) -> str | None:
        """Return the path of the template that fits the model best, `None` if there is none."""
        file = f"{name}{_ENDING}"
        words = _split_name(model or "")
        found = [(rank, path) for path in self.paths if (rank := _rank(path, file, words)) is not None]
        return max(found)[1] if found else None

    def load(self, path: str) -> str:
        """Return the text of a template.

        Raises:
            OSError: there is no such file.
            UnicodeDecodeError: it is not UTF-8.
        """
        text: str = self.root.joinpath(*path.split("/")).read_text("utf-8")
        return text


def _list_files(folder: Any, above: str = "") -> list[str]:
    found: list[str] = []
    for entry in folder.iterdir():
        if entry.is_dir():
            found += _list_files(entry, f"{above}{entry.name}/")
        else:
            found.append(above + entry.name)
    return found


def _rank(path: str, file: str, model: list[str]) -> tuple[int, int] | None:
    """Return how well a template fits: words of the family in the model's name, and how early they occur."""
    family, _, last = path.rpartition("/")
    if last != file or "/" in family:
        return None
    if not family:
        return 0, 0
    words = _split_name(family)
    places = [place for place in range(len(model)) if words and model[place : place + len(words)] == words]
    return (len(words), -places[0]) if places else None


def _split_name(name: str) -> list[str]:
    """Split a model's name, without its owner or folder, as in llama, 3, 2, 1b."""
    return re.findall(r"[a-z]+|\d+[a-z]*", re.split(r"[/\\]", name.lower())[-1])


_own = TemplateSource.read(_OWN, Path(__file__).parent / "prompts")
_added: tuple[TemplateSource, ...] = ()
_named = {_OWN: _own}
"""Every source that was ever read, also for one component alone."""

_lock = threading.Lock()


def add_package(package: str, path: str = "templates/prompts") -> None:
    """Look for templates in a package, before those that come with mellea.

    Args:
        package: name of the package, which is imported.
        path: the folder of templates in it.

    Raises:
        UsageError: there is no such package, or no such folder in it.
    """
    _add(_load_packaged(package, path))


def add_folder(folder: str | Path) -> None:
    """Look for templates in a folder, before those that come with mellea.

    Raises:
        UsageError: there is no such folder.
    """
    path = Path(folder)
    if not path.is_dir():
        raise UsageError(f"there is no folder {str(folder)!r} to take templates from")
    _add(TemplateSource.read(str(folder), path))


@lru_cache(maxsize=1024)
def find_prompt(name: str, model: str | None = None, package: str | None = None) -> PromptTemplate:
    """Return the template of this name that fits the model best, uncompiled.

    Args:
        name: the template's name, without its ending.
        model: the model, as its provider calls it.
        package: the package to search first, added or not.

    Raises:
        UsageError: there is no such template, or it can't be read.
    """
    sources = (*_added, _own)
    if package is not None:
        # Kept by name, since a template may include others of the same package later.
        if package not in _named:
            _named[package] = _load_packaged(package)
        sources = (_named[package], *sources)
    for source in sources:
        path = source.find(name, model)
        if path is not None:
            return _read(source, path)
    places = ", ".join(repr(source.name) for source in sources)
    raise UsageError(
        f"there is no prompt template {name!r} in {places}; "
        "mellea.templates.add_package(…) and add_folder(…) add more places"
    )


def find_source(template: str, parent: str = "") -> tuple[TemplateSource, str] | None:
    """Return the source that a template belongs to, and its path in it; `None` if there is no such source.

    Args:
        template: its path, which may have the name of a source and a colon before it.
        parent: the template that includes or extends it, by source and path.
    """
    name, colon, path = template.rpartition(":")
    if not colon:
        own = _named.get(parent.rpartition(":")[0])
        # Without a source: the including template's own first, then ours.
        name = own.name if own is not None and path in own.paths else _OWN
    source = _named.get(name)
    return None if source is None else (source, path)


def is_verbatim(name: str, model: str | None = None) -> bool:
    """Return whether the template of this name consists of its `content` and nothing else."""
    return find_prompt(name, model, None).alone == "content"


def _read(source: TemplateSource, path: str) -> PromptTemplate:
    name = f"{source.name}:{path}"
    try:
        text = source.load(path)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the prompt template {name!r} can't be read: {error}") from error
    if source is _own and path in _INSTRUCTIONS:
        return PromptTemplate(name, text, "description", _NO_PARTS)
    return PromptTemplate(name, text, "content" if text.strip() == _VERBATIM else None)


def _load_packaged(package: str, path: str = "templates/prompts") -> TemplateSource:
    resources: Any = import_module("importlib.resources")  # lazy: most programs add no package
    try:
        root = resources.files(package).joinpath(*path.split("/"))
        if not root.is_dir():
            raise ValueError("there is no such folder in it")
        return TemplateSource.read(package, root)
    except (ImportError, ValueError, TypeError) as error:
        raise UsageError(f"the package {package!r} has no templates in {path!r}: {error}") from error


def _add(source: TemplateSource) -> None:
    global _added
    with _lock:
        # The latest first; one that is added again moves to the front.
        _added = (source, *[other for other in _added if other.name != source.name])
        _named[source.name] = source
        # Last: names that were found before may now be found elsewhere.
        find_prompt.cache_clear()
