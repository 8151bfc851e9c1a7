"""What is running: of the whole process, and of each session.

Rules:

- A run stands in its registers from its launch until its producer has stopped.
- What a run launches for itself (attempts, steps, judges) stands in no session's register: it is cancelled with the
  run. What code inside it, such as a tool, asks of a session stands in that session's register.
- When the interpreter leaves, everything that runs is cancelled; after a fork, the child ends what is the parent's.
"""

from __future__ import annotations

import atexit
import logging
import os
import weakref
from contextlib import AbstractContextManager, suppress
from contextvars import ContextVar
from typing import Any, Generic, Protocol, TypeVar

__all__ = ["Register", "Registered", "cancel_all", "current_register", "running"]

_log = logging.getLogger("mellea")

current_register: ContextVar[Register[Any] | None] = ContextVar("mellea_register", default=None)
"""Where what the current code launches is registered."""


class Registered(Protocol):
    """What a register has to know of a run."""

    is_left: bool
    """Whether nobody misses it if the program ends."""

    @property
    def is_final(self) -> bool:
        """Whether it has ended."""

    def cancel(self) -> None:
        """End it; safe from any thread, returns at once."""

    def abandon(self) -> None:
        """After a fork, end it in the child."""


R = TypeVar("R", bound=Registered)

_registers: weakref.WeakSet[Register[Any]] = weakref.WeakSet()


class Register(Generic[R]):
    """A set of runs that haven't stopped yet; safe from any thread, since each access to the set is a single step."""

    __slots__ = ("__weakref__", "_runs")

    def __init__(self) -> None:
        self._runs: set[R] = set()
        _registers.add(self)

    def add(self, run: R) -> None:
        """Register a run."""
        self._runs.add(run)

    def discard(self, run: R) -> None:
        """Take a run out, if it is there."""
        self._runs.discard(run)

    def unfinished(self) -> list[R]:
        """Return the runs that haven't ended."""
        return [run for run in list(self._runs) if not run.is_final]

    def registering(self) -> AbstractContextManager[None]:
        """Register here what the `with` block launches."""
        return _Registering(self)

    def cancel(self) -> list[R]:
        """Cancel every run that hasn't ended, and return those; safe from any thread, returns at once."""
        runs = self.unfinished()
        for run in runs:
            run.cancel()
        return runs

    def forget_parent(self) -> None:
        """After a fork, end the parent's runs in the child, where nobody produces them."""
        runs, self._runs = self._runs, set()
        for run in runs:
            run.abandon()


class _Registering(AbstractContextManager[None]):
    __slots__ = ("_register", "_token")

    def __init__(self, register: Register[Any]) -> None:
        self._register = register

    def __enter__(self) -> None:
        self._token = current_register.set(self._register)

    def __exit__(self, *exception: object) -> None:
        with suppress(ValueError):  # a generator may be left in another context: then there is nothing to undo
            current_register.reset(self._token)


running: Register[Registered] = Register()
"""Everything that runs in this process."""


def cancel_all() -> None:
    """Cancel what still runs when the interpreter leaves."""
    if missed := [run for run in running.unfinished() if not run.is_left]:
        _log.warning("the program ends while %d generation(s) are running; they are cancelled", len(missed))
    running.cancel()


def _forget_parent() -> None:
    for register in list(_registers):
        register.forget_parent()


atexit.register(cancel_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_parent)
