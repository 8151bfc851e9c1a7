"""`mellea docs`: the documentation that comes with the package."""

import json
import tomllib
from pathlib import Path

from mellea.cli.docs import _LINK, _drop_dead_links

ROOT = Path(__file__).parents[2]


def test_the_pages_are_listed_with_their_titles(run):
    done = run("docs")
    pages = {each["page"]: each for each in map(json.loads, done.stdout.splitlines())}
    assert done.code == 0
    assert pages["memory"]["title"] == "Memory"
    assert {"tutorial", "providers", "streaming/README"} <= {name.removeprefix("examples/") for name in pages}
    assert all(Path(each["file"]).is_file() for each in pages.values())


def test_a_page_comes_as_markdown_in_a_pipe(run):
    done = run("docs", "coming_from")
    assert (done.code, done.stderr) == (0, "")
    assert done.stdout.startswith("# Coming from another library\n")
    assert run("docs", "coming-from.md").stdout == done.stdout
    assert run("docs", "examples").stdout.startswith("# Examples")


def test_a_page_is_drawn_on_a_terminal(run_on_terminal):
    shown = run_on_terminal("docs", "memory")
    assert "Memory" in shown
    assert "# Memory" not in shown
    assert "```" not in shown


def test_a_page_that_isnt_there_is_answered_with_one_that_is(run):
    done = run("docs", "memorys")
    assert (done.code, done.stdout) == (2, "")
    assert done.stderr == "mellea: there is no page 'memorys' in the documentation; did you mean memory?\n"
    assert "`mellea docs` lists the pages" in run("docs", "../../../etc/passwd").stderr
    assert "`mellea docs --search 'structured output'` the lines" in run("docs", "structured output").stderr


def test_a_word_of_a_name_is_enough_where_one_page_has_it(run):
    assert run("docs", "langchain").stdout.startswith("# Coming from LangChain\n")
    assert run("docs", "1").stdout.startswith("# Chapter 1: ")
    assert run("docs", "13").stdout.startswith("# Chapter 13: ")
    assert "did you mean tutorial/13_streaming or examples/streaming/README?" in run("docs", "streaming").stderr


def test_lines_are_found_by_their_words(run):
    found = [json.loads(line) for line in run("docs", "--search", "PULL models").stdout.splitlines()]
    assert found
    assert all("pull" in each["text"].lower() and "models" in each["text"].lower() for each in found)
    assert {each["page"] for each in found} > {"embedded"}
    in_one_page = [json.loads(line) for line in run("docs", "embedded", "-s", "pull").stdout.splitlines()]
    assert {each["page"] for each in in_one_page} == {"embedded"}


def test_words_that_are_nowhere_are_said(run):
    done = run("docs", "-s", "xyzzy plugh")
    assert (done.code, done.stdout) == (1, "")
    assert done.stderr == "mellea: no line of the documentation has all of these words: 'xyzzy plugh'\n"
    assert run("docs", "-s", "").code == 1


def test_the_program_of_an_example_is_shown(run):
    done = run("docs", "memory.py")
    assert done.code == 0 and done.stdout.startswith('"""') and "import" in done.stdout
    assert run("docs", "examples/memory.py").stdout == done.stdout == run("docs", "docs/examples/memory.py").stdout
    missing = run("docs", "memry.py")
    assert missing.code == 2 and "did you mean" in missing.stderr and "memory.py" in missing.stderr
    assert run("docs", "../../pyproject.py").code == 2


def test_a_link_to_what_is_not_installed_is_its_text(tmp_path):
    (tmp_path / "here.md").write_text("x")
    text = "[a](here.md#top), [`b`](../gone/there.py), ![c](d.png), [e](https://h/x.md), f[0](y) and [g](#h)"
    shown = _drop_dead_links(text, tmp_path)
    assert shown == "[a](here.md#top), `b`, c, [e](https://h/x.md), f[0](y) and [g](#h)"


def test_pages_link_to_files_that_the_wheel_has():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert "/docs/examples/**" in settings["include"]
    for page in (ROOT / "docs").rglob("*.md"):
        for match in _LINK.finditer(page.read_text("utf-8")):
            target = (page.parent / match[2]).resolve()
            assert target.exists(), f"{page}: {match[0]}"
