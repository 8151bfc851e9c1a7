"""Watching a stream: its text, divided into chunks, against the requirements that can look at chunks.

Rules:

- Every requirement looks at its chunks in their order. All requirements do so at the same time, and while more of the
  text is read: none waits for another one, and the first no ends everything.
- Of chunks that wait for white space only (see `core/chunkers.py`), the reader decides how long: it calls `flush`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import anyio

from mellea.core.chunkers import Chunk, InkedChunker, Scope, text_chunker
from mellea.core.observer import span_around
from mellea.core.requirement import Requirement, ValidationResult, stream_validated
from mellea.core.runtime.tasks import together
from mellea.core.structured import OutputFormat
from mellea.errors import UsageError

__all__ = ["Failure", "Watch", "check_watchable"]

Failure = tuple[Requirement, ValidationResult]
"""The requirement that said no, and why."""

OnPassed = Callable[[list[Chunk], bool], None]
"""Takes chunks that no requirement of their scope has anything against, and whether the text had ended by then."""


def check_watchable(requirements: Iterable[Requirement], format: OutputFormat[Any] | None) -> None:
    """Refuse requirements that look at items where the answer has none.

    Raises:
        UsageError: names the first one.
    """
    for requirement in requirements:
        if requirement.is_streaming and requirement.scope == "item":
            from mellea.core.structured.items import item_format  # lazy: few requirements look at items

            try:
                item_format(format)
            except UsageError:
                raise UsageError(
                    f"the requirement {str(requirement)!r} looks at items, and the answer has none; ask for a sequence "
                    "with format=list[…], or give the requirement another scope"
                ) from None


@dataclass(slots=True)
class _Judging:
    """A chunk, and how many requirements haven't judged it yet."""

    chunk: Chunk
    is_end: bool
    left: int
    is_sure: bool = True


@dataclass(slots=True)
class _Lane:
    """The chunks of one scope, and who looks at them."""

    chunker: InkedChunker
    requirements: list[Requirement]
    judgings: list[_Judging] = field(default_factory=list)
    decided: int = 0  # how many of them every requirement has judged
    undecided: list[Chunk] = field(default_factory=list)  # those held back until a requirement can tell

    def take_decided(self) -> tuple[list[Chunk], bool]:
        """Return the chunks that have passed since the last call, and whether the text had ended by then."""
        passed: list[Chunk] = []
        is_end = False
        while self.decided < len(self.judgings) and not (judging := self.judgings[self.decided]).left:
            self.decided += 1
            self.undecided.append(judging.chunk)
            if judging.is_sure:
                passed += self.undecided
                is_end = judging.is_end
                self.undecided.clear()
        return passed, is_end


class _RefusedError(Exception):
    """Ends the watch: a requirement said no."""

    def __init__(self, failure: Failure) -> None:
        super().__init__()
        self.failure = failure


class Watch:
    """Looks at the text of one attempt while it is being written.

    A requirement that can't tell yet holds its chunk back until it says yes to a later one.

    Args:
        requirements: all of the call; those that don't look at chunks are left out.
        format: what the answer is to be, for the scope `"item"`.
        number: of the first chunk of each scope.
        before: the text of the answer that came before, and isn't looked at.
        on_passed: is told of chunks that passed.
        is_told: whether observers are told of each requirement's check; if not, who makes the watch tells them.

    Raises:
        UsageError: a requirement looks at items, and the answer has none.
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
        by_scope: dict[Scope, list[Requirement]] = {}
        for requirement in requirements:
            if requirement.is_streaming and requirement.scope is not None:
                by_scope.setdefault(requirement.scope, []).append(requirement)
        self._lanes = [_Lane(_chunker(scope, format, number, before), found) for scope, found in by_scope.items()]
        self._on_passed = on_passed
        self._is_told = is_told
        self._is_over = False
        self._open = 0  # verdicts that are still to come
        self._news, self._quiet = anyio.Event(), anyio.Event()

    @property
    def is_on(self) -> bool:
        """Whether any requirement looks at chunks."""
        return bool(self._lanes)

    @property
    def is_keeping(self) -> bool:
        """Whether a chunk waits for white space only."""
        return any(lane.chunker.is_keeping for lane in self._lanes)

    async def during(self, read: Callable[[], Awaitable[bool]]) -> Failure | None:
        """Look at the text while it is read; return the first no, which ends the reading.

        Args:
            read: reads the text and calls `add`; returns whether it came to the text's end, so that what is left
                of it is looked at too.

        Raises:
            Exception: what `read` or a requirement raised; the first one, if several do.
        """
        if not self.is_on:
            await read()
            return None

        async def read_all() -> None:
            if await read():
                for lane in self._lanes:
                    self._put(lane, lane.chunker.close(), is_end=True)
            self._is_over = True
            self._tell()

        calls: list[Callable[[], Awaitable[None]]] = [read_all]
        calls += [partial(self._check, lane, requirement) for lane in self._lanes for requirement in lane.requirements]
        try:
            await together(calls)
        except _RefusedError as refused:
            return refused.failure
        return None

    def add(self, text: str) -> None:
        """Take more of the text."""
        for lane in self._lanes:
            self._put(lane, lane.chunker.feed(text))

    def flush(self) -> None:
        """Have the chunks looked at that only wait for white space."""
        for lane in self._lanes:
            self._put(lane, lane.chunker.flush())

    async def settle(self, seconds: float) -> None:
        """Wait until all chunks so far have been judged, but no longer than that."""
        if self._open:
            self._quiet = anyio.Event()
            with anyio.move_on_after(seconds):
                await self._quiet.wait()

    def _put(self, lane: _Lane, chunks: list[Chunk], *, is_end: bool = False) -> None:
        if chunks:
            lane.judgings += [_Judging(chunk, is_end, len(lane.requirements)) for chunk in chunks]
            self._open += len(chunks) * len(lane.requirements)
            self._tell()

    def _tell(self) -> None:
        news, self._news = self._news, anyio.Event()
        news.set()

    async def _check(self, lane: _Lane, requirement: Requirement) -> None:
        if not self._is_told:
            refusal = await self._look(lane, requirement)
        else:
            with span_around("check", str(requirement), requirement=requirement) as span:
                refusal = await self._look(lane, requirement)
                if span is not None:
                    span.outcome = ValidationResult(True) if refusal is None else refusal
        if refusal is not None:
            raise _RefusedError((requirement, refusal))

    async def _look(self, lane: _Lane, requirement: Requirement) -> ValidationResult | None:
        """Look at all chunks; return the first no, `None` if there is none."""
        seen = 0
        while True:
            while seen == len(lane.judgings):
                if self._is_over:
                    return None
                await self._news.wait()
            judging = lane.judgings[seen]
            verdict = await stream_validated(requirement, judging.chunk)
            if verdict is not None and not verdict:
                return verdict
            seen += 1
            self._note(lane, judging, is_sure=verdict is not None)

    def _note(self, lane: _Lane, judging: _Judging, *, is_sure: bool) -> None:
        judging.left -= 1
        judging.is_sure = judging.is_sure and is_sure
        passed, is_end = lane.take_decided()
        if passed:
            self._on_passed(passed, is_end)
        self._open -= 1
        if not self._open:
            self._quiet.set()


def _chunker(scope: Scope, format: OutputFormat[Any] | None, number: int, before: str) -> InkedChunker:
    if scope != "item":
        return text_chunker(scope, number=number, start=len(before))
    from mellea.core.structured.item_chunker import ItemChunker  # lazy: few requirements look at items

    return ItemChunker(format, number=number, before=before)
