"""A server on loopback that makes videos as OpenAI and Gemini do, with the faults that theirs have.

It speaks OpenAI's videos API below `/v1`, and below `/v1beta` Gemini's `predictLongRunning` with its operations and
files, and the Interactions API. The official clients talk to it as well: `tests/backends/test_video_clients.py`.
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

__all__ = ["SeenRequest", "VideoFaults", "VideoServer", "video_server"]

_HEAD = b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom"


@dataclass(slots=True)
class VideoFaults:
    """What goes wrong; by default nothing.

    Attributes:
        failure: the code and the message of a job that fails.
        blocked: why the moderation blocks the video.
        rate_limits: how many looks are refused with status 429.
        retry_after: seconds that each of those asks to wait.
        cuts: how many downloads break off half way.
        has_ranges: whether a download can go on where it broke.
        is_expired: whether the video isn't there any more.
        never_ends: whether the job is never done.
        can_cancel: whether a job can be cancelled.
        redirect: an address of another server that the video is redirected to.
        place: an address that an operation names as its video's, in place of its own.
        is_inline: whether an interaction has its video in the answer.
    """

    failure: tuple[str, str] | None = None
    blocked: str | None = None
    rate_limits: int = 0
    retry_after: float = 0.05
    cuts: int = 0
    has_ranges: bool = True
    is_expired: bool = False
    never_ends: bool = False
    can_cancel: bool = True
    redirect: str | None = None
    place: str | None = None
    is_inline: bool = False


@dataclass(frozen=True, slots=True)
class SeenRequest:
    """A request that came in: its method, its path with the query, its headers in lower case, and its fields."""

    method: str
    path: str
    headers: dict[str, str] = field(repr=False)
    fields: dict[str, Any] = field(repr=False)


@dataclass(slots=True)
class VideoServer:
    """A running server.

    Attributes:
        root: the address without a path.
        faults: what goes wrong; it may be changed at any time.
        looks: how many looks at a job find it unfinished.
        video: the bytes of every video.
        requests: what came in, in order.
        ended: the ids of the jobs that were cancelled or deleted.
        before_begin: called, in a thread, before the answer to a call that begins a job.
    """

    root: str
    faults: VideoFaults
    looks: int
    video: bytes = field(repr=False)
    requests: list[SeenRequest] = field(default_factory=list, repr=False)
    ended: list[str] = field(default_factory=list)
    before_begin: Callable[[], object] | None = field(default=None, repr=False)
    _seen: dict[str, int] = field(default_factory=dict, repr=False)
    _asked: dict[str, dict[str, Any]] = field(default_factory=dict, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def url(self) -> str:
        """The base of OpenAI's API."""
        return f"{self.root}/v1"

    @property
    def gemini_url(self) -> str:
        """The base of Gemini's API."""
        return f"{self.root}/v1beta"

    @property
    def running(self) -> list[str]:
        """The ids of the jobs that were begun, and not cancelled or deleted."""
        return [id for id in self._asked if id not in self.ended]


