"""A user's mistake, or a place that doesn't suit: one line and an exit code, never a traceback."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mellea.cli import main
from tests.cli.conftest import COMMAND

BYTES = b"\xff\xfe\x00 no text \x80"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a folder with everything that can be wrong with a file."""
    files = {
        "syntax.py": b"def f(:\n",
        "binary.py": BYTES,
        "imports.py": b"import syntax\n",
        "raises.py": b"raise ValueError('a bug of the program')\n",
        "good.py": b"def f(x: str) -> str:\n    print('inside')\n    return x\n\ndef end():\n    raise SystemExit(7)\n"
        b"\ndef pipe():\n    raise BrokenPipeError(32, 'of another pipe')\n",
        "binary.dat": BYTES,
        "binary.json": BYTES,
        "binary.jsonl": BYTES,
        "binary.csv": BYTES,
        "broken.json": b"{broken",
        "broken.jsonl": b"{broken\n",
        "uneven.csv": b"a,b\n1\n",
        "bad.db": BYTES * 300,
        "rows.jsonl": b'{"x": "1"}\n',
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "dir.py").mkdir()
    (tmp_path / "dir.jsonl").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    monkeypatch.setenv("MELLEA_CACHE", str(tmp_path / "cache"))
    for name, value in (("OPENAI_API_KEY", "a-key"), ("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")):
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("MELLEA_TRACES", raising=False)
    return tmp_path


MISTAKES = [
    ("run syntax.py:f", 2, "line 1 isn't valid Python: invalid syntax: 'def f(:'"),
    ("run binary.py:f", 2, "isn't valid Python"),
    ("run imports.py:f", 2, "syntax.py', line 1 isn't valid Python"),
    ("run dir.py:f", 2, "there is no file 'dir.py'"),
    ("run nowhere.py:f", 2, "there is no file 'nowhere.py'"),
    ("run binary.dat:f", 2, "isn't a Python file"),
    ("run good.py", 2, "should be FILE.py:NAME"),
    ("run good.py:g", 2, "'good.py' doesn't define 'g'"),
    ("run good.py:emd", 2, "'good.py' doesn't define 'emd'; did you mean 'end'?"),
    ("traces open runs.db", 2, "'runs.db' is not the number of a run; --db FILE names the record"),
    ("run good.py:f(", 2, "'f(' fails in 'good.py': SyntaxError"),
    ("run good.py:1/0", 2, "division by zero"),
    ("run good.py:f x", 2, "takes NAME=VALUE"),
    ("run good.py:f y=1", 2, "missing a required argument: 'x'"),
    ("run good.py:f xx=1", 2, "missing a required argument: 'x', and got an unexpected one: 'xx'; did you mean 'x'?"),
    ("ask x --temperature 0", 2, "temperature is an option of the model: -o temperature=…"),
    ("ask x --top-p=0", 2, "top_p is an option of the model: -o top_p=…"),
    ("traces record", 2, "MELLEA_TRACES=runs.db"),
    ("map good.py:f rows.jsonl --budget 5", 2, "--cost limits what it costs"),
    ("map good.py:f rows.jsonl --cache x", 2, "--journal names the file"),
    ("map good:f rows.jsonl", 2, "there is no file 'good'; did you mean 'good.py'?"),
    ("ask x --schema binary.json", 2, "the schema 'binary.json' isn't text in UTF-8"),
    ("ask x --schema broken.json", 2, "the schema isn't valid JSON"),
    ("ask x --schema dir.py", 2, "there is no file 'dir.py'"),
    (f"ask x --schema {'a' * 100_000}", 2, "--schema takes a file or a JSON object"),
    (f"ask x --schema {'{' * 100_000}", 2, "the schema isn't valid JSON"),
    ("ask x --format syntax.py:T", 2, "isn't valid Python"),
    ("ask -t binary.dat", 2, "the template 'binary.dat' isn't text in UTF-8"),
    ("ask x -t dir.py", 2, "is a directory"),
    ("ask x -a dir.py", 2, "is a directory"),
    ("ask x -m openai/x", 1, "nothing listens at http://127.0.0.1:9"),
    ("ask x -m opnai/x", 1, "did you mean 'openai/x'?"),
    ("ask x -m ./nowhere.gguf", 1, "can't be read"),
    ("ask x --max-tokens 0", 2, "greater than or equal to 1"),
    ("chat -m nobody/x", 1, "there is no provider 'nobody'"),
    ("models list nobody", 1, "there is no provider 'nobody'"),
    ("traces --db bad.db", 1, "is not a valid SQLite database"),
    ("traces --db nowhere.db", 2, "there is no record 'nowhere.db'"),
    ("traces show x", 2, "'x' is not the number of a run"),
    ("journal show bad.db", 1, "is not a valid SQLite database"),
    ("journal show dir.py", 2, "there is no journal 'dir.py'"),
    ("map good.py:f nowhere.csv", 2, "the rows of 'nowhere.csv' can't be read"),
    ("map good.py:f dir.jsonl", 2, "the rows of 'dir.jsonl' can't be read"),
    ("map good.py:f broken.jsonl", 2, "line 1 of 'broken.jsonl' is not JSON"),
    ("map good.py:f binary.jsonl", 2, "the rows of 'binary.jsonl' can't be read"),
    ("map good.py:f binary.csv", 2, "the rows of 'binary.csv' can't be read"),
    ("map good.py:f uneven.csv", 2, "line 2 of 'uneven.csv'"),
    ("map good.py:f rows.jsonl --journal bad.db --resume", 1, "is not a valid SQLite database"),
    ("map good.py:f rows.jsonl --cost nan", 2, "cost= of a Budget takes a number above 0"),
    ("serve syntax.py", 2, "isn't valid Python"),
    ("serve dir.py", 2, "there is no file 'dir.py'"),
    ("mcp serve syntax.py", 2, "isn't valid Python"),
    ("nonsense", 2, "nonsense"),
]


