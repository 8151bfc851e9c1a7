"""`mellea doctor`: whether this machine has everything that programs need, and what to do otherwise."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import anyio
import typer
from rich.text import Text

from mellea._version import __version__
from mellea.backends.built_in import DEFAULT_MODEL
from mellea.backends.registry import get_backend, probe
from mellea.cli import output
from mellea.core.masking import is_sensitive
from mellea.core.terminal import make_visible
from mellea.errors import MelleaError
from mellea.telemetry.run_file import read_runs

__all__ = ["doctor"]

_EXTRAS = {
    "local": ("xllamacpp", "the embedded model"),
    "fast": ("httpx-aiohttp", "a faster transport for remote models"),
    "telemetry": ("opentelemetry-sdk", "OpenTelemetry, and `mellea traces export`"),
    "mcp": ("mcp", "MCP tools and servers"),
}

_STYLES = {"ok": "green", "missing": "dim", "wrong": "red"}


def doctor(as_json: output.Json = False) -> None:
    """Check the installation, the settings, and the model.

    The exit code is 1 if something is wrong.
    """
    found = list(_look())
    if output.is_for_people(as_json):
        table = output.table("what", "state", "detail")
        for each in found:
            table.add_row(
                each["what"], Text(each["state"], style=_STYLES[each["state"]]), Text(make_visible(each["detail"]))
            )
        output.draw(table)
    else:
        output.write_json(found)
    if any(each["state"] == "wrong" for each in found):
        raise typer.Exit(1)


def _look() -> Iterator[dict[str, Any]]:
    yield _say("mellea", "ok", f"{__version__} in {Path(__file__).parents[1]}")
    yield _say("python", "ok", f"{platform.python_version()} at {sys.executable}")
    for extra, (package, use) in _EXTRAS.items():
        try:
            yield _say(f"extra {extra}", "ok", f"{package} {version(package)}")
        except PackageNotFoundError:
            yield _say(f"extra {extra}", "missing", f"for {use}: pip install 'mellea[{extra}]'")
    # Only the names, never the values.
    keys = sorted(name for name, value in os.environ.items() if value and name.endswith(("_KEY", "_TOKEN")))
    yield _say("keys", "ok", ", ".join(filter(is_sensitive, keys)) or "none in the environment")
    yield _model()
    yield _record()


def _model() -> dict[str, Any]:
    name = os.environ.get("MELLEA_MODEL", "").strip() or DEFAULT_MODEL
    try:
        # A missing key is reported before anything is sent.
        get_backend(name).check_access()
        said = anyio.run(probe, name)
    except MelleaError as error:
        return _say("model", "wrong", f"{name}: {error}")
    return _say("model", "ok" if said else "wrong", f"{name}: {said.reason}" if said.reason else name)


def _record() -> dict[str, Any]:
    path = os.environ.get("MELLEA_TRACES", "").strip()
    if not path:
        return _say("record", "missing", "MELLEA_TRACES=runs.db keeps what programs do")
    if not Path(path).exists():
        return _say("record", "ok", f"{path}: nothing yet")
    try:
        return _say("record", "ok", f"{path}: {len(read_runs(path))} runs")
    except MelleaError as error:
        return _say("record", "wrong", str(error))


def _say(what: str, state: str, detail: str) -> dict[str, Any]:
    return {"what": what, "state": state, "detail": detail}
