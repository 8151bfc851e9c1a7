"""Event loops: launch a detached task, wake and post across loops, tell whether a loop is alive.

The only file that names asyncio or trio, and trio only if the program has imported it already. It
provides what the rest needs from a loop and anyio lacks:

- a task outside any task group (`launch`),
- a one-shot wait that any thread may end (`create_waiter`, `ThreadWaiter`),
- a callback from any thread (`Loop.post`) and after a while (`Loop.call_later`),
- one timer for all clocks of a loop (`Loop.watch`), so that a clock costs nothing before its time is up,
- whether a loop has been closed, has ended or is blocked (`Loop.explain_loss`),
- a loop that can be closed while the interpreter ends (`run_until_exit`).
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol, TypeVar, TypeVarTuple, Unpack, cast

import anyio

__all__ = [
    "GRACE",
    "Detached",
    "Loop",
    "ThreadWaiter",
    "Waiter",
    "be_patient",
    "create_waiter",
    "get_current_loop",
    "is_being_cancelled",
    "is_loop_running",
    "launch",
    "run_until_exit",
]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

GRACE = 5.0
"""Seconds that a loop may be blocked before what it ran counts as lost."""

_GAP = 1.5
"""Seconds between two looks that count: after a longer one, the thread that looks was blocked, too."""

_NEVER = float("inf")

_own = threading.local()  # the `loop` that the thread ran last, and its `grace`, if it has its own


class Waiter(Protocol):
    """A wait that ends once: by `wake`, from any thread, or by its time-out."""

    def wake(self) -> None:
        """End the wait. Safe from any thread, more than once, and after the waiting loop has gone."""

    def wait(self, timeout: float | None = None) -> Awaitable[None]:
        """Return an awaitable that waits at most `timeout` seconds."""


class Detached(Protocol):
    """A task that runs on its own."""

    def cancel(self) -> None:
        """Cancel the task; only from its loop's own thread."""

    def take_over(self) -> None:
        """Disable `ended`: `main` has started, and handles its own end from now on."""

    def will_raise(self) -> None:
        """Announce that `main` is about to raise an exception that leaves the loop, so that the task doesn't report it
        again."""


class Timed(Protocol):
    """An object that its loop checks when its time is up.

    Attributes:
        due: when to check it, in `time.monotonic()` seconds.
    """

    due: float

    def look(self, now: float) -> None:
        """Handle that its time is up, and set when to check it again."""


