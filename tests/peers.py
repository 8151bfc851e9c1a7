"""The official clients that ours are compared with, loaded by the first test that uses one."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

import pytest


class Peer:
    """A package that is imported at the first use of something in it; each worker lists all tests, few run these.

    Args:
        name: of the package.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith(("_", "pytest", "is")):  # pytest looks at everything in a module of tests
            raise AttributeError(attribute)
        return getattr(importlib.import_module(self._name), attribute)

    @property
    def needed(self) -> pytest.MarkDecorator:
        """The mark of a file whose tests are skipped where the package isn't installed."""
        try:
            is_there = importlib.util.find_spec(self._name) is not None
        except ModuleNotFoundError:  # not even the package around it; others may share that, as with `google`
            is_there = False
        return pytest.mark.skipif(not is_there, reason=f"could not import {self._name!r}: it isn't installed")
