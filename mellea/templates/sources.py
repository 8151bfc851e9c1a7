"""Where templates come from: users' folders and packages, then this package; in each, model families first.

- A source is a folder of `Name.jinja2` files. A folder in it, such as `llama/` or `granite-3-2/`, holds those of
  a model family: it counts where its name is part of the model's, compared word by word, and the longest such
  name goes first.
- The source that was added last is looked through first, and this package's own last.
- A template that includes or extends another one gets it from its own source, else from this package; a
  source's name and a colon before the other's name chooses (`{% extends "mellea:Instruction.jinja2" %}`).
- What is in a source is read once.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from jinja2 import (
    BaseLoader,
    Environment,
    FileSystemLoader,
    PackageLoader,
    StrictUndefined,
    Template,
    TemplateError,
    TemplateNotFound,
)
from jinja2.sandbox import ImmutableSandboxedEnvironment

from mellea.errors import UsageError

__all__ = ["ENVIRONMENT", "add_folder", "add_package", "find", "is_verbatim"]

_OWN = "mellea"
_ENDING = ".jinja2"
_VERBATIM = "{{ content }}"


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """A place that templates come from.

    Args:
        name: what errors and other templates call it.
        loader: reads it.
        paths: the templates in it.
    """

    name: str
    loader: BaseLoader
    paths: frozenset[str]

    @classmethod
    def read(cls, name: str, loader: BaseLoader) -> Source:
        """Look through a place once."""
        return cls(name, loader, frozenset(path for path in loader.list_templates() if path.endswith(_ENDING)))

    def find(self, name: str, model: str | None) -> str | None:
        """Return the path of the template that fits the model best, `None` if there is none."""
        file = f"{name}{_ENDING}"
        words = _words(model or "")
        found = [(rank, path) for path in self.paths if (rank := _rank(path, file, words)) is not None]
        return max(found)[1] if found else None


def _rank(path: str, file: str, model: list[str]) -> tuple[int, int] | None:
    """Tell how well a template fits: words of the family in the model's name, and how early they stand."""
    family, _, last = path.rpartition("/")
    if last != file or "/" in family:
        return None
    if not family:
        return 0, 0
    words = _words(family)
    places = [place for place in range(len(model)) if words and model[place : place + len(words)] == words]
    return (len(words), -places[0]) if places else None


def _words(name: str) -> list[str]:
    """Split a model's name, without its owner or folder, as in llama, 3, 2, 1b."""
    return re.findall(r"[a-z]+|\d+[a-z]*", re.split(r"[/\\]", name.lower())[-1])


class _Loader(BaseLoader):
    """Loads `source:path`."""

    def get_source(self, environment: Environment, template: str) -> tuple[str, str | None, Callable[[], bool] | None]:
        name, _, path = template.rpartition(":")
        if name not in _named:
            raise TemplateNotFound(template)
        return _named[name].loader.get_source(environment, path)


class _Environment(ImmutableSandboxedEnvironment):
    def join_path(self, template: str, parent: str) -> str:
        """Name the template that another one includes or extends."""
        if ":" in template:
            return template
        name = parent.rpartition(":")[0]
        is_there = name in _named and template in _named[name].paths
        return f"{name if is_there else _OWN}:{template}"


ENVIRONMENT = _Environment(
    loader=_Loader(),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    autoescape=False,  # prompts are plain text
    auto_reload=False,  # a look at the file for each prompt would be in vain
)
"""What templates run in: a sandbox, in which a variable that isn't there is an error."""

_own = Source.read(_OWN, FileSystemLoader(Path(__file__).parent / "prompts"))
_added: tuple[Source, ...] = ()
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
    _add(_of_package(package, path))


def add_folder(folder: str | Path) -> None:
    """Look for templates in a folder, before those that come with mellea.

    Raises:
        UsageError: there is no such folder.
    """
    path = Path(folder)
    if not path.is_dir():
        raise UsageError(f"there is no folder {str(folder)!r} to take templates from")
    _add(Source.read(str(folder), FileSystemLoader(path)))


def find(name: str, model: str | None = None, package: str | None = None) -> Template:
    """Return the template of this name that fits the model best.

    Args:
        name: the template's name, without its ending.
        model: the model, as its provider calls it.
        package: whose templates are looked through first, added or not.

    Raises:
        UsageError: there is no such template, or it is none that Jinja2 can read.
    """
    return _found(name, model, package)[0]


def is_verbatim(name: str, model: str | None = None) -> bool:
    """Tell whether the template of this name says its `content` and nothing else."""
    return _found(name, model, None)[1]


@lru_cache(maxsize=1024)
def _found(name: str, model: str | None, package: str | None) -> tuple[Template, bool]:
    sources = (*_added, _own)
    if package is not None:
        if package not in _named:
            _named[package] = _of_package(package)
        sources = (_named[package], *sources)
    for source in sources:
        path = source.find(name, model)
        if path is not None:
            return _read(f"{source.name}:{path}", source, path)
    places = ", ".join(repr(source.name) for source in sources)
    raise UsageError(
        f"there is no prompt template {name!r} in {places}; "
        "mellea.templates.add_package(…) and add_folder(…) add more places"
    )


def _read(name: str, source: Source, path: str) -> tuple[Template, bool]:
    try:
        text = source.loader.get_source(ENVIRONMENT, path)[0]
        return ENVIRONMENT.get_template(name), text.strip() == _VERBATIM
    except TemplateError as error:
        raise UsageError(f"the prompt template {name!r} can't be read: {error}") from error


def _of_package(package: str, path: str = "templates/prompts") -> Source:
    try:
        return Source.read(package, PackageLoader(package, path))
    except (ImportError, ValueError) as error:
        raise UsageError(f"the package {package!r} has no templates in {path!r}: {error}") from error


def _add(source: Source) -> None:
    global _added
    with _lock:
        _added = (source, *[other for other in _added if other.name != source.name])
        _named[source.name] = source
        _found.cache_clear()
        if ENVIRONMENT.cache is not None:
            ENVIRONMENT.cache.clear()
