"""Partial objects: what is known so far of a value that is being written.

The decoder keeps one structure of plain JSON values and extends it in place. It takes the scanner's events one at a
time, so the sequence of partial objects doesn't depend on how much text arrived at once. A string that is being written
is joined only when somebody reads it.
"""

from __future__ import annotations

import re
from collections import deque
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from mellea.core.displayed import Displayed
from mellea.core.structured.document import Search
from mellea.core.structured.items import SUPERSEDED
from mellea.core.structured.output_format import OutputFormat
from mellea.core.structured.scanner import Kind, ScanEvent, Scanner
from mellea.core.structured.visibility import Plan
from mellea.errors import ParseError, UsageError

if TYPE_CHECKING:
    from mellea.core.card import Card

__all__ = ["FieldState", "Partial", "PartialDecoder"]

T = TypeVar("T")

FieldState = Literal["pending", "incomplete", "complete"]

_STEP = re.compile(r'\.?([^.\[\]"]+)|\[(\d+)\]|\["((?:[^"\\]|\\.)*)"\]')
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


class Partial(Displayed, Generic[T]):
    """The known part of a value of type `T` while it is being written.

    `path`, `text` and `is_complete` never change. `data` and `state` are live: they are valid until the next partial
    object is taken, which extends the same structure. Use `snapshot()` for a copy to keep.

    Attributes:
        path: what changed, such as `people[0].name`; `""` is the whole value. For an object or a list it means that it
            has begun, has ended, or was held back and is now visible with its content.
        text: the new text of a string, unescaped; `""` for other changes. A string that only becomes visible when it is
            complete arrives in one piece.
        is_complete: whether the whole value is complete.
    """

    __slots__ = ("_decoder", "is_complete", "path", "text")

    def __init__(self, decoder: PartialDecoder[T], path: str, text: str, is_complete: bool) -> None:
        self._decoder = decoder
        self.path = path
        self.text = text
        self.is_complete = is_complete

    @property
    def data(self) -> Any:
        """The value so far, as dicts, lists and plain values; `None` if nothing is known yet.

        Fields that aren't known yet are missing. Strings may still grow; numbers, booleans, nulls, enum members, dates
        and similar appear when they are complete. Keys are those of the JSON. Reading `data` joins the string that is
        being written; `path` and `text` cost the same however long it is.
        """
        return self._decoder.data()

    def snapshot(self) -> Any:
        """Return a copy of `data` that doesn't change."""
        return _copy(self._decoder.data())

    def state(self, path: str) -> FieldState:
        """Return whether the value at a path is `"pending"`, `"incomplete"` or `"complete"`.

        Raises:
            UsageError: it is not a path such as `people[0].name`.
        """
        return self._decoder.state(path)

    def _card_(self) -> Card:
        from mellea.core.card import Card, show_value  # lazy: only a frontend needs it

        state = "complete" if self.is_complete else f"writing {self.path}" if self.path else "writing"
        return Card("Partial", state, parts=[show_value(self._decoder.data())])

    def __repr__(self) -> str:
        return f"<Partial {self.path!r} += {self.text!r}{', complete' if self.is_complete else ''}>"


class _Open:
    """An object or array that is being written."""

    __slots__ = ("is_object", "is_shown", "key", "missing", "path", "plan", "value")

    def __init__(self, value: Any, path: str, plan: Plan) -> None:
        self.value = value
        self.path = path
        self.plan = plan
        self.is_object = type(value) is dict
        self.is_shown = False
        self.missing = set(plan.needed) if self.is_object else set()  # keys that have to be present to show it
        self.key = ""  # of the next value


