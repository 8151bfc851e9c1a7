"""Find the JSON document in the text of an answer: which candidates there are, and when one is accepted.

Rules:

- A candidate opens with a bracket of a requested shape. It is *leading* if nothing but white space, a BOM or the
  opening line of a code fence precedes it.
- A leading list is accepted at its bracket, a leading object at its first known key.
- After anything else a list is accepted at its first valid item, an object when all its required keys have appeared.
- Either is also accepted when it closes and is valid. A candidate that closes without being accepted is skipped as a
  whole, and so is JSON of another shape. One that turns out not to be JSON is prose: the search resumes where it broke.
- A bracket opens nothing if what follows isn't possible in JSON, as in `[see above]`.
- Where a string is requested and the text begins with a quote, brackets inside the quotes open nothing.

The result doesn't depend on how the text was split: every decision is made at a character.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from mellea.core.structured.scanner import ITEMS, Kind, ScanEvent, Scanner, Way
from mellea.core.structured.schema import Shape

__all__ = ["Finder"]

_LEADING = re.compile(r"\s*+(?:\ufeff\s*+)?+(?:`{3,}+[^\n`]*+\n\s*+)?+")
_LONGEST_HEAD = 300
"""How many characters of white space and fence may precede a leading document."""

_BRACKET = re.compile(r"[{\[]")
_BRACKET_OR_QUOTE = re.compile(r'["{\[]')
_TOKEN = re.compile(r"[ \t\n\r]*+([^ \t\n\r])")
_FIRST = {"{": '"}', "[": '"{[]-0123456789tfnNI'}
"""What may follow a bracket in JSON; `N` and `I` are for the NaN and Infinity that Python writes."""

_QUOTED = re.compile(r'(?:[^"\\]++|\\.)*+', re.DOTALL)
_KEYS: Way = {}


class Finder:
    """Finds the document in a text that arrives in pieces.

    Args:
        shapes: the requested shapes.
        is_item: whether a JSON text is an element of the requested lists.
        problem_of: returns what a validator has against a JSON text, `None` if it is valid.
        takes: accept a document. If false, as after an accepted one, complete and valid documents are only collected.

    Attributes:
        problem: why the first skipped candidate was skipped.
        others: the collected documents.
        is_taken: whether a document was accepted; the search is over then.
    """

    __slots__ = (
        "_after",
        "_bracket",
        "_candidate",
        "_find_problem",
        "_head",
        "_is_item",
        "_is_leading",
        "_parts",
        "_quote",
        "_seen",
        "_shapes",
        "_takes",
        "_wants_text",
        "is_taken",
        "others",
        "problem",
    )

    def __init__(
        self,
        shapes: Sequence[Shape],
        is_item: Callable[[str], bool],
        find_problem: Callable[[str], Exception | None],
        *,
        takes: bool = True,
    ) -> None:
        self._shapes = shapes
        self._is_item = is_item
        self._find_problem = find_problem
        self._takes = takes
        self._wants_text = any(shape.is_text for shape in shapes)
        self._head: str | None = "" if takes else None  # before the first candidate; `None` once it is prose
        self._bracket = ""  # may open a candidate, depending on the next character
        self._after = ""  # white space after it
        self._quote: str | None = None  # inside a quoted text: "\\" if the last piece ended with a backslash, else ""
        self._candidate: Scanner | None = None
        self._is_leading = False
        self._parts: list[str] = []  # the candidate's text
        self._seen: set[str] = set()  # the candidate's top-level keys
        self.problem: Exception | None = None
        self.others: list[str] = []
        self.is_taken = False

    @property
    def is_open(self) -> bool:
        """Whether a candidate of a requested shape has begun and not ended."""
        return bool(self._parts) and not self.is_taken and bool(self._fitting)

    def feed(self, text: str) -> str | None:
        """Take more text; if a document is accepted, return everything from its bracket on."""
        place: int | None = 0
        while place is not None and place < len(text):
            if self._quote is not None:
                place = self._skip_quoted(text, place)
            elif not self._parts:
                place = self._open(text, place)
            else:
                text, place = self._scan(text, place)
                if self.is_taken:
                    return text
        return None

    def _skip_quoted(self, text: str, place: int) -> int | None:
        place += self._quote == "\\"
        place = _QUOTED.match(text, place).end()  # type: ignore[union-attr]
        self._quote = text[place:] or ""
        if self._quote[:1] == '"':
            self._quote, self._head = None, None
            return place + 1
        return None

    def _open(self, text: str, place: int) -> int | None:
        """Find the next bracket that opens a candidate; return the place after it, or `None` if more text is needed."""
        if not self._bracket:
            found = (_BRACKET if self._head is None else _BRACKET_OR_QUOTE).search(text, place)
            self._pass(text[place : place + _LONGEST_HEAD + 1 if found is None else found.start()])
            if found is None:
                return None
            place = found.end()
            if found[0] == '"':
                return self._open_quote(place)
            self._bracket = found[0]
        token = _TOKEN.match(text, place)
        if token is None:
            self._after += text[place:]
            return None
        self._after += text[place : token.start(1)]
        bracket, self._bracket = self._bracket + self._after, ""
        self._after = ""
        # JSON can't continue like this, so it is something else, such as an aside in brackets.
        if token[1] not in _FIRST[bracket[0]]:
            self._pass(bracket)
            return token.start(1)
        self._is_leading = self._head is not None and _LEADING.fullmatch(self._head) is not None
        self._parts = [bracket]
        return token.start(1)

    def _open_quote(self, place: int) -> int:
        # The answer may be a string, and begins with a quote, so brackets inside it open nothing.
        if self._wants_text and self._head is not None and _LEADING.fullmatch(self._head):
            self._quote = ""
        else:
            self._head = None
        return place

    def _pass(self, text: str) -> None:
        """Skip text before the next candidate."""
        if self._head is not None:
            # Bounded, so that a long introduction isn't copied over and over.
            head = self._head + text
            self._head = head if len(head) <= _LONGEST_HEAD else None

    @property
    def _fitting(self) -> list[Shape]:
        return [shape for shape in self._shapes if shape.opening == self._parts[0][0]]

    def _scan(self, text: str, place: int) -> tuple[str, int | None]:
        """Scan more of the candidate; return the text and the place at which the search continues."""
        scanner = self._candidate
        if scanner is None:
            bracket = self._parts[0]
            # Accepted at its bracket: only a fence precedes it, so it can't be anything else.
            if self._takes and self._is_leading and bracket[0] == "[" and self._fitting:
                return self._take(text, place), None
            self._candidate = scanner = Scanner(way=ITEMS if bracket[0] == "[" else _KEYS)
            self._seen = set()
            scanner.feed(bracket)
        events = scanner.feed(text, place)
        if self._takes and self._is_told_by(events):
            return self._take(text, place), None
        if scanner.is_complete:
            return self._end(text, place, scanner.end)
        if scanner.error is not None:
            return self._leave(text, place, scanner.error.place)
        self._parts.append(text[place:] if place else text)
        return text, None

    def _is_told_by(self, events: list[ScanEvent]) -> bool:
        """Whether these events decide that the candidate is the document."""
        fitting = self._fitting if events else ()
        for kind, value in events:
            if kind is Kind.KEY:
                self._seen.add(value)
                if any(self._has_keys(shape, value) for shape in fitting):
                    return True
            elif kind is Kind.WHOLE and fitting and self._is_item(value):
                return True
        return False

    def _has_keys(self, shape: Shape, key: str) -> bool:
        if self._is_leading:
            return shape.is_open or key in shape.keys
        is_named = bool(shape.keys) and not self._seen.isdisjoint(shape.keys)
        return is_named and all(not self._seen.isdisjoint(names) for names in shape.required)

    def _end(self, text: str, place: int, length: int) -> tuple[str, int | None]:
        """Accept a candidate that has closed if it is valid, otherwise skip it."""
        end = place + length - sum(map(len, self._parts))
        if self._fitting:
            whole = "".join([*self._parts, text[place:end]])
            problem = self._find_problem(whole)
            if problem is None and self._takes:
                return self._take(text, place), None
            if problem is None:
                self.others.append(whole)
            self.problem = self.problem or problem
        return self._leave(text, place, length)

    def _leave(self, text: str, place: int, length: int) -> tuple[str, int]:
        """Continue the search after `length` characters of the candidate."""
        place += length - sum(map(len, self._parts))
        if place < 0:  # in an earlier piece
            text, place = "".join([*self._parts, text]), length
        self._candidate = None
        self._head = None
        self._parts = []
        return text, place

    def _take(self, text: str, place: int) -> str:
        self.is_taken = True
        rest = text[place:] if place else text
        return "".join([*self._parts, rest]) if self._parts else rest