class Loop(ABC):
    """An event loop as seen from anywhere, also from another thread.

    Attributes:
        native: the loop's own handle, always the same object.
    """

    native: Any

    def __init__(self) -> None:
        self.grace: float = getattr(_own, "grace", GRACE)
        self._lock = threading.Lock()  # several threads may check at once
        self._is_asked = False  # for a sign of life that is still missing
        self._looked = 0.0
        self._stood = 0.0  # seconds that it has been seen to be blocked
        self._timed = set[Timed]()
        self._due = _NEVER  # when its timer checks them
        self._stop_timer: Callable[[], Any] | None = None

    @abstractmethod
    def post(self, callback: Callable[[], Any]) -> bool:
        """Make the loop call `callback` soon, from any thread; false if the loop has gone."""

    @abstractmethod
    def call_later(self, delay: float, callback: Callable[[], Any]) -> Callable[[], Any]:
        """Make the loop call `callback` after `delay` seconds; returns a function that cancels it."""

    @abstractmethod
    def is_current(self) -> bool:
        """Whether the calling thread is running inside this loop."""

    @abstractmethod
    def make_waiter(self) -> Waiter | None:
        """Return a new wait for the calling code if this loop runs it; `None` elsewhere."""

    def watch(self, timed: Timed) -> None:
        """Check it when its time is up, until it is forgotten; only from the loop's own thread.

        A timer that is already set for an earlier time stays, even if it isn't needed any more.
        """
        self._timed.add(timed)
        if timed.due < self._due:
            self._set_timer(timed.due)

    def forget(self, timed: Timed) -> None:
        """Stop checking it; from any thread."""
        self._timed.discard(timed)

    def _set_timer(self, due: float) -> None:
        self._clear_timer()
        self._due = due
        self._stop_timer = self.call_later(max(0.0, due - time.monotonic()), self._look)

    def _clear_timer(self) -> None:
        if self._stop_timer is not None:
            self._stop_timer()
        self._due, self._stop_timer = _NEVER, None

    def _look(self) -> None:
        self._due, self._stop_timer = _NEVER, None
        now = time.monotonic()
        for timed in list(self._timed):
            timed.look(now)  # also those whose time isn't up: they may have been extended
        due = min([timed.due for timed in list(self._timed)], default=_NEVER)
        if due < self._due:
            self._set_timer(due)

    @abstractmethod
    def _end(self) -> str | None:
        """Say how the loop has ended, if it has for good."""

    def has_ended(self) -> bool:
        """Whether the loop was closed or has ended, for good."""
        return self._end() is not None

    def explain_loss(self) -> str | None:
        """Say how the loop was lost, or `None` while it lives or has been blocked for less than the grace.

        Waiters call it about once a second. A process that was paused looks as if only its loop had been blocked,
        so only a part of a long time between two calls counts.
        """
        if (how := self._end()) is not None:
            return f"has {how}"
        now = time.monotonic()
        with self._lock:
            is_asked, self._is_asked = self._is_asked, True
            self._stood = self._stood + min(now - self._looked, _GAP) if is_asked else 0.0
            self._looked = now
        if not is_asked:
            self.post(self._answer)
            return None
        return f"has been blocked for {self.grace:g} s" if self._stood >= self.grace else None

    def _answer(self) -> None:
        self._is_asked = False


class _AsyncioLoop(Loop):
    native: asyncio.AbstractEventLoop

    def __init__(self, native: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self.native = native

    def post(self, callback: Callable[[], Any]) -> bool:
        try:
            self.native.call_soon_threadsafe(callback)
        except RuntimeError:
            if not self.native.is_closed():  # a `RecursionError` of the caller
                raise
            return False
        return True

    def call_later(self, delay: float, callback: Callable[[], Any]) -> Callable[[], Any]:
        return self.native.call_later(delay, callback).cancel

    def is_current(self) -> bool:
        return asyncio._get_running_loop() is self.native

    def make_waiter(self) -> Waiter | None:
        return _AsyncioWaiter(self.native) if asyncio._get_running_loop() is self.native else None

    def _end(self) -> str | None:
        return "been closed" if self.native.is_closed() else None


class _AsyncioWaiter:
    __slots__ = ("_future", "_loop")

    def __init__(self, native: asyncio.AbstractEventLoop) -> None:
        self._loop = native
        self._future = native.create_future()

    def wake(self) -> None:
        if asyncio._get_running_loop() is self._loop:
            if not self._future.done():
                self._future.set_result(None)
            return
        try:
            self._loop.call_soon_threadsafe(self._end)
        except RuntimeError:
            if not self._loop.is_closed():
                raise
            # Nothing waits any more on a closed loop.

    def _end(self) -> None:
        if not self._future.done():
            self._future.set_result(None)

    def wait(self, timeout: float | None = None) -> Awaitable[None]:
        return self._future if timeout is None else self._wait(timeout)

    async def _wait(self, timeout: float) -> None:
        timer = self._loop.call_later(timeout, self._end)
        try:
            await self._future
        finally:
            timer.cancel()


if sys.platform == "win32":
    _DefaultLoop = asyncio.ProactorEventLoop
else:
    _DefaultLoop = asyncio.SelectorEventLoop


class _ExitLoop(_DefaultLoop):
    _threads: concurrent.futures.ThreadPoolExecutor | None = None

    def run_in_executor(
        self, executor: concurrent.futures.Executor | None, func: Callable[[Unpack[Ts]], T], *args: *Ts
    ) -> asyncio.Future[T]:
        if executor is None and self._threads is None:
            self._threads = concurrent.futures.ThreadPoolExecutor(thread_name_prefix="mellea-names")
            self.set_default_executor(self._threads)
        return super().run_in_executor(executor, func, *args)

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        # asyncio starts a thread to wait for the executor's threads, but from Python 3.12 on an exiting interpreter
        # starts no threads. There is nothing to wait for either: concurrent.futures has already joined them.
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)