@contextmanager
def video_server(*, looks: int = 2, size: int = 200_000, faults: VideoFaults | None = None) -> Iterator[VideoServer]:
    """Serve videos for the length of a `with` block.

    Args:
        looks: how many looks at a job find it unfinished.
        size: bytes of a video.
        faults: what goes wrong.
    """
    video = (_HEAD + bytes(range(256)) * (size // 256 + 1))[:size]

    class Handler(_Handler):
        place: VideoServer

    server = _Server(("127.0.0.1", 0), Handler)
    place = VideoServer(f"http://127.0.0.1:{server.server_address[1]}", faults or VideoFaults(), looks, video)
    Handler.place = place
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield place
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a client that has left: many are meant to."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Head and body in one piece: a second piece would wait 40 ms for the client to acknowledge the first one.
    wbufsize = -1
    disable_nagle_algorithm = True
    place: VideoServer

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self._answer("GET")

    def do_POST(self) -> None:
        self._answer("POST")

    def do_DELETE(self) -> None:
        self._answer("DELETE")

    def _answer(self, method: str) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.rfile.read(int(headers.get("content-length", 0)))
        fields = _read_fields(headers.get("content-type", ""), body)
        with self.place._lock:
            self.place.requests.append(SeenRequest(method, self.path, headers, fields))
        path = urlsplit(self.path).path
        for route, answer in _ROUTES:
            if (found := _match(route, f"{method} {path}")) is not None:
                answer(self, fields, *found)
                return
        self._refuse(404, f"nothing is at {path}", "not_found")

    # -- OpenAI -----------------------------------------------------------------------------------------

    def begin_openai(self, fields: dict[str, Any]) -> None:
        if not fields.get("prompt"):
            self._refuse(400, "Missing required parameter: 'prompt'.", "missing_required_parameter")
            return
        self._send(self._openai_job(self._begin("video_", fields)))

    def look_openai(self, fields: dict[str, Any], id: str) -> None:
        if self._is_known(id) and not self._limit_rate():
            self._send(self._openai_job(id, is_look=True))

    def delete_openai(self, fields: dict[str, Any], id: str) -> None:
        if self._is_known(id) and self._end(id):
            self._send({"id": id, "object": "video.deleted", "deleted": True})

    def fetch_openai(self, fields: dict[str, Any], id: str) -> None:
        if self._is_known(id):
            self._send_video()

    def _openai_job(self, id: str, *, is_look: bool = False) -> dict[str, Any]:
        asked, faults = self.place._asked[id], self.place.faults
        looks, is_done = self._count(id) if is_look else (0, False)
        error = (
            faults.failure if faults.failure is not None else faults.blocked and ("moderation_blocked", faults.blocked)
        )
        status = ("failed" if error else "completed") if is_done else ("in_progress" if looks else "queued")
        return {
            "id": id,
            "object": "video",
            "created_at": 1_790_000_000,
            "completed_at": 1_790_000_060 if is_done else None,
            "expires_at": 1_790_003_600 if is_done else None,
            "error": {"code": error[0], "message": error[1]} if error and is_done else None,
            "model": asked.get("model", "sora-2"),
            "progress": 100 if is_done else min(99, 100 * looks // max(self.place.looks + 1, 1)),
            "prompt": asked.get("prompt"),
            "remixed_from_video_id": None,
            "seconds": asked.get("seconds", "4"),
            "size": asked.get("size", "720x1280"),
            "status": status,
        }

    # -- Gemini: operations and files -------------------------------------------------------------------

    def begin_veo(self, fields: dict[str, Any], model: str) -> None:
        if not (fields.get("instances") or [{}])[0].get("prompt"):
            self._refuse(400, "prompt is required", "INVALID_ARGUMENT")
            return
        self._send({"name": self._begin(f"models/{model}/operations/", fields)})

    def look_veo(self, fields: dict[str, Any], model: str, number: str) -> None:
        id = f"models/{model}/operations/{number}"
        if not self._is_known(id) or self._limit_rate():
            return
        _, is_done = self._count(id)
        if not is_done:
            self._send({"name": id})
            return
        faults = self.place.faults
        if faults.failure is not None:
            self._send({"name": id, "done": True, "error": {"code": 13, "message": faults.failure[1]}})
            return
        made: dict[str, Any] = {"raiMediaFilteredCount": 1, "raiMediaFilteredReasons": [faults.blocked]}
        if faults.blocked is None:
            uri = faults.place or f"{self.place.gemini_url}/files/{id.rpartition('/')[2]}:download?alt=media"
            made = {"generatedSamples": [{"video": {"uri": uri}}]}
        kind = "type.googleapis.com/google.ai.generativelanguage.v1beta.PredictLongRunningResponse"
        self._send({"name": id, "done": True, "response": {"@type": kind, "generateVideoResponse": made}})

    def cancel_veo(self, fields: dict[str, Any], model: str, number: str) -> None:
        id = f"models/{model}/operations/{number}"
        if self._is_known(id) and self._end(id):
            self._send({})

    def fetch_gemini(self, fields: dict[str, Any], id: str) -> None:
        self._send_video()

    # -- Gemini: interactions ---------------------------------------------------------------------------

    def begin_omni(self, fields: dict[str, Any]) -> None:
        if not fields.get("input"):
            self._refuse(400, "input is required", "INVALID_ARGUMENT")
            return
        id = self._begin("v1_", fields)
        self._send({"id": id, "object": "interaction", "status": "in_progress", "model": fields.get("model")})

    def look_omni(self, fields: dict[str, Any], id: str) -> None:
        if not self._is_known(id) or self._limit_rate():
            return
        asked, faults, (_, is_done) = self.place._asked[id], self.place.faults, self._count(id)
        found: dict[str, Any] = {
            "id": id,
            "object": "interaction",
            "model": asked.get("model"),
            "status": "in_progress",
        }
        if not is_done:
            self._send(found)
            return
        content: dict[str, Any] = {"type": "video", "mime_type": "video/mp4"}
        if faults.is_inline:
            content["data"] = base64.b64encode(self.place.video).decode()
        else:
            content["uri"] = f"{self.place.gemini_url}/files/{id}"
        error = faults.failure or (faults.blocked and ("SAFETY", faults.blocked))
        if error:
            self._send({**found, "status": "failed", "errors": [{"code": error[0], "message": error[1]}]})
            return
        steps = [
            {"type": "user_input", "content": [{"type": "text", "text": str(asked.get("input"))}]},
            {"type": "model_output", "content": [content]},
        ]
        usage = {"total_input_tokens": 12, "total_output_tokens": 57920, "total_tokens": 57932}
        self._send({**found, "status": "completed", "steps": steps, "usage": usage})

    def cancel_omni(self, fields: dict[str, Any], id: str) -> None:
        if self._is_known(id) and self._end(id):
            self._send({"id": id, "object": "interaction", "status": "cancelled"})

    # -- for all ----------------------------------------------------------------------------------------

    def _begin(self, prefix: str, fields: dict[str, Any]) -> str:
        place = self.place
        with place._lock:
            id = f"{prefix}{len(place._asked) + 1:04}"
            place._asked[id], place._seen[id] = fields, 0
        if place.before_begin is not None:
            place.before_begin()
        return id

    def _count(self, id: str) -> tuple[int, bool]:
        with self.place._lock:
            self.place._seen[id] += 1
            looks = self.place._seen[id]
        return looks, looks > self.place.looks and not self.place.faults.never_ends

    def _is_known(self, id: str) -> bool:
        is_known = id in self.place.running
        if not is_known:
            self._refuse(404, f"No job found with id '{id}'.", "not_found")
        return is_known

    def _limit_rate(self) -> bool:
        faults = self.place.faults
        if faults.rate_limits <= 0:
            return False
        faults.rate_limits -= 1
        self._refuse(429, "Rate limit reached.", "rate_limit_exceeded", {"retry-after": f"{faults.retry_after:g}"})
        return True

    def _end(self, id: str) -> bool:
        if not self.place.faults.can_cancel:
            self._refuse(501, "Operation is not implemented.", "UNIMPLEMENTED")
            return False
        self.place.ended.append(id)
        return True

    def _refuse(self, status: int, message: str, code: str, headers: dict[str, str] | None = None) -> None:
        is_gemini = self.path.startswith("/v1beta")
        kind = (
            {"status": code.upper(), "code": status} if is_gemini else {"type": "invalid_request_error", "code": code}
        )
        self._send({"error": {"message": message, **kind}}, status, headers)

    def _send(self, value: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        sent = {"content-type": "application/json", "content-length": str(len(body)), **(headers or {})}
        for name, text in sent.items():
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(body)

    def _send_video(self) -> None:
        faults, video = self.place.faults, self.place.video
        if faults.is_expired:
            self._refuse(404, "The video has expired.", "not_found")
            return
        if faults.redirect is not None:
            self._send({}, 302, {"location": faults.redirect})
            return
        first = self.headers.get("range", "").removeprefix("bytes=").removesuffix("-")
        start = int(first) if faults.has_ranges and first.isdecimal() else 0
        part = video[start:]
        self.send_response(206 if start else 200)
        self.send_header("content-type", "video/mp4")
        self.send_header("content-length", str(len(part)))
        if faults.has_ranges:
            self.send_header("accept-ranges", "bytes")
            self.send_header("etag", '"v1"')
        if start:
            self.send_header("content-range", f"bytes {start}-{len(video) - 1}/{len(video)}")
        self.end_headers()
        if faults.cuts > 0:
            faults.cuts -= 1
            self.wfile.write(part[: len(part) // 2])
            self.wfile.flush()
            self.close_connection = True
            self.connection.close()
            return
        self.wfile.write(part)


_ROUTES: tuple[tuple[str, Callable[..., None]], ...] = (
    ("POST /v1/videos", _Handler.begin_openai),
    ("GET /v1/videos/*", _Handler.look_openai),
    ("DELETE /v1/videos/*", _Handler.delete_openai),
    ("GET /v1/videos/*/content", _Handler.fetch_openai),
    ("POST /v1beta/models/*:predictLongRunning", _Handler.begin_veo),
    ("GET /v1beta/models/*/operations/*", _Handler.look_veo),
    ("POST /v1beta/models/*/operations/*:cancel", _Handler.cancel_veo),
    ("GET /v1beta/files/*:download", _Handler.fetch_gemini),
    ("POST /v1beta/interactions", _Handler.begin_omni),
    ("GET /v1beta/interactions/*", _Handler.look_omni),
    ("POST /v1beta/interactions/*/cancel", _Handler.cancel_omni),
)
"""A star matches a part of the path, without slashes and colons."""


def _match(route: str, asked: str) -> list[str] | None:
    """Return what the stars of a route match in a request; `None` if it is for another route."""
    names, parts = route.split("/"), asked.split("/")
    if len(names) != len(parts):
        return None
    found = []
    for name, part in zip(names, parts, strict=True):
        star, colon, verb = name.partition(":")
        if star != "*":
            if name != part:
                return None
            continue
        word, its_colon, its_verb = part.partition(":")
        if not word or (colon, verb) != (its_colon, its_verb):
            return None
        found.append(word)
    return found


def _read_fields(kind: str, body: bytes) -> dict[str, Any]:
    """Return the fields of a JSON body or a form; files of a form as bytes."""
    if kind.startswith("multipart/form-data"):
        form = BytesParser(policy=HTTP).parsebytes(b"content-type: " + kind.encode() + b"\r\n\r\n" + body)
        return {
            str(part.get_param("name", header="content-disposition")): (
                part.get_payload(decode=True) if part.get_filename() else bytes(part.get_payload(decode=True)).decode()
            )
            for part in form.iter_parts()
        }
    try:
        found = json.loads(body or b"{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
