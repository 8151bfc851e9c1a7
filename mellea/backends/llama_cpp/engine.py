"""The engine's handle: loaded once, called from its own threads, released in order.

Rules:

- One engine for each file and settings, shared by all backend objects, and kept until `unload` or the
  end of the process. The first call loads it, in a worker thread (though loading holds the GIL).
- Only worker threads call the engine, as many as it has slots: in the main thread Ctrl-C would be lost,
  and a call that had to wait for a slot inside the engine couldn't be cancelled there.
- A worker holds its call weakly. If nothing else holds it, its loop is gone, and the callback ends the generation.
- An engine that is released before its own loop runs waits for that loop forever, with the GIL held. So it
  counts as loaded only once it has answered a request; and once closed, it isn't loaded any more.
- The workers are daemons, since `threading` joins others before `atexit` can tell them to stop. A thread
  that returns from the engine after the interpreter has ended crashes it: `atexit` cancels and joins.
- The engine's threads don't survive `os.fork`. The child may neither call nor destroy what the parent
  had loaded: it keeps one reference forever, leaves without C++ destructors, and refuses to use a model.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import queue
import secrets
import sys
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, cast

from mellea.backends.llama_cpp.call import Chunk, EngineCall
from mellea.core.progress import find_place, format_time
from mellea.errors import ConfigurationError, InterruptedStreamError, MissingExtraError

__all__ = [
    "Engine",
    "EngineSettings",
    "check_installed",
    "choose_threads",
    "get_shared_engine",
    "open_server",
    "unload",
]

_BATCH = 64
"""Prompt tokens between two checks of the cancel flag; measured to cost nothing against 2048."""

_PROMPT_CACHE_MIB = 256
"""Memory for cached prompts of no slot; the engine's own default is 8 GiB."""

_SLOW_BYTES = 500 * 10**6
"""Files of this size take more than a second to load, so a terminal shows a line."""

_EXIT_SECONDS = 10.0

_INTERRUPTED = 130
"""The exit code of a program that Ctrl-C ended, by shell convention."""

_UNLOADED = "the embedded model was unloaded, or the interpreter ended, before its answer was complete"


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """Settings of an engine; engines with equal settings are shared.

    Args:
        path: the weights.
        alias: the model's name in replies.
        context_window: tokens of prompt and answer together, for each slot.
        parallel: slots, which are generations at the same time.
        threads: of the computation.
        verbose: whether llama.cpp writes its log to stderr.
        embeds: whether it makes vectors instead of text.
    """

    path: str
    alias: str
    context_window: int
    parallel: int
    threads: int
    verbose: bool = False
    embeds: bool = False


def choose_threads() -> int:
    """Return how many threads compute: all cores but one, at most four."""
    # Leave a core to the event loop: if the engine uses all, its spinning barriers starve everything else.
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return min(max(1, cores - 1), 4)


def open_server(settings: EngineSettings, *, api_key: str, params: Mapping[str, Any]) -> Any:
    """Load the engine and return its handle; it holds the GIL while it loads.

    Args:
        settings: what to load, and how.
        api_key: guards the HTTP port on loopback, which the engine always opens.
        params: more of the engine's own parameters, by their names in `xllamacpp.CommonParams`.

    Raises:
        MissingExtraError: the engine, or a library that it needs, isn't installed.
        ConfigurationError: the engine can't load this file.
    """
    xllamacpp = _import()
    common = xllamacpp.CommonParams()
    common.model.path = settings.path
    common.model_alias = {settings.alias}
    common.n_ctx = settings.context_window * settings.parallel
    common.n_parallel = settings.parallel
    common.n_batch = _BATCH
    common.cpuparams.n_threads = common.cpuparams_batch.n_threads = settings.threads
    common.cache_ram_mib = _PROMPT_CACHE_MIB
    common.verbosity = 3 if settings.verbose else 0
    common.api_keys = [api_key]
    common.ui = False
    if settings.embeds:
        # A text has to fit into one batch, since its vector is the mean over all its tokens.
        common.n_batch = common.n_ubatch = settings.context_window
        common.embedding = True
        common.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    common.cors_origins = ""
    # Loading holds the GIL, so nothing else, not even Ctrl-C, runs meanwhile. It takes half as long without a
    # trial generation and without a second load that tests what fits into memory.
    common.warmup = common.fit_params = False
    common.endpoint_metrics = True
    for name, value in params.items():
        setattr(common, name, value)
    try:
        server = xllamacpp.Server(common)
        server.handle_metrics()  # returns once the engine's own loop runs
        return server
    except RuntimeError as error:
        raise ConfigurationError(
            f"llama.cpp can't load {settings.path!r}: {error} "
            "The file may be damaged or too large for this machine; verbose=True shows the engine's own log."
        ) from error