class _Repeat:
    """Compares a later step's document with what was read from the earlier one, which it may repeat.

    Args:
        taken: the events that were taken from the earlier document.
    """

    def __init__(self, taken: list[ScanEvent]) -> None:
        self._expected: deque[tuple[Kind, Any]] = deque()  # with the pieces of each string joined
        pieces: list[str] = []
        for kind, value in taken:
            if kind is Kind.PIECE:
                pieces.append(value)
            elif kind is Kind.STRING:
                self._expected.append((kind, "".join([*pieces, value])))
                pieces.clear()
            else:
                self._expected.append((kind, value))
        if pieces:
            self._expected.append((Kind.PIECE, "".join(pieces)))

    @property
    def is_over(self) -> bool:
        """Whether everything that was read has been repeated."""
        return not self._expected

    def take_news(self, event: ScanEvent) -> ScanEvent | None:
        """Return the part of the next event that is new, or `None`.

        Raises:
            ParseError: the document differs from the earlier one.
        """
        kind, value = event
        expected, known = self._expected.popleft()
        if expected not in (Kind.PIECE, Kind.STRING) or kind not in (Kind.PIECE, Kind.STRING):
            if expected is kind and (value == known and type(value) is type(known)):
                return None
        elif value.startswith(known) and (expected is Kind.PIECE or value == known):
            if expected is Kind.STRING and kind is Kind.PIECE:  # the end of the string is still to come
                self._expected.appendleft((expected, ""))
            is_news = expected is Kind.PIECE and (kind is Kind.STRING or value != known)
            return (kind, value[len(known) :]) if is_news else None
        elif kind is Kind.PIECE and known.startswith(value):
            self._expected.appendleft((expected, known[len(value) :]))
            return None
        raise ParseError(SUPERSEDED)


