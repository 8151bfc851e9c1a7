"""`mellea ask`: text while it is written, or JSON lines; pipes, files, templates, and the last conversation."""

from __future__ import annotations

import io
import json
import signal
import stat
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import mellea
from mellea.cli import ask, conversation
from mellea.core import Message, Usage
from mellea.errors import OverloadedError
from mellea.testing import Pause, ScriptedBackend
from tests.cli.conftest import Run

Script = Callable[..., ScriptedBackend]

PEOPLE = """
from dataclasses import dataclass

@dataclass
class Person:
    name: str
    age: int
"""


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Script:
    """Have the command ask a scripted model; nothing is piped in."""
    monkeypatch.setenv("MELLEA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("sys.stdin", io.StringIO(""))

    def script(*replies: Any, **options: Any) -> ScriptedBackend:
        backend = ScriptedBackend(*replies, **options)
        monkeypatch.setattr(
            ask,
            "start_session",
            lambda model, **more: mellea.start_session(model if model == "nobody/x" else backend, **more),
        )
        return backend

    return script


def pipe(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(text))


def test_the_answer_is_on_stdout_and_what_it_took_on_stderr(run: Run, script: Script) -> None:
    backend = script(["The sea ", "is blue."], usage=Usage(7, 4))
    done = run("ask", "What colour is the sea?", "-s", "Be brief.", "--max-tokens", 20, "-o", "temperature=0.5", "-u")
    assert (done.code, done.stdout, done.stderr) == (0, "The sea is blue.\n", "mellea: 7 + 4 tokens\n")
    options = backend.requests[0].options
    assert options == {"max_tokens": 20, "temperature": 0.5}
    assert [message.content for message in backend.requests[0].messages] == ["Be brief.", "What colour is the sea?"]


def test_what_is_piped_in_stands_below_the_prompt_and_is_no_template(
    run: Run, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = script("a", "b")
    pipe(monkeypatch, "{{text}}\n")
    assert run("ask", "Translate:").code == 0
    pipe(monkeypatch, "alone")
    assert run("ask").code == 0
    assert backend.prompts == ["Translate:\n\n{{text}}", "alone"]


def test_a_typed_answer_of_a_slow_model_is_waited_for(run: Run, script: Script, tmp_path: Path) -> None:
    (tmp_path / "people.py").write_text(PEOPLE)
    script([Pause(0.05), '{"name": "Ada", ', Pause(0.05), '"age": 36}'])
    assert run("ask", "x", "--format", "people.py:Person", "-u").stdout == '{"name": "Ada", "age": 36}\n'


def test_a_typed_answer_is_json(run: Run, script: Script, tmp_path: Path) -> None:
    (tmp_path / "people.py").write_text(PEOPLE)
    ada = '{"name": "Ada", "age": 36}'
    backend = script(ada, ada, "[1, 2]", [f"[{ada}, ", f"{ada}]"], ["[1", ", 2]"], ['{"name": "A', 'da", "age": 36}'])
    assert run("ask", "x", "--format", "people.py:Person").stdout == f"{ada}\n"
    (tmp_path / "schema.json").write_text('{"type": "object"}')
    assert run("ask", "x", "--schema", "schema.json").stdout == f"{ada}\n"
    assert run("ask", "x", "--schema", '{"type": "array", "items": {"type": "integer"}}').stdout == "[1, 2]\n"
    assert run("ask", "x", "--format", "people.py:Person", "--items").stdout == f"{ada}\n{ada}\n"
    assert run("ask", "x", "--schema", '{"type": "integer"}', "--items").stdout == "1\n2\n"
    partials = [
        json.loads(line) for line in run("ask", "x", "--format", "people.py:Person", "--partials").stdout.splitlines()
    ]
    assert "".join(each["text"] for each in partials if each["path"] == "name") == "Ada"
    assert partials[-1]["data"] == {"name": "Ada", "age": 36}
    assert len(backend.requests) == 6


def test_files_are_attached(run: Run, script: Script, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"png")
    (tmp_path / "b.pdf").write_bytes(b"pdf")
    backend = script("a")
    assert run("ask", "What is this?", "-a", "a.png", "-a", "b.pdf").code == 0
    blocks = backend.requests[0].messages[-1].blocks
    assert [type(block).__name__ for block in blocks] == ["CBlock", "ImageBlock", "FileBlock"]
    assert run("ask", "x", "-a", "missing.png").code == 2


def test_a_template_is_a_file_with_places(
    run: Run, script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "translate.txt").write_text("Translate into {{language}}: {{input}}")
    backend = script("a")
    pipe(monkeypatch, "{{good}} morning")
    assert run("ask", "-t", "translate.txt", "-p", "language=French").code == 0
    assert backend.prompts == ["Translate into French: {{good}} morning"]
    assert run("ask", "prompt", "-t", "translate.txt").code == 2
    pipe(monkeypatch, "")
    for arguments, said in (
        (["-t", "translate.txt"], "'translate.txt' has a placeholder {{language}}; fill it with -p language=…"),
        (
            ["-t", "translate.txt", "-p", "language=x", "-p", "tone=y"],
            "'translate.txt' has no placeholder {{tone}} for -p tone",
        ),
        (["x", "-p", "language=x"], "there is no --template"),
    ):
        done = run("ask", *arguments)
        assert done.code == 2 and said in done.stderr, done
    (tmp_path / "plain.txt").write_text("Say hello.")
    pipe(monkeypatch, "something")
    assert "has no placeholder {{input}} for the piped input" in run("ask", "-t", "plain.txt").stderr
    pipe(monkeypatch, "")
    assert run("ask", "-t", "plain.txt").code == 0 and backend.prompts[1:] == ["Say hello."]


def test_a_place_in_a_prompt_is_sent_as_it_stands_which_is_said(run: Run, script: Script) -> None:
    backend = script("a")
    done = run("ask", "Draw a {{animal}}.")
    assert (done.code, done.stdout) == (0, "a\n") and backend.prompts == ["Draw a {{animal}}."]
    assert done.stderr == "mellea: {{animal}} is sent as it is; -t FILE -p animal=… fills in a template\n"


def test_a_conversation_goes_on(run: Run, script: Script) -> None:
    assert run("ask", "x", "-c").code == 2
    backend = script("Paris.", "Madrid.", "Rome.", "Hello.")
    for arguments in (["France's capital?"], ["Spain's?", "-c"], ["Italy's?", "--continue"], ["Hi"]):
        assert run("ask", *arguments).code == 0
    said = [[message.content for message in request.messages] for request in backend.requests]
    assert said[2] == ["France's capital?", "Paris.", "Spain's?", "Madrid.", "Italy's?"] and said[3] == ["Hi"]
    assert [type(message) for message in conversation.load()] == [Message, Message]
    if sys.platform != "win32":
        assert stat.S_IMODE(conversation._path().stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "there is nothing to ask"),
        (["x", "--partials"], "--partials needs --format or --schema"),
        (["x", "--format", "people.py"], "should be FILE.py:NAME"),
        (["x", "--format", "nowhere.py:Person"], "there is no file 'nowhere.py'"),
        (["x", "--schema", "{"], "the schema isn't valid JSON"),
        (["x", "--schema", "nowhere.json"], "there is no file 'nowhere.json'"),
        (["x", "-o", "temperature"], "--option takes NAME=VALUE, not 'temperature'"),
        (["x", "-o", "temperature=hot"], "temperature"),
        (["x", "--format", "a.py:B", "--schema", "{}"], "--format or --schema, not both"),
    ],
)
def test_a_users_mistake_is_one_line_and_code_2(run: Run, script: Script, arguments: list[str], said: str) -> None:
    script("a")
    done = run("ask", *arguments)
    assert done.code == 2 and said in done.stderr and done.stdout == "" and "Traceback" not in done.stderr


