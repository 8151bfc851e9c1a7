"""Anthropic's message batches: the requests are in the call itself, the results are a file of JSON lines.

Source: https://platform.claude.com/docs/en/build-with-claude/batch-processing, 2026-11. At most 100,000 requests or
256 MB; results are available once the whole batch has ended, unordered, for 29 days. There is no metadata, so a batch
is recognised by its creation time, its number of requests, and its `custom_id`s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import quote

from pydantic_core import from_json

from mellea.backends.anthropic.wire import ERROR_STATUS
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

__all__ = ["AnthropicBatches"]

_PATH = "messages/batches"
_HEAD, _TAIL = b'{"requests":[', b"]}"

_START_BYTES = 2**20
"""The most bytes to read where only one request's name is needed: results may be hundreds of megabytes, and another
program's."""


class AnthropicBatches(BatchCodec):
    """The batches of Anthropic."""

    most_requests = 100_000
    most_bytes = 256 * 10**6 - len(_HEAD + _TAIL)  # the limit is that of the whole body

    def encode_item(self, key: str, payload: Mapping[str, Any]) -> bytes:
        """Return an element of the list of requests."""
        params = {name: value for name, value in payload.items() if name != "stream"}
        return render_item({"custom_id": key, "params": params})

    def create(self, intent: str, items: Sequence[bytes]) -> Calls[BatchStatus]:
        """Make a batch."""
        body = _HEAD + b",".join(items) + _TAIL
        return _read((yield JobCall("POST", _PATH, body=body)))

    def look(self, id: str) -> Calls[BatchStatus]:
        """Ask for the state of a batch."""
        return _read((yield JobCall("GET", f"{_PATH}/{quote(id, safe='')}")))

    def list_recent(self, since: float) -> Calls[list[BatchStatus]]:
        """List batches, the latest first."""
        return (yield from list_pages(_PATH, "after_id", _read, since))

    def fetch(self, status: BatchStatus) -> Calls[list[BatchOutcome]]:
        """Fetch the results."""
        data = yield JobCall("GET", _find_results(status), wants="bytes", most_bytes=MOST_RESULT_BYTES)
        return [_read_outcome(line) for line in read_lines(data)]

    def fetch_name(self, status: BatchStatus) -> Calls[str | None]:
        """Fetch the `custom_id` of the first result, from the beginning of the file."""
        data = yield JobCall("GET", _find_results(status), wants="start", most_bytes=_START_BYTES)
        try:
            found = from_json(data.partition(b"\n")[0], allow_partial=True)
        except ValueError:
            found = None
        if isinstance(found, dict) and isinstance(name := found.get("custom_id"), str):
            return name
        return (yield from super().fetch_name(status))  # its line starts with a very long answer

    def cancel(self, id: str) -> Calls[BatchStatus]:
        """Cancel a batch."""
        return _read((yield JobCall("POST", f"{_PATH}/{quote(id, safe='')}/cancel")))


def _find_results(status: BatchStatus) -> str:
    # Not at the URL that the provider sends, which could be another server's.
    return f"{_PATH}/{quote(status.id, safe='')}/results"


def _read(said: Mapping[str, Any]) -> BatchStatus:
    counts = said.get("request_counts") or {}
    made = said.get("created_at")
    return BatchStatus(
        str(said["id"]),
        said["processing_status"] == "ended",
        str(said["processing_status"]),
        sum(counts.values()) if counts else None,
        None,
        datetime.fromisoformat(made).timestamp() if isinstance(made, str) else None,
    )


def _read_outcome(line: Mapping[str, Any]) -> BatchOutcome:
    key, result = str(line.get("custom_id")), line.get("result") or {}
    match result.get("type"):
        case "succeeded":
            return BatchOutcome(key, encode_json(result["message"]))
        case "errored":
            said = result.get("error") or {}
            said = said.get("error") or said  # the provider's error is wrapped in an envelope
            message = f"the request failed in its batch: {said.get('message') or said.get('type')}"
            return BatchOutcome(key, error=make_status_error(ERROR_STATUS.get(str(said.get("type")), 500), message))
        case other:
            return BatchOutcome(key, error=BackendError(f"the request was {other} in its batch", is_retryable=True))
