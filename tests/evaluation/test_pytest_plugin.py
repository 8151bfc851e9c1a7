"""The plug-in for pytest: generative tests, answered out of the journal, that pass at a rate."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from mellea.evaluation import pytest_plugin

PROGRAM = '''
import asyncio
import itertools
import unittest

import pytest

import mellea
from mellea.errors import OverloadedError
from mellea.testing import ScriptedBackend

asked = itertools.count()
backend = ScriptedBackend(lambda request: "other" if next(asked) % 5 == 2 else "bill")
session = mellea.MelleaSession(backend)


@mellea.generative(session=session)
def classify(text: str) -> str:
    """Classify a mail."""


@pytest.mark.generative(repeat=5, at_least=0.8)
def test_at_a_rate():
    assert classify("Invoice 9") == "bill"


@pytest.mark.generative(repeat=5, at_least=0.9)
def test_at_a_rate_that_is_too_high():
    assert classify("Invoice 17") == "bill"


@pytest.mark.generative
@pytest.mark.anyio
async def test_async():
    async for chunk in session.astream("Say bill."):
        assert chunk in ("bill", "other")


@pytest.mark.generative
def test_the_same_twice():
    assert str(session.instruct("Twice?")) in ("bill", "other")
    assert str(session.instruct("Twice?")) in ("bill", "other")


@pytest.mark.generative
def test_threads_and_maps():
    values = [str(row.value) for row in mellea.map(session.instruct, ["a", "b", "c"])]
    assert set(values) <= {"bill", "other"}


def test_with_a_session(mellea_session):
    assert str(mellea_session.instruct("Hello")) == "hi"


def test_of_something_else():
    assert 1 + 1 == 2


@pytest.mark.generative(repeat=3)
def test_that_gives_up():
    pytest.xfail("known")


@pytest.mark.generative
class TestOfUnittest(unittest.TestCase):
    def test_of_unittest(self):
        assert str(session.instruct("Hello")) in ("bill", "other")


@pytest.fixture
def anyio_backend():
    return "asyncio"
'''

CONFTEST = """
from mellea.stdlib import session
from mellea.testing import ScriptedBackend