class Engine:
    """One loaded model with its worker threads."""

    def __init__(
        self, settings: EngineSettings, *, api_key: str | None = None, params: Mapping[str, Any] | None = None
    ) -> None:
        self.settings = settings
        self.params = params or {}
        self.api_key = api_key or secrets.token_urlsafe(24)
        self.server: Any = None
        self._loading = threading.Lock()
        self._lock = threading.Lock()
        self._queue: queue.SimpleQueue[EngineCall | None] = queue.SimpleQueue()
        self._calls: weakref.WeakSet[EngineCall] = weakref.WeakSet()
        self._threads: list[threading.Thread] = []
        self._is_closed = False
        _alive.add(self)

    @property
    def address(self) -> str | None:
        """Where the engine's own HTTP server listens, once it is loaded."""
        return None if self.server is None else cast(str, self.server.listening_address)

    def load(self) -> None:
        """Load the model, unless it is loaded; blocks this and all other threads meanwhile.

        That is up to a second for a model of 135 million parameters; for larger ones a terminal or a notebook says so.

        Raises:
            ConfigurationError: the engine isn't installed, can't load the file, or has been closed.
        """
        with self._loading:
            if self._is_closed:
                raise _make_closed_error()
            if self.server is None:
                place, began = find_place(), time.monotonic()
                size = _find_size(self.settings.path) if place is not None else 0
                what = f"loading {self.settings.alias} ({size / 1e9:.1f} GB)"
                # Before loading, since no other thread can draw while it holds the GIL.
                if place is not None and size >= _SLOW_BYTES:
                    place.draw(what)
                try:
                    self.server = open_server(self.settings, api_key=self.api_key, params=self.params)
                finally:
                    if place is not None:
                        place.finish(f"{what}: {format_time(time.monotonic() - began)}", is_kept=False)

    def submit(self, payload: dict[str, Any]) -> EngineCall:
        """Let a worker run one generation, as soon as there is a slot.

        Raises:
            ConfigurationError: the engine has been unloaded meanwhile.
        """
        call = EngineCall(payload)
        with self._lock:
            if self._is_closed:
                raise _make_closed_error()
            while len(self._threads) < self.settings.parallel:
                number = len(self._threads)
                thread = threading.Thread(target=self._work, name=f"mellea-llama-{number}", daemon=True)
                self._threads.append(thread)
                thread.start()
            self._calls.add(call)
            self._queue.put(call)
        return call

    def close(self, timeout: float) -> None:
        """Reject new calls, cancel the running ones, join the workers and release the engine."""
        with self._lock:
            self._is_closed = True
            for call in list(self._calls):
                call.cancel(InterruptedStreamError(_UNLOADED, backend="llama_cpp", model=self.settings.alias))
            for _ in self._threads:
                self._queue.put(None)
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        if any(thread.is_alive() for thread in self._threads):
            _keep_forever(self.server)  # destroyed during a call, the engine would crash
        self.server = None

    def forget(self) -> bool:
        """Drop the engine in a forked child; returns whether there was one."""
        self._is_closed = True
        if self.server is not None:
            _keep_forever(self.server)
        return self.server is not None or self._loading.locked()

    def _work(self) -> None:
        while (ticket := self._take_next()) is not None:
            _report(ticket[1], self._run(*ticket))

    def _take_next(self) -> tuple[dict[str, Any], weakref.ref[EngineCall]] | None:
        # A separate function, so that no variable of the worker keeps the call alive.
        call = self._queue.get()
        return None if call is None else (call.payload, weakref.ref(call))

    def _run(self, payload: dict[str, Any], ref: weakref.ref[EngineCall]) -> Exception | None:
        put = _put_into(ref)
        if (call := ref()) is None or call.is_cancelled:
            return None
        try:
            self.load()
            call.is_started = True
            if call.is_cancelled:
                return None
            del call
            if self.settings.embeds:
                put(self.server.handle_embeddings(payload))
            else:
                self.server.handle_chat_completions(payload, put)
        except Exception as error:  # noqa: BLE001 - any error has to reach the reader on another thread
            return error
        return None


