"""`mellea traces`: recorded runs in a terminal, in a pipe, and for a collector."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

import mellea
from mellea.core import ToolCall, Usage
from mellea.core.events import ToolEnd
from mellea.stdlib.requirements import check, simple_validate
from mellea.testing import ScriptedBackend
from mellea.traces import read_runs, record
from tests.cli.conftest import COMMAND, Run


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A record, under the name that the command looks for, with two runs."""
    m = mellea.start_session(ScriptedBackend("no", "y\x1b]0;title\x07es", "alone", usage=Usage(30, 4)))
    fine = check("is yes", validation_fn=simple_validate(lambda text: (text != "no", "it is no")))
    with record(tmp_path / "runs.db", content=True):
        with mellea.traces.start("program"):
            m.instruct("What is it?\nSay yes.", name="pick", requirements=[fine])
        m.instruct("y", name="alone")
    return tmp_path / "runs.db"


def test_in_a_pipe_it_is_json_lines(run: Run, runs: Path) -> None:
    listed = run("traces")
    assert listed.code == 0 and listed.stderr == ""
    assert [json.loads(line) for line in listed.stdout.splitlines()] == read_runs(runs)
    assert run("traces", "list").stdout == listed.stdout
    assert run("traces", "list", "--limit", "1").stdout == listed.stdout.splitlines(keepends=True)[0]
    shown = run("traces", "show", "1")
    assert [json.loads(line) for line in shown.stdout.splitlines()] == mellea.traces.read_run(runs, 1)
    assert [json.loads(line)["name"] for line in run("traces", "show").stdout.splitlines()] == ["alone"]


def test_the_record_may_be_named_by_an_option_or_by_the_environment(run: Run, runs: Path) -> None:
    other = runs.rename(runs.parent / "other.db")
    assert run("traces", "--db", other).stdout == run("traces", "list", MELLEA_TRACES=str(other)).stdout != ""
    missing = run("traces", "list")
    assert missing.code == 2 and missing.stderr.startswith("mellea: there is no record 'runs.db'")


def test_looking_at_a_record_records_nothing(tmp_path: Path) -> None:
    environment = {**os.environ, "MELLEA_TRACES": "new.db"}
    looked = subprocess.run([*COMMAND, "traces"], cwd=tmp_path, env=environment, capture_output=True, timeout=60)
    assert looked.returncode == 2 and b"there is no record 'new.db'" in looked.stderr
    assert not (tmp_path / "new.db").exists()


def test_a_terminal_gets_a_table_and_a_tree(run_on_terminal: Callable[..., str], runs: Path) -> None:
    table = run_on_terminal("traces")
    head, alone, program = (re.sub(r"\x1b\[[\d;]*m", "", line).split() for line in table.splitlines())
    assert head == ["id", "began", "name", "status", "took", "spans", "tokens", "models"] or "cost" in head
    assert (alone[0], alone[2:4]) == ("9", ["alone", "ok"]) and (program[0], program[2:4]) == ("1", ["program", "ok"])
    assert program[-5:] == ["8", "60", "+", "8", "script"] and "\x1b[32mok" in table
    tree = run_on_terminal("traces", "show", "1")
    assert "\x1b]0;" not in tree, "an answer can't command the terminal"
    lines = [re.sub(r"\x1b\[[\d;]*m", "", line).rstrip() for line in tree.splitlines()]
    assert re.fullmatch(r"program \(trace, \d\.\d{3} s\)", lines[0])
    assert re.fullmatch(r"    attempt 1 \(attempt, rejected, \d\.\d{3} s\)", lines[2])
    assert re.fullmatch(r"      is yes \(check, \d\.\d{3} s: no, it is no\)", lines[6])
    assert lines[4] == "          user: What is it? Say yes." and lines[5] == "          assistant: no"
    assert "user: What is it?\n" in re.sub(
        r"\x1b\[[\d;]*m| +(?=\n)", "", run_on_terminal("traces", "show", 1, "--full")
    )
    assert json.loads(run_on_terminal("traces", "--json").splitlines()[0])["name"] == "alone"
    assert "\x1b[3" not in run_on_terminal("traces", NO_COLOR="1")


def test_the_calls_of_tools_read_like_calls(run_on_terminal: Callable[..., str], tmp_path: Path) -> None:
    call = ToolEnd(ToolCall("c1", "find", {"what": "a cat", "places": 2}))
    agent = mellea.Agent(ScriptedBackend([call], "Here."), [find])
    with record(tmp_path / "runs.db", content=True):
        agent.run("Where is it?")
    tree = re.sub(r"\x1b\[[\d;]*m", "", run_on_terminal("traces", "show"))
    assert "assistant: calls find(what='a cat', places=2)\n" in re.sub(r" +(?=\r?\n)", "", tree).replace("\r", "")


