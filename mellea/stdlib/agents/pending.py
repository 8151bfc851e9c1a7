"""`Pending`: an agent's run that waits, or was interrupted, as a value and as JSON; signed if there is a secret."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

from mellea.core.serialise import LARGEST, read_document, write_document
from mellea.errors import StateError, UsageError
from mellea.stdlib.agents.state_json import check_fields, dump_state, load_state
from mellea.stdlib.tools import LoopState, Question

__all__ = ["Pending", "check_signature", "find_secret", "sign"]

_FORMAT = "mellea.pending"
_VERSION = 1
_ALGORITHM = "hmac-sha256"
_LARGEST_WHOLE = 1e21
"""From here on JavaScript writes whole numbers with an exponent."""


@dataclass(frozen=True, slots=True)
class Pending:
    """A run of an agent that can be resumed: it waits for answers, or was stopped in the middle.

    Attributes:
        run: the id of the run, the same through all its resumes.
        id: the id of this state of it.
        agent: the agent's name, if it has one.
        state: the conversation so far, results of tools, open questions.
        signature: proof that nobody has changed it, if it was made with a secret.
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

    def to_json(self, *, limit: int = LARGEST) -> str:
        """Return it as a JSON document, which `from_json` reads in another process, or a later one.

        The document holds the whole conversation, but no keys and no model options.

        Args:
            limit: the most characters that the document may have.

        Raises:
            UsageError: something in it has no JSON form, or it is too big.
        """
        data = _dump(self)
        if self.signature is not None:
            data["signature"] = self.signature
        return write_document(data, format=_FORMAT, version=_VERSION, limit=limit)

    @classmethod
    def from_json(cls, text: str | bytes, *, limit: int = LARGEST) -> Self:
        """Return what `to_json` wrote. A signature is checked when it is resumed.

        Args:
            text: the document, from anywhere.
            limit: the most characters (or bytes) that it may have.

        Raises:
            StateError: it isn't such a document, its version is unknown, or it is damaged.
        """
        if not isinstance(text, (str, bytes)):
            raise UsageError(f"from_json takes JSON as text, not {text!r}")
        data = read_document(text, format=_FORMAT, version=_VERSION, limit=limit)
        try:
            check_fields(data, "value", {"run": str, "id": str, "state": dict}, {"agent": str, "signature": str})
            state = load_state(data["state"], "value.state")
        except RecursionError:
            raise StateError("the saved state is nested too deep") from None
        return cls(data["run"], state, data["id"], data.get("agent"), data.get("signature"))


def sign(pending: Pending, secret: bytes | None) -> Pending:
    """Return it with a signature, without one if there is no secret.

    What is signed is the whole state as canonical JSON: run, step, call ids, tools, arguments, the conversation.
    """
    return replace(pending, signature=None if secret is None else _make_signature(pending, secret))


def check_signature(pending: Pending, secret: bytes | None) -> None:
    """Refuse a state that somebody has changed.

    Raises:
        StateError: it was changed or isn't signed, or it is signed and there is no secret to check that with.
    """
    if secret is None:
        if pending.signature is None:
            return
        raise StateError(
            "the state is signed, and there is no secret to check that with; set secret= or MELLEA_SECRET as it was "
            "set where the state was made"
        )
    if pending.signature is None:
        raise StateError("the state isn't signed, and with a secret only signed states are resumed")
    if not hmac.compare_digest(pending.signature.encode(), _make_signature(pending, secret).encode()):
        raise StateError("the state was changed after it was signed, or signed with another secret; it isn't resumed")


def find_secret(secret: str | bytes | None) -> bytes | None:
    """Return the secret, by default that of `MELLEA_SECRET` in the environment.

    Raises:
        UsageError: it is neither text nor bytes, or empty.
    """
    if secret is None:
        secret = os.environ.get("MELLEA_SECRET") or None
    elif not isinstance(secret, (str, bytes)) or not secret:
        raise UsageError("secret takes a text or bytes that aren't empty")  # without showing it
    return secret.encode() if isinstance(secret, str) else secret


def _dump(pending: Pending) -> dict[str, Any]:
    data: dict[str, Any] = {"run": pending.run, "id": pending.id, "state": dump_state(pending.state)}
    return data if pending.agent is None else {**data, "agent": pending.agent}


def _make_signature(pending: Pending, secret: bytes) -> str:
    body = json.dumps(
        {"format": _FORMAT, "version": _VERSION, "value": _canonical(_dump(pending))},
        sort_keys=True,
        separators=(",", ":"),
        allow_nan=False,
    )
    return f"{_ALGORITHM}:{hmac.new(secret, body.encode(), hashlib.sha256).hexdigest()}"


def _canonical(value: Any) -> Any:
    """Return a JSON value with whole numbers without a fraction, as JavaScript writes them back."""
    if isinstance(value, Mapping):
        return {key: _canonical(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_canonical(item) for item in value]
    if isinstance(value, float) and value.is_integer() and abs(value) < _LARGEST_WHOLE:
        return int(value)
    return value
