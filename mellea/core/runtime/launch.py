"""Launches work: model calls, strategies, tool loops, deferred prompts, compactors, judges, images, embeddings.

`launch` is the only way to start work. It rejects waits that could never end, creates the run with its total deadline,
enters it in the registers of running work, and begins its spans. `send` is the only way from there to a backend's
`run`: verbs, attempts, steps, judges, compactors and agents use it, and it applies the hooks of observers.

There is one register for the process, and one for each session. Rules:

- A run is in its registers from its launch until its producer has stopped.
- What a run launches for itself (attempts, steps, judges) is in no session's register: it is cancelled with the
  run. Calls that code inside it, such as a tool, makes on a session are in that session's register.
- At the interpreter's exit, everything that runs is cancelled; after a fork, the child ends the parent's runs.
"""

from __future__ import annotations

import atexit
import logging
import os
import weakref
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AbstractContextManager
from contextvars import ContextVar
from functools import partial
from typing import Any, TypedDict

from mellea.core.backend import Backend, Request, SentRequest, narrow_tools
from mellea.core.events import Event
from mellea.core.observer import listening
from mellea.core.options import Deadlines, ModelOption
from mellea.core.runtime.cells import follow_cells
from mellea.core.runtime.corrector import Corrector
from mellea.core.runtime.deadlock import check_wait
from mellea.core.runtime.ledger import Ledger, current_ledger
from mellea.core.runtime.producer import Open, Parse, Ready, Run, Work
from mellea.core.runtime.record import Record
from mellea.core.runtime.source import Hooks
from mellea.core.runtime.spans import begin_spans
from mellea.core.runtime.tasks import current_caller
from mellea.errors import GenerationCancelledError

__all__ = [
    "LaunchArguments",
    "Register",
    "Registering",
    "cancel_all",
    "current_register",
    "launch",
    "running",
    "send",
]

_log = logging.getLogger("mellea")

_NO_LIMITS = Deadlines(None, None, None, None)


class LaunchArguments(TypedDict, total=False):
    """The arguments of `launch` that describe the work, for callers that forward them."""

    open: Open | None
    work: Work | None
    ready: Ready | None
    parse: Parse | None
    quick_length: float
    correction: Corrector | None
    kind: str
    label: Any
    overdue: str | None


def launch(
    open: Open | None = None,
    *,
    work: Work | None = None,
    ready: Ready | None = None,
    parse: Parse | None = None,
    quick_length: float = -1,
    correction: Corrector | None = None,
    is_request: bool | None = None,
    kind: str = "call",
    label: Any = None,
    links: Iterable[Record] = (),
    deadlines: Deadlines = _NO_LIMITS,
    overdue: str | None = None,
    dependencies: Sequence[Record] = (),
    format: Any = None,
    backend: str | None = None,
    model: str | None = None,
    server: tuple[str, int | None] | None = None,
) -> Run:
    """Start a piece of work on the running loop, and return its run.

    Args:
        open: given the run, returns the events of one request.
        work: in place of `open`: given the run, emits its events, a `StreamEnd` last, and returns the result.
        ready: waits for what the work needs, before the deadlines start.
        parse: parses the complete generation into the typed result, in a worker thread unless the text is short.
        quick_length: the longest text, in characters, for which `parse` may be called on the loop: it is then
            quick and calls no user code.
        is_request: whether it is one request to a backend; by default if there is `open`.
        correction: what to do about an answer that `parse` or `work` raises a `ParseError` for.
        kind: see `Span.kind`.
        label: its name in traces: a text, or a component, which may have a `name`.
        links: the runs of the thunks that it depends on, for traces.
        deadlines: how long to wait; for `work` only the total applies.
        overdue: what the error says took too long, such as "the model … and its tools".
        dependencies: runs whose results `ready` waits for.
        format: the type of the answer, if it isn't text.
        backend: name of the backend.
        model: id of the model.
        server: host and port of the model's server, for traces.

    Raises:
        StreamingError: it would wait for a run that can't end before the current code does.
        GenerationCancelledError: nothing waits any more for the calling function, which runs in a thread, or the cell
            was interrupted.
    """
    # Before the run is created: a rejected launch leaves nothing behind.
    if dependencies:
        check_wait(dependencies)
    caller = current_caller.get()
    if caller is not None and caller.is_left:
        raise GenerationCancelledError(f"nothing waits any more for {caller.name}")
    run = Run(
        open,
        work=work,
        ready=ready,
        parse=parse,
        quick_length=quick_length,
        is_request=open is not None if is_request is None else is_request,
        correction=correction,
        deadlines=deadlines,
        overdue=overdue,
        format=format,
        dependencies=dependencies,
        backend=backend,
        model=model,
    )
    # The register of the launching session, if any; `running` has all runs, for the end of the program.
    register = current_register.get()
    # Without observers no span is created: this test is their whole cost.
    if listening.count:
        run.spans = begin_spans(
            run,
            kind,
            label,
            links,
            is_corrected=correction is not None,
            is_request=run.is_request,
            server=server,
            session=None if register is None else register.id,
        )
    begun = (running,) if caller is None else (running, caller)
    if register is None:
        run.start(begun)
    else:
        outer = current_register.set(None)  # what the run launches for itself isn't the session's
        run.start((*begun, register))
        # For the caller, whose next launch belongs to the session again; the run's task has its own copy.
        current_register.reset(outer)
    return run


