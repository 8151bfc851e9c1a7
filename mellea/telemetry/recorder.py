"""The record: everything that a program does, stored in an SQLite file as it happens, by `mellea.traces.record`.

How a run is read back as JSON (`run_file.py` has the schema, and what each dict holds):

    from mellea.telemetry.run_file import read_run, read_runs   # also in mellea.traces

    read_runs("runs.db")          # a dict for each run, the newest first; its "id" is what read_run takes
    read_run("runs.db", 12)       # a dict for each span of the run, in the order in which they began

Both read committed data, even while programs are writing (a tenth of a second behind them).

Rules:

- The calling side only puts a span into a queue: neither at the span's beginning nor at its end, which may be in a
  finaliser, does it take a lock that the same thread could already hold. `SimpleQueue.put` is made for that.
- One thread turns spans into rows and writes them, many in one transaction. It starts with the first span, and again in
  a forked child, whose spans have their own writer.
- A span that has already ended when it is written is written once.
- Spans that can't be written now (a full disk, a file locked by another program) wait, and are written later. Spans
  that can't be written at all (a damaged file, or a full queue) are lost; that is logged once, and doesn't affect any
  call.
- If the file is deleted or replaced while it is written, that is logged, and the record continues in the new file.
- Content is only recorded on request. Then the times at which text arrived are recorded for each read of the
  connection, so even this adds no work per delta.
- With content, a text that grows for a long time is written while it grows, by the same thread: at most a few times a
  second, and less often the longer it is. Anything that may be the beginning of a secret is held back until that is
  certain.
- All parts of a process that record into one file share the recorder. When the last of them has closed it, it accepts
  no new trees, and ends with the last open span.
"""

from __future__ import annotations

import atexit
import json
import logging
import math
import os
import queue
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from mellea.core.entrance import entrance
from mellea.core.events import Event, KeepAlive, ReasoningDelta, TextDelta
from mellea.core.masking import hold_back, list_known_secrets, scrub_all, scrub_text
from mellea.core.observer import Observer, Span, add_observer, remove_observer
from mellea.core.span_data import describe_span, find_span_cost
from mellea.core.sqlite import UnusableFileError
from mellea.core.surrogates import replace_surrogates, replace_surrogates_in
from mellea.errors import ConfigurationError, UsageError
from mellea.telemetry.run_file import COLUMNS, Entry, RunFile, StoredAt
from mellea.telemetry.switch import end_what_runs, read_content_switch

__all__ = ["Recording", "record", "record_from_environment"]

_SWITCH = "MELLEA_TRACES"

_GATHER_SECONDS = 0.1
"""How long spans are collected before they are written, so that one transaction writes many."""

_GROW_SECONDS = 0.3
"""The minimum time before a growing text is written, after its beginning and after it was last written."""

_GROW_RATE = 100_000
"""The maximum average number of characters of a growing text written per second: a text of a million every 10 s."""

_MOST_WAITING = 20_000
"""How many beginnings and ends of spans may wait for the writer; further ones are lost."""

_MOST_AT_ONCE = 1_000
"""How many beginnings and ends of spans are written in one transaction."""

_AGAIN_SECONDS = 0.5
"""How long to wait before a failed write is retried."""

_LOCK_SECONDS = 0.5
"""How long one attempt to write waits for a file that another program locks."""

_PATIENCE_SECONDS = 5.0
"""How long another program may lock the file before that is logged."""

_END_SECONDS = 0.8
"""How long closing keeps trying to write to a file that another program locks; the last attempt may take longer."""

_MAX_BYTES = 500_000_000
_MAX_AGE = 30 * 86_400.0
_LEAST_BYTES = 100_000
"""An empty file has some tens of thousands."""

_log = logging.getLogger("mellea")


class _Note(StoredAt):
    """Data kept with a span: its position in the file, and the events that it has received.

    Args:
        due: when it should be written if its text has grown by then; by `time.monotonic`.

    Attributes:
        told: events, with their times of arrival; the writing thread reads them.
        came: the part of them that has been read.
    """

    __slots__ = ("came", "due", "told")

    def __init__(self, due: float) -> None:
        super().__init__()
        self.told: list[tuple[float, Sequence[Event]]] = []
        self.came = _Came()
        self.due = due

    def has_grown(self, now: float) -> bool:
        """Whether events have arrived since it was last written, and that was long enough ago."""
        return now > self.due and len(self.told) > self.came.looked


