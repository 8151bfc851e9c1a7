"""An imitation of the providers' batch servers, made from their published forms, on loopback.

Sources: platform.openai.com/docs/api-reference/batch, platform.claude.com/docs/en/build-with-claude/batch-processing,
ai.google.dev/gemini-api/docs/batch-api (2026-11).
"""

from __future__ import annotations

import email
import email.policy
import itertools
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


@dataclass
class Kept:
    """One batch at the server."""

    id: str
    intent: str | None
    requests: list[tuple[str, dict[str, Any]]]
    made: float
    looks: int = 0
    is_cancelled: bool = False
    is_deleted: bool = False
    lines: list[Any] | None = None  # the results, once it is over

    def end(self, line: Callable[[str, dict[str, Any]], Any]) -> list[Any]:
        """Return the results, which are made once."""
        if self.lines is None:
            self.lines = [line(key, request) for key, request in self.requests]
        return self.lines


@dataclass
class BatchServer:
    """What the server was asked, and how it behaves.

    Attributes:
        fate: what becomes of a request, by its prompt: `"fine"`, `"expired"`, `"busy"`, `"refused"` or `"missing"`.
        looks: how often a batch is looked at before it is over.
        loses: how many answers to a creation are lost, although the batch is made.
        page: how many batches a page of the list has at most.
    """

    fate: Callable[[str], str] = lambda prompt: "fine"
    looks: int = 1
    loses: int = 0
    page: int = 100
    batches: list[Kept] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    live: int = 0
    log: list[str] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=itertools.count)
    lock: threading.Lock = field(default_factory=threading.Lock)
    address: str = ""

    def keep(self, intent: str | None, requests: list[tuple[str, dict[str, Any]]]) -> Kept:
        with self.lock:
            kept = Kept(f"b{next(self.numbers)}", intent, requests, datetime.now(UTC).timestamp())
            self.batches.append(kept)
        return kept

    def find(self, id: str) -> Kept | None:
        return next((kept for kept in self.batches if kept.id == id and not kept.is_deleted), None)

    def list_page(self, after: str | None) -> tuple[list[Kept], bool]:
        """Return the batches behind one of them, the latest first, and whether there are more."""
        kept = self.batches[::-1]
        begin = 1 + [each.id for each in kept].index(after) if after else 0
        return kept[begin : begin + self.page], begin + self.page < len(kept)

    def is_over(self, kept: Kept) -> bool:
        kept.looks += 1
        return kept.is_cancelled or kept.looks > self.looks


def answer_to(prompt: str) -> str:
    return json.dumps({"kind": find_word(prompt), "urgency": 3})


def find_word(prompt: str) -> str:
    """Return the word behind the last "mail " of a prompt."""
    return re.findall(r"mail (\w+)", prompt)[-1]


# -- one class for each provider: paths, and what is answered ------------------------------------------


