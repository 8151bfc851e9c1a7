"""Validate a stream while it is being written: its text is divided into chunks, which the requirements check.

Rules:

- Each requirement gets its chunks in order. All requirements work at the same time, and while more text is read: none
  waits for another, and the first no ends everything.
- A check of items gets those chunks that have one, with its value. An item that isn't valid is a no.
- A chunk that only waits for trailing white space (see `core/chunkers.py`) is released when the reader calls `flush`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio

from mellea.core.chunkers import Chunk, NonBlankChunker, Scope, make_text_chunker
from mellea.core.observer import span_around
from mellea.core.requirement import Requirement, ValidationResult, run_stream_validation
from mellea.core.runtime.tasks import run_in_thread, run_together
from mellea.errors import ParseError, UsageError

if TYPE_CHECKING:
    from mellea.core.structured import OutputFormat
    from mellea.core.structured.items import ItemFormat

__all__ = ["TYPED_ANSWER", "Failure", "Watch", "check_watchable"]

TYPED_ANSWER = "an answer of the requested type"
"""What an answer fails that isn't a value of its type; named like a requirement."""

Failure = tuple[Requirement, ValidationResult]
"""The requirement that wasn't met, and why."""

OnPassed = Callable[[list[Chunk], bool], None]
"""Takes chunks that all requirements of their scope accept, and whether the text had ended by then."""


def check_watchable(requirements: Iterable[Requirement], format: OutputFormat[Any] | None) -> None:
    """Reject requirements on items for an answer that has none.

    Raises:
        UsageError: names the first such requirement.
    """
    for requirement in requirements:
        if requirement.is_streaming and requirement.scope == "item":
            from mellea.core.structured.items import make_item_format  # lazy: few requirements check items

            try:
                make_item_format(format)
            except UsageError:
                raise UsageError(
                    f"the requirement {str(requirement)!r} checks items, but the answer has none; ask for a sequence "
                    "with format=list[…], or give the requirement another scope"
                ) from None


@dataclass(slots=True)
class _Judging:
    """A chunk, and how many requirements haven't checked it yet."""

    chunk: Chunk
    is_end: bool
    left: int
    is_sure: bool = True
    is_parsed: bool = False
    invalid: ValidationResult | None = None


@dataclass(slots=True)
class _Items:
    """Gives the chunks of the scope `"item"` their values, once for all requirements."""

    format: ItemFormat[Any]
    lock: anyio.Lock = field(default_factory=anyio.Lock)

    async def parse(self, judging: _Judging) -> ValidationResult | None:
        """Set the value of a chunk's item; return a no if it isn't valid."""
        async with self.lock:
            if judging.chunk.item and not judging.is_parsed:
                try:
                    judging.chunk.parsed = await self._find_value(judging.chunk)
                except ParseError as error:
                    judging.invalid = ValidationResult(False, str(error))
                judging.is_parsed = True
        return judging.invalid

    async def _find_value(self, chunk: Chunk) -> Any:
        from mellea.core.structured.items import parse_item  # lazy: few requirements look at items

        find = partial(parse_item, self.format, chunk.item, chunk.number)
        return find() if self.format.is_quick else await run_in_thread(find)


@dataclass(slots=True)
class _Lane:
    """The chunks of one scope, and the requirements that check them."""

    chunker: NonBlankChunker
    requirements: list[Requirement]
    items: _Items | None = None  # for the scope "item"
    judgings: list[_Judging] = field(default_factory=list)
    decided: int = 0  # how many of them all requirements have checked
    undecided: list[Chunk] = field(default_factory=list)  # held back until a requirement can decide

    def take_decided(self) -> tuple[list[Chunk], bool]:
        """Return the chunks that were accepted since the last call, and whether the text had ended by then."""
        passed: list[Chunk] = []
        is_end = False
        # In order: a later chunk that has already passed waits for the ones before it, since text is released from the
        # front.
        while self.decided < len(self.judgings) and not (judging := self.judgings[self.decided]).left:
            self.decided += 1
            self.undecided.append(judging.chunk)
            # A definite yes also covers the chunks before it, because the requirement saw all of them.
            if judging.is_sure:
                passed += self.undecided
                is_end = judging.is_end
                self.undecided.clear()
        return passed, is_end


class _RefusedError(Exception):
    """Ends the watch: a requirement isn't met."""

    def __init__(self, failure: Failure) -> None:
        super().__init__()
        self.failure = failure


