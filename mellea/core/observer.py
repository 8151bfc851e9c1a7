"""Observers: objects that are notified, as spans, of what a program's calls do, without any library.

Rules:

- A `Span` is one call, attempt, check, tool, step or agent. Its parent is the span that is current where it begins;
  tasks, worker threads and detached generations inherit the current span.
- The code that does the work reports it, in order: a span begins before everything in it, and ends after that,
  exactly once, however it ends (`break`, a cancelled wait, a dropped thunk, a failure, a lost loop).
- A span is reported to the observers that are registered where it begins and to those of its parent, so that each
  gets whole trees, even of work that goes on after a `with observe(…)` block.
- Without observers, a site costs one look at `listening.count`.
- An observer that raises is logged once and disturbs nothing else. A hook that raises fails the request.
- In a forked child, open spans belong to the parent process, which reports their ends.
"""

from __future__ import annotations

import itertools
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from contextvars import ContextVar
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypedDict, TypeVar, Unpack

from mellea.core.masking import scrub_label
from mellea.errors import UsageError

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
    "end_open_spans",
    "listening",
    "make_span",
    "observe",
    "remove_observer",
    "span_around",
]

T = TypeVar("T")

Status = Literal["running", "ok", "error", "cancelled"]

_log = logging.getLogger("mellea")
_numbers = itertools.count(1)
_lock = threading.Lock()


class Observer:
    """Is notified of spans: the extension point of the library. Derive from it and override what you need.

    Any object with all three methods works.

    The methods are called on the thread and loop that do the work, so they return at once and never wait. All
    observers of a span are called in the order in which they were registered.

    An observer may have more methods, each on its own:

    - `before_request(request)` is a hook: given each `Request` before it is sent, for whatever purpose, it returns the
      request to send instead, or `None` to leave it unchanged; it raises to reject it.
    - `after_response(events)` is a hook: given the events of each complete answer, adjacent deltas joined, it returns
      the events for readers, or `None` to leave them unchanged; it raises to reject the answer. The answer is held back
      until then, so nothing of it is streamed.
    - `choose_backend(backend, request)` is a hook: given each request for text and its backend, it returns the backend
      to use instead, such as a recording, or `None`; it raises to reject the request.
    - `enter(span)` and `leave(span, token)` are called when a span becomes the current one of the running code, and
      when it stops being current; `token` is what `enter` returned.

    Hooks are plain functions, which run in worker threads, or async. The observer that was registered first sees a
    request first and an answer last. A hook may itself call a model; its requests don't pass the hooks of its own
    observer, but those of the others.

    Attributes:
        wants_events: whether `event` gets the events of model requests as they arrive.
    """

    wants_events = False

    def begin(self, span: Span) -> None:
        """Handle the beginning of a span. Its parent, kind, name and subject are known, its outcome isn't."""

    def event(self, span: Span, events: Sequence[Event]) -> None:
        """Handle events in a span.

        Args:
            span: an open span.
            events: with `wants_events`, all events of a request of kind `"call"`, in batches as they arrive.
                Without it, only a `KeepAlive` with `is_restart`: the request is about to be sent again.
        """

    def end(self, span: Span) -> None:
        """Handle the end of a span, which doesn't change any more."""


Hook = tuple[Any, Callable[..., Any]]
"""An observer, and its bound method."""


class _Observers(tuple[Any, ...]):
    """The observers of a span and their optional methods, looked up once, not for each span.

    Attributes:
        events: those that want the events of requests.
        enterers: those that have `enter` and `leave`.
        before_request: their hooks of this name, in order, each with its observer.
        after_response: their hooks of this name, in order, each with its observer.
        choose_backend: their hooks of this name, in order, each with its observer.
        has_hooks: whether there is any hook.
    """

    events: tuple[Any, ...]
    enterers: tuple[Any, ...]
    before_request: tuple[Hook, ...]
    after_response: tuple[Hook, ...]
    choose_backend: tuple[Hook, ...]
    has_hooks: bool

    def __new__(cls, observers: Iterable[Any] = ()) -> Self:
        self = super().__new__(cls, observers)
        self.events = tuple([each for each in self if getattr(each, "wants_events", False)])
        self.enterers = tuple([each for each in self if hasattr(each, "enter")])
        self.before_request = self._hooks("before_request")
        self.after_response = self._hooks("after_response")
        self.choose_backend = self._hooks("choose_backend")
        self.has_hooks = bool(self.before_request or self.after_response or self.choose_backend)
        return self

    def _hooks(self, name: str) -> tuple[Hook, ...]:
        return tuple([(each, hook) for each in self if (hook := getattr(each, name, None)) is not None])


