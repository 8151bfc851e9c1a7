"""`mellea map` and `mellea journal`: rows of a file in a terminal, gone on with, and what failed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mellea.backends.gemini import GeminiBackend
from mellea.batch import Journal, cancelling
from tests.batch.batch_server import BatchServer, serve
from tests.cli.conftest import COMMAND, Done, Run
from tests.waiting import until_here

PROGRAM = '''
from dataclasses import dataclass

import mellea
from mellea.core import Usage
from mellea.testing import Pause, ScriptedBackend


@dataclass
class Mail:
    kind: str


def answer(request):
    text = request.messages[-1].text
    return "?" if "bad" in text else [Pause(0.05), '{"kind": "%s"}' % text.split()[-1]]


@mellea.generative(session=mellea.MelleaSession(ScriptedBackend(answer, usage=Usage(60, 40))))
def classify(text: str) -> Mail:
    """Classify a mail."""
'''


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    (tmp_path / "mails.py").write_text(PROGRAM)
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"text": f"mail k{number}"}) + "\n" for number in range(6)))
    return path


@pytest.fixture
def run(run: Run) -> Run:
    """Run each command as a process of its own would, which hasn't loaded the program yet."""

    def run_anew(*arguments: object, **environment: str) -> Done:
        sys.modules.pop("mails", None)
        return run(*arguments, **environment)

    return run_anew