class _Came:
    """The part of a request's answer that has arrived, folded from its events.

    Attributes:
        retries: how often the request was sent again.
        chunks: when text arrived, in milliseconds since the beginning, and its length. Text from the same millisecond
            is one entry.
        looked: how many of the events have been read.
    """

    __slots__ = ("_text", "_thoughts", "chunks", "looked", "retries")

    def __init__(self) -> None:
        self.retries, self.looked = 0, 0
        self.chunks: list[list[int]] = []
        self._text: list[str] = []
        self._thoughts: list[str] = []

    def fold(self, told: Sequence[tuple[float, Sequence[Event]]], began: float) -> None:
        """Read the events since the last time."""
        for at, events in told[self.looked :]:
            self.looked += 1
            pieces = [event.chunk for event in events if type(event) is TextDelta]
            self._text += pieces
            self._thoughts += [event.chunk for event in events if type(event) is ReasoningDelta]
            self.retries += sum([type(event) is KeepAlive and event.is_restart for event in events])
            milliseconds, length = round((at - began) * 1000), sum(map(len, pieces))
            if self.chunks and self.chunks[-1][0] == milliseconds:
                self.chunks[-1][1] += length
            elif length:
                self.chunks.append([milliseconds, length])

    def forget_text(self) -> None:
        """Release all events except for the counts."""
        self.looked = 0
        self._text, self._thoughts = [], []

    @property
    def length(self) -> int:
        """How many characters of text have arrived."""
        return sum([length for _, length in self.chunks])

    def message(self, secrets: Iterable[str]) -> dict[str, Any]:
        """Return the answer so far in the shape of `describe_message`."""
        found = (("reasoning", "".join(self._thoughts)), ("text", "".join(self._text)))
        parts = [{"type": kind, "content": hold_back(text, secrets)} for kind, text in found if text]
        return {"role": "assistant", "parts": parts}


