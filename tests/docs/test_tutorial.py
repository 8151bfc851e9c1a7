"""The form of the tutorial: a question, a program with its output, an exercise with a solution that runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.fences import ROOT, fences

CONTENTS = ROOT / "docs" / "tutorial.md"
GLOSSARY = ROOT / "docs" / "glossary.md"
CHAPTERS = sorted((ROOT / "docs" / "tutorial").glob("*.md"))


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_a_chapter_answers_a_question_and_ends_with_an_exercise(chapter: Path) -> None:
    text = chapter.read_text("utf-8")
    title, _, question, *_ = text.split("\n")
    assert re.fullmatch(rf"# Chapter {int(chapter.stem[:2])}: .+", title)
    assert re.fullmatch(r"\*.+\?\*", question)
    assert text.startswith(f"{title}\n\n{question}\n\n```python\n"), "it begins with a program"
    assert text.index("```text") < text.index("\n## "), "and what that prints"
    _, _, exercise = text.partition("\n## Exercise\n")
    solution = re.search(r"<summary>A solution</summary>\n(.*?)</details>", exercise, re.DOTALL)
    assert solution and "```python" in solution[1]
    assert "(../glossary.md)" in exercise
    first = fences(chapter)[0]
    assert first.language == "python"
    compile(first.code, chapter.name, "exec")  # a script, which has no `await` outside of a function


def test_the_contents_name_every_chapter_with_its_question() -> None:
    contents = CONTENTS.read_text("utf-8")
    for chapter in CHAPTERS:
        title, _, question, *_ = chapter.read_text("utf-8").split("\n")
        name = title.partition(": ")[2]
        assert f"[{name}](tutorial/{chapter.name}) | {question.strip('*')} |" in contents


def test_the_glossary_is_in_order_and_leads_to_every_chapter_that_defines_words() -> None:
    words = re.findall(r"^\| (.+?) \|", GLOSSARY.read_text("utf-8"), re.MULTILINE)[1:]
    assert words == sorted(words, key=str.lower)
    linked = set(re.findall(r"tutorial/(\w+\.md)", GLOSSARY.read_text("utf-8")))
    assert linked >= {chapter.name for chapter in CHAPTERS} - {"10_interoperability.md"}
