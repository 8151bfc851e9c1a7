"""Build the site: pages, reference, navigation, the Markdown of each page, and `llms.txt`.

Run it as `scripts/site`; it writes build/site, and ends with an error if anything is to be warned of.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath
from typing import Any

from docs.site.pages import DOCS, ROOT, Page, collect_pages
from docs.site.reference import public_names, reference_pages

BUILD = ROOT / "build"
SOURCE = BUILD / "pages"
SITE = BUILD / "site"
CONFIG = BUILD / "mkdocs.yml"


def _group_examples() -> Iterator[dict[str, tuple[str, ...]]]:
    """Group the examples as their index does: by what people want to do, in the order of its tables."""
    index = (DOCS / "examples" / "README.md").read_text("utf-8")
    for task, table in re.findall(r"^## (.+)\n\n((?:\|.*\n)+)", index, re.MULTILINE):
        yield {task: tuple(f"examples/{path}.md" for path in re.findall(r"\]\(([\w/]+)\.py\) \|", table))}


# The navigation: a heading, and the pages below it in the order in which people need them. `*` stands for all pages of
# a folder that no other entry names more exactly; a dict is a group that unfolds.
SECTIONS: dict[str, tuple[str | dict[str, tuple[str, ...]], ...]] = {
    "Learn": (
        "index.md",
        {"Tutorial": ("tutorial.md", "tutorial/*")},
        "glossary.md",
        {"Coming from": ("coming-from.md", "coming-from/*")},
    ),
    "Write programs": (
        "functions.md", "typed_streams.md", "requirements.md", "components.md", "agents.md", "approvals.md",
        "memory.md", "mcp.md", "videos.md", "testing.md", "evaluation.md",
    ),
    "Run them": (
        "command_line.md", "serve.md", "web.md", "scale.md", "tracing.md", "observers.md", "costs.md", "saved_state.md",
    ),
    "Models": ("providers.md", "embedded.md", "network.md", "add_a_provider.md"),
    "Cookbook": (
        "examples/index.md",
        *_group_examples(),
        {"Pages on several examples": ("examples/outputs.md", "examples/*/index.md")},
        {"Files that examples use": ("examples/*", "examples/*/*")},
    ),
    "Reference": (
        "reference/mellea.md",
        "reference/*",
        {"mellea.stdlib": ("reference/mellea.stdlib.*",)},
        {"mellea.backends": ("reference/mellea.backends.md", "reference/mellea.backends.*")},
    ),
    "About": ("changelog.md", "contributing.md", {"Decisions": ("decisions/index.md", "decisions/*")}),
}  # fmt: skip


# A word is searched by those who want to learn it more often than by those who look up a signature or a reason.
_BOOSTS = {"Learn": 4, "Write programs": 3, "Run them": 3, "Models": 3, "About": 0.5}


def main() -> None:
    """Build everything, and say what was built."""
    pages = collect_pages()
    shutil.rmtree(BUILD / "pages", ignore_errors=True)
    reference = reference_pages()
    texts = {**{page.path: page.text for page in pages}, **reference}
    for heading, paths in list_sections(sorted(texts)).items():
        for path in paths:
            _write(path, f"---\nsearch: {{boost: {_BOOSTS.get(heading, 1)}}}\n---\n\n{texts[path]}")
    shutil.copytree(DOCS / "pictures", SOURCE / "pictures", ignore=shutil.ignore_patterns("*.py"))
    shutil.copy(DOCS / "site" / "site.css", SOURCE)
    settings = (DOCS / "site" / "mkdocs.yml").read_text("utf-8")
    nav = json.dumps(make_nav(sorted(p.relative_to(SOURCE).as_posix() for p in SOURCE.rglob("*.md"))))
    CONFIG.write_text(f"{settings}\ndocs_dir: pages\nsite_dir: site\nnav: {nav}\n", "utf-8")
    # Not `--quiet`: what isn't logged isn't counted as a warning, either.
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", CONFIG],
        capture_output=True,
        text=True,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )
    if built.returncode != 0:
        sys.exit("\n".join(line for line in built.stderr.splitlines() if not line.startswith("INFO")))
    for page in pages:
        goal = SITE / page.path
        goal.parent.mkdir(parents=True, exist_ok=True)
        goal.write_text(page.text, "utf-8")
    (SITE / "llms.txt").write_text(_index_for_models(pages), "utf-8")
    names = sum(1 for _ in public_names())
    print(f"{len(pages)} pages, {len(reference)} pages of reference with {names} names: {SITE.relative_to(ROOT)}")


def _write(path: str, text: str) -> None:
    goal = SOURCE / path
    goal.parent.mkdir(parents=True, exist_ok=True)
    goal.write_text(text, "utf-8")


def make_nav(paths: list[str]) -> list[dict[str, list[Any]]]:
    """Put each page below its heading and group; one that has no place is left over, of which mkdocs complains."""
    placed: dict[str, list[str]] = {entry: [] for entries in SECTIONS.values() for entry in _flatten(entries)}
    for path in paths:
        fitting = [entry for entry in placed if PurePosixPath(path).match(entry)]
        if fitting:
            placed[max(fitting, key=len)].append(path)
    nav: list[dict[str, list[Any]]] = []
    for heading, entries in SECTIONS.items():
        below: list[Any] = []
        for entry in entries:
            if isinstance(entry, dict):
                below += [{group: [path for one in inner for path in placed[one]]} for group, inner in entry.items()]
            else:
                below += placed[entry]
        nav.append({heading: below})
    return nav


def list_sections(paths: list[str]) -> dict[str, list[str]]:
    """Return the pages below each heading, whatever their groups."""
    return {heading: list(_flatten(below)) for section in make_nav(paths) for heading, below in section.items()}


def _flatten(entries: Iterable[Any]) -> Iterator[str]:
    for entry in entries:
        if isinstance(entry, dict):
            for inner in entry.values():
                yield from inner
        else:
            yield entry


def _index_for_models(pages: list[Page]) -> str:
    """Write `llms.txt`: what there is to read, as Markdown for a language model (https://llmstxt.org)."""
    by_path = {page.path: page for page in pages}
    lines = ["# mellea", "", f"> {by_path['index.md'].summary}", ""]
    for heading, paths in list_sections(sorted(by_path)).items():
        entries = [by_path[path] for path in paths]
        if entries:
            lines += [f"## {heading}", "", *(f"- [{page.title}]({page.path}): {page.summary}" for page in entries), ""]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