# Stands in for the model of MELLEA_MODEL.
start_session = session.start_session
session.start_session = lambda: start_session(ScriptedBackend("hi"))
"""


@dataclass
class Done:
    """What a run of pytest came to."""

    returncode: int
    out: str

    def outcome(self, name: str) -> str:
        found = re.search(rf"::{name} (\w+)", self.out)
        assert found, self.out
        return found[1]


def run(folder: Path, *arguments: str) -> Done:
    # Without other plug-ins, which take most of the time that pytest needs to start.
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-v",
        "-p",
        "mellea.evaluation.pytest_plugin",
        "-p",
        "anyio.pytest_plugin",
    ]
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    for name in ("PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER", "COLUMNS"):
        environment.pop(name, None)
    done = subprocess.run(
        [*command, "-p", "no:cacheprovider", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        env=environment,
        timeout=120,
    )
    return Done(done.returncode, done.stdout + done.stderr)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    (folder / "test_mails.py").write_text(PROGRAM)
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "pytest.ini").write_text("[pytest]\naddopts = --strict-markers\nmellea_journal = recorded.db\n")
    return folder


@pytest.fixture(scope="module")
def unrecorded(folder: Path) -> Done:
    done = run(folder)
    assert not (folder / "recorded.db").exists(), "a file was made although there is nothing to keep"
    return done


@pytest.fixture(scope="module")
def recorded(folder: Path, unrecorded: Done) -> Done:
    return run(folder, "--mellea-record")


@pytest.fixture(scope="module")
def replayed(folder: Path, recorded: Done) -> Done:
    return run(folder)


def test_an_answer_that_isnt_recorded_fails_the_test_and_says_what_to_do(unrecorded: Done) -> None:
    assert unrecorded.returncode == 1
    assert unrecorded.outcome("test_at_a_rate") == "FAILED"
    # Also where another plug-in runs the test.
    assert unrecorded.outcome("test_async") == "FAILED"
    assert unrecorded.outcome("test_with_a_session") == "FAILED"
    assert unrecorded.outcome("test_of_something_else") == "PASSED"
    assert "there is no recorded answer of scripted/script in" in unrecorded.out
    assert "run pytest --mellea-record" in unrecorded.out
    assert "0 recorded answers, 0 from models" in unrecorded.out


def test_an_expected_failure_is_one_in_a_generative_test_too(unrecorded: Done) -> None:
    assert unrecorded.outcome("test_that_gives_up") == "XFAIL"


def test_what_unittest_runs_asks_no_model(unrecorded: Done) -> None:
    assert unrecorded.outcome("test_of_unittest") == "FAILED"
    assert "is a method of a unittest.TestCase, which can't be generative" in unrecorded.out


def test_a_test_passes_if_enough_of_its_runs_do(recorded: Done) -> None:
    assert recorded.outcome("test_at_a_rate") == "PASSED"
    assert "test_mails.py::test_at_a_rate: 4 of 5 runs passed: 80.0% (37.6% to 96.4%)" in recorded.out
    assert recorded.outcome("test_at_a_rate_that_is_too_high") == "FAILED"
    assert "4 of 5 runs passed: 80.0% (37.6% to 96.4%); wanted at least 90%" in recorded.out
    assert "AssertionError: assert 'other' == 'bill'" in recorded.out


def test_async_tests_maps_and_sessions_are_recorded_too(recorded: Done, replayed: Done) -> None:
    for name in ("test_async", "test_the_same_twice", "test_threads_and_maps", "test_with_a_session"):
        assert (recorded.outcome(name), replayed.outcome(name)) == ("PASSED", "PASSED")


def test_what_was_recorded_is_given_again_and_no_model_is_asked(recorded: Done, replayed: Done) -> None:
    assert "0 recorded answers, 17 from models" in recorded.out
    assert "17 recorded answers, 0 from models" in replayed.out
    assert replayed.outcome("test_at_a_rate") == "PASSED"
    assert replayed.outcome("test_at_a_rate_that_is_too_high") == "FAILED"


def test_live_runs_ask_models_and_keep_nothing(folder: Path, replayed: Done) -> None:
    before = (folder / "recorded.db").read_bytes()
    live = run(folder, "--mellea-live", "-k", "test_at_a_rate or test_with_a_session")
    assert "0 recorded answers, 11 from models" in live.out
    assert (folder / "recorded.db").read_bytes() == before


def test_all_that_was_recorded_is_in_one_file(folder: Path, replayed: Done) -> None:
    assert sorted(path.name for path in folder.glob("recorded.db*")) == ["recorded.db"]


def test_marks_that_are_wrong_say_why(tmp_path: Path) -> None:
    marks = {
        "repeat=0": "a whole number from 1",
        "at_least=1.5": "a rate up to 1",
        "repeat=5, at_least=0.8, confidence=0.95": "repeat=14 can",
        "times=3": "is wrong",
    }
    tests = [f"@pytest.mark.generative({mark})\ndef test_{n}(): pass\n" for n, mark in enumerate(marks)]
    (tmp_path / "test_marks.py").write_text("import pytest\n\n" + "\n".join(tests))
    done = run(tmp_path)
    assert done.returncode == 1
    for words in marks.values():
        assert words in done.out


@pytest.mark.parametrize(
    ("repeat", "at_least", "confidence", "passed", "is_met"),
    [
        (5, 0.8, None, 4, True),
        (5, 0.8, None, 3, False),
        (10, 0.7, None, 7, True),
        (3, 1.0, None, 2, False),
        # P(X = 14 of 14 at 80 %) = 4.4 %; 13 or more: 19.8 %.
        (14, 0.8, 0.95, 14, True),
        (14, 0.8, 0.95, 13, False),
        # P(X >= 27 of 30 at 75 %) = 3.7 %; 26 or more: 9.8 %.
        (30, 0.75, 0.95, 27, True),
        (30, 0.75, 0.95, 26, False),
    ],
)
def test_a_rate_is_met_by_enough_runs(
    repeat: int, at_least: float, confidence: float | None, passed: int, is_met: bool
) -> None:
    assert pytest_plugin.RateGoal(repeat, at_least, confidence).is_met(passed) is is_met


def test_pytest_finds_it_where_mellea_is_installed() -> None:
    found = entry_points(group="pytest11", name="mellea")
    assert {each.value for each in found} == {pytest_plugin.__name__}


def test_it_loads_nothing_until_a_generative_test_is_there() -> None:
    code = (
        "import pytest, sys; before = set(sys.modules); import mellea.evaluation.pytest_plugin; "
        "print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == {
        "mellea", "mellea._lazy_exports", "mellea._saved_kinds", "mellea._version", "mellea.evaluation",
        "mellea.evaluation.pytest_plugin",
    }  # fmt: skip
