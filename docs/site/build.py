"""Build the site: pages, reference, navigation, the Markdown of each page, and `llms.txt`.

Run it as `scripts/site`; it writes build/site, and ends with an error if anything is to be warned of.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

from docs.site.pages import DOCS, ROOT, Page, collect_pages
from docs.site.reference import public_names, reference_pages

BUILD = ROOT / "build"
SOURCE = BUILD / "pages"
SITE = BUILD / "site"

# The navigation: a heading, and the pages below it in the order in which people need them; a folder is all its pages.
SECTIONS: dict[str, tuple[str, ...]] = {
    "Learn": ("index.md", "tutorial.md", "tutorial/", "glossary.md", "coming-from.md", "coming-from/"),
    "Write programs": (
        "functions.md", "typed_streams.md", "requirements.md", "components.md", "agents.md", "approvals.md",
        "memory.md", "mcp.md", "videos.md", "testing.md", "evaluation.md",
    ),
    "Run them": (
        "command_line.md", "serve.md", "web.md", "scale.md", "tracing.md", "observers.md", "costs.md", "saved_state.md",
    ),
    "Models": ("providers.md", "embedded.md", "network.md", "add_a_provider.md"),
    "Cookbook": ("examples/",),
    "Reference": ("reference/",),
    "About": ("changelog.md", "contributing.md", "decisions/"),
}  # fmt: skip


def main() -> None:
    """Build everything, and say what was built."""
    pages = collect_pages()
    shutil.rmtree(BUILD / "pages", ignore_errors=True)
    for page in pages:
        _write(page.path, page.text)
    reference = reference_pages()
    for path, text in reference.items():
        _write(path, text)
    shutil.copytree(DOCS / "pictures", SOURCE / "pictures", ignore=shutil.ignore_patterns("*.py"))
    shutil.copy(DOCS / "site" / "site.css", SOURCE)
    config = BUILD / "mkdocs.yml"
    settings = (DOCS / "site" / "mkdocs.yml").read_text("utf-8")
    nav = json.dumps(make_nav(sorted(p.relative_to(SOURCE).as_posix() for p in SOURCE.rglob("*.md"))))
    config.write_text(f"{settings}\ndocs_dir: pages\nsite_dir: site\nnav: {nav}\n", "utf-8")
    # Not `--quiet`: what isn't logged isn't counted as a warning, either.
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", config],
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


def make_nav(paths: list[str]) -> list[dict[str, list[str]]]:
    """Put each page below its heading; one that has none is left over, of which mkdocs complains."""
    nav: list[dict[str, list[str]]] = []
    for heading, entries in SECTIONS.items():
        below: list[str] = []
        for entry in entries:
            below += [path for path in paths if path == entry or (entry.endswith("/") and path.startswith(entry))]
        # What a folder says of itself comes first, and what programs import from most.
        nav.append({heading: sorted(below, key=lambda path: not path.endswith(("/index.md", "/mellea.md")))})
    return nav


def _index_for_models(pages: list[Page]) -> str:
    """Write `llms.txt`: what there is to read, as Markdown for a language model (https://llmstxt.org)."""
    by_path = {page.path: page for page in pages}
    lines = ["# mellea", "", f"> {by_path['index.md'].summary}", ""]
    for section in make_nav(sorted(by_path)):
        for heading, paths in section.items():
            entries = [by_path[path] for path in paths if path in by_path]
            if entries:
                lines += [
                    f"## {heading}",
                    "",
                    *(f"- [{page.title}]({page.path}): {page.summary}" for page in entries),
                    "",
                ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
