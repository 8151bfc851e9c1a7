"""Observers: objects that are told what a program's calls do while they do it, as spans, without any library.

Rules:

- A `Span` is one call, attempt, check, tool, step or agent. Its parent is the span that is current where it begins;
  tasks, worker threads and detached generations inherit the current span.
- The code that does the work tells of it, in order: a span begins before all that happens in it, and ends after that,
  exactly once, however it ends (`break`, a cancelled wait, a dropped thunk, a failure, a lost loop).
- A span is told to the observers that are registered where it begins and to those of its parent, so that each of them
  gets whole trees: also of what goes on after a `with observe(…)` block has been left.
- Where nobody listens, a site costs one look at `listening.count`.
- An observer that raises is logged once and disturbs nothing else.
- In a forked child the spans that were open belong to the parent process, which tells their ends.
"""

from __future__ import annotations

import itertools
import logging
import os
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, TypeVar

if TYPE_CHECKING:
    from mellea.core.accumulator import Generation
    from mellea.core.backend import SentRequest
    from mellea.core.blocks import ToolCall, ToolOutput
    from mellea.core.events import Event

__all__ = [
    "Observer",
    "Span",
    "Status",
    "add_observer",
    "begin_span",
    "current_span",
    "listening",
    "observe",
    "observed",
    "remove_observer",
    "span_around",
]

T = TypeVar("T")

Status = Literal["running", "ok", "error", "cancelled"]

_log = logging.getLogger("mellea")
_numbers = itertools.count(1)
_lock = threading.Lock()


class Observer:
    """What is told of spans: derive from it and override what you need. Any object with all three methods will do.

    The methods are called on the thread and loop that do the work, so they return at once and never wait. All
    observers of a span are called in the order in which they were registered.

    Attributes:
        wants_events: whether `event` is told the events of model requests as they come.
    """

    wants_events = False

    def begin(self, span: Span) -> None:
        """Note that a span begins. Its parent, kind, name and what it is about are known, its outcome isn't."""

    def event(self, span: Span, events: Sequence[Event]) -> None:
        """Note what happens in a span.

        Args:
            span: has begun and hasn't ended.
            events: with `wants_events` everything that a request of kind `"call"` says, in batches as they come. In
                any case a `KeepAlive` with `begins_anew`, alone: the request is about to be sent again.
        """

    def end(self, span: Span) -> None:
        """Note that a span has ended. It doesn't change any more."""


class Span:
    """One call, attempt, check, tool, step or agent, from its begin to its end.

    Attributes:
        id: a number of its own in this process.
        parent: the span that was current where this one began, `None` at the top.
        kind: `"call"`, `"attempt"`, `"check"`, `"tool"`, `"step"`, `"agent"`, `"work"` (such as a compactor, or the
            body of a prompt function), `"image"`, `"embedding"`, or whatever else its maker calls it.
        name: the call's `name=`, else what it is about in a word or two.
        started: when it began, in seconds since the epoch.
        began: when it began, as `time.monotonic()` tells.
        ended: when it ended, as `time.monotonic()` tells; `None` while it runs.
        error: why it failed or was cancelled.
        links: the spans of the thunks that a call is made of.
        backend: name of the backend that a call goes to.
        model: id of the model that a call goes to.
        is_request: whether a call is one request to a model. If not, the requests are further down.
        component: what a call says to the model.
        request: what was sent, without keys; afterwards.
        generation: what came of a request, also if it failed: text, usage, finish reason; afterwards.
        time_to_first_token: seconds from the request to the first piece of the answer; afterwards.
        number: of an attempt or a step, from 1.
        attempt: the `Attempt` with its output, requirements and their reasons; afterwards.
        requirement: the `Requirement` that a check is about.
        outcome: the `ValidationResult` of a check; afterwards.
        tool_call: what the model asks a tool to do.
        result: what a tool gave back, as the model is told it; afterwards.
        data: for its maker, and for observers, to keep more with it.
    """

    __slots__ = (
        "__weakref__",
        "_cancelled",
        "_data",
        "_observers",
        "_tell_events",
        "attempt",
        "backend",
        "began",
        "component",
        "ended",
        "error",
        "generation",
        "id",
        "is_request",
        "kind",
        "links",
        "model",
        "name",
        "number",
        "outcome",
        "parent",
        "request",
        "requirement",
        "result",
        "started",
        "time_to_first_token",
        "tool_call",
    )

    def __init__(self, kind: str, name: str, parent: Span | None, observers: tuple[Any, ...], **about: Any) -> None:
        self.id = next(_numbers)
        self.kind = kind
        self.name = name
        self.parent = parent
        self.started = time.time()
        self.began = time.monotonic()
        self.ended: float | None = None
        self.error: BaseException | None = None
        self.links: tuple[Span, ...] = ()
        self.backend: str | None = None
        self.model: str | None = None
        self.is_request = False
        self.component: Any = None
        self.request: SentRequest | None = None
        self.generation: Generation | None = None
        self.time_to_first_token: float | None = None
        self.number: int | None = None
        self.attempt: Any = None
        self.requirement: Any = None
        self.outcome: Any = None
        self.tool_call: ToolCall | None = None
        self.result: ToolOutput | None = None
        for what, value in about.items():
            setattr(self, what, value)
        self._observers = observers
        self._tell_events = tuple(each for each in observers if getattr(each, "wants_events", False))
        self._cancelled = False
        self._data: dict[str, Any] | None = None

    @property
    def data(self) -> dict[str, Any]:
        """More about it, by name."""
        if self._data is None:
            self._data = {}
        return self._data

    @property
    def status(self) -> Status:
        """Where it stands, or how it ended."""
        if self.ended is None:
            return "running"
        return "cancelled" if self._cancelled else "error" if self.error is not None else "ok"

    @property
    def seconds(self) -> float:
        """How long it took, or has been running."""
        return (time.monotonic() if self.ended is None else self.ended) - self.began

    @property
    def wants_events(self) -> bool:
        """Whether any of its observers wants the events of requests."""
        return bool(self._tell_events)

    def tell(self, events: Sequence[Event], *, to_all: bool = False) -> None:
        """Tell the observers what happens in it: those that want all events, or all observers."""
        for each in self._observers if to_all else self._tell_events:
            _call(each, "event", self, events)

    def end(self, error: BaseException | None = None, *, is_cancelled: bool = False) -> None:
        """End it, and tell the observers; a second time does nothing.

        Args:
            error: why it failed.
            is_cancelled: whether it was cancelled, and `error` is nobody's fault.
        """
        with _lock:
            if self.ended is not None:
                return
            self.ended = time.monotonic()
            listening.count -= 1
        self.error, self._cancelled = error or self.error, is_cancelled
        for each in self._observers:
            _call(each, "end", self)

    def __repr__(self) -> str:
        return f"<Span {self.id} {self.kind} {self.name!r} {self.status}>"


