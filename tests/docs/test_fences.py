"""Every Python fence of the documentation runs, in the order of its chapter."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.chapters import Chapters
from tests.docs.fences import PAGES, ROOT, THEIRS, fences

LANGUAGES = {"python", "text", "bash", "console", "toml", "json", "jsonc", "yaml", "ini", "html", "mermaid", "diff"}
LANGUAGES |= {"powershell", THEIRS}


def _name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


CHAPTERS = list(
    dict.fromkeys((page, fence.chapter) for page in PAGES for fence in fences(page) if fence.language == "python")
)


@pytest.mark.parametrize(("page", "chapter"), CHAPTERS, ids=[f"{_name(page)}: {title}" for page, title in CHAPTERS])
def test_the_fences_of_a_chapter_run(python: Chapters, page: Path, chapter: str) -> None:
    codes = [fence.code for fence in fences(page) if fence.chapter == chapter]
    for package, group in {"fastapi": "web", "dask": "engines", "dbos": "durable"}.items():
        if any(re.search(rf"\b(from|import) {package}\b", code) for code in codes):
            pytest.importorskip(package, reason=f"the group {group} isn't installed")
    done = python.run(page, chapter, asks_the_model=page.name == "README.md" and page.parent == ROOT)
    assert done.returncode == 0, done.out + done.err
    assert done.err == ""


def test_the_chapters_are_found() -> None:
    titles = [title for _, title in CHAPTERS]
    assert {"Chapter 12: Asynchronicity", "Chapter 13: Streaming Model Outputs", "A scripted backend"} <= set(titles)
    numbers = [int(title.split()[1].rstrip(":")) for title in titles if title.startswith("Chapter ")]
    assert numbers == list(range(1, 1 + len(list((ROOT / "docs" / "tutorial").glob("*.md")))))


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("print(1)\n```\n\n```text\n2", "says that this is printed"),
        ("await missing", "NameError"),
        ("def test_one():\n    assert 1 == 2", "assert 1 == 2"),
        ("async def test_one():\n    assert 1 == 2", "assert 1 == 2"),
        ("class TestOne:\n    def test_one(self):\n        assert 1 == 2", "assert 1 == 2"),
    ],
)
def test_a_fence_that_is_wrong_fails(python: Chapters, code: str, why: str, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"## One\n\n```python\n{code}\n```\n", "utf-8")
    done = python.run(page, "One")
    assert done.returncode != 0
    assert why in done.err


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_every_fence_says_what_it_is(page: Path) -> None:
    """So that nothing gets round being run under another name, such as `py`."""
    odd = [f"line {fence.line}: {fence.language!r}" for fence in fences(page) if fence.language not in LANGUAGES]
    assert not odd, odd


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_the_programs_in_commands_are_there(page: Path) -> None:
    commands = [fence.code for fence in fences(page) if fence.language in {"bash", "console"}]
    missing = [path for code in commands for path in re.findall(r"[\w./-]+\.py\b", code) if not (ROOT / path).is_file()]
    assert not missing, missing
