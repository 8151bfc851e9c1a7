"""Gemini's batches: requests and results are inline in the calls, or in files if they are too large.

Sources: https://ai.google.dev/gemini-api/docs/batch-api and https://ai.google.dev/gemini-api/docs/files, 2026-11. A
call takes up to 20 MB. A file of JSON lines takes up to 2 GB; it is uploaded by Google's resumable protocol: the first
response has a URL in a header, to which the chunks are sent, the last one marked as such. Files are kept for two days.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal
from urllib.parse import quote, urlencode

from mellea.backends.http.batches import (
    MOST_RESULT_BYTES,
    BatchCodec,
    BatchOutcome,
    BatchStatus,
    Calls,
    read_lines,
)
from mellea.backends.http.fields import encode_json
from mellea.backends.http.outgoing import JobCall
from mellea.backends.http.status import make_status_error
from mellea.errors import BackendError, WireError

__all__ = ["GeminiBatches"]

_STATES = {"SUCCEEDED": True, "FAILED": True, "CANCELLED": True, "EXPIRED": True}
"""The ends of a batch, after `JOB_STATE_` or `BATCH_STATE_`."""

_STATUS = {1: 499, 3: 400, 4: 504, 5: 404, 7: 403, 8: 429, 13: 500, 14: 503, 16: 401}
"""HTTP's status for one of google.rpc.Code."""


_MOST_INLINE = 20 * 10**6
_HEAD, _MIDDLE, _TAIL = b'{"batch":{"displayName":"', b'","inputConfig":', b"}}"
_LIST, _LIST_END = b'{"requests":{"requests":[', b"]}}"
_KEY, _KEY_END = b'{"key":"', b'"'

_PIECE_BYTES = 64 * 2**20
"""Bytes of one chunk of an upload; all but the last need a multiple of 256 KiB."""


class GeminiBatches(BatchCodec):
    """The batches of Gemini's developer API.

    Args:
        model: the model's resource, such as `"models/gemini-2.5-flash"`.
        base: the base URL, such as `"https://generativelanguage.googleapis.com/v1beta"`; the files' URL is next to it.
    """

    most_requests = 100_000
    most_bytes = 2 * 10**9

    def __init__(self, model: str, base: str) -> None:
        self._path = f"{quote(model, safe='/')}:batchGenerateContent"
        self._base = base

    def encode_item(self, key: str, payload: Mapping[str, Any]) -> bytes:
        """Return a line of the file, out of which `_write_inline` makes an element of the inline requests."""
        return b'%b%b%b,"request":%b}' % (_KEY, key.encode("ascii"), _KEY_END, encode_json(payload))

    def create(self, intent: str, items: Sequence[bytes]) -> Calls[BatchStatus]:
        """Create a batch; if its requests are too large for a call, upload them first."""
        name = _HEAD + intent.encode() + _MIDDLE
        inline = [_write_inline(item) for item in items] if sum(map(len, items)) < _MOST_INLINE else []
        body = b"%b%b%b%b%b" % (name, _LIST, b",".join(inline), _LIST_END, _TAIL)
        if not inline or len(body) >= _MOST_INLINE:
            file = yield from self._upload(intent, items)
            body = b"%b%b%b" % (name, encode_json({"fileName": file}), _TAIL)
        return _read((yield JobCall("POST", self._path, body=body)))

    def _upload(self, intent: str, items: Sequence[bytes]) -> Calls[str]:
        """Upload the lines of a batch, and return the name of the file."""
        size = sum(map(len, items)) + len(items)
        headers = {
            "x-goog-upload-protocol": "resumable",
            "x-goog-upload-command": "start",
            "x-goog-upload-header-content-length": str(size),
            "x-goog-upload-header-content-type": "application/jsonl",
        }
        place = self._place("upload", "files")
        begun = yield JobCall("POST", place, {"file": {"displayName": intent}}, headers=headers, wants="headers")
        if not (where := begun.get("x-goog-upload-url")):
            raise WireError("the server named no address for the upload of a batch's file")
        begin, said = 0, {}
        for piece in _cut(items):
            is_last = begin + len(piece) == size
            headers = {
                "x-goog-upload-command": "upload, finalize" if is_last else "upload",
                "x-goog-upload-offset": str(begin),
                "content-type": "application/jsonl",
            }
            wants: Literal["json", "headers"] = "json" if is_last else "headers"
            said = yield JobCall("POST", where, body=piece, headers=headers, wants=wants)
            begin += len(piece)
        return str(said["file"]["name"])

    def _place(self, verb: str, path: str) -> str:
        """Return a URL of the files API, which has a prefix before the version: `https://host/upload/v1beta/files`."""
        host, _, version = self._base.rpartition("/")
        return f"{host}/{verb}/{version}/{path}"

    def look(self, id: str) -> Calls[BatchStatus]:
        """Ask for the state of a batch."""
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
        # Google's own client reads them from the metadata, the documentation from the response.
        output = said.get("response") or (said.get("metadata") or {}).get("output") or {}
        if file := output.get("responsesFile"):
            place = self._place("download", f"{quote(str(file), safe='/')}:download?alt=media")
            data = yield JobCall("GET", place, wants="bytes", most_bytes=MOST_RESULT_BYTES)
            return [_read_outcome(line) for line in read_lines(data)]
        inline = output.get("inlinedResponses") or {}
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


def _write_inline(line: bytes) -> bytes:
    """Return a line of the file as an element of the inline requests, whose key is in their metadata."""
    # Keys contain no quotation marks, so the second one ends the key.
    end = line.index(_KEY_END, len(_KEY)) + len(_KEY_END)
    return b'{"metadata":%b}%b' % (line[:end], line[end:])


def _cut(items: Sequence[bytes]) -> Iterator[bytes]:
    """Yield lines as chunks of a file, so that it isn't held in memory twice."""
    piece = bytearray()
    for item in items:
        piece += item
        piece += b"\n"
        while len(piece) > _PIECE_BYTES:  # not at that size: the last piece must not be empty
            yield bytes(piece[:_PIECE_BYTES])
            del piece[:_PIECE_BYTES]
    yield bytes(piece)


def _read_outcome(said: Mapping[str, Any]) -> BatchOutcome:
    key = str(said.get("key") or (said.get("metadata") or {}).get("key"))
    if isinstance(response := said.get("response"), dict):
        return BatchOutcome(key, encode_json(response))
    error = said.get("error") or {}
    message = f"the request failed in its batch: {error.get('message') or error.get('code')}"
    code = error.get("code")
    if code in _STATUS:
        return BatchOutcome(key, error=make_status_error(_STATUS[code], message))
    return BatchOutcome(key, error=BackendError(message, is_retryable=True))