class Watch:
    """Validates the text of one attempt while it is being written.

    If a requirement can't decide about a chunk yet, the chunk is held back until the requirement accepts a later one.

    Args:
        requirements: all requirements of the call; those that don't check chunks are ignored.
        format: the format of the answer, for the scope `"item"`.
        number: number of the first chunk of each scope.
        before: text of the answer that came before and isn't checked.
        on_passed: called with accepted chunks.
        is_told: whether observers are notified of each requirement's check; if not, who makes the watch tells them.

    Raises:
        UsageError: a requirement checks items, but the answer has none.
    """

    def __init__(
        self,
        requirements: Iterable[Requirement],
        format: OutputFormat[Any] | None = None,
        *,
        number: int = 0,
        before: str = "",
        on_passed: OnPassed = lambda chunks, is_end: None,
        is_told: bool = True,
    ) -> None:
        requirements = tuple(requirements)
        check_watchable(requirements, format)
        # Requirements of one scope share a chunker, so the text is split once for each scope, not for each requirement.
        by_scope: dict[Scope, list[Requirement]] = {}
        for requirement in requirements:
            if requirement.is_streaming and requirement.scope is not None:
                by_scope.setdefault(requirement.scope, []).append(requirement)
        self._lanes = [_make_lane(scope, found, format, number, before) for scope, found in by_scope.items()]
        self._on_passed = on_passed
        self._is_told = is_told
        self._is_over = False
        self._open = 0  # verdicts that are still outstanding
        self._news, self._quiet = anyio.Event(), anyio.Event()

    @property
    def is_on(self) -> bool:
        """Whether any requirement checks chunks."""
        return bool(self._lanes)

    @property
    def is_keeping(self) -> bool:
        """Whether a chunk only waits for trailing white space."""
        return any(lane.chunker.is_keeping for lane in self._lanes)

    async def run(self, read: Callable[[], Awaitable[bool]]) -> Failure | None:
        """Check the text while it is read; return the first failure, which ends the reading.

        Args:
            read: reads the text and calls `add`; returns whether it reached the end, so that the last chunk is checked,
                too.

        Raises:
            Exception: what `read` or a requirement raised; the first, if several do.
        """
        if not self.is_on:
            await read()
            return None

        async def read_all() -> None:
            # Text that was cut off ends inside a chunk, and half a sentence must not fail a check.
            if await read():
                for lane in self._lanes:
                    self._put(lane, lane.chunker.close(), is_end=True)
            self._is_over = True
            self._notify()

        calls: list[Callable[[], Awaitable[None]]] = [read_all]
        # One task for each requirement, so that a slow one delays only the release of its own chunks.
        calls += [
            partial(self._validate_chunks, lane, requirement)
            for lane in self._lanes
            for requirement in lane.requirements
        ]
        try:
            await run_together(calls)
        except _RefusedError as refused:
            return refused.failure
        return None

    def add(self, text: str) -> None:
        """Take more text."""
        for lane in self._lanes:
            self._put(lane, lane.chunker.feed(text))

    def flush(self) -> None:
        """Release the chunks that only wait for trailing white space."""
        for lane in self._lanes:
            self._put(lane, lane.chunker.flush())

    async def settle(self, seconds: float) -> None:
        """Wait until all chunks so far were checked, at most `seconds`."""
        if self._open:
            # A new event each time, because the last one is set and stays set.
            self._quiet = anyio.Event()
            with anyio.move_on_after(seconds):
                await self._quiet.wait()

    def _put(self, lane: _Lane, chunks: list[Chunk], *, is_end: bool = False) -> None:
        if chunks:
            lane.judgings += [_Judging(chunk, is_end, len(lane.requirements)) for chunk in chunks]
            self._open += len(chunks) * len(lane.requirements)
            self._notify()

    def _notify(self) -> None:
        # Replaced before it is set: a woken task waits for the next one, and can't miss it.
        news, self._news = self._news, anyio.Event()
        news.set()

    async def _validate_chunks(self, lane: _Lane, requirement: Requirement) -> None:
        if not self._is_told:
            failure = await self._look(lane, requirement)
        else:
            with span_around("check", str(requirement), requirement=requirement, is_streaming=True) as span:
                failure = await self._look(lane, requirement)
                if span is not None:
                    span.outcome = ValidationResult(True) if failure is None else failure[1]
        if failure is not None:
            raise _RefusedError(failure)

    async def _look(self, lane: _Lane, requirement: Requirement) -> Failure | None:
        """Look at all chunks; return the first no, `None` if there is none."""
        seen = 0
        verdict: ValidationResult | None = ValidationResult(True)
        while True:
            while seen == len(lane.judgings):
                # Only checked when no chunk is left, so the last chunks of finished text are still validated.
                if self._is_over:
                    return None
                await self._news.wait()
            judging = lane.judgings[seen]
            if lane.items is not None and (invalid := await lane.items.parse(judging)) is not None:
                return Requirement(TYPED_ANSWER, check_only=True), invalid
            # What follows the items is as certain as the last one.
            if lane.items is None or judging.chunk.item:
                verdict = await run_stream_validation(requirement, judging.chunk)
            if verdict is not None and not verdict:
                return requirement, verdict
            seen += 1
            self._record(lane, judging, is_sure=verdict is not None)

    def _record(self, lane: _Lane, judging: _Judging, *, is_sure: bool) -> None:
        judging.left -= 1
        judging.is_sure = judging.is_sure and is_sure
        passed, is_end = lane.take_decided()
        if passed:
            self._on_passed(passed, is_end)
        self._open -= 1
        if not self._open:
            self._quiet.set()


def _make_lane(
    scope: Scope, requirements: list[Requirement], format: OutputFormat[Any] | None, number: int, before: str
) -> _Lane:
    if scope != "item":
        return _Lane(make_text_chunker(scope, number=number, start=len(before)), requirements)
    from mellea.core.structured.item_chunker import ItemChunker  # lazy: few requirements check items
    from mellea.core.structured.items import make_item_format  # lazy, too

    chunker = ItemChunker(format, number=number, before=before)
    return _Lane(chunker, requirements, _Items(make_item_format(format)))