def test_a_model_that_fails_is_code_1_after_what_it_said(run: Run, script: Script) -> None:
    script(["The se", OverloadedError("busy")], "no JSON", "still none")
    done = run("ask", "x")
    assert done.code == 1 and done.stdout.startswith("The se") and "busy" in done.stderr
    wrong = run("ask", "x", "--schema", '{"type": "integer"}')
    assert wrong.code == 1 and wrong.stdout == "" and wrong.stderr.startswith("mellea: ")
    assert run("ask", "x", "-m", "nobody/x").code == 1


ENDLESS = """
    import signal, sys
    signal.signal(signal.SIGINT, signal.default_int_handler)
    import mellea
    from mellea.cli import ask, main
    from mellea.testing import Pause, ScriptedBackend
    backend = ScriptedBackend(["[1, ", "2, ", "3, ", *["4, ", Pause(0.01)] * 100_000])
    ask.start_session = lambda *a, **b: mellea.start_session(backend)
    code = main(["ask", "Count.", *sys.argv[1:]])
    print("ended with", code, "after", len(backend.closed), "closed", file=sys.stderr)
    sys.exit(code)
"""


def start_endless(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(ENDLESS), *arguments]
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1
    )


@pytest.mark.parametrize("arguments", [("--items", "--schema", '{"type": "integer"}'), ()])
def test_a_reader_that_has_enough_ends_the_models_work(arguments: tuple[str, ...]) -> None:
    process = start_endless(*arguments)
    assert process.stdout is not None and process.stderr is not None
    assert process.stdout.read(2) == ("1\n" if arguments else "[1")
    process.stdout.close()
    assert process.stderr.read() == "ended with 0 after 1 closed\n" and process.wait(60) == 0
    process.stderr.close()


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGINT to send")
def test_ctrl_c_leaves_what_there_is() -> None:
    process = start_endless()
    assert process.stdout is not None
    assert process.stdout.read(2) == "[1"
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None and process.stderr.read() == "ended with 130 after 1 closed\n"
    assert process.wait(60) == 130
    out = process.stdout.read()
    assert out.startswith(", 2, 3, ") and out.endswith("\n")
    process.stdout.close()
    process.stderr.close()