def run_until_exit(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run `main()` on a new loop that may still be open at the interpreter's exit, and closes silently then."""
    anyio.run(main, backend_options={"loop_factory": _ExitLoop})


class _TrioLoop(Loop):
    def __init__(self, native: Any) -> None:
        super().__init__()
        self._trio = _trio()
        self.native = native

    def post(self, callback: Callable[[], Any]) -> bool:
        try:
            self.native.run_sync_soon(callback)
        except self._trio.RunFinishedError:
            return False
        return True

    def call_later(self, delay: float, callback: Callable[[], Any]) -> Callable[[], Any]:
        scope = self._trio.CancelScope()

        async def sleep() -> None:
            with scope:
                await self._trio.sleep(delay)
                callback()

        self._trio.lowlevel.spawn_system_task(sleep)
        return cast("Callable[[], Any]", scope.cancel)

    def forget(self, timed: Timed) -> None:
        super().forget(timed)
        if not self._timed and self.is_current():
            self._clear_timer()  # here it is a task, and none is left over

    def is_current(self) -> bool:
        lowlevel = self._trio.lowlevel
        return bool(lowlevel.in_trio_run()) and lowlevel.current_trio_token() is self.native

    def make_waiter(self) -> Waiter | None:
        return _TrioWaiter() if self.is_current() else None

    def _end(self) -> str | None:
        return None if self.post(_do_nothing) else "been finished"


class _TrioWaiter:
    __slots__ = ("_event", "_token", "_trio")

    def __init__(self) -> None:
        self._trio = _trio()
        self._event = self._trio.Event()
        self._token = self._trio.lowlevel.current_trio_token()

    def wake(self) -> None:
        lowlevel = self._trio.lowlevel
        if lowlevel.in_trio_run() and lowlevel.current_trio_token() is self._token:
            self._event.set()
            return
        try:
            self._token.run_sync_soon(self._event.set)
        except self._trio.RunFinishedError:
            return  # the waiting run has ended: nothing waits any more

    async def wait(self, timeout: float | None = None) -> None:
        with self._trio.move_on_after(float("inf") if timeout is None else timeout):
            await self._event.wait()


class ThreadWaiter:
    """The same wait for a plain thread."""

    __slots__ = ("_gate",)

    def __init__(self) -> None:
        self._gate = threading.Lock()
        self._gate.acquire()

    def wake(self) -> None:
        """End the wait. Safe from any thread; a second call does nothing."""
        try:
            self._gate.release()
        except RuntimeError:
            return  # it was open already

    def wait(self, timeout: float) -> None:
        """Wait, at most `timeout` seconds."""
        self._gate.acquire(timeout=timeout)


class _AsyncioTask:
    __slots__ = ("_ended", "_task")

    def __init__(self, main: Callable[[], Coroutine[Any, Any, None]], ended: Callable[[], None]) -> None:
        task = self._task = asyncio.get_running_loop().create_task(main(), context=_copy_context())
        # A loop closed over its tasks is reported by the run to its readers, who can act on it.
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        self._ended = ended
        _tasks.add(task)
        task.add_done_callback(self._end)

    def _end(self, task: asyncio.Task[None]) -> None:
        _tasks.discard(task)
        _retrieve(task)
        self._ended()

    def cancel(self) -> None:
        self._task.cancel()

    def take_over(self) -> None:
        _tasks.discard(self._task)
        self._task.remove_done_callback(self._end)  # a callback costs a tenth of a call

    def will_raise(self) -> None:
        self._task.add_done_callback(_retrieve)


def _retrieve(task: asyncio.Task[None]) -> None:
    if not task.cancelled():
        task.exception()  # a KeyboardInterrupt has already left through the loop: don't report it again


class _TrioTask:
    __slots__ = ("_ended", "_scope")

    def __init__(self, main: Callable[[], Coroutine[Any, Any, None]], ended: Callable[[], None]) -> None:
        trio = _trio()
        scope = self._scope = trio.CancelScope()
        self._ended = ended

        async def task() -> None:
            try:
                with scope:
                    await main()
            except trio.Cancelled:
                raise
            except BaseException:  # noqa: BLE001 - it would end the whole program; `main` has told its readers
                return
            finally:
                self._ended()

        trio.lowlevel.spawn_system_task(task, context=_copy_context())

    def cancel(self) -> None:
        self._scope.cancel()

    def take_over(self) -> None:
        self._ended = _do_nothing

    def will_raise(self) -> None:
        """Do nothing: trio reports an exception that leaves a task once."""


# The loop keeps only weak references to its tasks; this one lasts until they handle their own end.
_tasks: set[asyncio.Task[None]] = set()


def be_patient(seconds: float) -> None:
    """Set how long this thread's loop may be blocked before its runs count as lost."""
    _own.grace = seconds
    _own.loop = None  # which may have been created with another one


def get_current_loop() -> Loop:
    """Return the running loop.

    Raises:
        RuntimeError: no loop is running in this thread.
    """
    is_trio = "trio" in sys.modules and _is_in_trio()
    native: Any = _trio().lowlevel.current_trio_token() if is_trio else asyncio.get_running_loop()
    known: Loop | None = getattr(_own, "loop", None)
    if known is None or known.native is not native:
        known = _own.loop = _TrioLoop(native) if is_trio else _AsyncioLoop(native)
    return known


def create_waiter() -> Waiter:
    """Make a wait for the running loop."""
    return _TrioWaiter() if "trio" in sys.modules and _is_in_trio() else _AsyncioWaiter(asyncio.get_running_loop())


def launch(main: Callable[[], Coroutine[Any, Any, None]], ended: Callable[[], None]) -> Detached:
    """Start `main()` as a task of its own on the running loop, with a copy of the caller's context.

    `main` handles its own errors: nothing but cancellation may leave it, since on trio anything else
    would end the whole program. `ended()` is called when the task is over, and also when it was
    cancelled before its first step, so that `main` never ran; not if `main` has called `take_over()`.
    """
    return _TrioTask(main, ended) if "trio" in sys.modules and _is_in_trio() else _AsyncioTask(main, ended)


def _copy_context() -> contextvars.Context:
    context = contextvars.copy_context()
    sniffio = sys.modules.get("sniffio")
    if sniffio is not None:  # a context from a thread under trio still says trio on an asyncio loop
        context.run(sniffio.current_async_library_cvar.set, None)
    return context


def is_loop_running() -> bool:
    """Return whether an event loop is running in this thread."""
    return _is_in_trio() or asyncio._get_running_loop() is not None


def is_being_cancelled() -> bool:
    """Return whether the running task is being cancelled, so that a cancellation raised in it is meant for it.

    On asyncio code may raise one that isn't, for example by awaiting a cancelled task; not on trio.
    """
    if _is_in_trio():
        return True
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


def _is_in_trio() -> bool:
    lowlevel = getattr(sys.modules.get("trio"), "lowlevel", None)  # another thread may be importing it just now
    return lowlevel is not None and lowlevel.in_trio_task()


def _trio() -> Any:
    return sys.modules["trio"]


def _do_nothing() -> None:
    """Do nothing; posted to see whether a loop still accepts callbacks."""
