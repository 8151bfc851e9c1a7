"""Keeps the states of one run: signs and saves them, hands them out as `Pending`, and resumes each once."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio.to_thread

from mellea.core.runtime.tasks import find_outcome
from mellea.core.tracebacks import add_note
from mellea.errors import StateError, UsageError
from mellea.stdlib.agents.checkpoint import CheckpointFile
from mellea.stdlib.agents.pending import Pending
from mellea.stdlib.agents.signing import Signer, check_signature, find_secret
from mellea.stdlib.tools import LoopProgress, LoopState, give_answers

if TYPE_CHECKING:
    from mellea.stdlib.agents.resume_store import ResumeStore

__all__ = ["Checkpoint", "Saved", "StateKeeper"]

Checkpoint = str | os.PathLike[str] | Callable[[Pending], Any]
"""Where a run's states go: a file, which always has the latest, or a function, sync or async."""

Saved = Pending | str | bytes | os.PathLike[str]
"""A state to resume: a `Pending`, its JSON, or the path of a file with that."""


class StateKeeper:
    """Keeps the states of one run.

    Args:
        agent: the agent's name.
        secret: signs the states; by default `MELLEA_SECRET` of the environment, without which they aren't signed.
        checkpoint: gets each state: after an answer of the model, after a finished tool, when the run has to wait.
        store: an SQLite file, in which states that were resumed are noted, so that none of them is resumed twice.

    Attributes:
        run: the id of the run.

    Raises:
        UsageError: an argument is wrong.
    """

    def __init__(
        self,
        *,
        agent: str | None = None,
        secret: str | bytes | None = None,
        checkpoint: Checkpoint | None = None,
        store: str | os.PathLike[str] | None = None,
    ) -> None:
        self.run = uuid.uuid4().hex
        self._agent = agent
        self._secret = find_secret(secret)
        self._signer = Signer(self._secret)
        self._checkpoint = _check_checkpoint(checkpoint)
        self._store = None if store is None else _open_store(store)
        self._resumed: Pending | None = None  # not yet claimed
        self._last: Pending | None = None

    async def resume(self, saved: Saved, answers: Mapping[str, Any] | None = None) -> LoopState:
        """Return the state that a run continues from, with its questions answered.

        If it is a file, and there is no other checkpoint, the states to come go into that file.

        Args:
            saved: the state.
            answers: by the ids of its questions, see `give_answers`.

        Raises:
            StateError: it can't be read, or was changed.
            UsageError: it is another agent's, an id is unknown, or an answer doesn't fit its question.
            OSError: the file can't be read.
        """
        pending = await self._open(saved)
        # Before anything else is done with the state: a state that was modified must not even be answered.
        check_signature(pending, self._secret)
        if pending.agent is not None and self._agent is not None and pending.agent != self._agent:
            raise UsageError(f"the state belongs to the agent {pending.agent!r}, but this is {self._agent!r}")
        state = give_answers(pending.state, {} if answers is None else answers)
        # The run continues under its id, so that the traces and states of all its parts belong together.
        self.run = pending.run
        self._last = self._resumed = pending
        return state

    async def _open(self, saved: Saved) -> Pending:
        if isinstance(saved, Pending):
            return saved
        # JSON begins with a brace, and paths don't. An empty text counts as JSON, whose error is the clearer one.
        if isinstance(saved, bytes) or (isinstance(saved, str) and saved.lstrip()[:1] in ("", "{")):
            return Pending.from_json(saved)
        if not isinstance(saved, (str, os.PathLike)):
            hint = "; that is its .pending" if getattr(saved, "pending", None) is not None else ""
            raise UsageError(f"resume takes a Pending, its JSON, or the path of a checkpoint, not {saved!r}{hint}")
        path = Path(saved)
        try:
            text = await anyio.to_thread.run_sync(path.read_bytes)
        except OSError as error:
            raise UsageError(
                f"resume takes a Pending, its JSON, or the path of a checkpoint, and {str(saved)!r} can't be read as "
                f"one: {error.strerror or error}"
            ) from error
        # A checkpoint that is resumed is continued in place, or the next crash would go back to the old state.
        if self._checkpoint is None:
            self._checkpoint = CheckpointFile(path)
        return Pending.from_json(text)

    def begin(self, state: LoopState, spent: Callable[[], Mapping[str, Any]] | None = None) -> LoopProgress:
        """Return what a loop works with, whose states are kept here.

        Args:
            state: where to begin: at `LoopState(messages)`, or at what `resume` returned.
            spent: returns what the run has used up so far, as JSON values by name; it comes back in `state.spent`.
        """
        # Even without a checkpoint: the store has to record that the state was resumed.
        is_kept = self._checkpoint is not None or self._resumed is not None
        return LoopProgress(state, save=self.save if is_kept else None, spent=spent)

    async def save(self, state: LoopState) -> None:
        """Keep a state; the first one of a resumed run uses up the state that it was resumed from.

        Raises:
            UsageError: that was resumed before.
            StateError: the checkpoint can't be written.
            Exception: what a checkpoint that is a function raises.
        """
        # Taken before the first wait, so that no later save claims the same state again.
        resumed, self._resumed, self._last = self._resumed, None, None
        store = None if resumed is None else self._store
        if self._checkpoint is None and store is None:
            return
        pending = Pending(self.run, state, agent=self._agent)
        # A cancelled wait doesn't abandon a save, because an older state must not be written after a newer one.
        if resumed is not None and store is not None:
            await anyio.to_thread.run_sync(store.claim, resumed.id, pending.id, self.run)
        if self._checkpoint is not None:
            # In a thread: signing reads the whole state, and a conversation can be long.
            self._last = await anyio.to_thread.run_sync(self._signer.sign, pending)
            await self._write(self._checkpoint, self._last)
        if resumed is not None and store is not None:
            await anyio.to_thread.run_sync(store.use, resumed.id, pending.id)

    async def _write(self, checkpoint: CheckpointFile | Callable[[Pending], Any], pending: Pending) -> None:
        if isinstance(checkpoint, CheckpointFile):
            try:
                await anyio.to_thread.run_sync(checkpoint.write, pending)
            except OSError as error:
                raise StateError(f"the checkpoint {str(checkpoint.path)!r} can't be written: {error}") from error
            return
        try:
            await find_outcome(checkpoint, pending)
        except Exception as error:
            # The run ends with the user's own error; the note says where it came from.
            add_note(error, "raised by the checkpoint of an agent's run")
            raise

    def pending(self, progress: LoopProgress) -> Pending | None:
        """Return the state of a run that has ended because it waits; `None` if it doesn't."""
        return self._wrap(progress.state) if progress.is_waiting else None

    def _wrap(self, state: LoopState) -> Pending:
        """Return a state as a `Pending`; one that wasn't used up, or was saved last, keeps its id."""
        last = self._last
        # The same state keeps its id: a program that saves `run.pending` twice hasn't made two states to resume.
        if last is None or (self._resumed is None and last.state != state):
            last = Pending(self.run, state, agent=self._agent)
        self._last = last = self._signer.sign(replace(last, state=state))
        return last


def _open_store(path: str | os.PathLike[str]) -> ResumeStore:
    from mellea.stdlib.agents.resume_store import ResumeStore  # lazy: most programs need no SQLite

    return ResumeStore(path)


def _check_checkpoint(checkpoint: Checkpoint | None) -> CheckpointFile | Callable[[Pending], Any] | None:
    if checkpoint is None or callable(checkpoint):
        return checkpoint
    if not isinstance(checkpoint, (str, os.PathLike)):
        raise UsageError(f"checkpoint takes the path of a file or a function, not {checkpoint!r}")
    path = Path(checkpoint)
    # Checked now, since the first save comes after the first answer, which has been paid for by then.
    if path.is_dir() or not path.parent.is_dir():
        raise UsageError(f"checkpoint takes the path of a file in an existing folder, not {str(path)!r}")
    return CheckpointFile(path)
