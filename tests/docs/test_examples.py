"""The examples run as they stand, on the embedded model: each ends, in order, and writes while it works."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from docs.site import outputs
from mellea.testing.engine_server import engine_server
from tests.docs.chapters import Chapters
from tests.docs.fences import ROOT, fences
from tests.docs.programs import EXAMPLES, LMSTUDIO, PYTHON, STREAMING, Terminal, Watched, watch


def _assert_streamed(done: Watched) -> None:
    """The text came while it was written: in several pieces, and the first well before the last."""
    assert len(done.arrivals) >= 4, done.out
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


@pytest.mark.thorough
def test_basic_under_uv_with_mellea() -> None:
    """The commands of the folder's page. They must take this checkout, whatever else is called mellea."""
    if shutil.which("uv") is None:
        pytest.skip("uv isn't installed")
    if Path(sys.prefix) != ROOT / ".venv":
        pytest.skip("the tests don't run in the environment that uv makes for this checkout")
    page = (STREAMING / "README.md").read_text("utf-8")
    commands = re.findall(r"^`?(uv run .*/basic_streaming\.py)\b", page, re.MULTILINE)
    assert [command.split()[2:-1] for command in commands] == [[], ["--with", "mellea"]]
    for command in commands:
        _assert_story(watch(command.split(), UV_FROZEN="1"))


@pytest.mark.thorough
def test_advanced(tmp_path: Path) -> None:
    done = watch([*PYTHON, STREAMING / "advanced_streaming.py"], cwd=tmp_path)
    assert done.returncode == 0, done.out + done.err
    assert done.err == ""
    _assert_streamed(done)
    assert re.findall(r"^== (\w+): ", done.out, re.MULTILINE) == ["waiting", "failures", "deadlines"]
    waiting, failures, deadlines = re.split(r"^== .*\n", done.out, flags=re.MULTILINE)[1:]
    first, everything = map(float, re.findall(r"after (\d+\.\d+) s", waiting)[1:])
    assert first < everything
    assert "ParseError" in failures
    assert re.findall(r"^(\w+):", deadlines, re.MULTILINE) == ["deadline", "timeout"]


@pytest.mark.thorough
def test_words_and_lines(tmp_path: Path) -> None:
    done = watch([*PYTHON, STREAMING / "words_and_lines.py"], cwd=tmp_path)
    assert done.returncode == 0, done.out + done.err
    assert done.err == ""
    _assert_streamed(done)
    assert re.findall(r"^== (\w+): ", done.out, re.MULTILINE) == ["display", "together"]
    display, together = re.split(r"^== .*\n", done.out, flags=re.MULTILINE)[1:]
    assert re.findall(r"^(\w+):", display, re.MULTILINE) == ["pieces", "words", "lines"]
    topics = re.findall(r"^ *\d+\.\d s  ([\w ]+):", together, re.MULTILINE)
    assert set(topics) == {"the moon", "a river", "bread"}


@pytest.mark.thorough
def test_typed_items(tmp_path: Path) -> None:
    """Each item comes out before the next one is written, in plain and in async code."""
    done = watch([*PYTHON, STREAMING / "typed_items.py"], cwd=tmp_path)
    assert (done.returncode, done.err) == (0, "")
    plain, asynchronous = re.split(r"^== .*\n", done.out, flags=re.MULTILINE)[1:]
    for part, item in ((plain, r"Person\(name='.*', email='.*'\)"), (asynchronous, r".+ <.*>")):
        *items, end = part.strip().splitlines()
        assert 3 <= len(items) <= 5
        assert all(re.fullmatch(rf" *\d+\.\d\d s  {item}", line) for line in items), items
        seconds = [float(line.split()[0]) for line in (*items, end)]
        assert seconds == sorted(seconds)
        assert len({*seconds[:-1]}) == len(items), "an item takes several hundredths of a second on any machine"
        assert "that was all" in end


FIELDS = ["guest.name", "guest.email", "room", "nights", "breakfast", "wishes[0]", "note"]


@pytest.mark.thorough
def test_a_form_line_by_line(tmp_path: Path) -> None:
    done = watch([*PYTHON, STREAMING / "partial_form.py"], cwd=tmp_path)
    assert (done.returncode, done.err) == (0, "")
    _assert_streamed(done)
    _assert_form(done.out)


