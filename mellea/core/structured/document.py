"""The document in an answer: one search for it, which items, partial objects and the final result all read by.

Rules:

- `Finder` says which JSON of a step's text is the document; it is looked for in each step anew.
- A document that is open when a step ends goes on in the next step, if that continues it. Whether it does is known
  when its JSON breaks there or closes; until then neither reading is given.
- Otherwise the next step's document takes its place, with the event `RESTART`. Where the last step says something and
  has no document, there is none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from mellea.core.structured.candidate import Finder
from mellea.core.structured.scanner import Kind, ScanError, ScanEvent, Scanner
from mellea.core.structured.schema import Shape

__all__ = ["Search", "Wanted"]


class Wanted(Protocol):
    """What is asked for, as the search has to know it: an `OutputFormat`."""

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """What the answer may look like."""

    def is_item(self, text: str) -> bool:
        """Whether a JSON text is an element of the lists that are asked for."""

    def find_problem(self, text: str) -> Exception | None:
        """Return what a validator has against a JSON text, `None` if it is valid."""


class _Step:
    """The text of one step: what stands before its document, that, and what follows."""

    __slots__ = ("_keeps", "_looks_on", "_parts", "_wanted", "after", "finder", "has_text", "scanner")

    def __init__(self, wanted: Wanted, *, keeps: bool, looks_on: bool) -> None:
        self._wanted = wanted
        self._keeps = keeps
        self._looks_on = looks_on
        self._parts: list[str] = []  # of the document, where it is kept
        self.finder = Finder(wanted.shapes, wanted.is_item, wanted.find_problem)
        self.scanner: Scanner | None = None  # of the document, once it is taken
        self.after: Finder | None = None  # of what follows it
        self.has_text = False

    @property
    def is_complete(self) -> bool:
        return self.scanner is not None and self.scanner.is_complete

    @property
    def is_open(self) -> bool:
        return self.scanner is not None and not self.scanner.is_complete and self.scanner.error is None

    @property
    def document(self) -> str:
        """The text of the document where it is kept; what there is of it, if it isn't complete."""
        whole = "".join(self._parts)
        return whole[: self.scanner.end] if self.scanner is not None and self.scanner.is_complete else whole

    def feed(self, text: str, make: Callable[[], Scanner]) -> list[ScanEvent]:
        if not self.has_text:
            self.has_text = bool(text) and not text.isspace()
        scanner = self.scanner
        if scanner is None:
            found = self.finder.feed(text)
            if found is None:
                return []
            scanner, text = make(), found
            self.scanner = scanner
        if scanner.is_complete or scanner.error is not None:
            self._look_on(text)
            return []
        events = scanner.feed(text)
        self.extend(text)
        return events

    def extend(self, text: str) -> None:
        """Add to the document's text what its scanner has got."""
        if self._keeps:
            self._parts.append(text)
            if self._looks_on and self.is_complete and self.scanner is not None:
                self._look_on("".join(self._parts)[self.scanner.end :])

    def _look_on(self, text: str) -> None:
        if self._looks_on:
            if self.after is None:
                wanted = self._wanted
                self.after = Finder(wanted.shapes, wanted.is_item, wanted.find_problem, takes=False)
            self.after.feed(text)


class _Going:
    """A document that an earlier step left open, and a step that may go on with it, or begin another one.

    Whether the step goes on with it is judged by the JSON alone, and by one scanner for all readers, since those that
    take values whole don't look into them.
    """

    __slots__ = ("judge", "last", "new", "old", "scanner", "text")

    def __init__(self, last: _Step, scanner: Scanner) -> None:
        self.last = last
        self.scanner = scanner
        self.judge = Scanner()
        self.judge.feed(last.document)
        self.old: list[ScanEvent] = []
        self.new: list[ScanEvent] = []
        self.text: list[str] = []