class _Listening:
    """Whether anybody listens.

    Attributes:
        count: registered observers and open spans; 0 means that there is nothing to tell and nobody to tell it to.
    """

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


listening = _Listening()

current_span: ContextVar[Span | None] = ContextVar("mellea_span", default=None)
"""The span that the current code is part of."""

_around: ContextVar[tuple[Any, ...]] = ContextVar("mellea_observers", default=())
_everywhere: tuple[Any, ...] = ()


def add_observer(observer: Any) -> None:
    """Have an observer told of every span in this process that begins from now on; a second time does nothing.

    Args:
        observer: an object with the methods of `Observer`.
    """
    global _everywhere
    with _lock:
        if observer not in _everywhere:
            _everywhere = (*_everywhere, observer)
            listening.count += 1


def remove_observer(observer: Any) -> None:
    """Tell an observer of no further trees; what has begun is told to its end."""
    global _everywhere
    with _lock:
        if observer in _everywhere:
            _everywhere = tuple(each for each in _everywhere if each is not observer)
            listening.count -= 1


@contextmanager
def observe(observer: Any) -> Iterator[Any]:
    """Have an observer told of the spans that begin in a `with` block, and in the tasks and threads it starts.

    Args:
        observer: an object with the methods of `Observer`.
    """
    token = _around.set((*_around.get(), observer))
    with _lock:
        listening.count += 1
    try:
        yield observer
    finally:
        with _lock:
            listening.count -= 1
        with suppress(ValueError):  # a generator may be left in another context: then there is nothing to undo
            _around.reset(token)


def begin_span(kind: str, name: str, *, parent: Span | None = None, **about: Any) -> Span | None:
    """Begin a span, and tell the observers; `None` if nobody listens. It has to be ended by `Span.end`.

    Args:
        kind: see `Span.kind`.
        name: see `Span.name`.
        parent: the span that it is part of, by default the current one.
        about: other attributes of `Span`.
    """
    if not listening.count:
        return None
    parent = parent or current_span.get()
    observers = _join(_everywhere, _around.get(), () if parent is None else parent._observers)
    if not observers:
        return None
    span = Span(kind, name, parent, observers, **about)
    with _lock:
        listening.count += 1
    for each in observers:
        _call(each, "begin", span)
    return span


class span_around:
    """Make a span of a `with` block, and the current one inside it; gives the span, or `None` if nobody listens.

    The arguments are those of `begin_span`. What leaves the block is the span's error.
    """

    __slots__ = ("_about", "_kind", "_name", "_span", "_token")

    def __init__(self, kind: str, name: str, **about: Any) -> None:
        self._kind = kind
        self._name = name
        self._about = about
        self._span: Span | None = None

    def __enter__(self) -> Span | None:
        span = self._span = begin_span(self._kind, self._name, **self._about) if listening.count else None
        if span is not None:
            self._token = current_span.set(span)
        return span

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        span = self._span
        if span is not None:
            with suppress(ValueError):  # the block may be left in another context
                current_span.reset(self._token)
            # What isn't an Exception is a cancellation, Ctrl-C or the end of a generator.
            span.end(error, is_cancelled=error is not None and not isinstance(error, Exception))


async def observed(work: Callable[[], Awaitable[T]], kind: str, name: str, **about: Any) -> T:
    """Do work inside a span; the arguments are those of `span_around`."""
    with span_around(kind, name, **about):
        return await work()


def _join(*groups: tuple[Any, ...]) -> tuple[Any, ...]:
    found: list[Any] = []
    for observer in itertools.chain(*groups):
        if not any(observer is known for known in found):
            found.append(observer)
    return tuple(found)


_failed: set[int] = set()
"""The observers whose failure has been logged, by `id`."""


def _call(observer: Any, method: str, *args: object) -> None:
    try:
        getattr(observer, method)(*args)
    except Exception:  # noqa: BLE001 - the observer's own code, which is no part of what it observes
        if id(observer) not in _failed:
            _failed.add(id(observer))
            _log.exception(
                "the observer %s failed in %s(); it is told of the rest all the same", _name(observer), method
            )


def _name(observer: Any) -> str:
    return type(observer).__name__


def _forget_parent() -> None:
    """After a fork, leave the parent's open spans to the parent; the child tells of what it begins itself."""
    global _lock
    _lock = threading.Lock()  # another thread may have held the old one
    listening.count = len(_everywhere) + len(_around.get())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_parent)