def _assert_form(written: str) -> None:
    """Each field has its line, in order."""
    form, _, last_line = written.strip().rpartition("\n\n")
    places = [line.split(": ", 1)[0] for line in form.splitlines() if line]
    assert [place for place in places if place in FIELDS] == FIELDS
    assert re.fullmatch(r"After \d+\.\d s: a (single|double|suite) for \d+ night\(s\)\.", last_line), last_line


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are a thing of Unix")
def test_a_form_at_a_terminal() -> None:
    with Terminal.running(STREAMING / "form_at_a_terminal.py", kind="xterm") as terminal:
        terminal.expect("✎.*✓.*✎")  # drawn again and again, while some fields are there and others are being written
        terminal.expect(r"After \d+\.\d s")
        assert terminal.leave() == 0


@pytest.mark.thorough
def test_validated_streaming(tmp_path: Path) -> None:
    """Each attempt ends within a word of what isn't wanted, and no sentence with it is shown."""
    done = watch([*PYTHON, STREAMING / "validated_streaming.py"], cwd=tmp_path)
    assert (done.returncode, done.err) == (0, "")
    _assert_streamed(done)
    repaired, released = re.split(r"^== .*\n", done.out, flags=re.MULTILINE)[1:]
    for said in re.findall(r"^attempt \d+: (.*)\n  stopped: ", repaired, re.MULTILINE):
        assert re.search(r"\bdelicious\b\S*( \S*)?$", said), said
    assert re.search(r"^A plain loop would have printed only ", repaired, re.MULTILINE)
    assert re.findall(r"^ *\d+\.\d\d s  ", released, re.MULTILINE)
    *shown, _ = released.splitlines()
    assert not re.search(r"\bdelicious\b", "\n".join(shown[:-1]), re.IGNORECASE)


@pytest.mark.thorough
def test_stopping_early_saves_tokens(tmp_path: Path) -> None:
    done = watch([*PYTHON, STREAMING / "stopping_early.py"], cwd=tmp_path)
    assert (done.returncode, done.err) == (0, "")
    at_the_end, on_the_way, difference = map(int, re.findall(r"^[a-z ]+: +(\d+)", done.out, re.MULTILINE))
    assert difference == at_the_end - on_the_way > 0


@pytest.mark.parametrize(
    ("program", "said"),
    [
        (
            "instruct_validate_repair.py",
            r"== attempt 1\n.*[✓✗] The invitation is polite.*(All requirements are met|No attempt met)",
        ),
        (
            "generative_functions.py",
            r"(positive|negative); Ticket\(title='.*', urgency=[1-5]\).*No model was asked: .*one line: \d+",
        ),
        ("objects.py", r"query: .*query: +(North|South)\n.*transform: \[.*\]\nuntouched: \['beans', 'soil'\]"),
        (
            "tools_offline.py",
            r"Lund\?\n  the model calls look_up\(\{'city': 'Lund'\}\)\n  which gives 91940\n  .*91940"
            r".*98 - 45\?\n  the model calls calculate\(.*\)\n  which gives '53'\n  53",
        ),
        pytest.param(
            "classify_mails.py",
            r"at least 100 answers\nthe budget is used up; .*\n\d+ mails: .*; 800 of them were .*\n"
            r"2000 mails: \{'billing': 1000, 'support': 500, 'other': 500\}; \d+ of them .*\nnothing twice: True",
            marks=pytest.mark.thorough,
        ),
        (
            "two_prompts.py",
            r"^Two prompts\n\n24 cases × 2 variants = 48 samples.*\npolite +\d+ of 24.*\nplain +\d+ of 24.*"
            r"(is better than|Can't tell whether).*The difference is .*\n(Use '|Take either)",
        ),
        (
            "lazy_values.py",
            r"is the story there\? False\n.*place is there.*story is there.*resolved: .*ParseError: .*\{\{it\}\}",
        ),
        (
            "tracing.py",
            r"travel \(trace, .* s\)\n  stream_answer \(function.*\n    answer_question \(call, .* tokens, \$0\)\n.*"
            r"attempt 1.*is short \(check.*it cost 0\.0 dollars",
        ),
        (
            "tool_calls.py",
            r"Let me ask\. \[\{\"ship\": \"Nimbus\"\}\]\nthe model wants mothership_status\(\{'ship': 'Nimbus'\}\)\n"
            r".*\nNimbus is in orbit\. Bring sandwiches\.\n4 messages",
        ),
        (
            "provider_tools.py",
            r"'web_search_20250305'.*'max_uses': 3\}\)\nthe provider ran web_search \{'query': 'tide Bergen'\}\n"
            r"and found \['Tide tables'\]\n'At 11:42 '\n.*'vercel:perplexity_search'.*'and at 23:58\.'\n"
            r"the provider ran perplexity_search",
        ),
        (
            "memory.py",
            r"next day, in another process\n.*\[found \['Ann is allergic to peanuts\.'\]\]\n  A curry without peanuts.*"
            r"about Ann: \['Ann cooks for four\.', 'Ann is .*about Bob: \[\]\n.*: 2 notes",
        ),
        (
            "mcp_client.py",
            r"population: Look up.*\nslogan: Write.*\nAtlantis: there is no city 'Atlantis'; .*\n"
            r"Lisbon: 545000\n.*\n\d+ characters",
        ),
    ],
)
def test_the_language(python: Chapters, program: str, said: str) -> None:
    done = python.run_program(EXAMPLES / program)
    assert (done.returncode, done.err) == (0, "")
    assert done.is_by_stand_in or re.search(said, done.out, re.DOTALL), done.out


