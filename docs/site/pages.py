"""The pages of the site: the Markdown of the project, with links that hold there, and a page for each example.

What is written for a reader of the repository becomes a page as it is; only links, lists and `<details>` are put into
the form that the site's Markdown wants.
"""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from docs.site.outputs import read_outputs

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"

_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^()\s]+)\)")
_NAME = re.compile(r"(?<!\[)`([\w/]+\.(?:py|html))`(?!\])")
_FENCE = re.compile(r"^ *(`{3,}|~{3,})")
_ITEM = re.compile(r"^( *)([-*]|\d+\.) ")
_RUN_IT = re.compile(r"^Run it: (.+)\nNeeds: (.+)$", re.MULTILINE)
_DETAILS = '<details markdown="1">'
_EXAMPLES = ("*.py", "*.html")
_LANGUAGES = {".py": "python", ".html": "html", ".ipynb": "json"}


@dataclass(frozen=True)
class Page:
    """A page: where it comes from, where it stands below the site's root, and its Markdown."""

    source: Path
    path: str
    text: str

    @property
    def title(self) -> str:
        """The first heading."""
        return next(line.removeprefix("# ") for line in self.text.splitlines() if line.startswith("# "))

    @property
    def summary(self) -> str:
        """The first sentence of the first paragraph that is prose."""
        prose = next((part for part in _paragraphs(self.text) if part[0].isalpha() or part[0] in "`*"), self.title)
        return re.split(r"(?<=[.!?])\s", _LINK.sub(r"\2", prose), maxsplit=1)[0].rstrip(":")


def collect_pages() -> list[Page]:
    """Read all pages: the README as the first one, docs/, the changelog, how to contribute, and the examples."""
    homes = dict(_find_sources())
    return [Page(source, path, _render(source, path, homes)) for source, path in homes.items()]


def _find_sources() -> Iterator[tuple[Path, str]]:
    yield ROOT / "README.md", "index.md"
    yield ROOT / "CHANGELOG.md", "changelog.md"
    yield ROOT / "CONTRIBUTING.md", "contributing.md"
    for source in sorted(DOCS.rglob("*.md")):
        path = source.relative_to(DOCS).as_posix()
        yield source, re.sub(r"README\.md$", "index.md", path)
    for pattern in _EXAMPLES:
        for source in sorted((DOCS / "examples").rglob(pattern)):
            name = source.stem if source.suffix == ".py" else source.name.replace(".", "_")
            yield source, source.relative_to(DOCS).with_name(f"{name}.md").as_posix()


def _render(source: Path, path: str, homes: dict[Path, str]) -> str:
    text = source.read_text("utf-8")
    if source.suffix != ".md":
        return _show_example(source, text)
    parts: list[str] = []
    for is_code, lines in _split_fences(text):
        part = "\n".join(lines if is_code else _part_lists(lines))
        if not is_code:
            part = fit_links(_link_examples(part, source, homes), source, path, homes).replace("<details>", _DETAILS)
        parts.append(part)
    return "\n".join(parts) + "\n"


def _split_fences(text: str) -> Iterator[tuple[bool, list[str]]]:
    """Yield the text in turns: lines of prose, and the lines of a fence, with its marks."""
    lines: list[str] = []
    fence = ""
    for line in text.splitlines():
        mark = None if fence else _FENCE.match(line)
        if mark:
            yield False, lines
            lines, fence = [], mark[1]
        lines.append(line)
        if fence and not mark and line.strip() == fence:
            yield True, lines
            lines, fence = [], ""
    yield False, lines


def _part_lists(lines: list[str]) -> Iterator[str]:
    """Part a list from the line right above it: that is a list on GitHub, but not in Python's Markdown."""
    above = ""
    for line in lines:
        if _ITEM.match(line) and above.strip() and not _ITEM.match(above) and not above.startswith(" "):
            yield ""
        yield line
        above = line


def _show_example(source: Path, text: str) -> str:
    """The page of an example: what it is for, the program, which needn't say it again, and what it printed."""
    name = source.relative_to(ROOT).as_posix()
    title, purpose = source.name, ""
    if source.suffix == ".py":
        tree = ast.parse(text)
        first, purpose = tree.body[0], ast.get_docstring(tree) or ""
        # Its first sentence up to a colon or semicolon: people look for what a program does, not for its file.
        title = re.split(r"[:;.](?=\s|$)", " ".join(purpose.split()), maxsplit=1)[0] or title
        purpose = _RUN_IT.sub(r"```console\n$ \1\n```\n\nIt needs \2.", purpose)
        if purpose:
            text = "".join(text.splitlines(keepends=True)[first.end_lineno :]).lstrip("\n")
    language = _LANGUAGES[source.suffix]
    printed = read_outputs().get(source.relative_to(DOCS / "examples").as_posix())
    below = "" if printed is None else f"\n## What it printed\n\n```text\n{printed}\n```\n"
    return f'# {title}\n\n{purpose}\n\n```{language} title="{name}"\n{text.rstrip()}\n```\n{below}'


def _link_examples(text: str, source: Path, homes: dict[Path, str]) -> str:
    """Let the name of an example beside the page lead to its page."""

    def link(name: re.Match[str]) -> str:
        is_page = (source.parent / name[1]).resolve() in homes
        return f"[`{name[1]}`]({name[1]})" if is_page else name[0]

    return _NAME.sub(link, text)


def fit_links(text: str, source: Path, path: str, homes: dict[Path, str]) -> str:
    """Let a link to a file of the repository lead to its page; where it has none, the words stay."""

    def fit(link: re.Match[str]) -> str:
        image, words, target = link.groups()
        if re.match(r"[a-z]+:|#", target):
            return link[0]
        file, mark, anchor = target.partition("#")
        goal = (source.parent / file).resolve()
        if not goal.exists():
            raise FileNotFoundError(f"{source.relative_to(ROOT)} links to {target!r}, which isn't there")
        if goal.is_dir():
            goal /= "README.md"
        home = homes.get(goal) or (goal.relative_to(DOCS).as_posix() if image else None)
        if home is None:
            return words
        return f"{image}[{words}]({os.path.relpath(home, Path(path).parent)}{mark}{anchor})"

    return _LINK.sub(fit, text)


def _paragraphs(text: str) -> Iterator[str]:
    for part in re.sub(r"(?ms)^( *)(`{3,}|~{3,}).*?^\1\2$", "", text).split("\n\n"):
        words = " ".join(part.split())
        if words and not words.startswith(("#", "<", "|", "-", "!", "[")):
            yield words
