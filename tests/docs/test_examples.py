"""The examples run as they stand, on the embedded model: each ends, in order, and writes while it works."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pytest

from tests.docs.fences import ROOT, fences
from tests.docs.programs import PYTHON, STREAMING, Watched, watch


def _assert_streamed(done: Watched) -> None:
    """The text came while it was written: in many pieces, and the first well before the last."""
    assert len(done.arrivals) >= 10, done.out
    assert done.arrivals[-1] - done.arrivals[0] >= 0.2, "all of it came at once"


def _assert_story(done: Watched) -> None:
    assert done.returncode == 0, done.out + done.err
    _assert_streamed(done)
    story, _, last_line = done.out.rstrip("\n").rpartition("\n\n")
    assert story.strip()
    said = re.fullmatch(r"(\d+) pieces: the first after (\d+\.\d) s, all of them after (\d+\.\d) s\.", last_line)
    assert said, last_line
    assert int(said[1]) >= 10
    assert float(said[2]) < float(said[3])


def test_basic(tmp_path: Path) -> None:
    done = watch([*PYTHON, STREAMING / "basic_streaming.py"], cwd=tmp_path)
    _assert_story(done)
    assert done.err == ""


def test_basic_under_uv_with_mellea() -> None:
    """The command of the folder's page. It must take this checkout, whatever else is called mellea."""
    if shutil.which("uv") is None:
        pytest.skip("uv isn't installed")
    if Path(sys.prefix) != ROOT / ".venv":
        pytest.skip("the tests don't run in the environment that uv makes for this checkout")
    (command,) = (
        fence.code for fence in fences(STREAMING / "README.md") if "uv run" in fence.code and "basic" in fence.code
    )
    _assert_story(watch(command.split(), UV_FROZEN="1"))


def test_advanced(tmp_path: Path) -> None:
    done = watch([*PYTHON, STREAMING / "advanced_streaming.py"], cwd=tmp_path)
    assert done.returncode == 0, done.out + done.err
    assert done.err == ""
    _assert_streamed(done)
    assert re.findall(r"^== (\w+): ", done.out, re.MULTILINE) == [
        "waiting",
        "display",
        "failures",
        "deadlines",
        "together",
    ]
    waiting, display, failures, deadlines, together = re.split(r"^== .*\n", done.out, flags=re.MULTILINE)[1:]
    first, everything = map(float, re.findall(r"after (\d+\.\d+) s", waiting)[1:])
    assert first < everything
    assert re.findall(r"^(\w+):", display, re.MULTILINE) == ["pieces", "words", "lines"]
    assert "ParseError" in failures
    assert re.findall(r"^(\w+):", deadlines, re.MULTILINE) == ["deadline", "timeout"]
    topics = re.findall(r"^ *\d+\.\d s  ([\w ]+):", together, re.MULTILINE)
    assert set(topics) == {"the moon", "a river", "bread"}


def test_the_folder_s_page_names_every_example() -> None:
    page = STREAMING / "README.md"
    commands = " ".join(fence.code for fence in fences(page) if fence.language == "bash")
    named = set(re.findall(r"streaming/(\w+\.py)", commands))
    assert named == {path.name for path in STREAMING.glob("*.py")}