class SpanFields(TypedDict, total=False):
    """The attributes of a `Span` that may be known when it begins; see there."""

    is_streaming: bool
    number: int
    requirement: Any
    tool_call: ToolCall


class Span:
    """One call, attempt, check, tool, step or agent, from its beginning to its end.

    Attributes:
        id: a number, unique in this process.
        parent: the span that was current where this one began, `None` at the top.
        kind: `"call"`, `"attempt"`, `"check"`, `"tool"`, `"step"`, `"agent"`, `"wait"` (a call of a
            tool that a person has to answer), `"work"` (such as a compactor, or the body of a prompt function),
            `"image"`, `"video"`, `"embedding"`, `"function"` (decorated with `trace`),
            `"trace"` (the block of `traces.start`), or any other word.
        name: the call's `name=`, or else a word or two about its subject.
        started: when it began, in seconds since the epoch.
        began: when it began, by `time.monotonic()`.
        ended: when it ended, by `time.monotonic()`; `None` while it runs.
        error: why it failed or was cancelled.
        links: the spans of the thunks that a call depends on.
        backend: name of the backend that a call goes to.
        model: id of the model that a call goes to.
        server: host and port that a call goes to; `None` for a model in this process.
        session: id of the session that it belongs to, if there is one.
        is_request: whether a call is one request to a model. If not, the requests are further down.
        is_batched: whether it is a request in a provider's batch, which costs less and takes longer.
        is_streaming: whether a check is of an answer while it is being written, not of the complete one.
        component: the component that a call sends.
        request: what was sent, without keys; `None` before that.
        generation: the outcome of a request, even a failed one: text, usage, finish reason; set at the end.
        time_to_first_token: seconds from the request to the first piece of the answer; set at the end.
        chunk_count: the number of deltas in the answer; set at the end.
        number: of an attempt or a step, from 1.
        attempt: the `Attempt` with its output, requirements and their reasons; set at the end.
        requirement: the `Requirement` that a check is about.
        outcome: the `ValidationResult` of a check; set at the end.
        tool_call: the model's call of a tool.
        result: a tool's result, as the model sees it; set at the end.
        data: further values, for its creator and for observers.
        observers: those that are notified of it.
    """

    __slots__ = (
        "__weakref__",
        "_is_cancelled",
        "attempt",
        "backend",
        "began",
        "chunk_count",
        "component",
        "data",
        "ended",
        "error",
        "generation",
        "id",
        "is_batched",
        "is_request",
        "is_streaming",
        "kind",
        "links",
        "model",
        "name",
        "number",
        "observers",
        "outcome",
        "parent",
        "request",
        "requirement",
        "result",
        "server",
        "session",
        "started",
        "time_to_first_token",
        "tool_call",
    )

    def __init__(self, kind: str, name: str, parent: Span | None, observers: _Observers) -> None:
        self.id = next(_numbers)
        self.kind, self.name, self.parent, self.observers = kind, name, parent, observers
        self.started, self.began = time.time(), time.monotonic()
        # Nested spans belong to the same session.
        self.session: str | None = None if parent is None else parent.session
        self.links: tuple[Span, ...] = ()
        self.backend: str | None = None
        self.model: str | None = None
        self.server: tuple[str, int | None] | None = None
        self.is_request = self.is_batched = self.is_streaming = self._is_cancelled = False
        self.component: Any = None
        self.number: int | None = None
        self.requirement: Any = None
        self.tool_call: ToolCall | None = None
        self.ended: float | None = None
        self.error: BaseException | None = None
        self.request: SentRequest | None = None
        self.generation: Generation | None = None
        self.time_to_first_token: float | None = None
        self.chunk_count: int | None = None
        self.attempt: Any = None
        self.outcome: Any = None
        self.result: ToolOutput | None = None
        self.data: dict[str, Any] = {}

    @property
    def status(self) -> Status:
        """Its state, or how it ended."""
        if self.ended is None:
            return "running"
        return "cancelled" if self._is_cancelled else "error" if self.error is not None else "ok"

    @property
    def seconds(self) -> float:
        """How long it took, or has been running."""
        return (time.monotonic() if self.ended is None else self.ended) - self.began

    def begin(self) -> None:
        """Notify the observers that it begins; attributes that are known by now have to be set."""
        # Weak: the list of open spans must not keep a span alive whose run was dropped.
        listening[self.id] = weakref.ref(self)
        try:
            _call_all(self.observers, "begin", self)
        except BaseException as exit:
            self.end(exit)  # the work itself isn't started then
            raise

    def enter(self) -> Any:
        """Make it the current span, and return the argument for `leave`."""
        token = current_span.set(self)
        told: tuple[Any, ...] = ()
        for each in self.observers.enterers:  # rarely more than one
            told += ((each, _call(each, "enter", self)),)
        return token, told

    def leave(self, entered: Any) -> None:
        """Undo `enter`; in a different context there is nothing to undo."""
        token, told = entered
        for each, its_token in reversed(told):
            _call(each, "leave", self, its_token)
        with suppress(ValueError):
            current_span.reset(token)

    def tell(self, events: Sequence[Event]) -> None:
        """Send its events to the observers that want them."""
        _call_all(self.observers.events, "event", self, events)

    def tell_retry(self, event: Event, *, is_for_all: bool) -> None:
        """Notify the observers that the request is about to be sent again: all of them, or those that want no
        events."""
        for each in self.observers:
            if is_for_all or not getattr(each, "wants_events", False):
                _call(each, "event", self, [event])

    def end(self, error: BaseException | None = None, *, is_cancelled: bool = False) -> None:
        """End it, and notify the observers; a second call does nothing.

        Args:
            error: why it failed.
            is_cancelled: whether it was cancelled, so `error` isn't a failure.
        """
        # Atomic, so that only one of two threads that end it notifies the observers.
        if listening.pop(self.id, None) is None:
            return
        self.ended = time.monotonic()
        self.error, self._is_cancelled = error or self.error, is_cancelled
        _call_all(self.observers, "end", self)

    def __repr__(self) -> str:
        # A check is called by its requirement, which may hold a key or a prompt.
        name = "" if self.kind == "check" else f" {scrub_label(self.name)!r}"
        return f"<Span {self.id} {self.kind}{name} {self.status}>"