def find(what: str, places: int) -> str:
    """Find something."""
    return f"{what} in {places} places"


@pytest.mark.parametrize("width", [10, 30, 45, 60, 120])
def test_a_narrow_terminal_gets_fewer_columns_and_never_less_than_what_names_a_run(
    run_on_terminal: Callable[..., str], runs: Path, width: int
) -> None:
    table = run_on_terminal("traces", COLUMNS=str(width))
    head, *rows = (re.sub(r"\x1b\[[\d;]*m", "", line).split() for line in table.splitlines())
    assert head[0] == "id" and (width < 20 or {"name", "status"} <= {*head})
    assert [row[0] for row in rows if row[0].isdigit()] == ["9", "1"]
    assert (head[-1] == "models") is (width == 120)
    if width >= 20:
        assert "…" not in table


@pytest.mark.parametrize("width", [40, 60, 80, 120])
@pytest.mark.sample(2)
def test_a_tree_fits_the_terminal_and_says_what_failed_once(
    run_on_terminal: Callable[..., str], tmp_path: Path, width: int
) -> None:
    def book(city: str) -> str:
        raise ValueError("the hotel is closed, and nobody knows when it will open again")

    words = ToolEnd(ToolCall("c1", "book", {"city": "Bergen"}))
    short = check(
        "at most three words, so that it fits on a label", validation_fn=simple_validate(lambda text: "d" not in text)
    )
    with record(tmp_path / "runs.db", content=True), mellea.traces.start("a trip to Norway in a week of rain"):
        mellea.Agent(ScriptedBackend([words], "It is closed."), [book]).run("Book it.")
        mellea.start_session(ScriptedBackend("a b c d", "a b c")).instruct("x", name="label", requirements=[short])
    shown = run_on_terminal("traces", "show", COLUMNS=str(width))
    lines = [re.sub(r"\x1b\[[\d;]*m", "", line) for line in shown.splitlines()]
    assert all(len(line) <= width and line == line.rstrip() for line in lines)
    text = " ".join(" ".join(lines).split())
    assert text.count("error, 0.0") == 1 and "s: ValueError: the hotel is closed, and nobody knows when" in text
    assert not any(line.lstrip().startswith(("error:", "result: ValueError")) for line in lines)
    assert "\x1b[33m" in next(line for line in shown.splitlines() if "attempt 1" in line), "it is marked"
    # A line that continues is indented further than what is inside it.
    (at,) = (number for number, line in enumerate(lines) if line.lstrip().startswith("book (tool"))
    if lines[at].count("(") > lines[at].count(")"):
        assert lines[at + 1].startswith(" " * 12)
    full = run_on_terminal("traces", "show", "--full", COLUMNS=str(width))
    assert "error: ValueError: the hotel" in re.sub(r"\x1b\[[\d;]*m|\n| +", " ", full).replace("  ", " ")
    head, *_ = run_on_terminal("traces", COLUMNS=str(width)).splitlines()
    assert "cost" not in head or width > 60, "an empty column goes first"


@pytest.mark.parametrize("id", ["9" * 19, "9" * 5000, "-1", "1.5", "٣"])
@pytest.mark.parametrize("command", ["show", "open", "export"])
def test_what_is_no_id_is_told_in_a_line(run: Run, runs: Path, command: str, id: str) -> None:
    done = run("traces", command, "--", id)
    assert done.code == 2 and "is not the number of a run" in done.stderr and len(done.stderr) < 600


def test_the_page_of_a_run_is_written_to_a_file_or_served_until_ctrl_c(run: Run, runs: Path) -> None:
    written = run("traces", "open", "1", "--out", "page.html")
    assert (written.code, written.stdout) == (0, "") and written.stderr == "mellea: run 1 is in 'page.html'\n"
    page = (runs.parent / "page.html").read_text("utf-8")
    assert page.startswith("<!doctype html>") and "Say yes." in page
    assert run("traces", "open", "7", "--no-browser").code == 2
    interruptible = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler);"
    command = "from mellea.cli import main; sys.exit(main(['traces', 'open', '--no-browser']))"
    process = subprocess.Popen(
        [sys.executable, "-c", interruptible + command],
        cwd=runs.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    with urllib.request.urlopen(url, timeout=30) as response:
        assert b"alone" in response.read()
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60) == ("", "mellea: the page is served until Ctrl-C\n")
    assert process.returncode == 130


