"""Examples that are cut off, or can't begin: little is printed, and our threads and processes add nothing to it."""

from __future__ import annotations

import re
import subprocess
import tempfile
from importlib.util import find_spec
from pathlib import Path

import pytest

from docs.site import outputs
from tests.docs.programs import EXAMPLES, PYTHON, SECONDS, environment, watch
from tests.soak import factor, spread

PROGRAMS = [name for name in outputs.list_programs() if not Path(name).name.startswith("test_")]
SCRIPTS = [name for name in PROGRAMS if not name.startswith("web/")]
# Each takes a second and more of a processor: CI tries a part of them, and `scripts/soak` all.
LEFT = SCRIPTS if factor() > 1 else spread(SCRIPTS, 12, "left")
EMBEDDED = [
    name
    for name in PROGRAMS
    if "embedded model" in outputs.read_needs(name) and not name.startswith(("lmstudio/", "mcp_client", "inspect_"))
]
"""Those that start a session of their own with the model of `MELLEA_MODEL`."""


@pytest.mark.parametrize("name", LEFT)
@pytest.mark.sample(1)
def test_an_example_whose_reader_leaves_ends_as_any_script_does(name: str) -> None:
    """As in `… | head -1`: Python's own traceback, if any, and nothing of our threads and processes."""
    _skip_without_packages(name)
    error = _leave_after_a_line(name)
    chained = re.findall(r"^(?:During handling of the above|The above exception was)", error, re.MULTILINE)
    assert error.count("Traceback (most recent call last)") - len(chained) <= 1, error
    assert not re.search(r"Warning|Exception in thread|never retrieved|never awaited|unclosed", error), error
    ignored = re.findall(r"^Exception ignored.*", error, re.MULTILINE)
    assert all("stdout" in line for line in ignored), error
    assert not error.strip() or "BrokenPipeError" in error or name.startswith("lmstudio/"), error


def _skip_without_packages(name: str) -> None:
    for package in ("dbos", "fastapi", "inspect-ai", "uvicorn"):
        if package in outputs.read_needs(name) and find_spec(package.replace("-", "_")) is None:
            pytest.skip(f"{package} isn't installed")


def _leave_after_a_line(name: str) -> str:
    """Run an example, read its first line, close the pipe, and return what it wrote to standard error."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile("w+", encoding="utf-8") as error:
        process = subprocess.Popen(
            [*PYTHON, EXAMPLES / name],
            cwd=folder,
            env=environment(PYTHONUNBUFFERED="1"),  # so that the very next `print` finds nobody
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=error,
        )
        assert process.stdin and process.stdout
        with process.stdin as stdin:
            stdin.write(b"Hello!\nTell me about owls.\n")
        with process.stdout as stdout:
            assert stdout.readline().strip() or stdout.readline().strip()
        try:
            process.wait(SECONDS)
        finally:
            process.kill()
        error.seek(0)
        return error.read()


@pytest.mark.parametrize("name", EMBEDDED)
@pytest.mark.sample(1)
def test_an_example_with_an_unknown_model_says_in_a_line_what_to_do(name: str, tmp_path: Path) -> None:
    said = r"ConfigurationError: MELLEA_MODEL names an unknown model: 'nonsense': .*'provider/model'"
    _assert_error(name, tmp_path, said, MELLEA_MODEL="nonsense")


@pytest.mark.parametrize("name", ["streaming/basic_streaming.py", "objects.py"])
def test_an_example_without_its_key_says_in_a_line_what_to_set(name: str, tmp_path: Path) -> None:
    said = r"AuthError: there is no key for 'openai': set OPENAI_API_KEY"
    _assert_error(name, tmp_path, said, MELLEA_MODEL="openai/gpt-5", OPENAI_API_KEY="", AI_GATEWAY_API_KEY="")


def _assert_error(name: str, folder: Path, said: str, **variables: str) -> None:
    """The error is the last line, below the lines of the example and of Python, and none of ours."""
    _skip_without_packages(name)
    done = watch([*PYTHON, EXAMPLES / name], cwd=folder, **variables)
    assert done.returncode == 1
    assert re.match(rf"mellea\.errors\.{said}", done.err.splitlines()[-1]), done.err
    assert "/mellea/" not in done.err.replace(str(EXAMPLES), ""), done.err


def test_an_mcp_client_whose_server_has_a_wrong_model_shows_what_the_server_said(tmp_path: Path) -> None:
    done = watch([*PYTHON, EXAMPLES / "mcp_client.py"], cwd=tmp_path, MELLEA_MODEL="nonsense")
    assert done.returncode == 1
    assert "MELLEA_MODEL names an unknown model: 'nonsense'" in done.err
    assert done.err.rstrip().endswith(
        "can't be reached: it ended, or closed the connection; its standard error may say why"
    )


def test_an_example_takes_no_unknown_argument_for_a_file(tmp_path: Path) -> None:
    done = watch([*PYTHON, EXAMPLES / "memory.py", "--help"], cwd=tmp_path)
    assert (done.returncode, done.out) == (1, "")
    assert "not ['--help']" in done.err and "Traceback" not in done.err
    assert not list(tmp_path.iterdir())