@pytest.mark.parametrize(
    ("program", "said"),
    [
        (
            "triage_mailbox.py",
            r"^from +topic +mood +subject\nann@.* (delivery|payment) +(un)?happy +Thank you\n"
            r"(.*\n){2}dora@.*So pretty\n$",
        ),
        (
            "invoice_lines.py",
            r"^( *\d+\.\d s  '.*': (in the table|left out: there is no such line); \d so far\n){3}"
            r"( *\d .* \d+\.\d\d\n){1,3}$",
        ),
        (
            "report.py",
            r"failed Begin with .*\nattempt (2|3): Porto grew most.*\n( +met .*\n){3}The bigger .* told: True\n$",
        ),
        (
            "chat_with_documents.py",
            r"(?s)open\?  \[tea\.txt\]\n.*take\?  \[boat\.txt\]\n.*inside\?  \[dogs\.txt\]\n.*\S",
        ),
        (
            "folder_agent.py",
            r"(?s)read_file gives 'The boat leaves.*Which files.* gives .*refused: '../secret.txt' is outside",
        ),
    ],
)
def test_an_everyday_program(python: Chapters, program: str, said: str) -> None:
    done = python.run_program(EXAMPLES / program)
    assert (done.returncode, done.err) == (0, "")
    assert done.is_by_stand_in or re.search(said, done.out), done.out


def test_the_tests_of_a_generative_program_pass(tmp_path: Path) -> None:
    command = [*PYTHON, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-c", tmp_path / "none.ini"]
    (tmp_path / "none.ini").write_text("[pytest]\n")
    done = watch([*command, EXAMPLES / "test_triage.py"], cwd=tmp_path)
    assert done.returncode == 0, done.out + done.err
    assert "4 passed" in done.out


def test_every_example_is_short() -> None:
    """A reader takes it in at one look, so one that says more is two."""
    paths = [path for path in EXAMPLES.rglob("*.py") if "node_modules" not in path.parts]
    too_long = [path.name for path in paths if len(path.read_text("utf-8").splitlines()) >= 80]
    assert len(paths) > 35
    assert not too_long


def test_a_function_whose_docstring_is_the_prompt_has_a_body_that_type_checkers_accept() -> None:
    """They report a function without `...` that returns nothing; see `empty-body` of mypy."""
    bare = [
        f"{path.name}: {function.name}"
        for path in EXAMPLES.rglob("*.py")
        if "node_modules" not in path.parts
        for function in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        and function.returns is not None
        and ast.get_docstring(function) is not None
        and len(function.body) == 1
        and any(name in ast.unparse(mark) for mark in function.decorator_list for name in ("generative", "command"))
    ]
    assert not bare


@pytest.mark.thorough
def test_recorded_tests_ask_a_model_once(tmp_path: Path) -> None:
    for name in ("test_reviews.py", "two_prompts.py"):
        shutil.copy(EXAMPLES / name, tmp_path)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "mellea.evaluation.pytest_plugin", "test_reviews.py"]
    alone = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    recorded = watch([*command, "--mellea-record"], cwd=tmp_path, **alone)
    assert "\n0 recorded answers, 11 from models\n" in recorded.out, recorded.out
    replayed = watch(command, cwd=tmp_path, **alone)
    assert "\n11 recorded answers, 0 from models\n" in replayed.out, replayed.out
    assert replayed.returncode == recorded.returncode


