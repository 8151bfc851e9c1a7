"""Items: the elements of a sequence, each as soon as the text holds all of it."""

from __future__ import annotations

from collections import deque
from typing import Any, Generic, TypeVar

from mellea.core.structured.document import Document
from mellea.core.structured.item_format import ItemFormat, item_format
from mellea.core.structured.output_format import reason_of
from mellea.core.structured.scanner import Kind
from mellea.errors import ParseError

__all__ = ["ItemDecoder", "ItemFormat", "item_format"]

T = TypeVar("T")


class ItemDecoder(Generic[T]):
    """Text in pieces, items out: feed it text, then take the `next` item while it `has_raw`.

    Args:
        items: what the items are.
        may_restart: the text may begin anew, after tools were called. Items that came out don't come again.

    Attributes:
        good: the items that were valid, in order.
    """

    def __init__(self, items: ItemFormat[T], *, may_restart: bool = False) -> None:
        self.format = items
        self.good: list[T] = []
        self._at = 1 if not items.paths[0] else 2  # how deep the items are
        refused = "[" if may_restart and self._at == 1 and not items.may_be_list else ""
        opening = "[" if not items.paths[0] else "{"
        self._document = Document(opening, self._at, refused, may_restart=may_restart)
        self._raws: deque[str] = deque()
        self._count = 0  # of raw items that were found, also before the document began anew
        self._again = 0  # of those that were found anew
        self._index = -1  # of the item that was taken last
        self._is_through = False  # it has been said that the document is broken
        self._depth = 0
        self._key: str | None = None  # of the object that holds the items
        self._is_ours = False  # whether the values that come whole are items

    @property
    def is_complete(self) -> bool:
        """Whether the document has ended."""
        return self._document.is_complete

    def feed(self, text: str) -> None:
        """Take more text."""
        self._take(self._document.feed(text))

    def close(self) -> None:
        """Say that there is no more text."""
        self._take(self._document.close())

    @property
    def has_raw(self) -> bool:
        """Whether the text of an item is there in full."""
        return bool(self._raws)

    def take_raws(self) -> list[str]:
        """Return, unvalidated, the texts of the items that are there in full and weren't taken."""
        raws = list(self._raws)
        self._raws.clear()
        return raws

    @property
    def is_broken(self) -> bool:
        """Whether nothing can be read any more, since what stands between the items is no JSON."""
        return not self._raws and self._index >= 0 and not self._is_through and self._document.error is not None

    def next(self) -> T:
        """Make the next item out of its text.

        Raises:
            ParseError: it is none, or `is_broken`; `.index`, `.raw` and `.items` say which, and which came before it.
        """
        self._index += 1
        if not self._raws:
            self._is_through = True
            raise self._bad("", f"{self._document.error} of the JSON")
        raw = self._raws.popleft()
        try:
            item = self.format.value(raw, self._index)
        except Exception as error:  # noqa: BLE001 - a validator of the user's may raise whatever it likes
            raise self._bad(raw, reason_of(error)) from error.with_traceback(None)
        self.good.append(item)
        return item

    def rest_of(self, parsed: Any) -> list[T]:
        """Return those items of the complete result that didn't come out of the text: that of a text hard to read."""
        if self.is_complete or self._index >= 0:
            return []
        return self.format.found_in(parsed)

    def _take(self, events: list[tuple[Kind, Any]]) -> None:
        for kind, value in events:
            if kind is Kind.WHOLE:
                if self._is_ours:
                    self._found(value)
            elif kind is Kind.KEY:
                self._key = value if self._depth == 1 else self._key
            elif kind is Kind.RESTART:
                self._again = self._depth = 0
                self._is_ours = False
            else:
                self._depth += (kind in (Kind.OBJECT, Kind.ARRAY)) - (kind is Kind.END)
                is_in_place = not self.format.paths[0] or (self._key,) in self.format.paths
                self._is_ours = self._depth == self._at and kind is Kind.ARRAY and is_in_place

    def _found(self, raw: str) -> None:
        self._again += 1
        if self._again > self._count:
            self._count = self._again
            self._raws.append(raw)

    def _bad(self, raw: str, why: str) -> ParseError:
        name = self.format.name
        text = f"; its text is {raw[:120]!r}" if raw else ""
        return ParseError(
            f"item {self._index} is no {name!r}: {why}{text}",
            partial=raw,
            index=self._index,
            raw=raw,
            items=tuple(self.good),
        )