def send(
    run: Record, backend: Backend, request: Request, *, whole: Record | None = None, has_passed: bool = False
) -> AsyncIterator[Event]:
    """Send a request for a run, and return the backend's events.

    Args:
        run: makes the request.
        backend: the backend to use.
        request: the request; if its `tool_choice` names several tools, only these are offered.
        whole: the run that this request is a step of, which shows it, too.
        has_passed: whether it has passed the hooks of the run's observers, which usually don't exist.
    """
    if ModelOption.TOOL_CHOICE in request.options:
        request = narrow_tools(request)
    span = None if run.spans is None else run.spans.innermost
    if span is not None and span.observers.has_hooks and not has_passed:
        return Hooks(span, run.off_the_clock).pass_events(
            backend, request, partial(send, run, whole=whole, has_passed=True)
        )
    run.sent = SentRequest(backend, request)
    if span is not None:
        span.request = run.sent  # so that observers see the prompt of a running call
    if whole is not None:
        whole.sent = run.sent
    if _log.isEnabledFor(logging.DEBUG):
        _log.debug("request: %r", run.sent)
    return backend.run(request)


current_register: ContextVar[Register | None] = ContextVar("mellea_register", default=None)
"""The register for what the current code launches."""


_registers: weakref.WeakSet[Register] = weakref.WeakSet()


class Register(set[Run]):
    """The runs that haven't stopped yet; safe from any thread, since each access to the set is a single step.

    Attributes:
        ledger: the costs of the requests made by runs registered here.
    """

    __slots__ = ("_id", "ledger")

    __hash__ = object.__hash__  # type: ignore[assignment]  # each is itself, whatever is in it
    __eq__ = object.__eq__

    def __init__(self) -> None:
        super().__init__()
        self._id: str | None = None
        self.ledger = Ledger()
        _registers.add(self)

    @property
    def id(self) -> str:
        """A unique name, for traces."""
        if self._id is None:
            self._id = os.urandom(8).hex()
        return self._id

    @id.setter
    def id(self, name: str) -> None:
        self._id = name

    def list_unfinished(self) -> list[Run]:
        """Return the runs that haven't ended."""
        # An atomic copy: other threads add and remove runs meanwhile, and iterating would fail.
        return [run for run in list(self) if not run.is_final]

    def registering(self) -> AbstractContextManager[None]:
        """Register what the `with` block launches."""
        return Registering(self)

    def cancel(self) -> list[Run]:
        """Cancel every run that hasn't ended, and return those; safe from any thread, returns at once."""
        runs = self.list_unfinished()
        for run in runs:
            # Collected before the first `cancel`, since the caller wants to know which runs this ended.
            run.cancel()
        return runs

    def forget_parent(self) -> None:
        """After a fork, end the parent's runs in the child, where nothing produces them."""
        runs = list(self)
        self.clear()
        for run in runs:
            run.abandon()


class Registering(AbstractContextManager[None]):
    """Registers with a register what a `with` block launches."""

    __slots__ = ("_ledger_token", "_register", "_token")

    def __init__(self, register: Register) -> None:
        self._register = register

    def __enter__(self) -> None:
        self._token = current_register.set(self._register)
        ledger, outer = self._register.ledger, current_ledger.get()
        # Inside the work that a `Meter` measures, such as an agent's run, requests count for both.
        self._ledger_token = current_ledger.set(ledger if outer is None else outer.around(ledger))

    def __exit__(self, *exception: object) -> None:
        try:
            current_register.reset(self._token)
            current_ledger.reset(self._ledger_token)
        except ValueError:
            return  # a generator may be closed in another context, where there is nothing to undo


running = Register()
"""Everything that runs in this process."""


def cancel_all() -> None:
    """Cancel what still runs at the interpreter's exit."""
    # A run that its readers left on purpose isn't worth a warning.
    if missed := [run for run in running.list_unfinished() if not run.is_left]:
        _log.warning("the program ends while %d generation(s) are running; they are cancelled", len(missed))
    running.cancel()


def _forget_parent() -> None:
    for register in list(_registers):
        register.forget_parent()


follow_cells()
# `atexit` runs before daemon threads are ended, so connections can still be closed.
atexit.register(cancel_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_parent)