def test_an_unknown_id_says_which_ones_there_are(run: Run, runs: Path) -> None:
    wrong = run("traces", "show", "70")
    assert wrong.code == 2 and wrong.stdout == ""
    assert wrong.stderr == (
        "mellea: there is no run 70 in 'runs.db'; the nearest are 1, 9; `mellea traces list` shows more\n"
    )
    assert "that is a span of run 1" in run("traces", "show", "3").stderr
    usage = run("traces", "show", "last")
    assert usage.code == 2 and "Traceback" not in usage.stderr and usage.stdout == ""


def test_a_file_that_is_no_record_is_an_error_in_one_line(run: Run, runs: Path) -> None:
    (runs.parent / "text.db").write_text("this is a text, and long enough to be looked at as a database" * 20)
    wrong = run("traces", "--db", "text.db")
    assert wrong.code == 1 and len(wrong.stderr.splitlines()) == 1 and "not a valid SQLite" in wrong.stderr


def test_a_reader_that_leaves_ends_it_quietly(tmp_path: Path) -> None:
    m = mellea.start_session(ScriptedBackend(*["a"] * 3_000))
    with record(tmp_path / "runs.db"):
        for _ in range(3_000):
            m.instruct("x")
    command = [*COMMAND, "traces", "list", "--limit", "100000"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stderr is not None
    assert json.loads(process.stdout.readline())["name"] == "Instruction"
    process.stdout.close()
    assert process.stderr.read() == "" and process.wait(60) == 0
    process.stderr.close()


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGINT to send")
def test_ctrl_c_ends_it_quietly() -> None:
    program = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
import anyio
from mellea.cli import main, models

async def survey(names):
    print("here", file=sys.stderr, flush=True)
    await anyio.sleep(60)

models.survey = survey
sys.exit(main(["models", "list"]))
"""
    process = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None and process.stderr.readline() == "here\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130 and process.stderr.read() == ""
    process.stderr.close()


def test_runs_are_sent_to_a_collector(run: Run, runs: Path) -> None:
    pytest.importorskip("opentelemetry.sdk", reason="the extra telemetry isn't installed")
    from tests.telemetry.receiver import running

    with running() as receiver:
        address = f"http://127.0.0.1:{receiver.server_port}"
        done = run("traces", "export", "--otlp", address)
        assert done.code == 0 and done.stderr == f"mellea: sent 9 spans to {address}\n" and done.stdout == ""
        assert len(receiver.spans) == 9
        run("traces", "export", "9", OTEL_EXPORTER_OTLP_ENDPOINT=address)
        assert [span.name for span in receiver.spans[9:]] == ["chat script"]
        failed = run("traces", "export", "--otlp", "http://127.0.0.1:9", OTEL_EXPORTER_OTLP_TIMEOUT="3")
        assert failed.code == 1 and failed.stderr == (
            "mellea: the receiver at http://127.0.0.1:9 didn't accept run 1: Connection refused\n"
        )


def test_without_the_extra_it_says_what_to_install() -> None:
    program = """
import sys
from importlib.abc import MetaPathFinder

class Missing(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "typer":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
from mellea.cli import main
sys.exit(main(["models", "list"]))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (1, "")
    # One line; an installed package also says where its documentation is.
    assert done.stderr.startswith("mellea: the command needs typer: pip install 'mellea[cli]'")
    assert done.stderr.count("\n") == 1


def test_the_version_and_the_help_are_data(run: Run) -> None:
    from mellea._version import __version__

    assert run("--version").stdout == f"mellea {__version__}\n"
    assert "traces" in run("--help").stdout and run().code == 2


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such locales")
def test_a_terminal_without_unicode_shows_marks_in_its_place(runs: Path) -> None:
    with record(runs, content=True):
        mellea.start_session(ScriptedBackend("日本")).instruct("x")
    main, other = os.openpty()
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    environment = {**os.environ, **locale}
    environment.pop("PYTHONIOENCODING", None)
    try:
        shown = subprocess.run(
            [*COMMAND, "traces", "show"],
            cwd=runs.parent,
            env=environment,
            stdout=other,
            stderr=subprocess.PIPE,
            timeout=60,
        )
        assert (shown.returncode, shown.stderr) == (0, b"")
        assert b"assistant: ??" in os.read(main, 10_000)
    finally:
        os.close(main)
        os.close(other)