class _Recorder(Observer):
    """Records all spans that it is notified of in one file; the owners of its `Recording`s share it.

    Args:
        file: the file.
        content: whether content is recorded, and when it arrived.
    """

    def __init__(self, file: RunFile, *, content: bool) -> None:
        self.file = file
        self.has_content = self.wants_events = content
        self.holders = 0
        self._key = f"record-{id(self)}"
        self._lost = self._times_lost = 0
        self._locked_since: float | None = None
        self._is_logged = self._is_closed = False
        self.renew()

    def renew(self) -> None:
        """Start with an empty queue and no thread; in a forked child, whose parent writes the earlier entries."""
        self._spans: deque[Span] = deque()
        self._open: dict[int, None] = {}  # ids of spans; a dict takes and gives up an entry in one step each
        # Those with text to come. Weakly, as a span must not be what keeps its run alive.
        self._growing: dict[int, weakref.ref[Span]] = {}
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._is_awake = False
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._writing = threading.Lock()
        self._hurry = threading.Event()

    # -- the calling side -----------------------------------------------------------------------------

    def begin(self, span: Span) -> None:
        """Record that a span has begun."""
        if self._is_closed:
            return
        self._open[span.id] = None
        if not self._note(span, _Note(span.began + _GROW_SECONDS)):
            del self._open[span.id]
        elif self._thread is None:
            self._start()

    def event(self, span: Span, events: Sequence[Event]) -> None:
        """Record when text arrived, and that a request is sent again."""
        note: _Note | None = span.data.get(self._key)
        if note is None:
            return
        note.told.append((time.monotonic(), events))
        if len(note.told) == 1 and self.has_content:
            self._growing[span.id] = weakref.ref(span)
            self._call_writer()

    def end(self, span: Span) -> None:
        """Record that a span has ended; safe in a finaliser."""
        self._open.pop(span.id, None)
        self._growing.pop(span.id, None)
        if not self._is_closed and self._key in span.data:
            self._note(span, span.data[self._key])

    def _note(self, span: Span, note: _Note) -> bool:
        if len(self._spans) >= _MOST_WAITING:
            self._lost += 1
            return False
        span.data[self._key] = note
        self._spans.append(span)
        self._call_writer()
        return True

    def _call_writer(self) -> None:
        if not self._is_awake:
            self._is_awake = True
            self._wake.put(None)

    def _start(self) -> None:
        if not self._starting.acquire(blocking=False):
            return  # another thread does it
        try:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="mellea-record", daemon=True)
                self._thread.start()
                _flush_at_end_of_worker(self)
        except RuntimeError:  # the program ends, and no thread can be started any more; `close` writes what waits
            self._thread = None
        finally:
            self._starting.release()

    # -- the writing side -----------------------------------------------------------------------------

    def _work(self) -> None:
        while not self._is_closed:
            with suppress(queue.Empty):
                # The remaining entries couldn't be written.
                wait = _AGAIN_SECONDS if self._spans and not self._is_awake else None
                self._wake.get(timeout=_GROW_SECONDS if self._growing else wait)
            self._hurry.wait(_GATHER_SECONDS)
            self._is_awake = False  # before the queue is read: later entries wake it again
            self._write_waiting(time.monotonic())
            _finish(self)

    def flush(self) -> None:
        """Write everything queued so far, and growing texts up to their current end."""
        self._write_waiting(math.inf)

    def _write_waiting(self, now: float) -> bool:
        """Write the queue, and return whether that was possible."""
        with self._writing:
            for held in list(self._growing.values()):
                span = held()
                if span is not None and span.data[self._key].has_grown(now):
                    self._spans.append(span)
            while self._spans and not self._is_closed:
                # Nobody else takes spans while the lock is held.
                some = [self._spans.popleft() for _ in range(min(_MOST_AT_ONCE, len(self._spans)))]
                if not self._write(some):
                    self._spans.extendleft(reversed(some))
                    return False
        return True

    @property
    def is_done(self) -> bool:
        """Whether everybody has closed it, and all its spans have ended."""
        return not self.holders and not self._open

    def close(self) -> None:
        """Write the queue, and close the file; nothing more is recorded."""
        until = time.monotonic() + _END_SECONDS
        while not self._write_waiting(math.inf) and self._locked_since is not None and time.monotonic() < until:
            pass  # each time it has waited for the lock
        with self._writing:
            self._is_closed = True
            if self._spans:
                self._log("the file was locked until the end; end the program that holds its lock")
            else:
                self._guard(self.file.close)
            self.file.database.close()
        self._hurry.set()
        self._wake.put(None)  # the thread ends

    def _write(self, spans: Iterable[Span]) -> bool:
        if not self._guard(lambda: self.file.write(self._make_entries(spans))):
            return False
        if self.file.times_lost > self._times_lost:
            self._times_lost = self.file.times_lost
            _log.warning(
                "the record %r was deleted or replaced while it was written; it goes on in a new file, without what "
                "was in the old one",
                self.file.database.path,
            )
        if self._lost:
            self._log("spans arrive faster than they can be written; a faster disk, or content=False, helps")
        if self.file.is_full:
            self._log(
                "runs that go on fill max_bytes; until they end, only the first spans of further runs are recorded"
            )
        return True

    def _guard(self, write: Callable[[], None]) -> bool:
        """Run an operation on the file; returns false if it has to be retried later."""
        try:
            write()
            self._locked_since = None
        except UnusableFileError as error:
            now = time.monotonic()
            self._locked_since = (self._locked_since or now) if error.is_locked else None
            if self._locked_since is None or now > self._locked_since + _PATIENCE_SECONDS:
                self._log(f"{error.why or error}; until then, what they do waits to be written, up to a limit")
            return False
        except Exception as error:  # noqa: BLE001 - whatever it is, the next spans can be written, and close() succeeds
            self._log(f"{error}; move the file away, and a new one is made, or record in another one")
        return True

    def _log(self, why: str) -> None:
        if not self._is_logged:
            self._is_logged = True
            said = scrub_text(why, list_known_secrets())
            _log.warning("not all calls are recorded in %r, but they go on: %s", self.file.database.path, said)

    def _make_entries(self, spans: Iterable[Span]) -> list[Entry]:
        secrets = list_known_secrets()
        return [self._make_entry(span, secrets) for span in dict.fromkeys(spans)]

    def _make_entry(self, span: Span, secrets: Iterable[str]) -> Entry:
        note: _Note = span.data[self._key]
        columns, text, messages = self._describe(span, note, secrets)
        parent = None if span.parent is None else self._place(span.parent)
        links = tuple([place for link in span.links if (place := self._place(link)) is not None])
        return Entry(note, parent, links, columns, text, messages)

    def _place(self, span: Span) -> StoredAt | None:
        place: StoredAt | None = span.data.get(self._key)
        return place

    def _describe(self, span: Span, note: _Note, secrets: Iterable[str]) -> _Described:
        """Return the values of `COLUMNS`, and the rest and each message as JSON."""
        try:
            return _to_columns(span, note, secrets, content=self.has_content)
        except Exception as error:  # noqa: BLE001 - the program's own `__str__`, of a requirement, say
            self._log(f"what the {span.kind} {span.name!r} holds can't be written: {type(error).__name__}: {error}")
            return _to_columns(span, note, secrets, content=False)


