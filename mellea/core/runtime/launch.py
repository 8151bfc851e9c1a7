"""Beginning work: model calls, strategies, tool loops, deferred prompts, compactors, judges, images, embeddings.

`launch` is the only way to begin. It refuses waits that could never end, makes the run with its total deadline, enters
it in the registers of what runs, and begins the spans that observers are told of.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from mellea.core.observer import listening
from mellea.core.options import Deadlines
from mellea.core.runtime.corrector import Corrector
from mellea.core.runtime.deadlock import check_wait
from mellea.core.runtime.producer import Open, Parse, Ready, Run, Work
from mellea.core.runtime.record import Record
from mellea.core.runtime.register import current_register, running
from mellea.core.runtime.spans import begin_spans

__all__ = ["launch"]

_NO_LIMITS = Deadlines(None, None, None, None)


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
    """Begin a piece of work on the running loop, and return its run.

    Args:
        open: given the run, returns the events of one request.
        work: in place of `open`: given the run, emits its events, a `StreamEnd` last, and returns the result.
        ready: waits for what the work needs, before the deadlines begin.
        parse: makes the typed result out of the complete generation, in a worker thread unless the text is short.
        quick_length: the longest text, in characters, that `parse` may be called with on the loop: it is quick
            then, and calls nobody's code.
        is_request: whether it is one request to a backend; by default if there is `open`.
        correction: what to do about an answer that `parse` or `work` raises a `ParseError` for.
        kind: what observers are told that it is, see `Span.kind`.
        label: what it is called in traces: a text, or a component, which may have a `name`.
        links: the runs of the thunks that it is made of, for traces.
        deadlines: how long to wait; only the total holds for `work`.
        overdue: what an error says took too long, such as "the model … and its tools were not done".
        dependencies: runs whose results `ready` waits for.
        format: what the answer is to be, if it is to be anything but text.
        backend: name of the backend.
        model: id of the model.
        server: host and port of the model's server, for traces.

    Raises:
        StreamingError: it would wait for a run that can't end before the current code does.
    """
    if dependencies:
        check_wait(dependencies)
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
    register = current_register.get()
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
    run.start((running,) if register is None else (running, register))
    return run
