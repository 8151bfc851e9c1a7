"""The site: that every page is in it once, that links hold, and that the reference has every public name."""

from __future__ import annotations

import importlib
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
import zlib
from pathlib import Path

import pytest

from docs.site import build, pages, reference
from tests.docs.fences import PAGES, ROOT


@pytest.mark.thorough
def test_the_site_is_built_and_whole(tmp_path: Path) -> None:
    """One test, since building takes many seconds, and two processes would write into the same folder."""
    pytest.importorskip("mkdocs", reason="the group docs isn't installed")
    done = subprocess.run([sys.executable, "-m", "docs.site.build"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    _assert_the_reference_knows_every_public_name(build.SITE)
    _assert_the_index_for_models_names_every_page_as_markdown(build.SITE)
    _assert_the_site_map_names_every_page(build.SITE)
    _assert_no_page_loads_anything_from_another_server(build.SITE)
    _assert_zensical_builds_the_same_pages(build.SITE, tmp_path)


def test_every_page_has_one_place_in_the_navigation() -> None:
    paths = sorted([page.path for page in pages.collect_pages()] + list(reference.reference_pages()))
    placed = [path for below in build.list_sections(paths).values() for path in below]
    assert sorted(placed) == paths


def test_every_page_of_the_documentation_is_a_page_of_the_site() -> None:
    assert set(PAGES) <= {page.source for page in pages.collect_pages()}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            "[a](docs/agents.md#an-agent) and [b](docs/examples/memory.py)",
            "[a](agents.md#an-agent) and [b](examples/memory.md)",
        ),
        ("see [the class](mellea/core/backend.py)", "see the class"),
        ("[two\nlines](docs/agents.md)", "[two\nlines](agents.md)"),
        ("[out](https://example.org/a) [here](#there)", "[out](https://example.org/a) [here](#there)"),
        ("![page](docs/pictures/trace_page.png)", "![page](pictures/trace_page.png)"),
        ("[folder](docs/examples)", "[folder](examples/index.md)"),
    ],
)  # fmt: skip
def test_a_link_leads_to_the_page_of_its_file(line: str, expected: str) -> None:
    homes = {page.source: page.path for page in pages.collect_pages()}
    assert pages.fit_links(line, ROOT / "README.md", "index.md", homes) == expected


def test_a_link_to_a_file_that_isnt_there_is_an_error() -> None:
    with pytest.raises(FileNotFoundError, match=r"README.md links to 'docs/nothing.md'"):
        pages.fit_links("[a](docs/nothing.md)", ROOT / "README.md", "index.md", {})


def test_the_page_of_an_example_says_what_it_does_once_and_names_its_file() -> None:
    (page,) = [page for page in pages.collect_pages() if page.path == "examples/triage_mailbox.md"]
    assert page.title == "Sort a mailbox into a table"
    assert page.text.count("Sort a mailbox into a table: ") == 1
    assert "```console\n$ uv run docs/examples/triage_mailbox.py\n```\n\nIt needs the embedded model." in page.text
    assert '```python title="docs/examples/triage_mailbox.py"\nimport asyncio\n' in page.text


def test_the_index_of_examples_leads_to_each() -> None:
    (page,) = [page for page in pages.collect_pages() if page.path == "examples/index.md"]
    assert "| [`objects.py`](objects.md) |" in page.text


def test_the_navigation_has_the_examples_by_task_as_their_index_has_them() -> None:
    paths = sorted(page.path for page in pages.collect_pages())
    (below,) = (section["Cookbook"] for section in build.make_nav(paths) if "Cookbook" in section)
    groups = {task: found for entry in below if isinstance(entry, dict) for task, found in entry.items()}
    assert list(groups)[:3] == ["First text", "Typed values", "Checking and repairing"]
    assert groups["First text"][:2] == [
        "examples/streaming/basic_streaming.md",
        "examples/streaming/interactive_chat.md",
    ]
    assert groups["Files that examples use"] == [
        "examples/recorded_provider.md",
        "examples/lmstudio/lmstudio_session.md",
        "examples/web/page_html.md",
    ]


def test_each_page_of_the_reference_opens_with_a_table_of_its_names() -> None:
    text = reference.reference_pages()["reference/mellea.md"]
    assert "| [`start_session`][mellea.start_session] | Start a session" in text
    offered = [name for module, name, _ in reference.public_names() if module == "mellea"]
    assert re.findall(r"^\| \[`(\w+)`\]", text, re.MULTILINE) == offered


def test_every_public_name_is_described_once() -> None:
    described, linked = set(), set()
    for module, name, home in reference.public_names():
        assert hasattr(importlib.import_module(module), name)
        (described if home is None else linked).add(f"{module}.{name}")
        assert home is None or home in described or importlib.import_module(home)
    assert {
        "mellea.start_session",
        "mellea.Agent",
        "mellea.errors.ParseError",
        "mellea.map",
        "mellea.batch.Row",
    } <= described
    assert "mellea.stdlib.agents.Agent" in linked
    text = "\n".join(reference.reference_pages().values())
    for name in described:
        assert text.count(f"\n::: {name}\n") + text.count(f"\n      heading: {name}\n") == 1


def _assert_the_reference_knows_every_public_name(site: Path) -> None:
    inventory = zlib.decompress((site / "objects.inv").read_bytes().split(b"\n", 4)[4]).decode()
    known = {line.split(" ", 1)[0] for line in inventory.splitlines()}
    described = {f"{module}.{name}" for module, name, home in reference.public_names() if home is None}
    assert {reference.find_path(name) for name in described} <= known


def _assert_the_index_for_models_names_every_page_as_markdown(site: Path) -> None:
    index = (site / "llms.txt").read_text("utf-8")
    linked = re.findall(r"^- \[.+?\]\(([^)]+)\): \S", index, re.MULTILINE)
    assert sorted(linked) == sorted(page.path for page in pages.collect_pages())
    assert all((site / path).is_file() for path in linked)


def _assert_the_site_map_names_every_page(site: Path) -> None:
    found = ElementTree.parse(site / "sitemap.xml").getroot()
    assert len(found) == len(pages.collect_pages()) + len(reference.reference_pages())


def _assert_no_page_loads_anything_from_another_server(site: Path) -> None:
    loaded = re.compile(r'<(?:script|img|iframe)[^>]+src="https?://|<link[^>]+rel="stylesheet"[^>]+href="https?://')
    for page in site.rglob("*.html"):
        assert loaded.findall(page.read_text("utf-8")) == []


def _assert_zensical_builds_the_same_pages(site: Path, tmp_path: Path) -> None:
    """mkdocs gets no new version any more: what comes after it has to know each feature that the site uses."""
    shutil.copytree(build.SOURCE, tmp_path / "pages")
    shutil.copy(build.CONFIG, tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "zensical", "build", "--strict", "-f", build.CONFIG.name],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    ours = {path.relative_to(site) for path in site.rglob("index.html")}
    assert {path.relative_to(tmp_path / "site") for path in (tmp_path / "site").rglob("index.html")} == ours
    assert _headings(tmp_path / "site" / "reference" / "mellea" / "index.html") == _headings(
        site / "reference" / "mellea" / "index.html"
    )


def _headings(page: Path) -> list[str]:
    return re.findall(r'<h[2-4] id="([^"]+)"', page.read_text("utf-8"))
