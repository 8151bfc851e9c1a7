"""`mellea docs`: this version's documentation, which is part of the package, in the terminal and in pipes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from shlex import quote
from typing import Annotated

import typer
from rich.console import Console
from rich.markdown import Markdown
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

import mellea
from mellea.cli import output
from mellea.errors import UsageError

__all__ = ["docs"]

_PACKAGE = Path(mellea.__file__).parent
# A wheel has the pages inside; a checkout has them next to the package.
_FOLDERS = (_PACKAGE / "docs", _PACKAGE.parent / "docs")
_TOO_LONG = 110
_APART = str.maketrans("-_/", "   ")


def docs(
    page: Annotated[
        str | None,
        typer.Argument(
            metavar="PAGE", help="A page, such as `tutorial`, or an example, such as `memory.py`.", show_default=False
        ),
    ] = None,
    search: Annotated[
        str | None, typer.Option("--search", "-s", metavar="WORDS", help="Show the lines that contain these words.")
    ] = None,
    as_json: output.Json = False,
) -> None:
    """Read the documentation.

    Without a page, this lists all pages.
    """
    if page is not None and page.endswith(".py") and search is None:
        _show_program(_find_program(page))
        return
    pages = _find_pages()
    chosen = pages if page is None else {page: pages[_resolve_name(page, pages)]}
    if search is not None:
        _show_lines(chosen, search, as_json)
    elif page is None:
        _show_list(chosen, as_json)
    else:
        _show_page(_drop_dead_links(chosen[page].read_text("utf-8"), chosen[page].parent))


def _find_folder() -> Path:
    folder = next((folder for folder in _FOLDERS if (folder / "tutorial.md").exists()), None)
    if folder is None:
        raise UsageError(f"this installation of mellea has no documentation in {str(_FOLDERS[0])!r}; install it again")
    return folder


def _find_pages() -> dict[str, Path]:
    """Return the files by page name, such as `examples/README`."""
    folder = _find_folder()
    files = sorted(folder.rglob("*.md"), key=lambda file: (len(file.relative_to(folder).parts), file.as_posix()))
    return {file.relative_to(folder).with_suffix("").as_posix(): file for file in files}


def _find_program(wanted: str) -> Path:
    """Return the file of an example's program, by the end of its path, as in `memory.py` or `web/app.py`."""
    folder = _find_folder()
    programs = {file.relative_to(folder).as_posix(): file for file in sorted((folder / "examples").rglob("*.py"))}
    ending = wanted.removeprefix("docs/").lstrip("./")
    found = [name for name in programs if name == ending or name.endswith(f"/{ending}")]
    if not found:
        near = get_close_matches(ending, [*programs, *(name.rpartition("/")[2] for name in programs)], n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else "`mellea docs examples` lists them"
        raise UsageError(f"there is no program {wanted!r} among the examples; {hint}")
    return programs[found[0]]


def _resolve_name(page: str, pages: dict[str, Path]) -> str:
    wanted = page.removesuffix(".md").strip("/")
    by_name = {name.lower().replace("-", "_"): name for name in pages}
    found = by_name.get(wanted.lower().replace("-", "_")) or by_name.get(f"{wanted.lower().replace('-', '_')}/readme")
    if found is None:
        # A word of a name is enough if no other name contains it: `langchain`, or `1` for chapter 01.
        word = wanted.lower().zfill(2)
        named = [name for name in pages if word in name.lower().translate(_APART).split()]
        if len(named) == 1:
            return named[0]
        # Several words aren't a name but a search.
        near = named or ([] if len(wanted.split()) > 1 else get_close_matches(wanted, pages, n=3, cutoff=0.5))
        elsewhere = f"`mellea docs` lists the pages, `mellea docs --search {quote(page)}` the lines with these words"
        hint = f"did you mean {' or '.join(near)}?" if near else elsewhere
        raise UsageError(f"there is no page {page!r} in the documentation; {hint}")
    return found


def _show_list(pages: dict[str, Path], as_json: bool) -> None:
    titles = {name: _read_title(file) for name, file in pages.items()}
    if not output.is_for_people(as_json):
        output.write_json({"page": name, "title": title, "file": str(pages[name])} for name, title in titles.items())
        return
    table = Table("page", "title", box=None, header_style="bold")
    for name, title in titles.items():
        table.add_row(name, Text(title))
    output.draw(table)


def _show_lines(pages: dict[str, Path], words: str, as_json: bool) -> None:
    found = list(_find_lines(pages, words.lower().split()))
    if not found:
        output.note(f"mellea: no line of the documentation has all of these words: {words!r}")
        raise typer.Exit(1)
    if not output.is_for_people(as_json):
        output.write_json({"page": name, "line": number, "text": text} for name, number, text in found)
        return
    for name, number, text in found:
        line = Text.assemble((f"{name}:{number}", "bold"), "  ", text[:_TOO_LONG])
        line.highlight_regex("(?i)" + "|".join(re.escape(word) for word in words.split()), "green")
        output.draw(line)


def _find_lines(pages: dict[str, Path], words: list[str]) -> Iterator[tuple[str, int, str]]:
    for name, file in pages.items():
        for number, line in enumerate(file.read_text("utf-8").splitlines(), start=1):
            if words and all(word in line.lower() for word in words):
                yield name, number, line.strip()


_LINK = re.compile(r"!?\[([^\]\n]{1,200})\]\(([\w./-]{1,200}\.(?:md|py|png|svg|ipynb|html))(?:#[\w-]{1,100})?\)")


def _drop_dead_links(text: str, folder: Path) -> str:
    """Return a page in which a link to a file that the installation doesn't have is its text alone."""
    return _LINK.sub(lambda match: match[0] if (folder / match[2]).exists() else match[1], text)


def _show_program(file: Path) -> None:
    text = file.read_text("utf-8")
    if output.is_for_people():
        Console().print(Syntax(text, "python", theme="ansi_dark"))
    else:
        output.write(text)


def _show_page(text: str) -> None:
    if not output.is_for_people():
        output.write(text)
        return
    console = Console()
    console.print(Markdown(text, code_theme="ansi_dark"), width=min(console.width, 100))


def _read_title(file: Path) -> str:
    return next((line.removeprefix("# ") for line in file.read_text("utf-8").splitlines() if line.startswith("# ")), "")