class PartialDecoder(Generic[T]):
    """Turns pieces of text into partial objects: `feed` it text, then call `next`.

    Args:
        format: the format of the answer.
        has_steps: the text may have several steps; `end_step` is called at the end of each.
    """

    def __init__(self, format: OutputFormat[T] | None, *, has_steps: bool = False) -> None:
        if format is None:
            raise UsageError("partials() reads an object that is being written; ask for one with format=…")
        self._format = format
        self._search = Search(format, Scanner, has_steps=has_steps)
        self._text: list[str] | None = []  # of the step, as long as no document has been found in it
        self._has_given = False
        self._taken: list[ScanEvent] | None = [] if has_steps else None  # a later step's document may repeat them
        self._repeat: _Repeat | None = None
        self._plan = Plan(format.marked, format.marked)
        self._events: deque[ScanEvent] = deque()
        self._stack: list[_Open] = []
        self._root: Any = None
        self._is_shown = False  # whether the root is visible
        self._has_ended = False
        self._hidden = 0  # open containers that aren't visible
        self._revealed: str | None = None  # path of a container that has just become visible, late
        self._later: Partial[T] | None = None  # returned after the partial object that announces it
        # The string that is being written: its path, whether it shows while it grows, and its text.
        self._path: str | None = None
        self._grows = False
        self._pieces: list[str] = []
        self._is_stale = False  # whether there are pieces that `data` doesn't have

    @property
    def is_complete(self) -> bool:
        """Whether the whole value is complete and was taken."""
        return self._has_ended and not self._events and self._later is None

    @property
    def has_more(self) -> bool:
        """Whether `next` has something to return without more text."""
        return bool(self._events) or self._later is not None

    @property
    def is_settled(self) -> bool:
        """Whether the document was found, so that `feed` calls no validator any more."""
        return self._search.is_settled

    def feed(self, text: str) -> None:
        """Take more text."""
        events = self._search.feed(text)
        if events and events[0][0] is Kind.RESTART:
            self._events.clear()
        self._events += events
        if self._text is not None:
            self._text.append(text)
            self._text = None if self._search.is_settled else self._text

    def end_step(self) -> None:
        """End the step; the text of another one follows."""
        self._take(self._search.end_step())
        self._text = []

    def close(self) -> None:
        """End the text, which wasn't cut off; if it has no document, it is read as a single number, string or word."""
        self._take(self._search.close())
        if self._text is None or self._search.has_document:
            return
        found = self._format.find_scalar("".join(self._text))
        if found is not None:
            self._take([(Kind.RESTART, None), *Scanner().feed(f"{found}\n")])

    def _take(self, events: list[ScanEvent]) -> None:
        if events and events[0][0] is Kind.RESTART:  # events that nobody has read can simply be dropped
            self._events.clear()
        self._events += events

    def next(self) -> Partial[T] | None:
        """Return the next partial object, `None` if that takes more text."""
        events = self._events
        if self._later is not None:
            later, self._later = self._later, None
            return later
        while events:
            event = events.popleft()
            news = event if self._taken is None else self._drop_known(self._taken, event)
            if news is None:
                continue
            kind, value = news
            partial: Partial[T] | None = _STEPS[kind](self, value)
            if partial is not None and self._hidden == 0:
                self._has_given = True
                return partial if self._revealed is None else self._reveal_before(partial)
        return None

    def _drop_known(self, taken: list[ScanEvent], event: ScanEvent) -> ScanEvent | None:
        """Return the part of an event that wasn't read in an earlier step, and remember it."""
        if event[0] is Kind.RESTART and self._has_given:
            self._repeat = _Repeat(taken)
            return None
        if self._repeat is not None:
            news = self._repeat.take_news(event)
            self._repeat = None if self._repeat.is_over else self._repeat
            if news is None:
                return None
            event = news
        taken.append(event)
        return event

    def _reveal_before(self, partial: Partial[T]) -> Partial[T]:
        path, self._revealed = self._revealed or "", None
        if path == partial.path:
            return partial
        self._later = partial
        return Partial(self, path, "", False)

    def data(self) -> Any:
        """Return the value so far."""
        if self._is_stale:
            text = "".join(self._pieces)
            self._pieces[:] = [text]
            self._put(text)
            self._is_stale = False
        return self._root

    # -- one method for each kind of event ------------------------------------------------------------

    def _open_object(self, _: Any) -> Partial[T]:
        return self._open({})

    def _open_array(self, _: Any) -> Partial[T]:
        return self._open([])

    def _open(self, value: Any) -> Partial[T]:
        path, plan = self._locate()
        opened = _Open(value, path, plan)
        self._stack.append(opened)
        self._hidden += 1
        if not plan.is_held and not opened.missing:
            self._show(len(self._stack) - 1)
            self._revealed = None
        return Partial(self, path, "", False)

    def _set_key(self, key: str) -> None:
        self._stack[-1].key = key

    def _add_piece(self, text: str) -> Partial[T] | None:
        is_first = self._path is None
        if self._path is None:
            self._path, plan = self._locate()
            self._grows = plan.grows and not plan.is_held
        self._pieces.append(text)
        if not self._grows:
            return None
        if is_first:
            self._put(text, is_new=True)
        else:
            self._is_stale = True
        return Partial(self, self._path, text, False)

    def _end_string(self, text: str) -> Partial[T]:
        if self._path is None:
            path, _ = self._locate()
            self._put(text, is_new=True)
        else:
            path, grows = self._path, self._grows
            self._pieces.append(text)
            whole = "".join(self._pieces)
            self._forget_string()
            self._put(whole, is_new=not grows)
            text = text if grows else whole
        return self._end_value(path, text)

    def _add_scalar(self, value: Any) -> Partial[T]:
        path, _ = self._locate()
        self._put(value, is_new=True)
        return self._end_value(path)

    def _close(self, _: Any) -> Partial[T]:
        last = self._stack[-1]
        if not last.is_shown:
            self._show(len(self._stack) - 1)
        self._stack.pop()
        return self._end_value(last.path)

    def _restart(self, _: Any) -> None:
        if self._taken is not None:
            self._taken.clear()
        self._stack.clear()
        self._forget_string()
        self._root, self._is_shown, self._hidden, self._revealed = None, False, 0, None

    # -- the structure --------------------------------------------------------------------------------

    def _locate(self) -> tuple[str, Plan]:
        """Return the path and the plan of the value that begins here."""
        if not self._stack:
            return "", self._plan
        parent = self._stack[-1]
        if parent.is_object:
            return _join_path(parent.path, parent.key), parent.plan.get_part(parent.key)
        index = len(parent.value)
        return f"{parent.path}[{index}]", parent.plan.get_item(index)

    def _put(self, value: Any, *, is_new: bool = False) -> None:
        """Store a value in the innermost open container."""
        if not self._stack:
            self._root, self._is_shown = value, True
            return
        self._put_into(len(self._stack) - 1, value, is_new)

    def _put_into(self, depth: int, value: Any, is_new: bool) -> None:
        parent = self._stack[depth]
        if not parent.is_object:
            if is_new:
                parent.value.append(value)
            else:
                parent.value[-1] = value
            return
        parent.value[parent.key] = value
        if parent.missing:
            parent.missing.discard(parent.key)
            if not parent.missing and not parent.is_shown and not parent.plan.is_held:
                self._show(depth)

    def _show(self, depth: int) -> None:
        """Make an open container visible, by storing it in the one around it."""
        opened = self._stack[depth]
        opened.is_shown = True
        self._hidden -= 1
        self._revealed = opened.path
        if depth == 0:
            self._root, self._is_shown = opened.value, True
        else:
            self._put_into(depth - 1, opened.value, True)

    def _forget_string(self) -> None:
        self._path = None
        self._pieces.clear()
        self._is_stale = False

    def _end_value(self, path: str, text: str = "") -> Partial[T]:
        self._has_ended = not self._stack
        return Partial(self, path, text, self._has_ended)

    # -- states ---------------------------------------------------------------------------------------

    def state(self, path: str) -> FieldState:
        """Return the state of the value at a path."""
        wanted = ""
        for step in _split_path(path):
            wanted = _join_path(wanted, step) if isinstance(step, str) else f"{wanted}[{step}]"
        if wanted == self._path or any(opened.path == wanted for opened in self._stack):
            return "incomplete"
        for opened in reversed(self._stack):
            # Below the innermost open container on the path, everything that exists is complete.
            rest = wanted.removeprefix(opened.path)
            if not opened.path or (rest != wanted and rest[:1] in (".", "[")):
                return "complete" if _has_path(opened.value, _split_path(rest)) else "pending"
        return "complete" if self._is_shown and _has_path(self._root, _split_path(wanted)) else "pending"


