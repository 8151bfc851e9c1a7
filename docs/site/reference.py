"""The pages of the API reference: one for each public module, with every name that it offers.

A name that several modules offer is described once, where most programs take it from; the others link to it.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from types import ModuleType

import mellea

# Packages whose names are for the inside; what is public of them stands in `mellea` or `mellea.core`.
_INSIDE = ("mellea.__main__", "mellea.cli", "mellea.core.runtime", "mellea.core.structured", "mellea.telemetry.page")
# The first module of these that has a name describes it.
_FIRST = ("mellea", "mellea.errors", "mellea.events", "mellea.tools", "mellea.traces")


def public_modules() -> list[str]:
    """Name the modules that programs import from: the front doors, and each package that has names."""
    found = {module.name for module in pkgutil.walk_packages(mellea.__path__, "mellea.") if _is_public(module)}
    for module in list(found):
        values = [getattr(importlib.import_module(module), name) for name in _names(module)]
        found |= {value.__name__ for value in values if isinstance(value, ModuleType)}
    return [*_FIRST, *sorted(name for name in found if name not in _FIRST and _names(name))]


def _is_public(module: pkgutil.ModuleInfo) -> bool:
    if module.name.startswith(_INSIDE) or any(part.startswith("_") for part in module.name.split(".")):
        return False
    return module.ispkg or module.name.count(".") == 1


def public_names() -> Iterator[tuple[str, str, str | None]]:
    """Yield module, name, and the module that describes it if that is another one."""
    described: dict[int | str, str] = {}
    for module in public_modules():
        for name in _names(module):
            value = getattr(importlib.import_module(module), name)
            if isinstance(value, ModuleType):
                yield module, name, value.__name__
                continue
            key = id(value)
            first = described.setdefault(key, f"{module}.{name}")
            yield module, name, None if first == f"{module}.{name}" else first


def reference_pages() -> dict[str, str]:
    """Return the pages' Markdown by their paths: what a module is for, a table of its names, then each name."""
    modules = public_modules()
    names: dict[str, list[tuple[str, str | None]]] = {}
    for module, name, home in public_names():
        names.setdefault(module, []).append((name, home))
    pages = {}
    for module, offered in names.items():
        described = [_describe(f"{module}.{name}") for name, home in offered if home is None]
        lines = [f"# {module}", "", f"::: {module}", *_OPTIONS_OF_MODULE, "", "| name | what it is |", "|---|---|"]
        lines += [_outline(module, name, home, modules) for name, home in offered]
        pages[f"reference/{module}.md"] = "\n".join([*lines, "", *("\n".join(part) + "\n" for part in described)])
    return pages


def _outline(module: str, name: str, home: str | None, modules: list[str]) -> str:
    """One line of the table: the name, which leads to its description, and the first line of that."""
    value = getattr(importlib.import_module(module), name)
    goal = f"({home}.md)" if home in modules else f"[{find_path(home or f'{module}.{name}')}]"
    return f"| [`{name}`]{goal} | {_first_line(value)} |"


def _first_line(value: object) -> str:
    # A constant has the docstring of its type, which isn't about it.
    says = isinstance(value, (type, ModuleType)) or inspect.isroutine(value) or hasattr(value, "__wrapped__")
    return (inspect.getdoc(value) or "").split("\n")[0].replace("|", "\\|") if says else ""


def _describe(shown: str) -> list[str]:
    path = find_path(shown)
    return [f"::: {path}"] if path == shown else [f"::: {path}", "    options:", f"      heading: {shown}"]


def find_path(shown: str) -> str:
    """Return the whole path of what has the name of its module, such as `mellea.tool`: a short one means the module."""
    module, _, name = shown.rpartition(".")
    home = getattr(getattr(importlib.import_module(module), name), "__module__", None) or ""
    return f"{home}.{name}" if home.rpartition(".")[2] == name else shown


_OPTIONS_OF_MODULE = (
    "    options:",
    "      members: false",
    "      show_root_heading: false",
    "      show_root_toc_entry: false",
)


def _names(module: str) -> list[str]:
    # `mellea.map` isn't in `__all__`, so that a star import leaves Python's own `map` alone.
    own = getattr(importlib.import_module(module), "_HOMES" if module == "mellea" else "__all__", ())
    return sorted(own, key=str.lower)
