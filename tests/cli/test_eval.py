"""`mellea eval`: the evaluations of a file in a terminal, with a threshold, gone on with."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Done, Run

PROGRAM = '''
from typing import Literal

import mellea
from mellea.core import Usage
from mellea.evaluation import Evaluation
from mellea.testing import ScriptedBackend


def answer(request):
    with open("asked.txt", "a") as file:
        file.write("x")
    return "bill" if "Invoice" in request.messages[-1].text else "other"


@mellea.generative(session=mellea.MelleaSession(ScriptedBackend(answer, usage=Usage(60, 40))))
def classify(text: str) -> Literal["bill", "other"]:
    """Classify a mail."""


plan = Evaluation(
    classify, [("Invoice 9", "bill"), ("Lunch?", "other"), ("The invoice", "bill"), ("Invoice 8", "bill")], at_least=0.7
)
'''


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mails.py").write_text(PROGRAM)
    (tmp_path / "cases.jsonl").write_text(
        '{"text": "Invoice 3", "expected": "bill"}\n{"text": "Hi", "expected": "bill"}\n'
    )
    return tmp_path / "mails.py"


@pytest.fixture
def run(run: Run) -> Run:
    """Run each command as a process of its own would, which hasn't loaded the program yet."""

    def run_anew(*arguments: object, **environment: str) -> Done:
        sys.modules.pop("mails", None)
        return run(*arguments, **environment)

    return run_anew


def count_asked(program: Path) -> int:
    return len((program.parent / "asked.txt").read_text())


def test_the_evaluations_of_a_file_are_run_and_their_table_is_on_stdout(run: Run, program: Path) -> None:
    done = run("eval", "mails.py")
    assert (done.code, done.stderr) == (0, "")
    assert "3 of 4  75.0%" in done.stdout
    assert "The invoice  other  expected 'bill', not 'other'" in done.stdout


def test_a_rate_below_the_threshold_is_exit_code_1(run: Run, program: Path) -> None:
    done = run("eval", "mails.py:plan", "--at-least", "0.9")
    assert done.code == 1
    assert done.stderr == "mellea: 'classify' has 75.0% (30.1% to 95.4%), and at least 90% was wanted\n"
    sure = run("eval", "mails.py", "--sure")
    assert sure.code == 1
    assert "3 of 4" in sure.stdout


def test_a_function_is_evaluated_on_a_file_of_cases(run: Run, program: Path) -> None:
    done = run("eval", "mails.py:classify", "cases.jsonl", "--json", "--repeat", "2")
    assert done.code == 0
    figures = json.loads(done.stdout)
    assert (figures["cases"], figures["samples"]) == (2, 4)
    assert figures["variants"]["classify"]["rate"]["estimate"] == 0.5


def test_a_second_run_asks_only_for_what_is_new_and_says_what_was_kept(run: Run, program: Path) -> None:
    first = run("eval", "mails.py", "--limit", "2")
    assert (first.code, first.stderr) == (0, "")
    assert count_asked(program) == 2
    again = run("eval", "mails.py")
    assert again.code == 0
    assert "mellea: 2 of 4 samples come from the journal 'mails.eval.db'" in again.stderr
    assert count_asked(program) == 4
    assert run("eval", "mails.py", "--resume").code == 0, "as it is said to `map`"
    assert count_asked(program) == 4


def test_other_cases_and_other_functions_share_a_journal(run: Run, program: Path) -> None:
    cases = program.parent / "cases.jsonl"
    assert run("eval", "mails.py:classify", cases, "--json").code == 0
    asked = count_asked(program)
    cases.write_text('{"text": "Something else", "expected": "bill"}\n')
    other = run("eval", "mails.py:classify", cases, "--json")
    assert (other.code, other.stderr) == (0, "")
    assert json.loads(other.stdout)["samples"] == 1
    assert count_asked(program) == asked + 1


def test_pages_and_samples_are_written(run: Run, program: Path) -> None:
    done = run("eval", "mails.py", "--html", "page.html", "--jsonl", "samples.jsonl")
    assert done.code == 0
    assert "<!doctype html>" in (program.parent / "page.html").read_text()
    assert len((program.parent / "samples.jsonl").read_text().splitlines()) == 4


def test_a_used_up_budget_is_exit_code_1_and_shows_what_was_done(run: Run, program: Path) -> None:
    done = run("eval", "mails.py", "--tokens", "150", "--at-least", "0.1")
    assert done.code == 1
    assert "It ended early" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["mails.py:classify"], "name a file of cases"),
        (["mails.py:nothing"], "doesn't define 'nothing'"),
        (["empty.py"], "there is no mellea.evaluation.Evaluation"),
        (["mails.py", "--at-least", "7"], "takes a number above 0 up to 1"),
        (["missing.py"], "there is no file"),
    ],
)
def test_what_cant_be_evaluated_is_said(run: Run, program: Path, arguments: list[str], words: str) -> None:
    (program.parent / "empty.py").write_text("")
    done = run("eval", *arguments)
    assert done.code == 2
    assert words in done.stderr


def test_an_output_that_would_overwrite_the_cases_the_program_or_the_journal_is_refused(
    run: Run, program: Path
) -> None:
    cases = program.parent / "cases.jsonl"
    cases.write_text('{"text": "a", "expected": "bill"}\n')
    for outputs in (["--jsonl", "cases.jsonl"], ["--html", "mails.py"], ["--html", "run.db"]):
        before = [cases.read_text(), (program.parent / "mails.py").read_text()]
        refused = run("eval", "mails.py:classify", "cases.jsonl", "--journal", "run.db", *outputs)
        assert (refused.code, refused.stdout) == (2, "")
        assert "are the same file" in refused.stderr
        assert [cases.read_text(), (program.parent / "mails.py").read_text()] == before
    assert run("eval", "mails.py:classify", "cases.jsonl", "--html", "none/page.html").code == 1
    assert not (program.parent / "asked.txt").exists()