class OpenAI:
    """OpenAI's files and batches."""

    def __init__(self, server: BatchServer) -> None:
        self.server = server

    def answer(self, method: str, path: str, body: bytes, kind: str) -> tuple[int, Any]:
        server = self.server
        if path == "/v1/chat/completions":
            server.live += 1
            return 200, self.completion(json.loads(body))
        if path == "/v1/files":
            parts = email.message_from_bytes(
                b"content-type: " + kind.encode() + b"\r\n\r\n" + body, policy=email.policy.HTTP
            )
            file = next(part for part in parts.iter_parts() if part.get_filename())  # type: ignore[attr-defined]
            purposes = [
                part.get_content().strip()
                for part in parts.iter_parts()  # type: ignore[attr-defined]
                if not part.get_filename()
            ]
            assert purposes == ["batch"]
            id = f"file-{len(server.files)}"
            server.files[id] = file.get_payload(decode=True)
            return 200, {"id": id, "purpose": "batch"}
        if match := re.fullmatch(r"/v1/files/(.+)/content", path):
            return 200, server.files[match[1]]
        if path == "/v1/batches" and method == "POST":
            asked = json.loads(body)
            lines = [json.loads(line) for line in server.files[asked["input_file_id"]].splitlines()]
            assert {line["url"] for line in lines} == {asked["endpoint"]} == {"/v1/chat/completions"}
            kept = server.keep(
                asked["metadata"]["mellea_intent"], [(line["custom_id"], line["body"]) for line in lines]
            )
            return 200, self.status(kept)
        if path.startswith("/v1/batches?"):
            page, has_more = server.list_page(find_field(path, "after"))
            return 200, {"data": [self.status(kept) for kept in page], "has_more": has_more}
        if (match := re.fullmatch(r"/v1/batches/(\w+)(/cancel)?", path)) and (kept := server.find(match[1])):
            kept.is_cancelled = kept.is_cancelled or bool(match[2])
            return 200, self.status(kept, is_looked_at=True)
        return 404, {"error": {"message": "no such path"}}

    def status(self, kept: Kept, *, is_looked_at: bool = False) -> dict[str, Any]:
        is_over = self.server.is_over(kept) if is_looked_at else False
        said: dict[str, Any] = {
            "id": kept.id,
            "status": "completed" if is_over else "in_progress",
            "created_at": int(kept.made),
            "metadata": {"mellea_intent": kept.intent},
            "request_counts": {"total": len(kept.requests), "completed": 0, "failed": 0},
        }
        if is_over:
            good, bad = [], []
            for line in reversed(kept.end(self.line)):  # in no order
                (good if line.get("error") is None else bad).append(line)
            for name, lines in (("output_file_id", good), ("error_file_id", bad)):
                if lines:
                    self.server.files[f"{name}-{kept.id}"] = b"\n".join(json.dumps(line).encode() for line in lines)
                    said[name] = f"{name}-{kept.id}"
        return said

    def line(self, key: str, request: dict[str, Any]) -> dict[str, Any]:
        fate = self.server.fate(request["messages"][-1]["content"])
        if fate == "expired":
            return {"custom_id": key, "response": None, "error": {"code": "batch_expired", "message": "it expired"}}
        if fate in ("busy", "refused"):
            status = 503 if fate == "busy" else 400
            failure = {"error": {"message": f"it was {fate}"}}
            return {"custom_id": key, "response": {"status_code": status, "body": failure}, "error": {"message": fate}}
        if fate == "missing":
            return {"custom_id": "another", "error": {"code": "odd"}}
        return {"custom_id": key, "response": {"status_code": 200, "body": self.completion(request)}, "error": None}

    def completion(self, request: dict[str, Any]) -> dict[str, Any]:
        assert request.get("stream") in (None, False) or self.server.live
        message = {"role": "assistant", "content": answer_to(request["messages"][-1]["content"])}
        return {
            "id": "c",
            "object": "chat.completion",
            "created": 1,
            "model": request["model"],
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
        }


class Anthropic:
    """Anthropic's message batches."""

    def __init__(self, server: BatchServer) -> None:
        self.server = server

    def answer(self, method: str, path: str, body: bytes, kind: str) -> tuple[int, Any]:
        server = self.server
        if path == "/v1/messages":
            server.live += 1
            return 200, self.message(json.loads(body))
        if path == "/v1/messages/batches" and method == "POST":
            requests = [(each["custom_id"], each["params"]) for each in json.loads(body)["requests"]]
            assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,64}", key) for key, _ in requests)
            assert all("stream" not in params for _, params in requests)
            return 200, self.status(server.keep(None, requests))
        if path.startswith("/v1/messages/batches?"):
            page, has_more = server.list_page(find_field(path, "after_id"))
            return 200, {"data": [self.status(kept) for kept in page], "has_more": has_more}
        if (match := re.fullmatch(r"/v1/messages/batches/(\w+)/results", path)) and (kept := server.find(match[1])):
            assert kept.lines is not None or self.server.is_over(kept), "there are no results before the end"
            lines = kept.end(self.line)[::-1]
            return 200, b"\n".join(json.dumps(line).encode() for line in lines if line)
        if (match := re.fullmatch(r"/v1/messages/batches/(\w+)(/cancel)?", path)) and (kept := server.find(match[1])):
            kept.is_cancelled = kept.is_cancelled or bool(match[2])
            return 200, self.status(kept, is_looked_at=True)
        return 404, {"type": "error", "error": {"type": "not_found_error", "message": "no such path"}}

    def status(self, kept: Kept, *, is_looked_at: bool = False) -> dict[str, Any]:
        is_over = self.server.is_over(kept) if is_looked_at else kept.looks > self.server.looks
        return {
            "id": kept.id,
            "type": "message_batch",
            "processing_status": "ended" if is_over else "in_progress",
            "request_counts": {"processing": len(kept.requests), "succeeded": 0, "errored": 0, "expired": 0},
            "created_at": datetime.fromtimestamp(kept.made, UTC).isoformat(),
            "results_url": "https://elsewhere.example/results",
        }

    def line(self, key: str, params: dict[str, Any]) -> dict[str, Any]:
        fate = self.server.fate(_text(params["messages"][-1]["content"]))
        result: dict[str, Any] = {"type": "succeeded", "message": self.message(params)}
        if fate == "expired":
            result = {"type": "expired"}
        elif fate in ("busy", "refused"):
            kind = "overloaded_error" if fate == "busy" else "invalid_request_error"
            failure = {"type": "error", "error": {"type": kind, "message": f"it was {fate}"}}
            result = {"type": "errored", "error": failure}
        elif fate == "missing":
            return {}
        return {"custom_id": key, "result": result}

    def message(self, params: dict[str, Any]) -> dict[str, Any]:
        return {
            "id": "m",
            "type": "message",
            "role": "assistant",
            "model": params["model"],
            "content": [{"type": "text", "text": answer_to(_text(params["messages"][-1]["content"]))}],
            "stop_reason": "end_turn",
            "usage": {"input_tokens": 10, "output_tokens": 5},
        }