@pytest.mark.parametrize(("line", "code", "said"), MISTAKES, ids=[line[:40] for line, _, _ in MISTAKES])
def test_a_mistake_is_told_without_a_traceback(
    folder: Path, capsys: pytest.CaptureFixture[str], line: str, code: int, said: str
) -> None:
    assert main(line.split(" ")) == code
    shown = capsys.readouterr().err
    assert said in shown and "Traceback" not in shown and len(shown) < 5_000
    # typer puts the usage above its own.
    assert shown.count("\n") == 1 or shown.startswith("Usage: ")


def test_what_a_program_raises_is_shown_with_the_frames_of_the_program(folder: Path) -> None:
    with pytest.raises(ValueError, match="a bug of the program"):
        main(["run", "raises.py:f"])
    with pytest.raises(BrokenPipeError, match="of another pipe"):
        main(["run", "good.py:pipe"])
    assert main(["run", "good.py:end"]) == 7, "the code that a program ends with is its own"


SHELL = [
    ("run good.py:f x=1 >&-", 2, "stdout is closed"),
    ("run good.py:f x=- <&-", 2, "nothing is piped in"),
    ("run good.py:f x=1 2>&-", 0, ""),
    ("run good.py:f x=1 >/dev/full", 1, "mellea: No space left on device\n"),
    ("run good.py:end >/dev/full", 7, ""),
    ("run good.py:f x=1 | true; echo ${PIPESTATUS[0]} >&2", 0, "0\n"),
    ("ask -m openai/x <binary.dat", 2, "the piped input isn't text"),
    ("run good.py:f x=- <binary.dat", 2, "the piped input isn't text"),
]


@pytest.mark.skipif(not Path("/bin/bash").exists(), reason="there is no bash")
@pytest.mark.parametrize(("line", "code", "said"), SHELL, ids=[line for line, _, _ in SHELL])
@pytest.mark.sample(4)
def test_streams_that_are_closed_full_or_binary(folder: Path, line: str, code: int, said: str) -> None:
    if "/dev/full" in line and not Path("/dev/full").exists():
        pytest.skip("there is no full disk here")
    command = f"{' '.join(COMMAND)} {line}"
    done = subprocess.run(["/bin/bash", "-c", command], capture_output=True, stdin=subprocess.DEVNULL, timeout=60)
    shown = done.stderr.decode()
    assert done.returncode == code and said in shown and "Traceback" not in shown and shown.count("\n") <= 1, shown


def test_an_encoding_without_the_letters_loses_them_and_json_has_them_as_escapes(folder: Path) -> None:
    (folder / "letters.py").write_text(
        "def text():\n    return 'Zürich'\n\ndef value():\n    return ['Zürich']\n", "utf-8"
    )
    for name, shown in (("text", b"Z?rich\n"), ("value", b'["Z\\u00fcrich"]\n')):
        done = subprocess.run(
            [*COMMAND, "run", f"letters.py:{name}"],
            capture_output=True,
            env={**os.environ, "PYTHONIOENCODING": "ascii"},
            timeout=60,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, shown, b"")


@pytest.mark.skipif(sys.platform == "win32", reason="there is no such folder")
def test_without_a_home_or_with_one_that_takes_nothing_it_works_and_forgets(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("MELLEA_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/proc")
    assert main(["models", "pull"]) == 1
    assert "MELLEA_CACHE names another folder" in capsys.readouterr().err
    assert main(["ask", "x", "-c"]) == 2
    assert "there is no conversation to continue" in capsys.readouterr().err
    monkeypatch.setenv("COLUMNS", "1")
    assert main(["--help"]) == 0 and main(["run", "good.py:f", "x=1"]) == 0