@pytest.mark.thorough
def test_a_function_is_a_solver_of_inspect(tmp_path: Path) -> None:
    if importlib.util.find_spec("inspect_ai") is None:
        pytest.skip("the group inspect isn't installed")
    done = watch([sys.executable, EXAMPLES / "inspect_solver.py"], cwd=tmp_path)
    assert done.returncode == 0, done.err
    assert re.match(r"success: 6 samples\n(  (good|bad) +expected .*\n){6}mean: [01]\.\d\d\n", done.out), done.out


@pytest.mark.parametrize("program", sorted(STREAMING.glob("*.py")), ids=lambda program: program.stem)
def test_a_streaming_example_runs(python: Chapters, program: Path) -> None:
    done = python.run_program(program)
    assert (done.returncode, done.err) == (0, "")


@pytest.mark.thorough
def test_a_traced_stream_is_in_the_record_that_the_command_lists(tmp_path: Path) -> None:
    done = watch([*PYTHON, EXAMPLES / "recorded_runs.py"], cwd=tmp_path)
    assert (done.returncode, done.err) == (0, "")
    _assert_streamed(done)
    assert re.search(r"  stream_answer \(function, ok\)\n  answer_question \(call, ok\)\n", done.out), done.out
    assert "  count (call, cancelled)\n" in done.out
    listed = watch([*PYTHON, "-m", "mellea", "traces", "list"], cwd=tmp_path)
    assert (listed.returncode, listed.err) == (0, "")
    runs = [json.loads(line) for line in listed.out.splitlines()]
    assert [(run["name"], run["status"], run["spans"]) for run in runs] == [
        ("counting", "ok", 2),
        ("streaming_qa", "ok", 3),
    ]
    shown = watch([*PYTHON, "-m", "mellea", "traces", "show", str(runs[1]["id"])], cwd=tmp_path)
    trace, function, call = [json.loads(line) for line in shown.out.splitlines()]
    assert function["seconds"] >= call["chunks"][-1][0] / 1000, "the function's span is as long as the stream"
    assert trace["seconds"] >= function["seconds"] and len(call["chunks"]) >= 10


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("lmstudio_run_async.py", r"\S.*\n1 step\(s\), \d+ tokens\n$"),
        ("lmstudio_stream_async.py", r"\S.*\n[1-9]\d* characters\n$"),
        (
            "lmstudio_stream_timing.py",
            r"^safe: \d+ chunks, the first after .* s, the last after .* s\nlive: \d+ chunks, .*\n$",
        ),
        ("lmstudio_stream_visual.py", r"^(\[1:[^\]]+\])+\n\(final\)\n$"),
    ],
)
@pytest.mark.sample(1)
def test_agents_on_a_server_of_the_embedded_engine(
    program: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LMSTUDIO_MODEL", raising=False)
    done = watch([*PYTHON, LMSTUDIO / program], cwd=tmp_path)
    assert done.returncode == 0, done.err
    assert done.err == "LMSTUDIO_MODEL isn't set, so the embedded engine serves its own model.\n"
    assert re.search(said, done.out, re.DOTALL), done.out


@pytest.fixture(scope="module")
def lmstudio() -> Iterator[dict[str, str]]:
    """The environment of a user whose LM Studio runs and wants a key."""
    with engine_server() as server:
        yield {
            "LMSTUDIO_BASE_URL": server.url,
            "LMSTUDIO_MODEL": server.model,
            "LMSTUDIO_API_KEY": server.api_key,
        }


@pytest.mark.parametrize("program", ["lmstudio_run_async.py", "lmstudio_stream_visual.py"])
@pytest.mark.sample(1)
def test_agents_on_the_server_that_the_variables_name(program: str, lmstudio: dict[str, str], tmp_path: Path) -> None:
    done = watch([*PYTHON, LMSTUDIO / program], cwd=tmp_path, **lmstudio)
    assert (done.returncode, done.err) == (0, "")
    assert re.search(r"1 step\(s\)|\(final\)", done.out), done.out
    refused = watch([*PYTHON, LMSTUDIO / program], cwd=tmp_path, **{**lmstudio, "LMSTUDIO_API_KEY": "wrong"})
    assert "AuthError" in refused.err
    assert lmstudio["LMSTUDIO_API_KEY"] not in refused.err


@pytest.mark.skipif(not shutil.which("curl") or not shutil.which("bash"), reason="curl or bash isn't installed")
def test_the_check_with_curl(lmstudio: dict[str, str], tmp_path: Path) -> None:
    """The first command sends the key and gets a stream; the second one sends none, which this server refuses."""
    (check,) = (fence.code for fence in fences(LMSTUDIO / "README.md") if "cat >" in fence.code)
    done = watch(["bash", "-ec", check], cwd=tmp_path, NO_PROXY="127.0.0.1", **lmstudio)
    assert done.returncode == 0, done.err
    streamed, _, refused = done.out.partition("data: [DONE]")
    assert len(re.findall("^data: {", streamed, re.MULTILINE)) > 1
    assert "error" in refused
    assert "data:" not in refused


def test_the_check_for_powershell_says_the_same() -> None:
    page = fences(LMSTUDIO / "README.md")
    (bash,) = (fence.code for fence in page if "cat >" in fence.code)
    (power,) = (fence.code for fence in page if "curl.exe" in fence.code)
    bodies = [json.loads(re.search(r"^\{.*?^\}", code, re.DOTALL | re.MULTILINE)[0]) for code in (bash, power)]  # type: ignore[index]
    assert bodies[0] == bodies[1]
    for code, mark in ((bash, "$LMSTUDIO_"), (power, "$env:LMSTUDIO_")):
        with_key, without_key = re.split(r"curl(?:\.exe)? ", code)[1:]
        assert f"Bearer {mark}API_KEY" in with_key
        assert "Authorization" not in without_key
        assert all(f"{mark}BASE_URL/chat/completions" in each for each in (with_key, without_key))


@pytest.mark.parametrize("folder", [STREAMING, LMSTUDIO], ids=lambda folder: folder.name)
def test_the_folder_s_page_names_every_example(folder: Path) -> None:
    commands = " ".join(fence.code for fence in fences(folder / "README.md") if fence.language == "bash")
    named = set(re.findall(rf"{folder.name}/(\w+\.py)", commands))
    assert named == {
        path.name for path in folder.glob("*.py") if path.relative_to(EXAMPLES).as_posix() not in outputs.MODULES
    }


def test_the_page_of_outputs_has_one_for_every_example() -> None:
    kept = outputs.read_outputs()
    assert sorted(kept) == outputs.list_programs()
    assert all(len(printed.splitlines()) >= 2 for printed in kept.values()), "a command, and what it printed"


@pytest.mark.parametrize("name", ["tool_calls.py", "provider_tools.py", "memory.py"])
@pytest.mark.sample(1)
def test_a_scripted_example_prints_what_the_page_shows(name: str) -> None:
    """Of those on the embedded model the page shows what they printed once."""
    done = watch([*PYTHON, EXAMPLES / name])
    assert done.out.rstrip() == outputs.read_outputs()[name].partition("\n")[2]


def test_every_example_on_the_embedded_model_says_what_a_bigger_model_would_write() -> None:
    """Its output would otherwise be taken for the best that a program of this kind can do."""
    embedded = [EXAMPLES / name for name in outputs.list_programs() if "embedded model" in outputs.read_needs(name)]
    docstrings = {path.name: ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "" for path in embedded}
    assert len(docstrings) > 25
    assert not [name for name, text in docstrings.items() if "bigger" not in text]


def test_a_mistyped_mailbox_is_told_and_not_made(tmp_path: Path) -> None:
    done = watch([*PYTHON, EXAMPLES / "triage_mailbox.py", "nowhere.mbox"], cwd=tmp_path)
    assert (done.returncode, done.out) == (1, "")
    assert "'nowhere.mbox'" in done.err and "Traceback" not in done.err
    assert not list(tmp_path.iterdir())


def test_memory_shows_a_search_that_finds_nothing(tmp_path: Path) -> None:
    done = watch([*PYTHON, EXAMPLES / "memory.py", "empty.db"], cwd=tmp_path)
    assert (done.returncode, done.err) == (0, "")
    assert "  [found " in done.out
