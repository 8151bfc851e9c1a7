"""`Pending`: an agent's run that waits, or was interrupted, as a value and as JSON; signed if there is a secret.

A document may be followed by lines of changes, each of which makes a later state: so a checkpoint needn't write the
whole conversation each time. An incomplete last line is ignored.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from mellea.core.attributes import PENDING_WAYS, find_attribute
from mellea.core.entrance import short_errors
from mellea.core.messages import Message
from mellea.core.serialise import LARGEST, read_document, write_document
from mellea.core.surrogates import replace_surrogates
from mellea.errors import StateError, UsageError
from mellea.stdlib.agents.state_changes import apply_change, diff_states
from mellea.stdlib.agents.state_json import check_fields, dump_messages, dump_state, load_state
from mellea.stdlib.tools import LoopState, Question

__all__ = ["FORMAT", "VERSION", "Pending", "dump_pending", "write_change"]

FORMAT = "mellea.pending"
VERSION = 1
_CHANGE = '{"after":'
"""The prefix of each change after a document."""


@dataclass(frozen=True, slots=True)
class Pending:
    """A run of an agent that can be resumed: it waits for answers, or was stopped in the middle.

    Attributes:
        run: the id of the run, the same through all its resumes.
        id: the id of this state of it.
        agent: the agent's name, if it has one.
        state: the conversation so far, results of tools, open questions.
        signature: proof that it wasn't changed, if it was made with a secret.
    """

    run: str
    state: LoopState = field(repr=False)
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    agent: str | None = None
    signature: str | None = field(default=None, repr=False)

    @property
    def questions(self) -> tuple[Question, ...]:
        """What has to be answered, those of sub-agents included."""
        return self.state.questions

    if not TYPE_CHECKING:  # hidden from type checkers, which then report names that don't exist

        @short_errors
        def __getattr__(self, name: str) -> Any:
            return find_attribute(self, name, PENDING_WAYS)

    def __repr__(self) -> str:
        # The questions without their arguments, which belong to the conversation and aren't shown either.
        asked = ", ".join([f"{each.id!r}: {each.kind} of {each.call.tool_name!r}" for each in self.questions])
        return f"Pending(run={self.run!r}, id={self.id!r}, agent={self.agent!r}, questions={{{asked}}})"

    def to_json(self, *, limit: int = LARGEST) -> str:
        """Return it as a JSON document, which `from_json` reads in any other process.

        The document holds the whole conversation, but no keys and no model options.

        Args:
            limit: the most characters that the document may have.

        Raises:
            UsageError: something in it has no JSON form, or it is too big.
        """
        data = dump_pending(self)
        if self.signature is not None:
            data["signature"] = self.signature
        return write_document(data, format=FORMAT, version=VERSION, limit=limit)

    @classmethod
    def from_json(cls, text: str | bytes, *, limit: int = LARGEST) -> Self:
        """Read what `to_json` wrote, or the file of a checkpoint. A signature is checked on resuming.

        Args:
            text: the document, from anywhere.
            limit: the most characters (or bytes) that it may have; changes after it may have as many.

        Raises:
            StateError: it isn't such a document, its version is unknown, or it is damaged.
        """
        if not isinstance(text, (str, bytes)):
            raise UsageError(f"from_json takes JSON as text, not {text!r}")
        # The limit applies to both parts, as both come from outside.
        text, changes = _split(text, limit)
        data = read_document(text, format=FORMAT, version=VERSION, limit=limit)
        try:
            for number, change in enumerate(changes, 1):
                # In order, each on the state that it names, so a lost line is noticed.
                _apply(data, change, f"change {number}")
            check_fields(data, "value", {"run": str, "id": str, "state": dict}, {"agent": str, "signature": str})
            state = load_state(data["state"], "value.state")
        # `json` and the loaders recurse; a deep document is rejected like any other damaged one.
        except RecursionError:
            raise StateError("the saved state is nested too deeply") from None
        return cls(data["run"], state, data["id"], data.get("agent"), data.get("signature"))


def dump_pending(
    pending: Pending, dump_messages: Callable[[Sequence[Message], str], Any] = dump_messages
) -> dict[str, Any]:
    """Return a state as JSON values, without its signature; see `dump_state` for what messages become."""
    data: dict[str, Any] = {"run": pending.run, "id": pending.id, "state": dump_state(pending.state, dump_messages)}
    return data if pending.agent is None else {**data, "agent": pending.agent}


def write_change(before: Pending, after: Pending) -> str:
    """Return the change from an earlier state of the run to this one, as a line to append to the earlier document.

    Raises:
        UsageError: something in it has no JSON form.
    """
    # Names the previous state's id, so that changes of two runs in one file can't be mixed.
    line: dict[str, Any] = {"after": before.id, "id": after.id, "change": diff_states(before.state, after.state)}
    if after.signature is not None:
        line["signature"] = after.signature
    try:
        text = json.dumps(line, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (ValueError, RecursionError) as error:  # such as an integer of more digits than Python prints
        raise UsageError(f"the state has no JSON form: {error}") from None
    return f"{replace_surrogates(text)}\n"


def _split(text: str | bytes, limit: int) -> tuple[str | bytes, list[str]]:
    """Return a document, and the complete lines of changes after it."""
    end, begins = (b"\n", _CHANGE.encode()) if isinstance(text, bytes) else ("\n", _CHANGE)
    document, _, changes = text.partition(end)  # type: ignore[arg-type]
    if not changes or changes[: len(begins)] != begins[: len(changes)]:  # as in a document of several lines
        return text, []
    changes = changes[: changes.rfind(end) + 1]  # type: ignore[arg-type]  # without an incomplete line
    if len(changes) > limit:
        raise StateError(f"the changes after the saved state have more than limit={limit:,} characters; raise limit=")
    try:
        return document, (changes.decode() if isinstance(changes, bytes) else changes).split("\n")[:-1]
    except UnicodeDecodeError as error:
        raise StateError(f"the saved state isn't UTF-8: {error}") from None


def _apply(data: Any, change: str, path: str) -> None:
    try:
        line = json.loads(change)
    except ValueError as error:
        raise StateError(f"{path} after the saved state isn't JSON: {error}") from None
    check_fields(line, path, {"after": str, "id": str, "change": dict}, {"signature": str})
    if not isinstance(data, dict) or line["after"] != data.get("id") or not isinstance(data.get("state"), dict):
        raise StateError(f"{path} after the saved state belongs to another state; two runs may have written the file")
    apply_change(data["state"], line["change"], f"{path}.change")
    data["id"] = line["id"]
    data.pop("signature", None)
    if "signature" in line:
        data["signature"] = line["signature"]