class Gemini:
    """Gemini's batches."""

    def __init__(self, server: BatchServer) -> None:
        self.server = server

    def answer(self, method: str, path: str, body: bytes, kind: str) -> tuple[int, Any]:
        server = self.server
        if ":streamGenerateContent" in path or ":generateContent" in path:
            server.live += 1
            return 200, self.content(json.loads(body))
        if path.endswith(":batchGenerateContent"):
            batch = json.loads(body)["batch"]
            requests = batch["inputConfig"]["requests"]["requests"]
            kept = server.keep(batch["displayName"], [(each["metadata"]["key"], each["request"]) for each in requests])
            return 200, self.status(kept)
        if path.startswith("/v1beta/batches?"):
            page, has_more = server.list_page(find_field(path, "pageToken"))
            token = {"nextPageToken": page[-1].id} if has_more else {}
            return 200, {"operations": [self.status(kept) for kept in page], **token}
        if (match := re.fullmatch(r"/v1beta/batches/(\w+)(:cancel)?", path)) and (kept := server.find(match[1])):
            kept.is_cancelled = kept.is_cancelled or bool(match[2])
            return 200, {} if match[2] else self.status(kept, is_looked_at=True)
        return 404, {"error": {"code": 404, "message": "no such path"}}

    def status(self, kept: Kept, *, is_looked_at: bool = False) -> dict[str, Any]:
        is_over = self.server.is_over(kept) if is_looked_at else False
        said: dict[str, Any] = {
            "name": f"batches/{kept.id}",
            "metadata": {
                "state": "BATCH_STATE_SUCCEEDED" if is_over else "BATCH_STATE_RUNNING",
                "displayName": kept.intent,
                "createTime": datetime.fromtimestamp(kept.made, UTC).isoformat().replace("+00:00", "Z"),
                "batchStats": {"requestCount": str(len(kept.requests))},
            },
        }
        if is_over:
            lines = kept.end(self.line)
            said |= {"done": True, "response": {"inlinedResponses": {"inlinedResponses": [x for x in lines if x]}}}
        return said

    def line(self, key: str, request: dict[str, Any]) -> dict[str, Any]:
        fate = self.server.fate(request["contents"][-1]["parts"][-1]["text"])
        if fate == "missing":
            return {}
        codes = {"expired": 1, "busy": 14, "refused": 3}
        if fate in codes:
            failure = {"code": codes[fate], "message": f"it was {fate}"}
            return {"error": failure if fate != "expired" else {"message": "expired"}, "metadata": {"key": key}}
        return {"response": self.content(request), "metadata": {"key": key}}

    def content(self, request: dict[str, Any]) -> dict[str, Any]:
        parts = [{"text": answer_to(request["contents"][-1]["parts"][-1]["text"])}]
        return {
            "candidates": [{"content": {"role": "model", "parts": parts}, "finishReason": "STOP", "index": 0}],
            "usageMetadata": {"promptTokenCount": 10, "candidatesTokenCount": 5, "totalTokenCount": 15},
            "modelVersion": "gemini-2.5-flash",
        }


def find_field(path: str, name: str) -> str | None:
    """Return a field of a path's query."""
    return next(iter(parse_qs(urlsplit(path).query).get(name, [])), None)


def _text(content: Any) -> str:
    return content if isinstance(content, str) else str(content[-1]["text"])


PROVIDERS = {"openai": OpenAI, "anthropic": Anthropic, "gemini": Gemini}


@contextmanager
def serve(provider: str, server: BatchServer) -> Iterator[BatchServer]:
    """Serve a provider's batches on loopback."""
    speaker = PROVIDERS[provider](server)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one(self) -> None:
            length = int(self.headers.get("content-length") or 0)
            body = self.rfile.read(length)
            server.log.append(f"{self.command} {self.path}")
            before = len(server.batches)
            status, said = speaker.answer(self.command, self.path, body, self.headers.get("content-type", ""))
            if len(server.batches) > before and server.loses > 0:
                server.loses -= 1
                status, said = 502, {"error": {"message": "the answer was lost"}}
            data = said if isinstance(said, bytes) else json.dumps(said).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = handle_one

        def log_message(self, *arguments: object) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

    http = Server(("127.0.0.1", 0), Handler)
    server.address = f"http://127.0.0.1:{http.server_port}"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join()
