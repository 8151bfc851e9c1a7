"""Items: the elements of a sequence, each as soon as the text holds all of it."""

from __future__ import annotations

import types
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ForwardRef, Generic, TypeVar, Union, get_args, get_origin

from mellea.core.structured.document import Document
from mellea.core.structured.hints import resolved
from mellea.core.structured.output_format import OutputFormat, output_format, reason_of, validator_of
from mellea.core.structured.scanner import Kind
from mellea.core.structured.schema import openings_of
from mellea.core.structured.strict import fields_of
from mellea.errors import ParseError, UsageError

__all__ = ["ItemDecoder", "ItemFormat", "item_format"]

T = TypeVar("T")

_SEQUENCES = (list, Sequence, Iterable, Collection, Iterator, set, frozenset, deque)
_NO_LIST = object()


@dataclass(frozen=True, slots=True)
class ItemFormat(Generic[T]):
    """What the items of a format are.

    Args:
        key: the field of the object that holds them, in JSON; `None` where the sequence is the whole answer.
        name: the same in Python.
        format: that of one item.
        is_quick: validating one calls nobody's code.
        may_be_list: an item may itself be a list.
    """

    key: str | None
    name: str | None
    format: OutputFormat[T]
    is_quick: bool
    may_be_list: bool


def item_format(format: OutputFormat[Any] | None) -> ItemFormat[Any]:
    """Return what the items of a format are.

    It has items if it is `list[T]`, `Sequence[T]`, `Iterable[T]` or the like, or an object with exactly one
    such field; other fields may stand beside it.

    Raises:
        UsageError: it has no items, or several kinds of them.
    """
    if format is None:
        raise UsageError("items() reads the elements of a sequence; ask for one with format=list[…]")
    is_schema = isinstance(format.kind, Mapping)
    key, name, kind = _items_of_schema(format.kind) if is_schema else _items_of_type(format.kind)
    if kind is _NO_LIST:
        raise UsageError(
            f"items() reads the elements of a sequence, and {format.kind!r} has none, or several; ask for one with "
            "format=list[…], Sequence[…] or Iterable[…], or an object that has exactly one such field"
        )
    one = _format_of_schema(kind, format) if is_schema else _format_of_type(kind, format.kind)
    openings = openings_of(one.schema.schema)
    return ItemFormat(key, name, one, one.is_quick, not openings or "[" in openings)


def _items_of_type(kind: Any) -> tuple[str | None, str | None, Any]:
    if (item := _element(kind)) is not _NO_LIST:
        return None, None, item
    fields = fields_of(_plain(kind)) or []
    if getattr(_plain(kind), "__pydantic_root_model__", False):
        return None, "root", _element(fields[0].type)
    lists = [(field.key, field.name, item) for field in fields if (item := _element(field.type)) is not _NO_LIST]
    return lists[0] if len(lists) == 1 else (None, None, _NO_LIST)


def _element(kind: Any) -> Any:
    """Return the type of a sequence's elements."""
    kind = _plain(kind)
    origin, args = get_origin(kind) or kind, get_args(kind)
    if origin in _SEQUENCES:
        return args[0] if args else Any
    if origin is tuple and len(args) == 2 and args[1] is Ellipsis:
        return args[0]
    return _NO_LIST


def _plain(kind: Any) -> Any:
    """Take off `Annotated` and `| None`."""
    origin = get_origin(kind)
    if origin is Annotated:
        return _plain(kind.__origin__)
    if origin in (Union, types.UnionType):
        options = [option for option in get_args(kind) if option is not type(None)]
        if len(options) == 1:
            return _plain(options[0])
    return kind


def _format_of_type(kind: Any, owner: Any) -> OutputFormat[Any]:
    if isinstance(kind, (str, ForwardRef)):
        kind = resolved(kind)
    is_pydantics = hasattr(get_origin(_plain(owner)) or _plain(owner), "__pydantic_validator__")
    return OutputFormat.of(kind, validator_of(kind, is_lax=True)) if is_pydantics else output_format(kind)


def _items_of_schema(schema: Mapping[str, Any]) -> tuple[str | None, str | None, Any]:
    if schema.get("type") == "array":
        return None, None, schema.get("items", {})
    found = schema.get("properties", {}).items()
    lists = [(key, key, each.get("items", {})) for key, each in found if each.get("type") == "array"]
    return lists[0] if len(lists) == 1 else (None, None, _NO_LIST)


def _format_of_schema(schema: Any, whole: OutputFormat[Any]) -> OutputFormat[Any]:
    inside = schema if isinstance(schema, Mapping) else {}
    named = {name: whole.kind[name] for name in ("$defs", "definitions") if name in whole.kind}
    return OutputFormat.of({**named, **inside}, None)


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
        self._at = 1 if items.key is None else 2  # how deep the items are
        refused = "[" if may_restart and self._at == 1 and not items.may_be_list else ""
        opening = "[" if items.key is None else "{"
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
            item = self.format.format.value(raw)
        except Exception as error:  # noqa: BLE001 - a validator of the user's may raise whatever it likes
            raise self._bad(raw, reason_of(error)) from error.with_traceback(None)
        self.good.append(item)
        return item

    def rest_of(self, parsed: Any) -> list[T]:
        """Return those items of the complete result that didn't come out of the text: that of a text hard to read."""
        if self.is_complete or self._index >= 0:
            return []
        name = self.format.name
        if name is not None:
            parsed = parsed.get(name) if isinstance(parsed, Mapping) else getattr(parsed, name, None)
        return list(parsed) if isinstance(parsed, Iterable) and not isinstance(parsed, (str, Mapping)) else []

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
                is_in_place = self.format.key is None or self._key == self.format.key
                self._is_ours = self._depth == self._at and kind is Kind.ARRAY and is_in_place

    def _found(self, raw: str) -> None:
        self._again += 1
        if self._again > self._count:
            self._count = self._again
            self._raws.append(raw)

    def _bad(self, raw: str, why: str) -> ParseError:
        name = self.format.format.schema.name
        text = f"; its text is {raw[:120]!r}" if raw else ""
        return ParseError(
            f"item {self._index} is no {name!r}: {why}{text}",
            partial=raw,
            index=self._index,
            raw=raw,
            items=tuple(self.good),
        )
