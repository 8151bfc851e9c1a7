"""Sessions: a backend and a context, with the verbs of `verbs.py` as methods.

A session is the host of its verbs (`functional.Host`): `functional.answer` does the work, and `launch` puts the turn
into the session's context before the verb first yields to the loop. So the turns of concurrent verbs are in the order
of the calls, and none is lost.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager
from contextvars import ContextVar
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import anyio

from mellea.core.attributes import SESSION_WAYS, Elsewhere, find_attribute
from mellea.core.backend import Backend
from mellea.core.blocking import blocking
from mellea.core.context import Context
from mellea.core.entrance import entrance, inside, short_errors
from mellea.core.messages import Message
from mellea.core.options import check_options
from mellea.core.runtime import CLOSE_SECONDS, Record, Register, Registering, find_held_up_loops
from mellea.core.thunk import ModelOutputThunk, sent_request
from mellea.errors import UsageError
from mellea.stdlib import functional
from mellea.stdlib.context import SimpleContext
from mellea.stdlib.session.verbs import SessionVerbs

__all__ = ["MelleaSession", "sessions_around"]

sessions_around: ContextVar[tuple[MelleaSession, ...]] = ContextVar("mellea_sessions", default=())
"""The sessions of the enclosing `with` blocks, the innermost last."""


@short_errors
class MelleaSession(SessionVerbs):
    """A model and a context: what later calls remember of earlier ones.

    Args:
        backend: which model to ask, and how.
        ctx: what calls remember; by default a `SimpleContext`, which remembers nothing.
        model_options: options for every call; they override those of the backend.

    As a context manager it is the current session of the block, and is closed at its end.

    Raises:
        UsageError: an argument is of a wrong type, or an option is unknown.
    """

    @entrance("MelleaSession")
    def __init__(
        self, backend: Backend, ctx: Context | None = None, *, model_options: Mapping[str, Any] | None = None
    ) -> None:
        if not isinstance(backend, Backend):
            raise UsageError(f"backend takes a Backend, not {backend!r}; start_session('provider/model') makes one")
        if ctx is not None and not isinstance(ctx, Context):
            raise UsageError(f"ctx takes a Context such as ChatContext(), not {ctx!r}")
        self.backend = backend
        self.ctx: Context = ctx if ctx is not None else SimpleContext()
        self.model_options: Mapping[str, Any] = check_options(model_options)
        self._lock = threading.Lock()
        self._running: Register = Register()  # what closing and resetting cancel
        self._last: Record | None = None  # of the last verb, whose thunk may be gone; it doesn't keep the thunk alive

    # -- the session itself ---------------------------------------------------------------------------

    @property
    def id(self) -> str:
        """A unique name, shown in traces as `session.id`; a program may set it."""
        return self._running.id

    @id.setter
    def id(self, name: str) -> None:
        if not isinstance(name, str) or not name:
            raise UsageError(f"the id of a session is a string, not {name!r}")
        self._running.id = name

    @property
    def cost(self) -> float | None:
        """The cost of its requests so far in US dollars, including judges and compactors; `None` if any is unknown.

        Prices are the list prices of `mellea.prices`. A clone starts at 0.
        """
        return self._running.ledger.cost()

    def last_prompt(self) -> list[dict[str, str]] | None:
        """Return the messages of the last request, each with its role and its text; `None` before the first.

        It is Mellea 0.8's name; `thunk.request` shows tools, options and the provider's own JSON as well.
        """
        sent = None if self._last is None else sent_request(self._last)
        return None if sent is None else [{"role": said.role, "content": said.content} for said in sent.messages]

    def clone(self) -> MelleaSession:
        """Return a session with the same backend and options that continues from this context independently."""
        return MelleaSession(self.backend, self.ctx, model_options=self.model_options)

    def reset(self) -> None:
        """Forget all turns, and cancel every running generation of this session."""
        with self._lock:
            # First the context, then the cancel: a reader that sees the cancellation may call the session again.
            self.ctx = self.ctx.empty()
        self._running.cancel()

    async def aclose(self) -> None:
        """Cancel every running generation of this session, and close the backend's connections."""
        running = self._running.cancel()
        # A synchronous close blocks the calling loop, whose own runs can't be closed until it returns.
        held_up = find_held_up_loops()
        with anyio.move_on_after(CLOSE_SECONDS + 0.5, shield=True):
            for run in running:
                if not run.on_any(held_up):
                    await run.wait_until_closed()
        await self.backend.aclose()

    close = blocking(aclose)

    def __enter__(self) -> Self:
        # A tuple in a context variable: each task has its own nesting, and threads inherit it.
        sessions_around.set((*sessions_around.get(), self))
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._leave()
        self.close()

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._leave()
        await self.aclose()

    if not TYPE_CHECKING:  # hidden from type checkers, which then report names that don't exist

        @short_errors
        def __getattr__(self, name: str) -> Any:
            return find_attribute(self, name, SESSION_WAYS)

    def __repr__(self) -> str:
        return f"MelleaSession({self.backend!r}, {self.ctx!r})"

    # -- what the verbs work with: a `functional.Host` ---------------------------------------------------

    @inside
    def launch(self, verb: functional.Verb) -> ModelOutputThunk[Any]:
        """Launch a prepared verb on the running loop, and put its turn into the context.

        Raises:
            StreamingError: a synchronous call would wait for a thunk of the loop that it blocks.
        """
        # Read before the launch: additions by other threads are detected below.
        before = self.ctx
        with Registering(self._running):
            thunk, after = verb.launch(before)
        self._last = thunk.record
        with self._lock:
            if after is not before and self.ctx is before:
                self.ctx = after
            elif after is not before:  # another thread has added a turn meanwhile
                self.ctx = self.ctx.add(verb.call.component).add(thunk)
        return thunk

    def remember(self, message: Message) -> None:
        """Put a message into the context, if later calls see the context's turns."""
        with self._lock:
            if self.ctx.shows_turns:  # otherwise a SimpleContext would forget its last output
                self.ctx = self.ctx.add(message)

    def registering(self) -> AbstractContextManager[None]:
        """Register what a `with` block launches as work of this session, to be cancelled when it is closed or reset."""
        return self._running.registering()

    # -- inside ---------------------------------------------------------------------------------------

    def _leave(self) -> None:
        # A generator may be closed in another context than it was entered in, where there is nothing to undo.
        sessions = list(sessions_around.get())
        if self in sessions:
            # The innermost occurrence, since one session may be entered twice.
            del sessions[len(sessions) - 1 - sessions[::-1].index(self)]
            sessions_around.set(tuple(sessions))


# OpenAI's clients are called as m.chat.completions.create(…), and a plain function can't explain a missing attribute.
for _chat in (MelleaSession.chat, MelleaSession.achat):
    vars(_chat)["completions"] = Elsewhere("m.chat.completions", SESSION_WAYS["completions"])
