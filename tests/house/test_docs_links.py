"""Every relative link in the documentation leads to a file, and to a heading, that is there."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from urllib.parse import unquote

import pytest

from tests.house.tree import ROOT, files, name

PAGES = [path for path in files() if path.suffix == ".md"]

FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`[^`\n]*`")
LINK = re.compile(r"\[(?:[^\[\]]|\[[^\[\]]*\])*\]\(<?([^)\s>]+)>?(?:\s+[\"'][^)]*)?\)")
DEFINITION = re.compile(r"^\[[^\]]+\]:\s+<?(\S+?)>?(?:\s|$)", re.MULTILINE)
HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*#*$", re.MULTILINE)
EXPLICIT = re.compile(r"<a\s+(?:id|name)=[\"']([^\"']+)")


def _prose(page: Path) -> str:
    return FENCE.sub("", page.read_text("utf-8"))


def _links(page: Path) -> list[str]:
    text = CODE.sub("", _prose(page))
    return [link for link in LINK.findall(text) + DEFINITION.findall(text) if not re.match(r"[a-z][a-z+.-]*:", link)]


def _anchors(page: Path) -> set[str]:
    """The anchors that a forge gives the headings of a page: lower case, hyphens, numbered where they repeat."""
    anchors = set(EXPLICIT.findall(page.read_text("utf-8")))
    seen: Counter[str] = Counter()
    for heading in HEADING.findall(_prose(page)):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
        anchors.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
        seen[slug] += 1
    return anchors


def _fault(page: Path, link: str) -> str | None:
    file, _, anchor = unquote(link).partition("#")
    target = (page.parent / file).resolve() if file else page
    if not target.exists():
        return f"{link}: there is no {file}"
    if not target.is_relative_to(ROOT):
        return f"{link}: leads out of the checkout"
    if anchor and target.suffix == ".md" and anchor not in _anchors(target):
        return f"{link}: {name(target)} has no heading with the anchor #{anchor}"
    return None


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    faults = [fault for link in _links(page) if (fault := _fault(page, link))]
    assert not faults, "\n".join(faults)


def test_decisions_are_numbered_and_listed_under_their_headings() -> None:
    folder = ROOT / "docs" / "decisions"
    pages = sorted(path for path in folder.glob("*.md") if path.name != "README.md")
    titles = [path.read_text("utf-8").partition("\n")[0] for path in pages]
    assert [title.partition(".")[0] for title in titles] == [f"# {number}" for number in range(1, len(pages) + 1)]
    assert [path.name[:4] for path in pages] == [f"{number:04}" for number in range(1, len(pages) + 1)]
    listed = re.findall(r"^(\d+)\. \[(.+)\]\((\S+\.md)\)", (folder / "README.md").read_text("utf-8"), re.MULTILINE)
    assert [f"# {number}. {title}" for number, title, _ in listed] == titles
    assert [file for _, _, file in listed] == [path.name for path in pages]


@pytest.mark.parametrize("anchor", ["chapter-12-asynchronicity", "chapter-13-streaming-model-outputs"])
def test_the_tutorial_has_the_chapters_that_others_link_to(anchor: str) -> None:
    assert anchor in _anchors(ROOT / "docs" / "tutorial.md")