_BY_KIND: dict[Kind, Any] = {
    Kind.OBJECT: PartialDecoder._open_object,
    Kind.ARRAY: PartialDecoder._open_array,
    Kind.KEY: PartialDecoder._set_key,
    Kind.PIECE: PartialDecoder._add_piece,
    Kind.STRING: PartialDecoder._end_string,
    Kind.SCALAR: PartialDecoder._add_scalar,
    Kind.END: PartialDecoder._close,
    Kind.RESTART: PartialDecoder._restart,
}
_STEPS: list[Any] = [_BY_KIND.get(kind) for kind in Kind]


def _join_path(path: str, key: str) -> str:
    if key.isidentifier():
        return f"{path}.{key}" if path else key
    quoted = key.replace("\\", "\\\\").replace('"', '\\"')
    return f'{path}["{quoted}"]'


def _split_path(path: str) -> list[str | int]:
    """Split a path into keys and indexes."""
    steps: list[str | int] = []
    place = 0
    while place < len(path):
        step = _STEP.match(path, place)
        if step is None:
            raise UsageError(f"{path!r} is not a path; one looks like people[0].name")
        key, index, quoted = step.groups()
        steps.append(int(index) if index else key or _ESCAPED.sub(r"\1", quoted))
        place = step.end()
    return steps


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copy(inner) for key, inner in value.items()}
    return [_copy(inner) for inner in value] if isinstance(value, list) else value


def _has_path(value: Any, steps: list[str | int]) -> bool:
    """Whether a value has something at a path."""
    for step in steps:
        is_there = step < len(value) if isinstance(value, list) and isinstance(step, int) else False
        if not is_there and not (isinstance(value, dict) and step in value):
            return False
        value = value[step]
    return True