def _to_columns(span: Span, note: _Note, secrets: Iterable[str], *, content: bool) -> _Described:
    data = describe_span(span, content=content, secrets=secrets)
    came = note.came
    came.fold(note.told, span.began)
    for name in ("id", "parent", "links"):  # numbers of this process
        data.pop(name, None)
    if span.ended is None:
        del data["seconds"]
        if content and note.told:
            data["answer"] = replace_surrogates_in(scrub_all(came.message(secrets), secrets))
            note.due = time.monotonic() + max(_GROW_SECONDS, came.length / _GROW_RATE)
    else:
        if span.is_request and "cost" not in data:
            data["cost"] = find_span_cost(span)
        # The span may be the parent of others and live on. Written spans stay known, so one whose beginning is written
        # after it has ended is written once more.
        note.told = []
        came.forget_text()
    columns = [data.pop(name, None) for name in COLUMNS]
    if came.retries:
        data["retries"] = came.retries
    if came.chunks:
        data["chunks"] = came.chunks
    messages = tuple([replace_surrogates(_to_json(message)) for message in data.pop("messages", ())])
    return tuple(columns), replace_surrogates(_to_json(data)), messages


_Described = tuple[tuple[Any, ...], str, tuple[str, ...]]
"""The values of `COLUMNS`, and the rest and each message as JSON."""


def _to_json(data: Mapping[str, Any]) -> str:
    try:
        return json.dumps(data, ensure_ascii=False, allow_nan=False, default=str, separators=(",", ":"))
    except ValueError:  # a score, or a number among a tool's arguments, is infinite
        return json.dumps(_finite(data), ensure_ascii=False, default=str, separators=(",", ":"))


