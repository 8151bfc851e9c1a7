"""Parse docstrings into their text, the descriptions of arguments, and other sections.

Three styles of sections are recognised: Google's (`Args:` and indented lines), NumPy's (a title underlined with dashes)
and Sphinx's (`:param name: …`). Everything else stays part of the text.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Docstring", "parse_docstring"]

_TITLES = {
    "args": "Args",
    "arguments": "Args",
    "parameters": "Args",
    "params": "Args",
    "other parameters": "Args",
    "keyword args": "Args",
    "keyword arguments": "Args",
    "return": "Returns",
    "returns": "Returns",
    "yield": "Returns",
    "yields": "Returns",
    "raises": "Raises",
    "example": "Examples",
    "examples": "Examples",
    "note": "Notes",
    "notes": "Notes",
}

# Possessive where two parts can match the same white space, so that no line costs more than linear time.
_GOOGLE = re.compile(r"(?P<title>[A-Za-z][A-Za-z ]*+):\s*+")
_DASHES = re.compile(r"-{3,}+\s*+")
_FIELD = re.compile(r":(?P<name>[a-z]++)(?:\s++(?P<subject>[^:]*+))?:\s*+(?P<text>.*)")
_FIELDS = {"param": "Args", "parameter": "Args", "arg": "Args", "argument": "Args", "key": "Args", "keyword": "Args"}
_OTHER_FIELDS = {
    "return": "Returns",
    "returns": "Returns",
    "yield": "Returns",
    "yields": "Returns",
    "raises": "Raises",
    "raise": "Raises",
    "except": "Raises",
    "exception": "Raises",
}
_GOOGLE_ENTRY = re.compile(
    r"\*{0,2}(?P<names>\w++)\s*+(?:\((?:[^()]++|\([^()]*+\))*+\)\s*+)?:\s*+(?P<text>.*)"  # a type may contain brackets
)
_NUMPY_ENTRY = re.compile(r"(?P<names>\*{0,2}\w++(?:\s*+,\s*+\*{0,2}\w++)*+)\s*+(?::.*)?")


@dataclass(frozen=True, slots=True)
class Docstring:
    """A parsed docstring.

    Attributes:
        text: everything outside sections.
        arguments: the description of each argument, as one line.
        sections: the other sections by title: `"Returns"`, `"Raises"`, `"Examples"`, `"Notes"`.
    """

    text: str = ""
    arguments: Mapping[str, str] = field(default_factory=dict)
    sections: Mapping[str, str] = field(default_factory=dict)


def parse_docstring(docstring: str | None) -> Docstring:
    """Parse a docstring; without sections it is all text."""
    if not docstring:
        return Docstring()
    reader = _SectionReader()
    lines = inspect.cleandoc(docstring).splitlines()
    for number, line in enumerate(lines):
        reader.read(line, lines[number + 1] if number + 1 < len(lines) else "")
    return reader.build()


class _SectionReader:
    """Reads a docstring line by line; a section continues until a line shows that it has ended."""

    def __init__(self) -> None:
        self._parts: list[tuple[str, str, list[str]]] = [("", "", [])]  # style, title, lines

    def read(self, line: str, following: str) -> None:
        style, _, lines = self._parts[-1]
        # The line of dashes below a title that has just started a section.
        if style == "numpy" and not lines and _DASHES.fullmatch(line):
            return
        if begun := self._begin(line, following):
            self._parts.append(begun)
        elif (style == "google" and line and not line[0].isspace()) or (style == "sphinx" and not line.strip()):
            self._parts.append(("", "", [line]))
        else:
            lines.append(line)

    def _begin(self, line: str, following: str) -> tuple[str, str, list[str]] | None:
        # NumPy's form first: its title looks like text without the line below it.
        if _DASHES.fullmatch(following):
            title = _TITLES.get(line.strip().lower())
            if title is None and self._parts[-1][0] == "numpy":
                title = line.strip()  # such as "See Also", which ends the section before it
            if title:
                return "numpy", title, []
        if (match := _GOOGLE.fullmatch(line)) and (title := _TITLES.get(match["title"].lower())):
            return "google", title, []
        if match := _FIELD.fullmatch(line):
            name, subject = match["name"], (match["subject"] or "").split()
            # `:param int count:` has the type in between; the name is the last word.
            if name in _FIELDS and subject:
                return "sphinx", "Args", [f"{subject[-1]}: {match['text']}"]
            if name in _OTHER_FIELDS:
                return "sphinx", _OTHER_FIELDS[name], [": ".join(filter(None, [" ".join(subject), match["text"]]))]
            if name in ("type", "rtype"):
                return "sphinx", "", []
        return None

    def build(self) -> Docstring:
        text: list[str] = []
        arguments: dict[str, str] = {}
        sections: dict[str, str] = {}
        for style, title, lines in self._parts:
            body = inspect.cleandoc("\n".join(["", *lines]))
            if not style:
                text += lines
            elif title == "Args":
                arguments |= _parse_entries(body.splitlines(), _NUMPY_ENTRY if style == "numpy" else _GOOGLE_ENTRY)
            elif title and body:
                sections[title] = f"{sections[title]}\n{body}" if title in sections else body
        return Docstring(re.sub(r"\n{3,}", "\n\n", "\n".join(text)).strip(), arguments, sections)


def _parse_entries(lines: list[str], entry: re.Pattern[str]) -> dict[str, str]:
    """Parse entries of the form `name: text` with indented continuation lines, or NumPy's `name : type`."""
    found: dict[str, list[str]] = {}
    current: list[str] = []
    for line in lines:
        match = entry.fullmatch(line) if line and not line[0].isspace() else None
        if match is None:
            current.append(line.strip())
            continue
        current = [match.groupdict().get("text") or ""]
        for name in match["names"].split(","):
            found[name.strip().lstrip("*")] = current
    return {name: " ".join(filter(None, texts)) for name, texts in found.items()}
