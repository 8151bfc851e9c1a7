"""Items: the elements of a sequence, each as soon as the text holds all of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

from mellea.core.structured.document import Search
from mellea.core.structured.item_format import ItemFormat, make_item_format
from mellea.core.structured.kinds import is_same_json
from mellea.core.structured.output_format import explain_error
from mellea.core.structured.scanner import Kind, ScanEvent, Scanner, make_way
from mellea.errors import OutputError, ParseError

__all__ = ["SUPERSEDED", "ItemDecoder", "ItemFormat", "make_item_format", "parse_item"]

T = TypeVar("T")

SUPERSEDED = (
    "a later step of the answer, after a tool call, replaces the value that was being read; "
    'with release="step" a stream returns the items of a step at its end'
)
"""The error message where a later step's document replaces one that was read already."""


class ItemDecoder(Generic[T]):
    """Turns pieces of text into items: `feed` it text, then call `next` while it `has_more`.

    Args:
        items: the format of the items.
        has_steps: the text may have several steps; `end_step` is called at the end of each. Items that a later step
            repeats aren't returned again.

    Attributes:
        good: the valid items so far, in order.
    """

    def __init__(self, items: ItemFormat[T], *, has_steps: bool = False) -> None:
        self.format = items
        self.good: list[T] = []
        way = make_way(items.paths)
        self._search = Search(items.whole, lambda: Scanner(way=way), has_steps=has_steps)
        self._has_steps = has_steps
        self._raws: deque[str] = deque()
        # Then the items can't differ from those of the result, because no user code sees the list as a whole.
        self._is_sure = items.paths == ((),) and not items.is_set and items.whole.is_quick
        self._taken: list[str] = []  # the texts of the returned items, where a later comparison may need them
        self._again: deque[str] = deque()  # items that a later step's document has to repeat
        self._index = -1  # of the last returned item
        self._is_superseded = self._is_through = self._has_closed = False

    @property
    def is_complete(self) -> bool:
        """Whether the document has ended."""
        return self._search.is_complete

    @property
    def is_settled(self) -> bool:
        """Whether the document was found, so that `feed` calls no validator any more."""
        return self._search.is_settled

    def feed(self, text: str) -> None:
        """Take more text."""
        self._take(self._search.feed(text))

    def end_step(self) -> None:
        """End the step; the text of another one follows."""
        self._take(self._search.end_step())

    def close(self) -> None:
        """End the text."""
        self._has_closed = True
        self._take(self._search.close())
        # The last document is shorter than the part of the previous one that has been delivered.
        self._is_superseded = self._is_superseded or (self.is_complete and bool(self._again))

    @property
    def has_more(self) -> bool:
        """Whether the text holds all of an item that `next` hasn't returned."""
        return bool(self._raws)

    def take_texts(self) -> list[str]:
        """Return the JSON texts of all complete items that weren't taken, without validating them."""
        raws = list(self._raws)
        self._raws.clear()
        return raws

    @property
    def is_broken(self) -> bool:
        """Whether no more items can be read: the text between them isn't JSON, or a later step replaced them."""
        if self._raws or self._is_through:
            return False
        may_be_replaced = self._has_steps or self._has_closed  # at the end, the complete result gives the better error
        is_wrong = not may_be_replaced and self._index >= 0 and self._search.error is not None
        return self._is_superseded or is_wrong

    def next(self) -> T:
        """Validate and return the next item.

        Raises:
            ParseError: the item isn't valid, or `is_broken`; `.index` and `.raw` identify it, `.items` has the earlier
                ones.
            OutputError: a validator has a mistake in it.
        """
        if not self._raws:
            self._is_through = True
            if self._is_superseded:
                raise self.make_error(SUPERSEDED)
            self._index += 1
            raise _make_item_error(self.format, "", self._index, self.good, f"{self._search.error} of the JSON")
        self._index += 1
        raw = self._raws.popleft()
        if self._has_steps or not self._is_sure:
            self._taken.append(raw)
        try:
            item = parse_item(self.format, raw, self._index, self.good)
        except ParseError:
            raise
        except OutputError:  # a mistake in a validator: the same for every item
            self._is_through = True
            raise
        self.good.append(item)
        return item

    def find_rest(self, parsed: Any) -> list[T]:
        """Return the items of the complete result that weren't read from the text, such as those a validator adds.

        Raises:
            ParseError: the items that were read aren't the beginning of the result.
        """
        found = self.format.find_items(parsed)
        count = len(self.good)
        if self.format.is_set:
            # For a set, neither the order nor the number can be compared.
            missing = [item for item in self.good if item not in found]
            rest = [item for item in found if item not in self.good]
        else:
            missing = [] if self._is_sure else [item for item, *pair in self._pair(found) if not self._is_same(*pair)]
            missing += self.good[len(found) :]
            rest = found[count:]
        if missing:
            raise self.make_error(
                f"the items that were read aren't the beginning of the complete result, which has {len(found)}: "
                f"{missing[0]!r} is missing or in another place, perhaps because a validator sorts or filters the list"
            )
        return rest

    def _pair(self, found: list[T]) -> Any:
        return [(item, item, other, raw) for item, other, raw in zip(self.good, found, self._taken, strict=False)]

    def _is_same(self, item: T, other: T, raw: str) -> bool:
        """Whether the result has the same item in this place."""
        # NaN and objects without `==` aren't equal to anything, not even to a copy of themselves, so their reprs are
        # compared.
        if item == other or repr(item) == repr(other):
            return True
        # A value that differs each time it is created, such as one with a timestamp, can't be compared.
        again = self.format.validate(raw, 0)
        return again != item and repr(again) != repr(item)

    def make_error(self, why: str) -> ParseError:
        """Make an error that carries the items read so far."""
        said = f"{len(self.good)} items had been read" if len(self.good) != 1 else "1 item had been read"
        return ParseError(f"{why}; {said}, which are in .items", items=tuple(self.good))

    def _take(self, events: list[ScanEvent]) -> None:
        for kind, value in events:
            if kind is Kind.WHOLE:
                self._add(value)
            elif kind is Kind.RESTART:
                self._raws.clear()
                # Items that were yielded can't be taken back, so the new document has to begin with the same items.
                self._again = deque(self._taken)

    def _add(self, raw: str) -> None:
        if not self._again:
            self._raws.append(raw)
        elif not is_same_json(raw, self._again.popleft()):
            self._is_superseded = True
            self._again.clear()


def parse_item(items: ItemFormat[T], raw: str, index: int, earlier: Sequence[Any] = ()) -> T:
    """Return the value of an item.

    Args:
        items: the format of the items.
        raw: the JSON of the item.
        index: its place among the items.
        earlier: the items before it, for the error.

    Raises:
        ParseError: it isn't valid; `.index` and `.raw` identify it, `.items` has the earlier ones.
        OutputError: a validator has a mistake in it.
    """
    try:
        return items.validate(raw, index)
    except OutputError:
        raise
    except Exception as error:  # noqa: BLE001 - user code: a validator may raise anything
        raise _make_item_error(items, raw, index, earlier, explain_error(error)) from error.with_traceback(None)


def _make_item_error(items: ItemFormat[Any], raw: str, index: int, earlier: Sequence[Any], why: str) -> ParseError:
    text = f"; its text is {raw[:120]!r}" if raw else ""
    return ParseError(
        f"item {index} is not a valid {items.name!r}: {why}{text}",
        partial=raw,
        index=index,
        raw=raw,
        items=tuple(earlier),
    )