def _finite(value: Any) -> Any:
    """Return a JSON value, with strings for numbers that JSON doesn't have."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {str(name): _finite(item) for name, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, (list, tuple)) else value


class Recording:
    """A record that is being written; `record` makes it. `close` it, or use it in a `with` block.

    Spans that are still running when it is closed are recorded to their end.

    Attributes:
        path: the file.
    """

    def __init__(self, recorder: _Recorder) -> None:
        self.path = recorder.file.database.path
        self._recorder: _Recorder | None = recorder

    def flush(self) -> None:
        """Write everything so far; otherwise this happens a tenth of a second later."""
        if self._recorder is not None:
            self._recorder.flush()

    def close(self) -> None:
        """Stop recording, unless another part of this process records in the same file; closing twice is fine."""
        recorder, self._recorder = self._recorder, None
        if recorder is not None:
            _release(recorder)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Recording in {self.path!r}, {'closed' if self._recorder is None else 'open'}>"


_lock = threading.Lock()
_recorders: dict[str, _Recorder] = {}
"""By the resolved path of the file."""

_is_registered = False


@entrance("record")
def record(
    path: str | os.PathLike[str],
    *,
    content: bool | None = None,
    max_bytes: int | None = _MAX_BYTES,
    max_age: float | None = _MAX_AGE,
) -> Recording:
    """Record everything that the program does from now on in an SQLite file, which `mellea traces` shows.

    Several programs may use one file at the same time, and a program may use several files. A file that this process is
    already recording in is shared: recording continues until everybody has closed it.

    Args:
        path: the file, created if it doesn't exist and readable only by the current user.
        content: whether to record prompts, answers, arguments and results of tools, and reasons of checks. By default
            `OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT` decides; if it isn't set, they aren't recorded. Keys
            never are.
        max_bytes: the maximum size of the file; beyond it, the oldest runs are deleted, except for the newest run and
            running ones. `None` means no limit.
        max_age: for how many seconds a run is kept. `None` means no limit.

    Raises:
        UsageError: an argument is wrong, or the file is being recorded with another choice of `content`.
        StateError: the file isn't a record.
        ConfigurationError: the file can't be written.
    """
    _check(path, content, max_bytes, max_age)
    return Recording(_hold(path, content, max_bytes, max_age, is_opened=True))


def _hold(
    path: str | os.PathLike[str], content: bool | None, max_bytes: int | None, max_age: float | None, *, is_opened: bool
) -> _Recorder:
    """Return the recorder of a file, with one more owner; if it is opened now, errors are raised now."""
    global _is_registered
    wanted = read_content_switch() != "none" if content is None else content
    key = os.path.realpath(path)
    with _lock:
        recorder = _recorders.get(key)
        if recorder is None:
            file = RunFile(path, content=wanted, max_bytes=max_bytes, max_age=max_age, wait=_LOCK_SECONDS)
            if is_opened:
                _open(file)
            recorder = _recorders[key] = _Recorder(file, content=wanted)
            add_observer(recorder)
        elif content not in (None, recorder.has_content):
            raise UsageError(
                f"{os.fspath(path)!r} is being recorded with content={recorder.has_content}; close that recording "
                "first, or use another file"
            )
        elif not recorder.holders:  # another thread had closed it
            add_observer(recorder)
        recorder.holders += 1
        if not _is_registered:
            _is_registered = True
            atexit.register(_leave)
    return recorder


def record_from_environment() -> None:
    """Record in the file that `MELLEA_TRACES` names.

    It is opened at the first span, so that a program that does nothing leaves no file.
    """
    _hold(os.environ[_SWITCH].strip(), None, _MAX_BYTES, _MAX_AGE, is_opened=False)


def _check(path: Any, content: Any, max_bytes: Any, max_age: Any) -> None:
    if content not in (True, False, None):
        raise UsageError(f"record takes True, False or None for content, not {content!r}")
    if not isinstance(path, (str, os.PathLike)) or not os.fspath(path) or "\0" in str(os.fspath(path)):
        raise UsageError(f"record takes the path of a file, not {path!r}")
    for name, value, least in (("max_bytes", max_bytes, _LEAST_BYTES), ("max_age", max_age, 0)):
        if value is not None and not (type(value) in (int, float) and value >= least):
            raise UsageError(f"record takes {name} of at least {least}, or None for no limit, not {value!r}")


def _open(file: RunFile) -> None:
    until = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            file.write()
            return
        except UnusableFileError as error:
            if not error.is_locked or time.monotonic() > until:
                raise ConfigurationError(
                    f"the record {file.database.path!r} can't be written: {error.__cause__ or error}"
                ) from error


def _release(recorder: _Recorder) -> None:
    with _lock:
        recorder.holders -= 1
        if not recorder.holders:
            remove_observer(recorder)
    if not recorder.is_done:  # closing it writes what waits
        recorder.flush()
    _finish(recorder)


def _finish(recorder: _Recorder, *, is_end: bool = False) -> None:
    """Close a recorder if nobody needs it any more, or at the end of the program."""
    with _lock:
        if not is_end and not recorder.is_done:
            return
        for key in [key for key, each in _recorders.items() if each is recorder]:
            del _recorders[key]
        recorder.close()


def _leave() -> None:
    """At the end of the program, end running spans, and write them."""
    if not _recorders:
        return
    end_what_runs()
    for recorder in list(_recorders.values()):
        remove_observer(recorder)
        _finish(recorder, is_end=True)


def _flush_at_end_of_worker(recorder: _Recorder) -> None:
    """A process of `multiprocessing` ends without `atexit`."""
    if (util := sys.modules.get("multiprocessing.util")) is not None:
        util.Finalize(None, recorder.flush, exitpriority=0)


def _renew_in_child() -> None:
    global _lock
    _lock = threading.Lock()
    for recorder in _recorders.values():
        recorder.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_in_child)
