"""Gemini's batches: the requests stand in the call itself, and so do the results in the finished operation.

Source: https://ai.google.dev/gemini-api/docs/batch-api, 2026-11. Inline requests take up to 20 MB; larger batches would
go by an uploaded file, in place of which several batches are made here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlencode

from mellea.backends.http.batches import BatchCodec, BatchOutcome, BatchStatus, Calls, render_item
from mellea.backends.http.fields import encode_json
from mellea.backends.http.outgoing import JobCall
from mellea.backends.http.status import make_status_error
from mellea.errors import BackendError

__all__ = ["GeminiBatches"]

_STATES = {"SUCCEEDED": True, "FAILED": True, "CANCELLED": True, "EXPIRED": True}
"""The ends of a batch, behind `JOB_STATE_` or `BATCH_STATE_`."""

_STATUS = {1: 499, 3: 400, 4: 504, 5: 404, 7: 403, 8: 429, 13: 500, 14: 503, 16: 401}
"""HTTP's status for one of google.rpc.Code."""


class GeminiBatches(BatchCodec):
    """The batches of Gemini's developer API.

    Args:
        model: the model's resource, such as `"models/gemini-2.5-flash"`.
    """

    most_requests = 100_000
    most_bytes = 19 * 10**6

    def __init__(self, model: str) -> None:
        self._path = f"{quote(model, safe='/')}:batchGenerateContent"

    def encode_item(self, key: str, payload: Mapping[str, Any]) -> bytes:
        """Return an element of the inline requests."""
        return render_item({"request": payload, "metadata": {"key": key}})

    def create(self, intent: str, items: Sequence[bytes]) -> Calls[BatchStatus]:
        """Make a batch."""
        name = b'{"batch":{"displayName":"' + intent.encode() + b'","inputConfig":{"requests":{"requests":['
        return _read((yield JobCall("POST", self._path, body=name + b",".join(items) + b"]}}}}")))

    def look(self, id: str) -> Calls[BatchStatus]:
        """Ask how a batch is getting on."""
        return _read((yield JobCall("GET", quote(id, safe="/"))))

    def list_recent(self, since: float) -> Calls[list[BatchStatus]]:
        """List batches, the latest first."""
        found: list[BatchStatus] = []
        token: str | None = ""
        while token is not None:
            query = {"pageSize": "100", **({"pageToken": token} if token else {})}
            page = yield JobCall("GET", f"batches?{urlencode(query)}")
            found += map(_read, page.get("operations") or [])
            token = page.get("nextPageToken") or None
            if found and (found[-1].made or since) < since:
                break
        return found

    def fetch(self, status: BatchStatus) -> Calls[list[BatchOutcome]]:
        """Fetch the results."""
        said = yield JobCall("GET", quote(status.id, safe="/"))
        inline = (said.get("response") or {}).get("inlinedResponses") or {}
        return [_read_outcome(each) for each in inline.get("inlinedResponses") or []]

    def cancel(self, id: str) -> Calls[BatchStatus]:
        """Cancel a batch."""
        yield JobCall("POST", f"{quote(id, safe='/')}:cancel")
        return _read((yield JobCall("GET", quote(id, safe="/"))))


def _read(said: Mapping[str, Any]) -> BatchStatus:
    metadata = said.get("metadata") or {}
    state = str(metadata.get("state", "")).rpartition("STATE_")[2]
    counts = metadata.get("batchStats") or {}
    made = metadata.get("createTime")
    return BatchStatus(
        str(said["name"]),
        bool(said.get("done")) or state in _STATES,
        state.lower() or "unknown",
        int(counts["requestCount"]) if "requestCount" in counts else None,
        metadata.get("displayName"),
        datetime.fromisoformat(made).timestamp() if isinstance(made, str) else None,
    )


def _read_outcome(said: Mapping[str, Any]) -> BatchOutcome:
    key = str((said.get("metadata") or {}).get("key"))
    if isinstance(response := said.get("response"), dict):
        return BatchOutcome(key, encode_json(response))
    error = said.get("error") or {}
    message = f"the request failed in its batch: {error.get('message') or error.get('code')}"
    code = error.get("code")
    if code in _STATUS:
        return BatchOutcome(key, error=make_status_error(_STATUS[code], message))
    return BatchOutcome(key, error=BackendError(message, is_retryable=True))
