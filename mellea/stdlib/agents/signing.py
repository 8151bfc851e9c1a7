"""Signatures of states: proof that a state wasn't changed while it was stored elsewhere."""

from __future__ import annotations

import hashlib
import hmac
import json
import operator
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from mellea.core.messages import Message
from mellea.core.serialise import to_jsonable
from mellea.errors import StateError, UsageError
from mellea.stdlib.agents.pending import FORMAT, VERSION, Pending, dump_pending

__all__ = ["Signer", "check_signature", "find_secret"]

_ALGORITHM = "hmac-sha256"
_LARGEST_WHOLE = 1e21
"""From here on JavaScript writes whole numbers with an exponent."""


_Digests = dict[str, tuple[Sequence[Message], Any]]
"""The digest of each conversation, and its messages, by the path of a sub-agent's state."""


class Signer:
    """Signs the states of one run.

    The signature covers the whole state as canonical JSON (run, step, call ids, tools, arguments), with a digest in
    place of the conversation: it continues the digest of the previous state, so that a long conversation isn't hashed
    again for each state.

    Args:
        secret: without one nothing is signed.
    """

    def __init__(self, secret: bytes | None) -> None:
        self._secret = secret
        self._digests: _Digests = {}

    def sign(self, pending: Pending) -> Pending:
        """Return the state with a signature, or unsigned if there is no secret."""
        return replace(pending, signature=None if self._secret is None else self.make_signature(pending))

    def make_signature(self, pending: Pending) -> str:
        """Return the signature of a state.

        Raises:
            UsageError: there is no secret.
        """
        if self._secret is None:
            raise UsageError("a state can't be signed without a secret; set secret= or MELLEA_SECRET")
        known, self._digests = self._digests, {}  # digests of finished sub-agents aren't kept
        value = dump_pending(pending, lambda messages, path: self._digest(messages, path, known))
        body = _write_canonical({"format": FORMAT, "version": VERSION, "value": value})
        return f"{_ALGORITHM}:{hmac.new(self._secret, body, hashlib.sha256).hexdigest()}"

    def _digest(self, messages: Sequence[Message], path: str, known: _Digests) -> str:
        before, digest = known.get(path, ((), hashlib.sha256()))
        count = len(before)
        # By identity: messages are frozen, and comparing texts would cost as much as the digest that this saves.
        if count > len(messages) or any(map(operator.is_not, before, messages)):
            count, digest = 0, hashlib.sha256()
        # A copy, since the digest of a known state may be continued more than once.
        digest = digest.copy()
        for message in messages[count:]:
            digest.update(_write_canonical(to_jsonable(message)) + b"\n")
        self._digests[path] = messages, digest
        return str(digest.hexdigest())


def check_signature(pending: Pending, secret: bytes | None) -> None:
    """Reject a state that was changed.

    Raises:
        StateError: it was changed or isn't signed, or it is signed and there is no secret to verify it with.
    """
    # Unsigned and no secret: nothing to check.
    if secret is None:
        if pending.signature is None:
            return
        # Rejected: if this process lacks the secret, its setup is wrong, and the check would be disabled.
        raise StateError(
            "the state is signed, but there is no secret to verify it with; set secret= or MELLEA_SECRET to the one "
            "that it was signed with"
        )
    # Otherwise an attacker could bypass the check by leaving the signature out.
    if pending.signature is None:
        raise StateError("the state isn't signed; with a secret, only signed states are resumed")
    # Constant time, so that timing doesn't reveal how much of a forged signature was right.
    if not hmac.compare_digest(pending.signature.encode(), Signer(secret).make_signature(pending).encode()):
        raise StateError("the state was changed after it was signed, or signed with another secret; it isn't resumed")


def find_secret(secret: str | bytes | None) -> bytes | None:
    """Return the secret, by default that of `MELLEA_SECRET` in the environment.

    Raises:
        UsageError: it is neither text nor bytes, or empty.
    """
    if secret is None:
        secret = os.environ.get("MELLEA_SECRET") or None
    elif not isinstance(secret, (str, bytes)) or not secret:
        raise UsageError("secret takes a non-empty string or bytes")  # without showing it
    return secret.encode() if isinstance(secret, str) else secret


def _write_canonical(value: Any) -> bytes:
    return json.dumps(_canonical(value), sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _canonical(value: Any) -> Any:
    """Return a JSON value with whole numbers written without a fraction, as JavaScript does."""
    if isinstance(value, Mapping):
        return {key: _canonical(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_canonical(item) for item in value]
    # A state may go through a browser, whose JSON turns `1.0` into `1`; the signature has to survive that.
    if isinstance(value, float) and value.is_integer() and abs(value) < _LARGEST_WHOLE:
        return int(value)
    return value