def _find_size(path: str) -> int:
    try:
        return os.path.getsize(path)
    except OSError:
        return 0  # the engine itself says what is wrong


def _make_closed_error() -> ConfigurationError:
    return ConfigurationError(
        "the embedded model is being unloaded, or the interpreter is shutting down; it accepts no new calls"
    )


def _put_into(ref: weakref.ref[EngineCall]) -> Callable[[Chunk], bool]:
    def put(chunk: Chunk) -> bool:
        call = ref()
        return call is None or call.put(chunk)

    return put


def _report(ref: weakref.ref[EngineCall], error: Exception | None) -> None:
    call = ref()
    if call is not None:
        call.finish(error)


def _import() -> Any:
    # llama.cpp uses GNU OpenMP, whose barriers spin: with one core busy elsewhere the speed drops from 67
    # to 3 tokens a second. The library reads this once, when it is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        import xllamacpp  # the optional dependency
    except ImportError as error:
        if "libgomp" in str(error):
            raise MissingExtraError(
                "the embedded model's engine needs the system library libgomp.so.1; "
                "on Debian and Ubuntu: `apt-get install libgomp1`"
            ) from error
        if error.name not in (None, "xllamacpp"):
            raise
        raise MissingExtraError(_NOT_INSTALLED) from error
    return xllamacpp


_NOT_INSTALLED = (
    "the embedded model's engine isn't installed: `pip install 'mellea[local]'` gets it; or name another model, in "
    "start_session('provider/model') or in MELLEA_MODEL"
)


def check_installed() -> None:
    """Do nothing if the engine is installed; it isn't loaded.

    Raises:
        MissingExtraError: it isn't.
    """
    if "xllamacpp" not in sys.modules and find_spec("xllamacpp") is None:
        raise MissingExtraError(_NOT_INSTALLED)


def _keep_forever(server: Any) -> None:
    if server is not None:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(server))


_engines: dict[EngineSettings, Engine] = {}
_alive: weakref.WeakSet[Engine] = weakref.WeakSet()
_lock = threading.Lock()
_is_lost = False
_is_exiting = False


def get_shared_engine(settings: EngineSettings) -> Engine:
    """Return this process's engine for the settings; it loads at its first call.

    Raises:
        ConfigurationError: this process is the fork of one that had loaded the engine, or is ending.
    """
    if _is_lost:
        raise ConfigurationError(
            "the embedded model doesn't work in a process forked from one that had loaded it; start processes by "
            "multiprocessing.get_context('spawn'), or use the model in the child only"
        )
    if _is_exiting:
        raise ConfigurationError("the interpreter is shutting down; the embedded model accepts no more calls")
    with _lock:
        engine = _engines.get(settings)
        if engine is None:
            engine = _engines[settings] = Engine(settings)
        return engine


def unload() -> None:
    """Cancel all calls of embedded models and free their memory; the next call loads again.

    It blocks until the engine has stopped, so call it outside an event loop.
    """
    with _lock:
        engines = list(_engines.values())
        _engines.clear()
    for engine in engines:
        engine.close(_EXIT_SECONDS)


def _close_at_exit() -> None:
    global _is_exiting
    _is_exiting = True
    try:
        for engine in list(_alive):
            engine.close(_EXIT_SECONDS)
    except KeyboardInterrupt:
        # Ctrl-C once more, while a worker is still in the engine: it must not come back into an ended interpreter.
        os._exit(_INTERRUPTED)


def _forget_parent() -> None:
    global _is_lost, _lock
    _lock = threading.Lock()  # another thread may hold the old lock
    lost = [engine.forget() for engine in list(_alive)]
    _engines.clear()
    _alive.clear()
    if any(lost):
        _is_lost = True
        _skip_destructors()


def _skip_destructors() -> None:
    # llama.cpp's log has a thread that its C++ destructor joins, but the child has no such thread and would
    # hang at its exit. What is registered last runs first: `_exit`, after Python has ended in good order.
    # macOS and musl have no `on_exit`; a child there has to leave by os._exit, as multiprocessing does.
    libc = ctypes.CDLL(None)
    if hasattr(libc, "on_exit"):
        libc.on_exit(libc._exit, None)


atexit.register(_close_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_parent)