class _Listening(dict[object, Any]):
    """Registered observers and open spans, in dicts whose changes are atomic.

    There is no lock, since a span may end wherever the garbage collector drops a generator.

    Attributes:
        count: the number of both; 0 means that there is nothing to report.
    """

    __slots__ = ()
    count = property(len)

    def open_spans(self) -> list[Span]:
        """Return the spans that are open, the outermost first."""
        spans = [held() for held in list(self.values()) if held is not None]
        return sorted([span for span in spans if span is not None], key=lambda span: span.id)


listening = _Listening()

current_span: ContextVar[Span | None] = ContextVar("mellea_span", default=None)
"""The span that the current code is part of."""

_around: ContextVar[tuple[Any, ...]] = ContextVar("mellea_observers", default=())
_everywhere = _Observers()


def add_observer(observer: Any) -> None:
    """Notify an observer of every span in this process that begins from now on; a second call does nothing.

    Args:
        observer: an object with the methods of `Observer`.

    Raises:
        UsageError: it isn't such an object.
    """
    global _everywhere
    _check_observer("add_observer", observer)
    with _lock:
        # By identity: two observers that are equal are still two.
        if not any(observer is known for known in _everywhere):
            _everywhere = _Observers((*_everywhere, observer))
            # Counted as an entry, so that `count` says whether there are observers.
            listening[_place(observer)] = None


def remove_observer(observer: Any) -> None:
    """Stop notifying an observer of new trees; open ones are reported until they end."""
    global _everywhere
    with _lock:
        if any(observer is known for known in _everywhere):
            _everywhere = _Observers(each for each in _everywhere if each is not observer)
            listening.pop(_place(observer), None)


def observe(observer: T) -> AbstractContextManager[T]:
    """Notify an observer of the spans that begin in a `with` block, and in the tasks and threads it starts.

    Args:
        observer: an object with the methods of `Observer`.

    Raises:
        UsageError: it isn't such an object.
    """
    _check_observer("observe", observer)
    return _observing(observer)


@contextmanager
def _observing(observer: T) -> Iterator[T]:
    token = _around.set((*_around.get(), observer))
    place = object()
    # The block counts itself, since its observer may be registered elsewhere, too.
    listening[place] = None
    try:
        yield observer
    finally:
        listening.pop(place, None)
        with suppress(ValueError):  # a generator may be closed in another context, where there is nothing to undo
            _around.reset(token)


def _check_observer(what: str, observer: Any) -> None:
    """Reject an object that would fail at each span."""
    if isinstance(observer, type):
        raise UsageError(f"{what} takes an observer, not the class {observer!r}; write {what}({observer.__name__}(…))")
    missing = [name for name in ("begin", "event", "end") if not callable(getattr(observer, name, None))]
    if missing:
        raise UsageError(
            f"{what} takes an observer, and {observer!r} has no method {missing[0]!r}; derive a class from "
            "mellea.Observer, which has all of them, and override what you need"
        )
    for name in _HOOKS:
        if (hook := getattr(observer, name, None)) is not None and not callable(hook):
            raise UsageError(f"{what} takes an observer whose hooks are functions, and its {name} is {hook!r}")
    # A hook with a typing error would never be called, and what it is to redact would be sent.
    for name in dir(type(observer)):
        if name.startswith(_HOOK_WORDS) and name not in _HOOKS:
            import difflib  # lazy: needed for typos only

            likely = difflib.get_close_matches(name, _HOOKS, 1, cutoff=0)[0]
            raise UsageError(
                f"{type(observer).__name__}.{name} isn't a hook, and would never be called; the hooks are "
                f"{', '.join(_HOOKS)}: rename it to {likely}, or let its name begin with an underscore"
            )