class Search:
    """Text in pieces and the ends of steps in, the events of the document out.

    Args:
        wanted: what is asked for.
        make: makes the scanner of a document.
        has_steps: there may be several steps, so that the text of the document is kept.
        looks_on: look for other documents behind it as well; for the final result.
    """

    __slots__ = ("_going", "_has_steps", "_last", "_live", "_looks_on", "_make", "_step", "_wanted")

    def __init__(
        self, wanted: Wanted, make: Callable[[], Scanner], *, has_steps: bool = False, looks_on: bool = False
    ) -> None:
        self._wanted = wanted
        self._make = make
        self._has_steps = has_steps or looks_on
        self._looks_on = looks_on
        self._step = self._make_step()
        self._last: _Step | None = None  # that has the document so far, if the one that is being written has none
        self._going: _Going | None = None
        self._live: Scanner | None = None  # of a document that needs nothing but to be scanned

    def _make_step(self) -> _Step:
        return _Step(self._wanted, keeps=self._has_steps, looks_on=self._looks_on)

    @property
    def is_settled(self) -> bool:
        """Whether the document of the step was found, so that no validator is asked any more."""
        return self._live is not None or (self._going is None and self._step.scanner is not None)

    @property
    def has_document(self) -> bool:
        """Whether there is one."""
        return self._current.scanner is not None

    @property
    def is_complete(self) -> bool:
        """Whether the document has ended."""
        return self._current.is_complete

    @property
    def error(self) -> ScanError | None:
        """What is wrong with the JSON of the document, if anything is."""
        scanner = self._step.scanner
        return None if scanner is None or scanner.is_complete else scanner.error

    @property
    def _current(self) -> _Step:
        # A step that says something else has no document; one that says nothing changes nothing.
        is_own = self._step.scanner is not None or self._step.has_text or self._last is None
        return self._step if is_own or self._last is None else self._last

    @property
    def document(self) -> str:
        """The text of the document where there may be steps; what there is of it, if it isn't complete."""
        return self._current.document

    @property
    def others(self) -> list[str]:
        """Complete and valid documents behind it, if they are looked for."""
        after = self._current.after
        return [] if after is None else after.others

    @property
    def has_open_candidate(self) -> bool:
        """Whether the text ends in the middle of what may have become a document, or another one."""
        step = self._current
        finder = step.finder if step.scanner is None else step.after
        return finder is not None and finder.is_open

    @property
    def problem(self) -> Exception | None:
        """What was wrong with the first candidate of the step that was passed over."""
        return self._step.finder.problem

    def feed(self, text: str) -> list[ScanEvent]:
        """Take more text of the step and return the events of the document."""
        if self._live is not None:
            return self._live.feed(text)
        if self._going is not None:
            return self._feed_both(self._going, text)
        is_first = self._step.scanner is None
        events = self._step.feed(text, self._make)
        return self._begin_document(events) if is_first else events

    def _begin_document(self, events: list[ScanEvent]) -> list[ScanEvent]:
        if self._step.scanner is None:
            return []
        if not self._has_steps:
            self._live = self._step.scanner
        if self._last is None:
            return events
        self._last = None
        return [(Kind.RESTART, None), *events]

    def end_step(self) -> list[ScanEvent]:
        """Note that the step has ended, and that another one begins."""
        events = self._settle()
        if self._step.scanner is not None:
            self._last = self._step
        self._step = self._make_step()
        last = self._last
        if last is not None and last.is_open and last.scanner is not None:
            going = _Going(last, last.scanner)
            self._going = going if going.judge.error is None else None
        return events

    def close(self) -> list[ScanEvent]:
        """Say that there is no more text."""
        events = self._settle()
        scanner = self._step.scanner
        return events if scanner is None else [*events, *scanner.close()]

    def _feed_both(self, going: _Going, text: str) -> list[ScanEvent]:
        going.judge.feed(text)
        going.old += going.scanner.feed(text)
        going.new += self._step.feed(text, self._make)
        going.text.append(text)
        if going.judge.is_complete:
            return self._continue(going)
        return [] if going.judge.error is None else self._restart(going)

    def _continue(self, going: _Going) -> list[ScanEvent]:
        """The step went on with the document, which is that of this step now."""
        self._going = None
        self._step, self._last = going.last, None
        self._step.extend("".join(going.text))
        return going.old

    def _restart(self, going: _Going) -> list[ScanEvent]:
        self._going = None
        return self._begin_document(going.new)

    def _settle(self) -> list[ScanEvent]:
        """Decide, at the end of a step, whether it went on with the document, which may go on still."""
        going, step = self._going, self._step
        if going is None:
            return []
        is_new = step.is_open or (step.is_complete and self._wanted.find_problem(step.document) is None)
        return self._restart(going) if is_new else self._continue(going)