def lines(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


def test_values_are_json_lines_and_it_goes_on_where_it_stopped(run: Run, rows: Path) -> None:
    first = run("map", "mails.py:classify", rows, "--limit", "2")
    assert (first.code, first.stderr) == (0, "")
    assert lines(first.stdout) == [{"id": f"{number}", "value": {"kind": f"k{number}"}} for number in range(2)]
    refused = run("map", "mails.py:classify", rows)
    assert refused.code == 2
    assert "--resume" in refused.stderr
    out = rows.parent / "out.jsonl"
    assert run("map", "mails.py:classify", rows, "--resume", "-o", out).stdout == ""
    assert len(lines(out.read_text())) == 6
    [count] = lines(run("journal", "show", rows.parent / "rows.journal.db").stdout)
    assert count == {"job": "mails.classify", "answers": 6, "failures": 0}


def test_to_go_on_by_other_ids_is_refused_before_anything_is_asked_again(run: Run, rows: Path) -> None:
    assert run("map", "mails.py:classify", rows, "--limit", "2").code == 0
    for arguments in (["--id", "text"], ["--id", "text", "--limit", "1"]):
        refused = run("map", "mails.py:classify", rows, "--resume", *arguments)
        assert (refused.code, refused.stdout) == (2, "")
        assert "such as 'mail k0'; it has '0': with a different --id than before" in refused.stderr
    assert run("map", "mails.py:classify", rows, "--resume", "--limit", "3").code == 0
    assert run("map", "mails.py:classify", rows, "--journal", "other.db", "--id", "text").code == 0


def test_rows_that_failed_are_told_and_kept(run: Run, rows: Path) -> None:
    rows.write_text('{"text": "mail a"}\n{"text": "mail bad"}\n')
    done = run("map", "mails.py:classify", rows, "--errors", "failed.jsonl")
    assert done.code == 1
    assert done.stderr.startswith("mellea: 1 row failed; mellea journal failures ")
    assert "--resume tries again; ParseError: the answer is not a valid 'Mail'" in done.stderr
    assert [line["id"] for line in lines(done.stdout)] == ["0"]
    [failure] = lines((rows.parent / "failed.jsonl").read_text())
    assert (failure["id"], failure["error"]) == ("1", "ParseError")
    [kept] = lines(run("journal", "failures", "rows.journal.db").stdout)
    assert kept["row"] == {"text": "mail bad"}
    assert [line["value"] for line in lines(run("journal", "export", "rows.journal.db").stdout)] == [{"kind": "a"}]


def test_rows_with_a_column_too_many_are_told_why_and_may_then_get_an_id(run: Run, rows: Path) -> None:
    rows.write_text('{"nr": "a", "text": "mail a"}\n{"nr": "b", "text": "mail b"}\n')
    done = run("map", "mails.py:classify", rows)
    assert (done.code, done.stdout) == (2, "")
    assert "mellea: classify() can't be called like this: got an unexpected keyword" in done.stderr
    # Nothing was answered, so no answer is lost by other ids.
    mended = run("map", "mails.py:classify", rows, "--resume", "--id", "nr")
    assert (mended.code, [line["id"] for line in lines(mended.stdout)]) == (0, ["a", "b"])


@pytest.mark.parametrize("option", ["-o", "--errors"])
@pytest.mark.parametrize("is_killed", [False, True])
def test_a_file_that_another_command_is_writing_is_refused(run: Run, rows: Path, option: str, is_killed: bool) -> None:
    bad = "".join(json.dumps({"text": f"mail bad {number}"}) + "\n" for number in range(100))
    (rows.parent / "many.jsonl").write_text(bad if option == "--errors" else bad.replace("bad", "k"))
    shared, link = rows.parent / "shared.jsonl", rows.parent / "link.jsonl"
    link.symlink_to(shared)
    command = [*COMMAND, "map", "mails.py:classify", "many.jsonl", "--concurrency", "1", option, "shared.jsonl"]
    with subprocess.Popen(command, cwd=rows.parent, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as first:
        until_here(lambda: shared.exists() and shared.read_text().count("\n") > 1)
        for other in ("-o", "--errors"):
            refused = run("map", "mails.py:classify", rows, other, link)
            assert (refused.code, refused.stdout) == (2, "")
            assert f"another command is writing {str(link)!r} at this moment" in refused.stderr
            assert f"give {other} another file" in refused.stderr
        assert not (rows.parent / "rows.journal.db").exists()
        if is_killed:
            first.kill()
    if not is_killed:
        assert [line["id"] for line in lines(shared.read_text())] == [str(number) for number in range(100)]
        assert not (rows.parent / "shared.jsonl-claims").exists()
    done = run("map", "mails.py:classify", rows, "-o", "shared.jsonl")
    assert (done.code, len(lines(shared.read_text()))) == (0, 6)
    assert not (rows.parent / "shared.jsonl-claims").exists()


def test_a_misspelt_function_is_told_before_anything_is_said_of_a_journal(run: Run, rows: Path) -> None:
    (rows.parent / "rows.journal.db").write_bytes(b"")
    for named, said in (
        ("mails.py:classifi", "did you mean 'classify'?"),
        ("mails:classify", "there is no file 'mails'; did you mean 'mails.py'?"),
        ("mails.py", "'mails.py' should be FILE.py:NAME"),
    ):
        done = run("map", named, rows)
        assert done.code == 2
        assert said in done.stderr
        assert "journal" not in done.stderr
    done = run("map", "mails.py:classify", rows)
    assert "already exists; continue it with --resume, or give another one with --journal" in done.stderr


def test_values_stand_in_the_file_while_it_goes_on(rows: Path) -> None:
    many = "".join(json.dumps({"text": f"mail k{number}"}) + "\n" for number in range(2000))
    rows.write_text(many)
    out = rows.parent / "out.jsonl"
    command = [*COMMAND, "map", "mails.py:classify", str(rows), "-o", str(out), "--concurrency", "1"]
    with subprocess.Popen(command, cwd=rows.parent, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            until_here(lambda: out.exists() and out.read_text().count("\n") >= 2)
        finally:
            process.kill()
    assert all(line["value"] for line in lines(out.read_text()))


def test_a_budget_ends_it(run: Run, rows: Path) -> None:
    done = run("map", "mails.py:classify", rows, "--tokens", "300")
    assert done.code == 1
    assert len(lines(done.stdout)) == 3
    assert "the budget Budget(tokens=300) is used up" in done.stderr
    assert "--resume continues" in done.stderr and "run it again" not in done.stderr


def test_mistakes_are_one_line(run: Run, rows: Path) -> None:
    for arguments in (["mails.py:none", rows], ["mails.py:classify", "rows.txt"], ["none.py:f", rows]):
        done = run("map", *arguments)
        assert done.code in (1, 2)
        assert "Traceback" not in done.stderr
    assert run("journal", "show", "none.db").code == 2


def test_a_file_that_is_not_there_is_one_line(run: Run, rows: Path) -> None:
    done = run("map", "mails.py:classify", rows, "-o", "nowhere/out.jsonl")
    assert (done.code, done.stdout) == (1, "")
    assert done.stderr == "mellea: 'nowhere/out.jsonl': No such file or directory\n"
    done = run("map", "mails.py:classify", "nowhere.csv")
    assert (done.code, done.stdout) == (2, "")
    assert done.stderr == "mellea: the rows of 'nowhere.csv' can't be read: No such file or directory\n"


def test_journals_are_compacted_and_merged(run: Run, rows: Path) -> None:
    for number in (1, 2):
        assert run("map", "mails.py:classify", rows, "--journal", f"j{number}.db", "--limit", str(number)).code == 0
    assert "merged 2" in run("journal", "merge", "j1.db", "j2.db").stderr
    assert "dropped 1" in run("journal", "compact", "j1.db").stderr


def test_a_journal_is_not_merged_into_itself_nor_with_one_that_is_not_there(run: Run, rows: Path) -> None:
    assert run("map", "mails.py:classify", rows, "--journal", "j.db").code == 0
    (rows.parent / "link.db").hardlink_to(rows.parent / "j.db")
    refused = run("journal", "merge", "j.db", "link.db")
    assert (refused.code, refused.stderr) == (2, "mellea: the journal 'link.db' can't be merged into itself\n")
    refused = run("journal", "merge", "new.db", "j.db", "none.db")
    assert (refused.code, refused.stderr) == (2, "mellea: there is no journal 'none.db'\n")
    assert not (rows.parent / "new.db").exists()
    assert not (rows.parent / "none.db").exists()


def test_answers_of_a_function_that_the_journal_does_not_know_are_refused(run: Run, rows: Path) -> None:
    assert run("map", "mails.py:classify", rows, "--journal", "j.db").code == 0
    [job] = Journal(rows.parent / "j.db").count()
    assert len(lines(run("journal", "export", "j.db", "--job", job).stdout)) > 0
    refused = run("journal", "export", "j.db", "--job", "clasify")
    assert (refused.code, refused.stdout) == (2, "")
    assert f"has no answers of 'clasify'; it has those of: {job!r}" in refused.stderr


def test_the_batches_of_a_journal_are_cancelled(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path / "run.db")
    with serve("gemini", BatchServer(looks=1000)) as server:
        made, lost = server.keep("i-0", []), server.keep("i-1", [])
        job = journal.job("mails.classify")
        for kept, id in ((made, "batches/b0"), (lost, None)):  # the second one was made at the moment of a crash
            journal.note_intent(job, str(kept.intent), "gemini", "gemini-2.5-flash", {"i-0": "00"})
            if id is not None:
                journal.note_batch(str(kept.intent), "made", id)
        backend = GeminiBackend("gemini-2.5-flash", base_url=f"{server.address}/v1beta", api_key="k")
        monkeypatch.setattr(cancelling, "get_backend", lambda *names: backend)
        done = run("journal", "cancel", "run.db")
        assert (done.code, done.stderr) == (0, "")
        assert [(line["id"], line["model"], line["rows"]) for line in lines(done.stdout)] == [
            ("batches/b0", "gemini-2.5-flash", 1),
            ("batches/b1", "gemini-2.5-flash", 1),
        ]
        assert made.is_cancelled and lost.is_cancelled
    assert run("journal", "cancel", "none.db").code == 2


def test_ctrl_c_says_how_to_go_on(rows: Path) -> None:
    rows.write_text("".join(json.dumps({"text": f"mail k{number}"}) + "\n" for number in range(5000)))
    command = [*COMMAND, "map", "mails.py:classify", str(rows), "--concurrency", "2"]
    with subprocess.Popen(
        command, cwd=rows.parent, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline()
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()
        assert process.wait(10) == 130
    assert "--resume continues" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("outputs", [["-o", "rows.jsonl"], ["-o", "same.db"], ["--errors", "link.jsonl"],
                                     ["-o", "one.jsonl", "--errors", "./one.jsonl"]])  # fmt: skip
def test_an_output_that_would_overwrite_the_rows_or_the_journal_is_refused(
    run: Run, rows: Path, outputs: list[str]
) -> None:
    (rows.parent / "link.jsonl").hardlink_to(rows)
    before = rows.read_text()
    refused = run("map", "mails.py:classify", "rows.jsonl", "--journal", "same.db", *outputs)
    assert (refused.code, refused.stdout, rows.read_text()) == (2, "", before)
    assert refused.stderr.startswith(f"mellea: {outputs[-2]} ")
    assert not (rows.parent / "same.db").exists()


def test_the_rows_are_no_journal_and_neither_is_a_folder(run: Run, rows: Path) -> None:
    before = rows.read_text()
    for more in ([], ["--resume"]):
        refused = run("map", "mails.py:classify", "rows.jsonl", "--journal", "rows.jsonl", *more)
        assert (refused.code, rows.read_text()) == (2, before)
        assert "the journal and the file of rows are the same file" in refused.stderr
        refused = run("map", "mails.py:classify", "rows.jsonl", "--journal", ".", *more)
        assert (refused.code, refused.stderr) == (2, "mellea: the journal '.' is a folder; name a file\n")


def test_a_file_without_rows_is_told(run: Run, rows: Path) -> None:
    for name, content in {"empty.csv": "", "header.csv": "text\n", "blank.jsonl": "\n \n"}.items():
        (rows.parent / name).write_text(content)
        done = run("map", "mails.py:classify", name)
        assert (done.code, done.stdout, done.stderr) == (0, "", f"mellea: {name!r} has no rows\n")


def test_an_output_that_cannot_be_written_is_told_before_anything_is_asked(run: Run, rows: Path) -> None:
    for outputs in (["-o", "none/out.jsonl"], ["--errors", "."]):
        refused = run("map", "mails.py:classify", "rows.jsonl", *outputs)
        assert (refused.code, refused.stdout) == (1, "")
        assert not (rows.parent / "rows.journal.db").exists()


def test_half_a_character_in_a_row_is_mapped_and_kept_like_any_text(run: Run, rows: Path) -> None:
    rows.write_text('{"id": "\\ud83d", "text": "a k\\ud83d"}\n{"id": "b", "text": "\\ud83d bad"}\n')
    (rows.parent / "mails.py").write_text(
        "def repeat(text) -> str:\n    if 'bad' in text:\n        raise ValueError(text)\n    return text\n"
    )
    for more in ([], ["--resume"]):
        done = run("map", "mails.py:repeat", rows, "--id", "id", "-o", "out.jsonl", "--errors", "bad.jsonl", *more)
        assert (done.code, done.stderr.startswith("mellea: 1 row failed")) == (1, True)
        [line] = lines((rows.parent / "out.jsonl").read_text())
        assert line["id"] == "\ud83d"
        [failure] = lines((rows.parent / "bad.jsonl").read_text())
        assert failure["message"] == "\ud83d bad"
    assert [answer["id"] for answer in Journal(rows.with_suffix(".journal.db")).answers()] == ["\\ud83d"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full disk to write to")
def test_a_full_disk_is_told_with_what_is_saved_and_how_to_go_on(run: Run, rows: Path) -> None:
    done = run("map", f"{rows.parent}/mails.py:classify", rows, "-o", "/dev/full")
    assert (done.code, done.stderr.count("\n")) == (1, 1)
    assert "the outcomes can't be written: No space left on device" in done.stderr
    assert "--resume asks for none of them again" in done.stderr


def test_rows_from_standard_input_are_refused_with_the_reason(run: Run, rows: Path) -> None:
    done = run("map", f"{rows.parent}/mails.py:classify", "-")
    assert (done.code, done.stderr.count("\n")) == (2, 1)
    assert "rows aren't read from standard input" in done.stderr
