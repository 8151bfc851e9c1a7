"""The JSON document in an answer. Items, partial objects and the final result all use this one search, so they agree.

Rules:

- `Finder` decides which JSON in a step's text is the document; each step is searched again.
- A document that is still open when a step ends may continue in the next step. Whether it does is known when its JSON
  breaks there or closes; until then no events are returned.
- Otherwise the next step's document replaces it, announced by the event `RESTART`. If the last step has text but no
  document, the answer has none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from mellea.core.structured.candidate import Finder
from mellea.core.structured.scanner import Kind, ScanError, ScanEvent, Scanner
from mellea.core.structured.schema import Shape

__all__ = ["Search", "Wanted"]


class Wanted(Protocol):
    """What the search has to know about the requested format; an `OutputFormat` provides it."""

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """The shapes that the answer may have."""

    def is_item(self, text: str) -> bool:
        """Whether a JSON text is an element of the requested lists."""

    def find_problem(self, text: str) -> Exception | None:
        """Return why a JSON text isn't valid, or `None`."""


class _Step:
    """The text of one step: what precedes its document, the document, and what follows it."""

    __slots__ = ("_keeps", "_looks_on", "_parts", "_wanted", "after", "finder", "has_text", "scanner")

    def __init__(self, wanted: Wanted, *, keeps: bool, looks_on: bool) -> None:
        self._wanted = wanted
        self._keeps = keeps
        self._looks_on = looks_on
        self._parts: list[str] = []  # the document's text, where it is kept
        self.finder = Finder(wanted.shapes, wanted.is_item, wanted.find_problem)
        self.scanner: Scanner | None = None  # scans the document, once it was found
        self.after: Finder | None = None  # searches the text after the document
        self.has_text = False

    @property
    def is_complete(self) -> bool:
        return self.scanner is not None and self.scanner.is_complete

    @property
    def is_open(self) -> bool:
        return self.scanner is not None and not self.scanner.is_complete and self.scanner.error is None

    @property
    def document(self) -> str:
        """The text of the document so far, where it is kept."""
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
        # The document has ended; the text after it is only searched for a second one, if at all.
        if scanner.is_complete or scanner.error is not None:
            self._look_on(text)
            return []
        events = scanner.feed(text)
        self.extend(text)
        return events

    def extend(self, text: str) -> None:
        """Keep text that the document's scanner was given."""
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
    """A document that an earlier step left open, and a step that either continues it or begins another one.

    Whether the step continues it is decided by the JSON alone, with a scanner of its own: a reader's scanner may pass
    over whole values without looking into them, and all readers have to come to the same decision.
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
    """Turns pieces of text, and the ends of steps, into the events of the document.

    Args:
        wanted: the requested format.
        make: makes the scanner for a document.
        has_steps: there may be several steps, so the document's text has to be kept.
        looks_on: search the text after the document for other ones, as the final result has to.
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
        self._last: _Step | None = None  # the latest step with a document, as long as the current step has none
        self._going: _Going | None = None
        self._live: Scanner | None = None  # the fast path: the document has been found and nothing can replace it

    def _make_step(self) -> _Step:
        return _Step(self._wanted, keeps=self._has_steps, looks_on=self._looks_on)

    @property
    def is_settled(self) -> bool:
        """Whether the step's document was found, so that `feed` calls no validator any more."""
        return self._live is not None or (self._going is None and self._step.scanner is not None)

    @property
    def has_document(self) -> bool:
        """Whether a document was found."""
        return self._current.scanner is not None

    @property
    def is_complete(self) -> bool:
        """Whether the document has ended."""
        return self._current.is_complete

    @property
    def error(self) -> ScanError | None:
        """Why the document isn't JSON, or `None`."""
        scanner = self._step.scanner
        return None if scanner is None or scanner.is_complete else scanner.error

    @property
    def _current(self) -> _Step:
        # A step with other text means that there is no document; an empty step changes nothing.
        is_own = self._step.scanner is not None or self._step.has_text or self._last is None
        return self._step if is_own or self._last is None else self._last

    @property
    def document(self) -> str:
        """The text of the document so far; kept only with `has_steps` or `looks_on`."""
        return self._current.document

    @property
    def others(self) -> list[str]:
        """The complete and valid documents after it, with `looks_on`."""
        after = self._current.after
        return [] if after is None else after.others

    @property
    def has_open_candidate(self) -> bool:
        """Whether the text ends inside a candidate for the document, or for a second one."""
        step = self._current
        finder = step.finder if step.scanner is None else step.after
        return finder is not None and finder.is_open

    @property
    def problem(self) -> Exception | None:
        """Why the first skipped candidate of the step was skipped."""
        return self._step.finder.problem

    def feed(self, text: str) -> list[ScanEvent]:
        """Take more of the step's text and return the document's new events."""
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
        # Nothing can replace it, so pieces go straight to its scanner from now on.
        if not self._has_steps:
            self._live = self._step.scanner
        if self._last is None:
            return events
        self._last = None
        # Readers discard what they have read of the earlier step's document.
        return [(Kind.RESTART, None), *events]

    def end_step(self) -> list[ScanEvent]:
        """End the step, and begin another one."""
        events = self._settle()
        if self._step.scanner is not None:
            self._last = self._step
        self._step = self._make_step()
        last = self._last
        # Still open when the step ended, for example if the model called a tool in the middle of a list.
        if last is not None and last.is_open and last.scanner is not None:
            going = _Going(last, last.scanner)
            self._going = going if going.judge.error is None else None
        return events

    def close(self) -> list[ScanEvent]:
        """End the text, and return the last events."""
        events = self._settle()
        scanner = self._step.scanner
        return events if scanner is None else [*events, *scanner.close()]

    def _feed_both(self, going: _Going, text: str) -> list[ScanEvent]:
        going.judge.feed(text)
        # Both readings continue in parallel until the JSON decides; until then their events are held back.
        going.old += going.scanner.feed(text)
        going.new += self._step.feed(text, self._make)
        going.text.append(text)
        if going.judge.is_complete:
            return self._continue(going)
        return [] if going.judge.error is None else self._restart(going)

    def _continue(self, going: _Going) -> list[ScanEvent]:
        """Let the step continue the document: from now on it is the step's own."""
        self._going = None
        self._step, self._last = going.last, None
        self._step.extend("".join(going.text))
        return going.old

    def _restart(self, going: _Going) -> list[ScanEvent]:
        self._going = None
        return self._begin_document(going.new)

    def _settle(self) -> list[ScanEvent]:
        """Decide, at the end of a step, whether it continued the document of the step before."""
        going, step = self._going, self._step
        if going is None:
            return []
        is_new = step.is_open or (step.is_complete and self._wanted.find_problem(step.document) is None)
        return self._restart(going) if is_new else self._continue(going)
