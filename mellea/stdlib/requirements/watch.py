"""Watching a stream: its text, divided into chunks, against the requirements that can look at chunks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from mellea.core.chunk import Chunk, Scope
from mellea.core.chunkers import Chunker, text_chunker
from mellea.core.requirement import Requirement, ValidationResult, stream_validated
from mellea.core.structured import OutputFormat
from mellea.errors import UsageError

__all__ = ["Sight", "Watch", "check_watchable"]


@dataclass(frozen=True, slots=True)
class Sight:
    """What was seen in a piece of the text.

    Attributes:
        passed: chunks that no requirement of their scope has anything against, in order.
        failure: the first requirement that said no, and why; nothing was looked at after it.
    """

    passed: tuple[Chunk, ...] = ()
    failure: tuple[Requirement, ValidationResult] | None = None


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


class Watch:
    """Looks at the text of one attempt while it is being written.

    A requirement that can't tell yet holds its chunk back until it says yes to a later one.

    Args:
        requirements: all of the call; those that don't look at chunks are left out.
        format: what the answer is to be, for the scope `"item"`.
        number: of the first chunk of each scope.
        before: the text of the answer that came before, and isn't looked at.

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
    ) -> None:
        self._requirements: dict[Scope, list[Requirement]] = {}
        requirements = tuple(requirements)
        check_watchable(requirements, format)
        for requirement in requirements:
            if requirement.is_streaming and requirement.scope is not None:
                self._requirements.setdefault(requirement.scope, []).append(requirement)
        self._chunkers: dict[Scope, Chunker] = {
            scope: _chunker(scope, format, number, before) for scope in self._requirements
        }
        self._waiting: dict[Scope, list[Chunk]] = {scope: [] for scope in self._requirements}

    @property
    def is_on(self) -> bool:
        """Whether any requirement looks at chunks."""
        return bool(self._requirements)

    async def look(self, text: str) -> Sight:
        """Look at more of the text."""
        return await self._judge([(scope, chunk) for scope, it in self._chunkers.items() for chunk in it.feed(text)])

    async def look_at_end(self) -> Sight:
        """Look at what is left when the text has ended."""
        return await self._judge([(scope, chunk) for scope, it in self._chunkers.items() for chunk in it.close()])

    async def _judge(self, chunks: list[tuple[Scope, Chunk]]) -> Sight:
        passed: list[Chunk] = []
        for scope, chunk in sorted(chunks, key=lambda pair: pair[1].start + len(pair[1])):
            verdicts = []
            for requirement in self._requirements[scope]:
                verdict = await stream_validated(requirement, chunk)
                if verdict is not None and not verdict:
                    return Sight(tuple(passed), (requirement, verdict))
                verdicts.append(verdict)
            self._waiting[scope].append(chunk)
            if None not in verdicts:
                passed += self._waiting[scope]
                self._waiting[scope].clear()
        return Sight(tuple(passed))


def _chunker(scope: Scope, format: OutputFormat[Any] | None, number: int, before: str) -> Chunker:
    if scope != "item":
        return text_chunker(scope, number=number, start=len(before))
    from mellea.core.structured.item_chunker import ItemChunker  # lazy: few requirements look at items

    return ItemChunker(format, number=number, before=before)
