"""OpenAI's batches: a file of JSON lines is uploaded, a file of results downloaded.

Source: https://platform.openai.com/docs/api-reference/batch, 2026-11. At most 50,000 requests and 200 MB, one model and
one endpoint a file; results are available within 24 hours, unordered, with failures in a separate file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from mellea.backends.http.batches import (
    MOST_RESULT_BYTES,
    BatchCodec,
    BatchOutcome,
    BatchStatus,
    Calls,
    list_pages,
    read_lines,
    render_item,
)
from mellea.backends.http.fields import encode_json
from mellea.backends.http.outgoing import JobCall
from mellea.backends.http.status import make_status_error
from mellea.errors import BackendError

__all__ = ["OpenAIBatches"]

_OVER = frozenset({"completed", "expired", "cancelled", "failed"})
_UNANSWERED = frozenset({"batch_expired", "batch_cancelled"})
_INTENT = "mellea_intent"


class OpenAIBatches(BatchCodec):
    """The batches of OpenAI, and of services with the same interface.

    Args:
        endpoint: the path of the requests, such as `"chat/completions"`.
    """

    most_requests = 50_000
    most_bytes = 200 * 10**6

    def __init__(self, endpoint: str) -> None:
        self._url = f"/v1/{endpoint}"

    def encode_item(self, key: str, payload: Mapping[str, Any]) -> bytes:
        """Return a line of the file."""
        return render_item({"custom_id": key, "method": "POST", "url": self._url, "body": payload})

    def create(self, intent: str, items: Sequence[bytes]) -> Calls[BatchStatus]:
        """Upload the file, and make a batch of it."""
        uploaded = yield JobCall(
            "POST",
            "files",
            {"purpose": "batch"},
            files=(("file", f"{intent}.jsonl", b"\n".join(items), "application/jsonl"),),
        )
        made = yield JobCall(
            "POST",
            "batches",
            {
                "input_file_id": uploaded["id"],
                "endpoint": self._url,
                "completion_window": "24h",
                "metadata": {_INTENT: intent},
            },
        )
        return _read(made)

    def look(self, id: str) -> Calls[BatchStatus]:
        """Ask for the state of a batch."""
        return _read((yield JobCall("GET", f"batches/{quote(id, safe='')}")))

    def list_recent(self, since: float) -> Calls[list[BatchStatus]]:
        """List batches, the latest first."""
        return (yield from list_pages("batches", "after", _read, since))

    def fetch(self, status: BatchStatus) -> Calls[list[BatchOutcome]]:
        """Fetch the files of results and of errors."""
        outcomes: list[BatchOutcome] = []
        for place in status.places:
            path = f"files/{quote(place, safe='')}/content"
            data = yield JobCall("GET", path, wants="bytes", most_bytes=MOST_RESULT_BYTES)
            outcomes += map(_read_outcome, read_lines(data))
        return outcomes

    def cancel(self, id: str) -> Calls[BatchStatus]:
        """Cancel a batch."""
        return _read((yield JobCall("POST", f"batches/{quote(id, safe='')}/cancel")))


def _read(said: Mapping[str, Any]) -> BatchStatus:
    places = [said.get("output_file_id"), said.get("error_file_id")]
    return BatchStatus(
        str(said["id"]),
        said["status"] in _OVER,
        str(said["status"]),
        (said.get("request_counts") or {}).get("total"),
        (said.get("metadata") or {}).get(_INTENT),
        said.get("created_at"),
        tuple(str(place) for place in places if place),
    )


def _read_outcome(line: Mapping[str, Any]) -> BatchOutcome:
    key, response, error = str(line.get("custom_id")), line.get("response") or {}, line.get("error") or {}
    status, body = response.get("status_code"), response.get("body")
    if status == 200 and isinstance(body, dict):
        return BatchOutcome(key, encode_json(body))
    said = error or (body.get("error") if isinstance(body, dict) else None) or {}
    message = f"the request failed in its batch: {said.get('message') or said.get('code') or status}"
    if isinstance(status, int):
        return BatchOutcome(key, error=make_status_error(status, message))
    return BatchOutcome(key, error=BackendError(message, is_retryable=said.get("code") in _UNANSWERED))
