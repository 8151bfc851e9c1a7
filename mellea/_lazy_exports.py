"""Front doors whose names are loaded at their first use, so that a program pays only for what it uses."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec

__all__ = ["lazily"]


_FORMER = "mellea._mellea_08"


class _FormerModules:
    """Finds modules of Mellea 0.8 in a table, which is only loaded if no module of ours has the name."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Return the specification of such a module, or `None`."""
        is_ours = name.startswith("mellea.") and name != _FORMER
        found: ModuleSpec | None = import_module(_FORMER).Loader.find_spec(name) if is_ours else None
        return found


# Python asks this finder last, so every module that exists is found first.
sys.meta_path.append(_FormerModules)


def lazily(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """Return the `__getattr__` of a package: it imports a name from its module and caches it.

    Args:
        package: the package's own name.
        homes: each name, and the module that it comes from; `""` where the name is a module of the package.
    """

    def load(name: str) -> Any:
        if name not in homes:
            if name.startswith("_"):  # what Python and editors look for on any module
                raise AttributeError(f"module {package!r} has no attribute {name!r}")
            return import_module(_FORMER).load(package, name)
        home = homes[name]
        value = getattr(import_module(home), name) if home else import_module(f"{package}.{name}")
        setattr(sys.modules[package], name, value)
        return value

    return load
