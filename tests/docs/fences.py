"""The code fences of the documentation, page by page and chapter by chapter."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

OPENING = re.compile(r"^( *)(`{3,}|~{3,})\s*(\w*)(.*)$")
THEIRS = "theirs"
"""The language of a Python fence under `title="There"`: a program of another library, which doesn't run in ours."""


@dataclass(frozen=True)
class Fence:
    """A fence; `line` is the number of its first line of code, `printed` the text that stands right below it."""

    page: Path
    chapter: str
    language: str
    line: int
    code: str
    printed: str | None = None


def fences(page: Path) -> list[Fence]:
    """Read all fences of a page; a `text` fence right below another one is what that one prints."""
    found: list[Fence] = []
    chapter, last_end, is_whole = "", -1, False
    lines = page.read_text("utf-8").splitlines()
    number = 0
    while number < len(lines):
        opening = OPENING.match(lines[number])
        if opening is None:
            if lines[number].startswith("# Chapter "):  # of the tutorial: all of the page belongs together
                chapter, is_whole = lines[number].removeprefix("# ").strip(), True
            elif lines[number].startswith("## ") and not is_whole:
                chapter = lines[number].removeprefix("## ").strip()
            number += 1
            continue
        end = _end(lines, number, opening)
        code = "\n".join(line.removeprefix(opening[1]) for line in lines[number + 1 : end])
        language = THEIRS if opening[3] == "python" and 'title="There"' in opening[4] else opening[3]
        fence = Fence(page, chapter, language, number + 2, code)
        if fence.language == "text" and found and not "".join(lines[last_end + 1 : number]).strip():
            above = found.pop()
            fence = Fence(above.page, above.chapter, above.language, above.line, above.code, printed=code)
        found.append(fence)
        last_end, number = end, end + 1
    return found


def _end(lines: list[str], start: int, opening: re.Match[str]) -> int:
    for number in range(start + 1, len(lines)):
        if lines[number].strip() == opening[2]:
            return number
    raise ValueError(f"the fence in line {start + 1} is never closed")
