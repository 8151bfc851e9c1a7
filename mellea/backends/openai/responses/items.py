"""Determines the item of a response that an event belongs to.

An item is identified by its id if the event has a known one, else by its call's id while it is open, else by its
index and kind: the last open item there. Servers repeat an index or an id or omit it, send no id with deltas, or
another id in each event (GitHub's Copilot). A new item is one that starts with an unknown id, or with the id of an item
that has ended, and a call with the id of an ended one but another call id.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from mellea.backends.http.fields import find_id, find_text, read_int
from mellea.backends.openai.responses.wire import JsonObject

__all__ = ["Item", "Items"]


@dataclass(slots=True)
class Item:
    """The state of an item so far.

    Attributes:
        kind: its type.
        item_id: the provider's id.
        sent_id: the provider's id of the call.
        call_id: the call's id, once the call has been announced.
        name: of the tool.
        texts: the deltas of each part of its content.
        chunks: the deltas of a call's arguments.
        whole_args: the arguments in their end event.
        thoughts: the number of reasoning deltas.
        cited: the number of its annotations that arrived as events.
        begun: the item in its start event.
        done: the item in its end event, `None` while it is open.
    """

    kind: str
    item_id: str = ""
    sent_id: str = ""
    call_id: str = ""
    name: str = ""
    texts: dict[int, list[str]] = field(default_factory=dict)
    chunks: list[str] = field(default_factory=list)
    whole_args: str = ""
    thoughts: int = 0
    cited: int = 0
    begun: JsonObject = field(default_factory=dict)
    done: JsonObject | None = None

    def text(self, part: int | None = None) -> str:
        """Return the text of its deltas, for one part of the content or for all."""
        parts = [self.texts.get(part, [])] if part is not None else list(self.texts.values())
        return "".join(["".join(chunks) for chunks in parts])


class Items:
    """The items of one response, in order of first mention."""

    def __init__(self) -> None:
        self._all: list[Item] = []
        self._by_id: dict[str, Item] = {}
        self._by_call: dict[str, Item] = {}
        self._by_place: dict[tuple[int | None, str], Item] = {}
        self._last: dict[str, Item] = {}  # of each kind

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Any:
        return iter(self._all)

    def find_for_delta(self, event: JsonObject, kind: str) -> Item:
        """Return the item that a delta of this kind of items belongs to."""
        item_id = event.get("item_id")
        if type(item_id) is str and (item := self._by_id.get(item_id)) is not None and item.kind == kind:
            return item
        place = (read_int(event, "output_index"), kind)
        item = self._find_at(place)
        # A delta under the index of an item that has ended: servers that don't count start over there.
        if item is None or item.done is not None:
            item = self._add(Item(kind, find_id(event, "item_id")), place)
        return item

    def find_for_item(self, event: JsonObject, whole: JsonObject, kind: str, *, begins: bool) -> Item:
        """Return the item for a start or end event."""
        item_id, call_id = find_id(whole, "id") or find_id(event, "item_id"), find_id(whole, "call_id")
        place = (read_int(event, "output_index"), kind)
        # By id if there is one; by index only if that fails, since some servers count wrong.
        item = self._find_known(item_id, call_id, kind)
        if item is not None and begins and item.done is not None:
            item = None  # the id is used again
        item = item or self._find_placed(place, item_id, call_id, whole, begins=begins)
        if item is None:
            item = self._add(Item(kind, item_id, call_id), place)
        item.sent_id = item.sent_id or call_id
        if item_id:
            self._by_id[item_id] = item
        if call_id:
            self._by_call[call_id] = item
        return item

    def match(self, output: list[JsonObject]) -> list[tuple[Item | None, JsonObject]]:
        """Match each item of the final output with the streamed one, `None` if there was none."""
        found = [
            self._find_known(find_id(whole, "id"), find_id(whole, "call_id"), find_text(whole, "type"))
            for whole in output
        ]
        # Those with ids first; the rest are matched in order, kind by kind.
        taken = {id(item) for item in found if item is not None}
        rest: dict[str, list[Item]] = {}
        for streamed in self._all:
            if id(streamed) not in taken:
                rest.setdefault(streamed.kind, []).append(streamed)
        pairs: list[tuple[Item | None, JsonObject]] = []
        for known, whole in zip(found, output, strict=True):
            others = rest.get(find_text(whole, "type"), [])
            pairs.append((others.pop(0) if known is None and others else known, whole))
        return pairs

    def add(self, whole: JsonObject, kind: str) -> Item:
        """Add a new item that is only in the final output."""
        return self._add(Item(kind, find_id(whole, "id"), find_id(whole, "call_id")), (None, kind))

    def _find_known(self, item_id: str, call_id: str, kind: str) -> Item | None:
        item = self._by_id.get(item_id) if item_id else None
        is_used_again = item is not None and item.done is not None and bool(call_id) and call_id != item.sent_id
        if item is not None and item.kind == kind and not is_used_again:
            return item
        item = self._by_call.get(call_id) if call_id else None
        # The same call under another id; once it has ended, some models reuse its id.
        return item if item is not None and item.kind == kind and (item.done is None or not item_id) else None

    def _find_placed(
        self, place: tuple[int | None, str], item_id: str, call_id: str, whole: JsonObject, *, begins: bool
    ) -> Item | None:
        item = self._find_at(place)
        if item is None or (call_id and item.sent_id and call_id != item.sent_id):
            return None
        if begins:
            # Deltas may arrive before the item's start; but an item doesn't start twice.
            return None if item.begun or (item_id and item.item_id) else item
        if item.done is None or item.done == whole:
            return item
        return None

    def _find_at(self, place: tuple[int | None, str]) -> Item | None:
        """Return the last item of a kind with an index; without an index, the last open one."""
        item, (index, kind) = self._by_place.get(place), place
        if item is not None and item.done is None:
            return item
        last = self._last.get(kind)
        if last is not None and last.done is None and (index is None or self._by_place.get((None, kind)) is last):
            return last
        return item

    def _add(self, item: Item, place: tuple[int | None, str]) -> Item:
        self._all.append(item)
        self._last[item.kind] = item
        self._by_place[place] = item
        if item.item_id:
            self._by_id.setdefault(item.item_id, item)
        if item.sent_id:
            self._by_call.setdefault(item.sent_id, item)
        return item