_HOOKS = ("before_request", "after_response", "choose_backend")
_HOOK_WORDS = ("before_", "after_", "choose_")


def begin_span(
    kind: str, name: str, *, parent: Span | None = None, observers: tuple[Any, ...] = (), **about: Unpack[SpanFields]
) -> Span | None:
    """Begin a span, and notify the observers; `None` without observers. It has to be ended by `Span.end`.

    Args:
        kind: see `Span.kind`.
        name: see `Span.name`.
        parent: the span that it is part of, by default the current one.
        observers: additional ones for this span and those in it.
        about: other attributes of `Span`.
    """
    span = make_span(kind, name, parent, observers)
    if span is not None:
        for field, value in about.items():
            setattr(span, field, value)
        span.begin()
    return span


def make_span(kind: str, name: str, parent: Span | None = None, observers: tuple[Any, ...] = ()) -> Span | None:
    """Create a span that hasn't begun, `None` without observers; call `Span.begin` once its attributes are set.

    The arguments are those of `begin_span`.
    """
    # The whole cost without observers.
    if not listening.count and not observers:
        return None
    parent = parent or current_span.get()
    above = () if parent is None else parent.observers
    if _everywhere and (above is _everywhere or not above) and not observers and not _around.get():
        told = _everywhere  # nearly always
    else:
        told = _join(_everywhere, _around.get(), above, observers)
    return Span(kind, name, parent, told) if told else None


def end_open_spans() -> None:
    """End all spans that are still open as cancelled, the innermost first: the program ends."""
    for span in reversed(listening.open_spans()):
        span.end(is_cancelled=True)


class span_around:
    """Make a `with` block a span, current inside it; yields the span, or `None` without observers.

    The arguments are those of `begin_span`. What leaves the block is the span's error.
    """

    __slots__ = ("_about", "_entered", "_kind", "_name", "_span")

    def __init__(self, kind: str, name: str, **about: Unpack[SpanFields]) -> None:
        self._kind = kind
        self._name = name
        self._about = about
        self._span: Span | None = None

    def __enter__(self) -> Span | None:
        span = self._span = begin_span(self._kind, self._name, **self._about) if listening.count else None
        if span is not None:
            self._entered = span.enter()
        return span

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        span = self._span
        if span is not None:
            span.leave(self._entered)
            # Anything that isn't an `Exception` is a cancellation, Ctrl-C or the end of a generator.
            span.end(error, is_cancelled=error is not None and not isinstance(error, Exception))


def _place(observer: Any) -> object:
    return "observer", id(observer)


def _join(*groups: tuple[Any, ...]) -> _Observers:
    found: list[Any] = []
    for observer in itertools.chain(*groups):
        if not any(observer is known for known in found):
            found.append(observer)
    return _Observers(found)


_failed: set[int] = set()
"""The observers whose failure has been logged, by `id`."""


def _call(observer: Any, method: str, *args: object) -> Any:
    try:
        return getattr(observer, method)(*args)
    except Exception:  # noqa: BLE001 - the observer's own code, which must not break what it observes
        _log_failure(observer, method)
        return None


def _call_all(observers: Sequence[Any], method: str, *args: object) -> None:
    """Call all of them, even if one raises something like `SystemExit`, which is raised at the end."""
    first: BaseException | None = None
    for each in observers:
        try:
            getattr(each, method)(*args)  # not by `_call`: this runs twice for each span
        except Exception:  # noqa: BLE001 - as in `_call`
            _log_failure(each, method)
        except BaseException as exit:  # noqa: BLE001 - it is raised below
            first = first or exit
    if first is not None:
        raise first


def _log_failure(observer: Any, method: str) -> None:
    # Once: an observer that fails does so at every span, and would fill the log.
    if id(observer) not in _failed:
        _failed.add(id(observer))
        _log.exception("the observer %s failed in %s(); it is still notified of later events", _name(observer), method)


def _name(observer: Any) -> str:
    return type(observer).__name__


def _forget_parent() -> None:
    """After a fork, leave the parent's open spans to the parent; the child reports only its own."""
    global _lock
    _lock = threading.Lock()  # another thread may hold the old lock
    for key, span in list(listening.items()):
        if span is not None:
            del listening[key]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_parent)
